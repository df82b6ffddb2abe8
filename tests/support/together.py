"""Two processes that train together, as torchrun starts them; and what each of them does in a test.

``python together.py CASES OUT`` trains each case of a JSON file in turn, on the domains of the current folder, and
writes the weights and all else that must be equal. ``start`` starts the processes of any command.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from support import nursery

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300  # after which a test fails that waits for them


def start(folder: Path, *words: str, count: int = 2, **environment: str) -> list[subprocess.Popen]:
    """``count`` processes of ``python WORDS`` in a folder, that know of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    places |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "GLOO_SOCKET_IFNAME": "lo"}
    return [
        subprocess.Popen(
            [*nursery.python(), *words],
            cwd=folder,
            env={**os.environ, **places, **environment, "RANK": str(number), "LOCAL_RANK": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


def ends(started: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each."""
    texts = [process.communicate(timeout=SECONDS) for process in started]
    return [(process.returncode, *text) for process, text in zip(started, texts, strict=True)]


def answers(made) -> dict:
    """What two trainings that are the same have the same."""
    from support.worlds import without_seconds

    state = made.trainer.sources.state_dict()
    return {
        "weights": made.weights(),
        "tables": {name: side["table"].clone() for name, side in state["sides"].items()},
        "score": float(made.best_score),
        "history": without_seconds(made.trainer.log.history),
        "source_history": made.trainer.log.source_history,
        "file": str(Path(made.trainer.saved_model_file).absolute()),
        "steps": made.trainer.steps_done,
    }


def train(cases: Path, out: Path) -> None:
    """What a process does."""
    import torch
    from support.worlds import run

    from recbole_metarec import processes

    with processes.joined("cpu"):
        found = []
        for number, (model, given, resumed) in enumerate(json.loads(cases.read_text())):
            made = run(Path("domains"), model, fit=False, checkpoint_dir=f"saved-{number}", **given)
            if resumed:
                made.trainer.resume_checkpoint(resumed)
            found.append(answers(made.fit(saved=True)))
        torch.save(found, out.with_suffix(f".{processes.number()}"))


if __name__ == "__main__":
    train(*map(Path, sys.argv[1:]))
