"""A comparison of runs, and its tables: every figure is where it belongs and text stays text."""

import os
from dataclasses import replace

import numpy as np
import pytest
from support.made_up import BASELINES, PROTOCOL, made_up_comparisons, made_up_run
from support.parsed import csv_rows, html_tables, markdown_tables

import recbole_metarec  # noqa: F401

# isort: split
from support.ndcg import ndcg_at

from recbole_metarec.compare.leaderboard import Protocol, compare, compare_both
from recbole_metarec.errors import DataError
from recbole_metarec.evaluation.results import FailedRun, RunResult
from recbole_metarec.evaluation.segments import Segment
from recbole_metarec.reports import html as page_module
from recbole_metarec.reports.html import page
from recbole_metarec.reports.leaderboard import (
    headline,
    markdown,
    models_tables,
    segments_tables,
    table_csv,
    terminal_table,
    write_reports,
)
from recbole_metarec.tables import INTERVAL, deviation, duration, score, signed


@pytest.fixture(scope="module", autouse=True)
def without_figures():
    """They take most of a page's time, and are tested in reports/test_figures.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_module, "_pictures", lambda comparison: {})
        yield


@pytest.fixture(scope="module")
def comparisons():
    return made_up_comparisons(users=500)


@pytest.fixture(scope="module")
def comparison(comparisons):
    return comparisons[0]


def page_of(comparisons) -> str:
    return page(comparisons, headline(comparisons), models_tables(comparisons), segments_tables(comparisons))


@pytest.fixture(scope="module")
def html(comparisons):
    return page_of(comparisons)


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
    single = made_up_comparisons(users=100, seeds=1)
    assert "± n/a" in markdown(single) and "± 0.0000" not in markdown(single) + terminal_table(single)
    assert {row["test_ndcg@10_std"] for row in csv_rows(table_csv(single))} == {""}


@pytest.mark.parametrize("protocol", [0, 1])
def test_markdown_read_back_is_what_was_measured(comparisons, protocol):
    *tables, failed = markdown_tables(markdown(comparisons))
    models, segments = tables[protocol], tables[2 + protocol]
    comparison = comparisons[protocol]
    best = comparison.best_baseline
    for row, entry in zip(models, comparison.entries, strict=True):
        level, apart = entry.test["ndcg@10"], entry.difference
        assert (row["Model"], int(row["Place"]), int(row["Tier"])) == (entry.model, entry.place, entry.tier)
        assert row["NDCG@10 test"] == f"{score(level.mean)} {deviation(level.std)}"
        assert row["95 % interval over users"] == INTERVAL.text(entry.interval)
        assert row["Valid NDCG@10"].startswith(score(entry.valid["ndcg@10"].mean))
        assert (row["Guarded NDCG@10"] == "–") == (not entry.guarded_test)
        assert row["Recall@50 test"].startswith(score(entry.test["recall@50"].mean))
        assert row["Verdict"] == (apart.verdict if apart else "–")
        assert row[f"Δ to {best}"].split(" ")[0] == (signed(apart.interval.mean) if apart else "–")
        assert row["Δ of each seed"].count(",") == (len(entry.runs) - 1 if apart else 0)
        assert row["Seeds"] == str(len(entry.runs)) and row["Time per run"] == duration(entry.seconds)
        assert row["Parameters"].replace(",", "") == str(entry.parameters)
        assert row["Trials"] == f"{entry.trials}{'†' * entry.fewer_trials}"
    for number, scores in enumerate(comparison.segments):
        for row, interval in zip(segments, scores.intervals, strict=True):
            column = f"{scores.segment.name} ({scores.segment.users:,} users)"
            assert row[column] == f"{score(interval.mean)} ({INTERVAL.text(interval)})", number
    assert [(row["Model"], row["Seed"]) for row in failed] == [("FDSA", "2022")]


def test_markdown_and_page_hold_the_same_tables_and_the_terminal_a_part_of_them(comparisons, html):
    names = "models-kept", "models-removed", "segments-kept", "segments-removed"
    read = markdown_tables(markdown(comparisons))[:-1]
    assert html_tables(html) == dict(zip(names, read, strict=True))
    assert read[0] != read[1] and read[2] != read[3]
    lines = terminal_table(comparisons).splitlines()
    for protocol, comparison in enumerate(comparisons):
        for row in read[protocol]:
            line = [line for line in lines if line.startswith(f"{row['Model']} ")][protocol]
            best = f"Δ to {comparison.best_baseline}"
            for name in ("Place", "Tier", "NDCG@10 test", best, "p", "Time per run", "Trials"):
                assert row[name] in line


def test_what_a_reader_must_know_stands_beside_the_models_in_every_form(comparisons, html):
    lines, notes = [one.protocol.line for one in comparisons], models_tables(comparisons)[1].notes
    assert any("best baseline" in note for note in notes) and any("†" in note for note in notes)
    forms = terminal_table(comparisons), markdown(comparisons).replace("\\", ""), html.replace("&#39;", "'")
    for text in (" ".join(form.split()) for form in forms):
        for sentence in (*notes, *lines, "SIMULATED DATA", "CUDA out of memory"):
            assert sentence in text and (text.count(sentence) == 1 or sentence not in notes)


def test_the_protocol_stands_above_every_table_of_the_markdown(comparisons):
    kept, removed = (f"_{one.protocol.line}_" for one in comparisons)
    assert "seen items kept" in kept and "seen items removed" in removed
    blocks = markdown(comparisons).split("\n\n")
    above = [blocks[number - 1] for number, block in enumerate(blocks) if block.startswith("|")]
    assert above == [kept, removed, kept, removed, kept]


def test_the_second_comparison_is_of_the_ranks_among_unseen_items(comparisons):
    kept, removed = comparisons
    assert removed.protocol == Protocol(**{**vars(kept.protocol), "seen_items": "removed"})
    assert {entry.model for entry in removed.entries} == {entry.model for entry in kept.entries}
    by_model = {entry.model: entry for entry in removed.entries}
    for entry in removed.entries:
        runs = [made_up_run(entry.model, run.seed, 500) for run in entry.runs]
        levels = [ndcg_at(run.unseen.test_ranks, 10).mean() for run in runs]
        assert [entry.test["ndcg@10"].mean, entry.interval.mean] == pytest.approx([np.mean(levels)] * 2)
        assert entry.valid["ndcg@10"].mean == pytest.approx(np.mean([run.unseen.valid["ndcg@10"] for run in runs]))
    guarded = [run.unseen.guarded_test["ndcg@10"] for run in by_model["MetaRec"].runs]
    assert by_model["MetaRec"].guarded_test["ndcg@10"].mean == pytest.approx(np.mean(guarded))
    assert len(removed.segments) == len(kept.segments) > 0 and removed.failed == kept.failed


def test_each_protocol_has_its_own_best_baseline_tiers_and_p():
    """A is far better where seen items are kept, B where they are removed: both verdicts, turned round."""
    low, high = np.full(60, 9), np.full(60, 1)
    runs = []
    for model, kept, removed in (("A", high, low), ("B", low, high)):
        run = changed(
            made_up_run("SASRec", 1, 60), model=model, test_ranks=kept, valid={"ndcg@10": float(kept[0] == 1)}
        )
        unseen = replace(run.unseen, test_ranks=removed, valid={"ndcg@10": float(removed[0] == 1)})
        runs.append(changed(run, unseen=unseen))
    for found, best in zip(compare_both(runs, PROTOCOL, ("A", "B")), "AB", strict=True):
        assert found.entries[0].model == best == found.best_baseline
        assert [entry.tier for entry in found.entries] == [1, 2]
        assert found.entries[1].difference.verdict == "worse"


def test_only_smaller_budgets_are_marked():
    runs = [made_up_run("SASRec", 1, 50, trials=20), made_up_run("LRURec", 1, 50, trials=5)]
    marked = {entry.model: entry.fewer_trials for entry in compare(runs, PROTOCOL, ()).entries}
    assert marked == {"SASRec": False, "LRURec": True}
    with_popularity = compare([*runs, made_up_run("Pop", 1, 50, trials=0)], PROTOCOL, ())  # it has nothing to tune
    assert {entry.model for entry in with_popularity.entries if entry.fewer_trials} == {"LRURec"}
    equal = compare([changed(run, trials=7) for run in runs], PROTOCOL, ())
    assert not any(entry.fewer_trials for entry in equal.entries) and "†" not in terminal_table([equal])


def test_csv_is_unrounded_and_whole(comparisons):
    rows = csv_rows(table_csv(comparisons))
    found = [(one, entry) for one in comparisons for entry in one.entries]
    assert [row["model"] for row in rows] == [entry.model for _, entry in found] + ["FDSA"]
    for row, (comparison, entry) in zip(rows, found):
        assert row["seen_items"] == ("kept" if comparison is comparisons[0] else "removed")
        assert float(row["test_ndcg@10_mean"]) == entry.test["ndcg@10"].mean
        assert float(row["valid_mrr@50_std"]) == entry.valid["mrr@50"].std
        assert float(row["test_ndcg@10_high"]) == entry.interval.high and float(row["seconds"]) == entry.seconds
        assert row["seeds"] == " ".join(str(run.seed) for run in entry.runs)
        assert (row["baseline"], row["fewer_trials"]) == (str(entry.baseline), str(entry.fewer_trials))
        assert (row["guarded_test_recall@10_mean"] == "") == (not entry.guarded_test)
        assert (row["p_holm"] == "") == (entry.difference is None)
        if entry.difference:
            apart = entry.difference.interval
            ends = [float(row[name]) for name in ("difference", "difference_low", "difference_high", "p_holm")]
            assert ends == [apart.mean, apart.low, apart.high, entry.difference.p]
        assert (row["dataset"], row["best_baseline"]) == (PROTOCOL.dataset, comparison.best_baseline)
    assert rows[-1]["error"].startswith("CUDA") and rows[-1]["failed_seed"] == "2022"


def test_text_of_others_stays_text_in_every_form():
    name = "<script>a|b*[x](y)"
    hostile = made_up_comparisons({"MetaRec": name}, users=50, seeds=1)
    assert "<script>" not in markdown(hostile) and "](" not in markdown(hostile)
    for rows in (*markdown_tables(markdown(hostile))[:4], *html_tables(page_of(hostile)).values()):
        assert name in [row["Model"] for row in rows]
    assert name in [row["model"] for row in csv_rows(table_csv(hostile))]


def test_a_model_alone_and_runs_that_all_failed():
    alone = compare([made_up_run("MetaRec", 1, 40)], PROTOCOL, BASELINES)
    assert alone.best_baseline is None and alone.entries[0].tier == 1
    assert "MetaRec" in terminal_table([alone]) and "Δ" not in markdown([alone])
    failed = compare_both([], PROTOCOL, BASELINES, [FailedRun("SASRec", 1, "out of memory", "recbole-metarec train")])
    assert all(form(failed).count("out of memory") == 1 for form in (terminal_table, markdown, table_csv))


def test_the_headline_says_whether_the_leader_beats_the_best_baseline(comparison):
    leader, best = comparison.entries[0], comparison.best_baseline
    text = " ".join(headline([comparison]))
    kept = "With seen items kept (RecBole's protocol), "
    assert text.startswith(f"{kept}{leader.model} has the highest test NDCG@10")
    assert f"{leader.model} is better than {best}, the best baseline on validation" in text
    runs = [made_up_run("SASRec", 1, 200), changed(made_up_run("SASRec", 1, 200), model="Twin")]
    alike = " ".join(headline([compare(runs, PROTOCOL, ("Twin",))]))
    assert "Not distinguishable from it: Twin." in alike
    assert "SASRec is not distinguishable from Twin, the best baseline on validation: 0.0000 [0.0000, 0.0000]" in alike
    assert headline(compare_both([], PROTOCOL, ())) == ["No run has finished yet."]


def test_reports_are_written_whole_or_not_at_all(comparisons, tmp_path, monkeypatch):
    assert [path.name for path in write_reports(comparisons, tmp_path)] == [
        "leaderboard.md",
        "leaderboard.csv",
        "leaderboard.html",
    ]
    before = (tmp_path / "leaderboard.md").read_text()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(DataError, match="leaderboard.md: cannot be written"):
        write_reports(made_up_comparisons(users=50), tmp_path)
    assert (tmp_path / "leaderboard.md").read_text() == before and len(os.listdir(tmp_path)) == 3


def test_only_a_dataset_that_says_so_is_simulated():
    assert PROTOCOL.simulated
    real = Protocol(**{**vars(PROTOCOL), "dataset": "Scientific"})
    assert not real.simulated and "SIMULATED" not in real.line


def test_users_who_are_all_alike_tell_nothing_of_others():
    runs = [changed(made_up_run("SASRec", 1, 4), test_ranks=np.array([60, 1, 60, 2]))]
    users = runs[0].test_users
    groups = tuple(Segment(f"{at}", "", np.isin(users, users[at])) for at in ([0, 2], [1, 3], [1]))
    alike, different, one = (row.intervals[0] for row in compare(runs, PROTOCOL, (), (), groups, users).segments)
    assert not np.isfinite(alike.low) and not np.isfinite(one.high) and INTERVAL.text(alike) == "n/a"
    assert 0 <= different.low < different.mean < different.high <= 1


def test_a_guarded_figure_is_over_the_same_seeds_as_its_neighbour():
    runs = [made_up_run("MetaRec", 1, 50), changed(made_up_run("MetaRec", 2, 50), guarded_test=None)]
    partly = compare([*runs, made_up_run("LRURec", 1, 50)], PROTOCOL, ("LRURec",))
    assert all(entry.guarded_test == {} for entry in partly.entries)
    assert "Not every model has a run of every seed" in " ".join(terminal_table([partly]).split())
