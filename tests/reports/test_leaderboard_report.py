"""A comparison of runs, and its tables: every figure is where it belongs and text stays text."""

import csv
import io
import os

import numpy as np
import pytest
from support.made_up import BASELINES, PROTOCOL, made_up_comparison, made_up_run

import recbole_metarec  # noqa: F401

# isort: split
from recbole_metarec.compare.leaderboard import Protocol, compare
from recbole_metarec.errors import DataError
from recbole_metarec.evaluation.ranking import ndcg_at
from recbole_metarec.evaluation.results import FailedRun, RunResult
from recbole_metarec.evaluation.segments import Segment
from recbole_metarec.reports import display
from recbole_metarec.reports.html import headline
from recbole_metarec.reports.leaderboard import markdown, table_csv, terminal_table, write_reports


@pytest.fixture(scope="module")
def comparison():
    return made_up_comparison(users=500)


def changed(run: RunResult, **fields) -> RunResult:
    return RunResult(**{**vars(run), **fields})


def test_entries_hold_their_own_runs_figures(comparison):
    assert [entry.place for entry in comparison.entries] == list(range(1, 9))
    means = [entry.test["ndcg@10"].mean for entry in comparison.entries]
    assert means == sorted(means, reverse=True)
    for entry in comparison.entries:
        runs = [made_up_run(entry.model, run.seed, 500) for run in entry.runs]
        levels = [ndcg_at(run.test_ranks, 10).mean() for run in runs]
        assert entry.test["ndcg@10"].mean == pytest.approx(np.mean(levels))
        assert entry.test["ndcg@10"].std == pytest.approx(np.std(levels, ddof=1))
        assert entry.valid["recall@50"].mean == pytest.approx(np.mean([run.valid["recall@50"] for run in runs]))
        assert entry.seconds == pytest.approx(np.mean([run.seconds for run in runs]))
        assert entry.peak_memory_mib == max(run.peak_memory_mib for run in runs)
        assert entry.baseline == (entry.model in BASELINES)
        assert np.mean(entry.seed_differences) == pytest.approx(
            entry.difference.interval.mean if entry.difference else 0.0
        )


def test_the_difference_is_to_the_best_baseline_on_validation(comparison):
    by_name = {entry.model: entry for entry in comparison.entries}
    best = comparison.best_baseline
    assert best in BASELINES and by_name[best].difference is None
    assert by_name[best].valid["ndcg@10"].mean == max(by_name[name].valid["ndcg@10"].mean for name in BASELINES)
    for entry in comparison.entries:
        if entry.model != best:
            apart = entry.test["ndcg@10"].mean - by_name[best].test["ndcg@10"].mean
            assert entry.difference.interval.mean == pytest.approx(apart)
            assert entry.difference.interval.low <= apart <= entry.difference.interval.high


def test_a_better_test_does_not_make_a_baseline_the_best():
    lucky = [changed(made_up_run("SASRec", seed, 300), model="Lucky", valid={"ndcg@10": 0.001}) for seed in (1, 2)]
    plain = [changed(made_up_run("Pop", seed, 300), valid={"ndcg@10": 0.002}) for seed in (1, 2)]
    found = compare(lucky + plain, PROTOCOL, ("Lucky", "Pop"))
    assert found.entries[0].model == "Lucky" and found.best_baseline == "Pop"
    assert found.entries[0].difference.verdict == "better"


def test_segments_follow_the_users_by_token():
    run = changed(
        made_up_run("SASRec", 1, 4), test_users=np.array(["d", "b", "a", "c"]), test_ranks=np.array([1, 11, 3, 1])
    )
    segment = Segment("Some", "a and b", np.array([True, False, True, False]))
    found = compare([run], PROTOCOL, (), (), (segment,), np.array(["a", "d", "b", "c"]))
    assert found.segments[0].intervals[0].mean == pytest.approx(0.25)  # (1 / log2(4) + 0) / 2
    with pytest.raises(DataError, match="not of the runs' test users"):
        compare([run], PROTOCOL, (), (), (segment,), np.array(["a", "d", "b", "e"]))


def test_one_seed_shows_no_deviation_anywhere():
    found = made_up_comparison(users=100, seeds=1)
    assert "± n/a" in terminal_table(found) and "± 0.0000" not in terminal_table(found)
    assert "± n/a" in markdown(found) and "± 0.0000" not in markdown(found)
    rows = list(csv.DictReader(io.StringIO(table_csv(found))))
    assert {row["test_ndcg@10_std"] for row in rows} == {""}


@pytest.mark.parametrize("table", [terminal_table, markdown])
def test_tables_say_what_they_stand_on(comparison, table):
    text = " ".join(table(comparison).replace("\\", "").split())
    for words in (
        PROTOCOL.line,
        "(SIMULATED DATA)",
        "CUDA out of memory",
        "5†",
        "fewer trials",
        "best baseline on validation",
        "does not cover other seeds",
        "not distinguishable" if table is markdown else "best baseline",
    ):
        assert words in text
    for entry in comparison.entries:
        assert display.mean_std(entry.test["ndcg@10"]) in text and display.duration(entry.seconds) in text


def test_the_protocol_stands_above_every_table_of_the_markdown(comparison):
    blocks = markdown(comparison).split("\n\n")
    tables = [number for number, block in enumerate(blocks) if block.startswith("|")]
    assert len(tables) == 4
    for number in tables:
        assert blocks[number - 1] == f"_{PROTOCOL.line}_"


def test_only_smaller_budgets_are_marked():
    runs = [made_up_run("SASRec", 1, 50, trials=20), made_up_run("LRURec", 1, 50, trials=5)]
    marked = {entry.model: entry.fewer_trials for entry in compare(runs, PROTOCOL, ()).entries}
    assert marked == {"SASRec": False, "LRURec": True}
    with_popularity = compare([*runs, made_up_run("Pop", 1, 50, trials=0)], PROTOCOL, ())  # it has nothing to tune
    assert {entry.model for entry in with_popularity.entries if entry.fewer_trials} == {"LRURec"}
    equal = compare([changed(run, trials=7) for run in runs], PROTOCOL, ())
    assert not any(entry.fewer_trials for entry in equal.entries) and "†" not in terminal_table(equal)


def test_csv_is_unrounded_and_whole(comparison):
    rows = list(csv.DictReader(io.StringIO(table_csv(comparison))))
    assert [row["model"] for row in rows] == [entry.model for entry in comparison.entries] + ["FDSA"]
    for row, entry in zip(rows, comparison.entries):
        assert float(row["test_ndcg@10_mean"]) == entry.test["ndcg@10"].mean
        assert int(row["tier"]) == entry.tier and row["dataset"] == PROTOCOL.dataset
        assert (row["p_holm"] == "") == (entry.difference is None)
    assert rows[-1]["error"].startswith("CUDA") and rows[-1]["failed_seed"] == "2022"


def test_text_of_others_stays_text_in_markdown():
    found = made_up_comparison({"MetaRec": "<script>a|b*[x](y)"}, users=50, seeds=1)
    text = markdown(found)
    assert "\\<script\\>a\\|b\\*[x]\\(y)" in text and "<script>" not in text
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    for table in tables:
        bars = {line.replace("\\|", "").count("|") for line in table.splitlines()}
        assert len(bars) == 1


def test_a_model_alone_and_runs_that_all_failed():
    alone = compare([made_up_run("MetaRec", 1, 40)], PROTOCOL, BASELINES)
    assert alone.best_baseline is None and alone.entries[0].tier == 1
    assert "MetaRec" in terminal_table(alone) and "best baseline" not in markdown(alone)
    failed = compare([], PROTOCOL, BASELINES, [FailedRun("SASRec", 1, "out of memory", "recbole-metarec train")])
    assert "failed: SASRec, seed 1: out of memory" in terminal_table(failed)
    assert "out of memory" in markdown(failed) and "out of memory" in table_csv(failed)


def test_the_headline_says_whether_the_leader_beats_the_best_baseline(comparison):
    leader, best = comparison.entries[0], comparison.best_baseline
    text = " ".join(headline(comparison))
    assert text.startswith(f"{leader.model} has the highest test NDCG@10")
    assert f"{leader.model} is better than {best}, the best baseline on validation" in text
    runs = [made_up_run("SASRec", 1, 200), changed(made_up_run("SASRec", 1, 200), model="Twin")]
    alike = " ".join(headline(compare(runs, PROTOCOL, ("Twin",))))
    assert "Not distinguishable from it: Twin." in alike
    assert "SASRec is not distinguishable from Twin, the best baseline on validation: 0.0000 [0.0000, 0.0000]" in alike
    assert headline(compare([], PROTOCOL, ())) == ["No run has finished yet."]


def test_reports_are_written_whole_or_not_at_all(comparison, tmp_path, monkeypatch):
    assert [path.name for path in write_reports(comparison, tmp_path)] == [
        "leaderboard.md",
        "leaderboard.csv",
        "leaderboard.html",
    ]
    before = (tmp_path / "leaderboard.md").read_text()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(DataError, match="leaderboard.md: cannot be written"):
        write_reports(made_up_comparison(users=50), tmp_path)
    assert (tmp_path / "leaderboard.md").read_text() == before and len(os.listdir(tmp_path)) == 3


def test_only_a_dataset_that_says_so_is_simulated():
    assert PROTOCOL.simulated
    real = Protocol(**{**vars(PROTOCOL), "dataset": "Scientific"})
    assert not real.simulated and "SIMULATED" not in real.line


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (90, "1.5 min"), (3600, "1.0 h"), (90000, "25.0 h")]
)
def test_durations(seconds, text):
    assert display.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1000, "1k"), (371_600, "372k"), (999_700, "1M"), (2_110_000, "2.11M")]
)
def test_amounts(number, text):
    assert display.amount(number) == text


def test_signs_of_differences():
    assert [display.signed(value) for value in (0.01, -0.01, 0.00001, -0.00001)] == [
        "+0.0100",
        "−0.0100",
        "0.0000",
        "0.0000",
    ]


def test_users_who_are_all_alike_tell_nothing_of_others():
    runs = [changed(made_up_run("SASRec", 1, 4), test_ranks=np.array([60, 1, 60, 2]))]
    users = runs[0].test_users
    groups = tuple(Segment(f"{at}", "", np.isin(users, users[at])) for at in ([0, 2], [1, 3], [1]))
    alike, different, one = (row.intervals[0] for row in compare(runs, PROTOCOL, (), (), groups, users).segments)
    assert not np.isfinite(alike.low) and not np.isfinite(one.high) and display.interval(alike) == "n/a"
    assert 0 <= different.low < different.mean < different.high <= 1


def test_a_guarded_figure_is_over_the_same_seeds_as_its_neighbour():
    runs = [made_up_run("MetaRec", 1, 50), changed(made_up_run("MetaRec", 2, 50), guarded_test=None)]
    partly = compare([*runs, made_up_run("LRURec", 1, 50)], PROTOCOL, ("LRURec",))
    assert all(entry.guarded_test == {} for entry in partly.entries)
    assert "Not every model has a run of every seed" in " ".join(terminal_table(partly).split())
