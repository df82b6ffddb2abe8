"""Runs that are stopped on purpose, and whether two run folders hold the same run, to the bit."""

import csv
import json
from pathlib import Path

import torch

from recbole_metarec.config.models import SHIPPED_MODELS
from recbole_metarec.trainer.checkpoint import read_checkpoint
from recbole_metarec.trainer.trainer import TransferTrainer

UNREPEATABLE = {"git_commit", "seconds", "peak_memory_mib", "checkpoint_dir"}


def stop_after(monkeypatch, validations: int, of=TransferTrainer, method="_after_validation") -> None:
    """Ctrl-C right after so many validations of this process."""
    original, seen = getattr(of, method), []

    def stopping(self, *args):
        original(self, *args)
        seen.append(1)
        if len(seen) == validations:
            raise KeyboardInterrupt

    monkeypatch.setattr(of, method, stopping)


def runs() -> list[Path]:
    return sorted(Path("saved").iterdir()) if Path("saved").exists() else []


def assert_same(one, other, where: str) -> None:
    """Equality to the bit of whatever a checkpoint or a JSON file holds, but for what no run can repeat."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one.keys() - UNREPEATABLE:
            if key == "config" and isinstance(one[key], str):
                own, its = (json.loads(text) for text in (one[key], other[key]))
                for found in (own, its):
                    found["given"].sort()  # files and the command line give in another order
                assert_same(own, its, f"{where}: {key}")
            else:
                assert_same(one[key], other[key], f"{where}: {key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, (own, its) in enumerate(zip(one, other, strict=True)):
            assert_same(own, its, f"{where}[{number}]")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), where
    else:
        assert one == other and type(one) is type(other), where


def content(path: Path):
    if path.suffix == ".json":
        return json.loads(path.read_text())
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            return list(csv.DictReader(file))
    return read_checkpoint(path)


def assert_same_run(one: Path, other: Path) -> None:
    names = {path.name for path in one.iterdir()}
    assert names == {path.name for path in other.iterdir()}, "something half-written has stayed"
    ours = json.loads((one / "metrics.json").read_text())["model"] in SHIPPED_MODELS
    compared = [
        name
        for name in sorted(names)
        if name.endswith((".json", ".csv", "-last.pth")) or (ours and name.endswith(".pth"))
    ]
    assert {"metrics.json", "history.csv", "ranks.csv", "model-last.pth"} <= set(compared)
    for name in compared:
        assert_same(content(one / name), content(other / name), name)
