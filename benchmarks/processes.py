"""Meta steps on seven sources: by two processes of one thread each against one process of one thread."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from harness import Figure, Result, alternate, assert_close, main, ratios
from meta_step import write_relabelled
from sides import build

from recbole_metarec import processes

_TARGET = "Scientific"


def measure(options) -> Result:
    folder = Path("domains").absolute()
    (folder / _TARGET).parent.mkdir()
    (folder / _TARGET).symlink_to(Path(options.data_path) / _TARGET)
    target, losses = build("LRURec", str(folder)), {}
    for number in range(1, options.sources + 1):
        write_relabelled(target, folder, f"Copy{number}", number)

    def epoch_by(count: int) -> float:
        epoch = _second_epoch(folder, options.sources, count)
        losses[count] = epoch["loss"]
        return epoch["seconds"]

    times = alternate({"one": lambda: epoch_by(1), "two": lambda: epoch_by(2)}, options.repeats)
    off = assert_close("the loss of the epoch", abs(losses[1] - losses[2]) / losses[1], 1e-4)
    return Result(
        same=f"the loss of the second epoch is off by {off} of its size",
        reached=ratios(times["one"], times["two"]),
        figures={"one process": Figure("s", times["one"]), "two processes": Figure("s", times["two"])},
        notes=f"An epoch of {len(target.train)} meta steps, the second of a process, with {options.sources} relabelled "
        "copies of the target; all keys as shipped. Needs two idle cores.",
    )


def _second_epoch(folder: Path, sources: int, count: int) -> dict:
    """Starts ``count`` processes. Returns seconds and loss of the second epoch, from the first of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | {"OMP_NUM_THREADS": "1", "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    common |= {"MASTER_PORT": str(port)}
    command = [sys.executable, __file__, "--of", str(folder), str(sources)]
    started = [
        subprocess.Popen(
            command, env=common | {"RANK": str(k), "LOCAL_RANK": str(k)}, stdout=subprocess.PIPE, text=True
        )
        for k in range(count)
    ]
    texts = [process.communicate()[0] for process in started]
    assert not any(process.returncode for process in started), "a process failed: see above"
    return json.loads(texts[0].splitlines()[-1])


def _train(folder: str, sources: int) -> None:
    """Trains two epochs in one of the processes; the first one prints the second epoch's seconds and loss."""
    sys.argv = sys.argv[:1]
    with processes.joined("cpu"):
        side = build("MetaRec", folder, sources=[f"Copy{number}" for number in range(1, sources + 1)])
        side.epoch(0)
        took = side.epoch(1)
        loss = side.trainer.log.history[-1]["train_loss"]
    if processes.is_first():
        print(json.dumps({"seconds": took, "loss": loss}))


if __name__ == "__main__":
    if "--of" in sys.argv:
        _train(sys.argv[2], int(sys.argv[3]))
    else:
        main(measure, sources={"type": int, "default": 7})
