"""The benchmarks' own arithmetic: alternation, spread, table, FLOPs, and the published algorithm beside our LRU."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny import F64, random_batch, tiny_metarec

from recbole_metarec.errors import DataError
from recbole_metarec.serve import Recommender

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def test_sides_alternate_and_neither_always_comes_first():
    import harness

    calls = []

    def side(name):
        return lambda: calls.append(name) or len(calls)

    found = harness.alternate({"a": side("a"), "b": side("b")}, 4)
    rounds = [calls[start : start + 2] for start in range(0, len(calls), 2)]
    assert len(rounds) == 5 and all(sorted(names) == ["a", "b"] for names in rounds)
    assert [names[0] for names in rounds[1:]].count("a") == 2
    # the first round does not count: its figures are 1 and 2
    assert sorted(found["a"] + found["b"]) == list(range(3, 11))
    assert all(calls[value - 1] == name for name, values in found.items() for value in values)


def test_ratios_and_spread_of_known_numbers():
    import harness

    assert harness.ratios([10, 9, 40], [2, 3, 4]) == [5, 3, 10]
    assert harness.spread([5, 3, 10, 4]) == (3, 4.5, 10)
    assert harness.medians([1, 9, 2, 30, 10, 20], 3) == [2, 20]
    assert harness.assert_close("x", 2e-6, 1e-5) == "2e-06"
    for bad in (2e-5, float("nan")):
        with pytest.raises(AssertionError, match="x differs by"):
            harness.assert_close("x", bad, 1e-5)


ROWS = {
    "fast": {"what": "fast thing", "script": "a.py", "at_least": 40, "unit": "× faster", "holds_back": "nothing"},
    "slow": {"what": "slow thing", "script": "b.py", "at_most": 1.2, "unit": "×", "holds_back": "the softmax"},
    "close": {"what": "close thing", "script": "b.py", "at_most": 1.2, "unit": "×", "holds_back": "no word of this"},
    "waits": {"what": "later thing", "at_least": 2, "unit": "×", "not_yet": "a later step"},
    "gpu": {"what": "thing on a GPU", "script": "c.py", "at_least": 5, "unit": "×"},
    "new": {"what": "new thing", "script": "d.py", "at_least": 5, "unit": "×"},
}


@pytest.fixture
def measured(tmp_path):
    import harness

    folder = tmp_path / "results"
    figures = {"ours": {"unit": "s", "values": [1.0, 2.0, 1.5]}}
    for name, reached in {"fast": [39, 41, 50], "slow": [1.1, 1.3, 1.25], "close": [1.1, 1.3, 1.19]}.items():
        content = {"same": f"same {name}", "reached": reached, "figures": figures, "notes": ""}
        harness.write_row(folder, name, content, 3.0)
    harness.write_row(folder, "gpu", {"not_yet": "no GPU here"}, 1.0)
    return folder


def test_table_is_made_from_the_numbers_and_judged_by_their_median(measured):
    import report

    text = report.report(ROWS, report.read_results(measured, ROWS))
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert "≥ 40 × faster | 39 / **41** / 50 | yes | ours: 1.5 s (1 to 2)" in lines["fast thing"]
    assert "≤ 1.2 × | 1.1 / **1.25** / 1.3 | **no** |" in lines["slow thing"]
    assert "1.1 / **1.19** / 1.3 | yes |" in lines["close thing"]
    assert "not yet: a later step" in lines["later thing"]
    assert "not yet: no GPU here" in lines["thing on a GPU"]
    assert "not yet: not measured" in lines["new thing"]
    assert "same fast" in text and "the softmax" in text
    assert "holds it back:* nothing" not in text and "no word of this" not in text, (
        "a row that reaches its goal needs no excuse"
    )
    assert json.loads((measured / "fast.json").read_text())["machine"]["cores"] >= 1


def test_resumed_run_measures_only_what_is_missing_and_keeps_the_rest(measured, monkeypatch):
    import run_all

    asked = []
    monkeypatch.setattr(run_all, "read_rows", lambda: ROWS)
    monkeypatch.setattr(run_all, "measure", lambda name, row, options: asked.append(name) or name != "new")
    before = (measured / "fast.json").read_bytes()
    monkeypatch.setattr(sys, "argv", ["run_all", "--data_path", "x", "--results", str(measured), "--resume"])
    assert run_all.main() == 1, "a row that failed must be heard of"
    assert asked == ["gpu", "new"]
    assert (measured / "fast.json").read_bytes() == before
    assert "**41**" in (measured.parent / "results.md").read_text()
    asked.clear()
    monkeypatch.setattr(sys, "argv", ["run_all", "--results", str(measured), "--report_only"])
    assert run_all.main() == 0 and not asked


def test_every_row_can_be_run_or_says_why_not():
    import report

    for name, row in report.read_rows().items():
        assert ("at_least" in row) != ("at_most" in row), name
        assert (FOLDER / row["script"]).is_file() if "script" in row else row["not_yet"], name


def test_recursive_scan_is_the_recurrence():
    from published_reference import recursive_scan

    drive = torch.randn(3, 16, 5, dtype=torch.complex128)
    eigenvalues = torch.polar(torch.rand(5, dtype=F64), torch.rand(5, dtype=F64) * 6)
    state, expected = torch.zeros(3, 5, dtype=torch.complex128), []
    for step in range(16):
        state = eigenvalues * state + drive[:, step]
        expected.append(state)
    torch.testing.assert_close(recursive_scan(drive, eigenvalues), torch.stack(expected, dim=1))


def test_left_padding_moves_events_and_their_targets_together():
    from published_reference import left_padded

    inputs, targets = torch.tensor([[3, 4, 0], [5, 6, 7]]), torch.tensor([[4, 9, 0], [0, 7, 8]])
    moved = left_padded(inputs, targets, 4)
    assert moved[0].tolist() == [[0, 0, 3, 4], [0, 5, 6, 7]]
    assert moved[1].tolist() == [[0, 0, 4, 9], [0, 0, 7, 8]]


@pytest.mark.parametrize("length", [5, 8, 11])
def test_published_algorithm_has_our_loss_and_our_gradients(length):
    from published_reference import PublishedLRURec, left_padded

    model = tiny_metarec(n_layers=2)[0]
    batch = random_batch(12)
    published = PublishedLRURec(model.state_dict(), dropout_prob=0.0)
    theirs = published.loss(*left_padded(batch.inputs, batch.targets, length))
    theirs.backward()
    parameters = dict(model.named_parameters())
    ours = model.target_loss(parameters, batch)
    expected = dict(zip(parameters, torch.autograd.grad(ours, list(parameters.values())), strict=True))
    torch.testing.assert_close(theirs, ours)
    found = published.gradients()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")
        assert name == "item_bias" or value.abs().max() > 1e-6, f"{name}: a gradient of zero proves nothing"


def test_flop_formula_is_what_torch_counts():
    from arithmetic_limit import formula_is_right, useful_flops

    model = tiny_metarec(embedding_size=16, n_layers=2, n_target=40)[0]
    assert "off by" in formula_is_right(model, 16, 2)
    with pytest.raises(AssertionError, match="FLOPs differs"):
        formula_is_right(model, 16, 3)
    assert useful_flops(10, 0, 64, 2, 5) == 3 * 10 * 2 * 32 * 64**2


def test_bytes_of_a_buffer_count_once_and_as_a_whole():
    from source_memory import bytes_held

    array = np.zeros(100, dtype=np.int32)
    assert bytes_held({"a": array, "part": [array[:10]], "again": array}) == 400
    assert bytes_held((array, torch.zeros(5), "text", 3)) == 420


def test_mixed_requests_are_answered_and_a_wrong_answer_is_seen():
    import serving

    items, users = ["[PAD]", *(f"item-{n:05d}" for n in range(1, 40))], [f"user-{n:05d}" for n in range(60)]
    recommender = Recommender(tiny_metarec(n_target=40)[0], items)
    random = np.random.default_rng(0)
    histories = {user: random.choice(items[1:], random.integers(1, 7)).tolist() for user in users}

    def history_of(user):
        if user not in histories:
            raise DataError(f"unknown user {user}")
        return histories[user]

    recommender.history_of, recommend = history_of, recommender.recommend
    requests = serving.mixed_requests(recommender, users)
    assert len(requests) == 1000
    for request in requests[:200]:
        request()
    assert "off by" in serving.answers_are_right(recommender, users)
    recommender.recommend = lambda *given, **more: [(item, score + 1e-3) for item, score in recommend(*given, **more)]
    with pytest.raises(AssertionError, match="score differs"):
        serving.answers_are_right(recommender, users)
