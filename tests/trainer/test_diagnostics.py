"""Each failure of transfer is said when it lasts, once, and not before."""

import math

import torch

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)
from recbole_metarec.trainer.diagnostics import TransferMonitor
from recbole_metarec.trainer.measuring import EpochRecord


def row(epoch: int, source: str, **values) -> dict:
    return {"epoch": epoch, "source": source, **values}


def said(epochs: list[list[dict]], uniform_wanted: bool = False) -> list[list[str]]:
    """What is said after each epoch."""
    monitor, history, sentences = TransferMonitor(uniform_wanted, {}), [], []
    for rows in epochs:
        history += rows
        sentences.append(monitor.check(rows, history))
    return sentences


def test_epoch_means_leave_out_what_is_not_finite():
    record = EpochRecord()
    record.add({"loss": torch.tensor([1.0, float("nan")]), "skipped": torch.tensor([False, True])})
    record.add({"loss": torch.tensor([3.0, 5.0]), "skipped": torch.tensor([False, False]), "gain": torch.ones(2)})
    first, second = record.rows(4, ["A", "B"])
    assert first == {"epoch": 4, "source": "A", "steps": 2, "gain": 1.0, "loss": 2.0, "skipped": 0.0}
    assert second == {"epoch": 4, "source": "B", "steps": 2, "gain": 1.0, "loss": 5.0, "skipped": 1.0}


def test_uniform_and_collapsed_weights():
    even = [row(0, name, weight=0.25, entropy=math.log(4)) for name in "ABCD"]
    assert "uniform" in said([even])[0][0]
    assert said([even], uniform_wanted=True) == [[]]
    turns = [row(0, name, weight=0.25, entropy=0.1) for name in "ABCD"]
    assert said([turns]) == [[]], "sources that take turns are even on average only"
    one = [row(0, "A", weight=0.97, entropy=0.1), row(0, "B", weight=0.03, entropy=0.1)]
    assert "on A" in said([one])[0][0]
    between = [row(0, name, weight=0.5, entropy=0.98 * math.log(2)) for name in "AB"]
    assert said([between]) == [[]]


def test_overshoot_needs_three_epochs_in_a_row_and_is_said_once():
    bad = [[row(e, "A", gain=-0.1, similarity_theta=0.2)] for e in range(5)]
    assert [len(found) for found in said(bad)] == [0, 0, 1, 0, 0]
    good = [[row(2, "A", gain=0.1, similarity_theta=0.2)]]
    assert not any(said(bad[:2] + good + bad[:2]))
    apart = [[row(e, "A", gain=-0.1, similarity_theta=-0.2)] for e in range(4)]
    assert not any(said(apart)), "a source that points the wrong way does not overshoot"


def test_codebook_collapse_and_rising_error():
    assert "A" in said([[row(0, "A", codebook_usage=0.005)]])[0][0]
    rising = [[row(e, "A", relative_error=0.1 * 1.5**e)] for e in range(5)]
    assert "keeps rising" in said(rising)[3][0]
    level = [[row(e, "A", relative_error=0.1 + 0.001 * e)] for e in range(5)]
    assert not any(said(level))
