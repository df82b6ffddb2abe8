"""Runs killed at random moments and resumed until they end are, to the bit, the run that was never interrupted.

METAREC_KILLS is how many kills must hit a run at work; half of them come at any time, half at a write of a file.
"""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from math import ceil
from pathlib import Path

import pytest
from support.same_runs import assert_same_run
from support.worlds import TINY, write_items, write_shop

from recbole_metarec.trainer.checkpoint import read_checkpoint

KILLS = int(os.environ.get("METAREC_KILLS", "6"))
PLAIN = {key: value for key, value in TINY.items() if key != "vq_heads"} | {"epochs": 8}
OURS = {"sources": ["Near", "Far"], "vq_heads": 2}
CONFIGS = {
    "meta": ("MetaRec", OURS | {"learn_inner_learning_rate": 0.05, "inner_steps": 2, "target_negatives": 6}),
    "pretrain": ("MetaRec", OURS | {"meta_transfer": "pretrain", "pretrain_epochs": 2, "source_negatives": 6}),
    "early": ("LRURec", {"learning_rate": 0.3, "epochs": 30, "stopping_step": 2}),
    "text": ("UniSRec", {"sources": ["Near"], "text_width": 8, "adaptor_experts": 2, "pretrain_epochs": 2}),
    "recbole": ("SASRec", {"hidden_size": 8, "inner_size": 8, "n_heads": 2, "hidden_dropout_prob": 0.3}),
    "sampled": ("STAMP", {"epochs": 6}),
}


class Nursery:
    """Starts runs as forks of one process that has imported everything, and keeps count of what became of them."""

    def __init__(self, folder: Path):
        self.folder, self.random, self.phases = folder, random.Random(), Counter()
        write_shop(folder)
        for name, items in (("Target", 24), ("Near", 28)):
            write_items(folder, name, {item: f"kind{item % 4} noise{item % 5}" for item in range(items)})
        root = Path(__file__).resolve().parents[2]
        places = {"PYTHONPATH": str(root), "METAREC_CACHE": str(folder / "cache"), "MPLBACKEND": "agg"}
        self.process = subprocess.Popen(
            [sys.executable, str(root / "tests" / "support" / "kill_nursery.py")],
            cwd=folder, env={**os.environ, **places}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout.readline() == "ready\n"

    def run(self, config: str, parent: Path, **how) -> dict:
        """One process of one run in ``parent``; it fails the test if it failed by itself."""
        model, given = CONFIGS[config]
        place = {"data_path": str(self.folder), "checkpoint_dir": str(parent)}
        quiet = {"state": "ERROR", "show_progress": False, "device": "cpu"}
        parent.mkdir(exist_ok=True)
        output = parent / "output.log"
        job = {"model": model, "overrides": PLAIN | given | place | quiet, "output": str(output), **how}
        print(json.dumps(job), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        assert answer["code"] in (0, -9), output.read_text()
        return answer

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.close()
    print(f"\nkills that hit a run at work, by phase: {dict(made.phases)}, together {made.phases.total()}")


def the_run(parent: Path) -> Path | None:
    """The one run folder under ``parent``; a killed process must not have begun a second one that could go on."""
    found = [path for path in parent.iterdir() if (path / "config.yaml").exists()]
    assert len(found) <= 1
    return found[0] if found else None


def phase(run_dir: Path | None) -> str:
    """How far a run has come, by its files; "start" before there was anything to lose."""
    if run_dir is None or (not (run_dir / "model.pth").exists() and not (run_dir / "model-last.pth").exists()):
        return "start"
    if (run_dir / "metrics.json").exists():
        return "complete"
    if (run_dir / "ranks.csv").exists():
        return "results"
    if (run_dir / "model-transfer.pth").exists():
        return "guard"
    state = run_dir / "model-last.pth"
    if not state.exists():
        return "first epoch"
    return "pretraining" if read_checkpoint(state)["epoch"] < 0 else "epochs"


@pytest.mark.parametrize("config", CONFIGS)
def test_a_run_killed_again_and_again_ends_as_if_nothing_had_happened(nursery, tmp_path, config):
    whole = tmp_path / "whole"
    seconds = nursery.run(config, whole)["seconds"]
    calls = json.loads((whole / "output.calls").read_text())
    assert calls["replace"] > 10, "the run writes through what is counted"
    wanted, hits, runs, attempts = ceil(KILLS / len(CONFIGS)), 0, 0, 0
    while hits < wanted:
        parent, runs = tmp_path / f"killed-{runs}", runs + 1
        for _ in range(4):
            attempts += 1
            assert attempts < 20 + 10 * wanted, "hardly any kill hits: the run is too short"
            if hits == wanted:
                break
            moment = {"delay": nursery.random.uniform(0.0, seconds)}
            if nursery.random.random() < 0.5:
                name = nursery.random.choice(list(calls))
                moment = {"call": [name, nursery.random.randint(1, calls[name])]}
            if not nursery.run(config, parent, resume=True, **moment)["killed"]:
                break
            if (at := phase(the_run(parent))) not in ("start", "complete"):
                hits += 1
                nursery.phases[at, "at a write" if "call" in moment else "at any time"] += 1
        nursery.run(config, parent, resume=True)
        assert_same_run(the_run(whole), the_run(parent))
