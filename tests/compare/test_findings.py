"""What a study's table says: differences over the right users and seeds, corrected, and shown as they are."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from support.fake_runs import found_by, planned

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from support.made_up import PROTOCOL
from support.ndcg import ndcg_at
from support.parsed import csv_rows, markdown_tables

from recbole_metarec.compare.cost import estimate
from recbole_metarec.compare.execution import StudyResults
from recbole_metarec.compare.findings import SEEDS, USERS, findings
from recbole_metarec.compare.rows import Ranks, Row
from recbole_metarec.compare.study import Arm, Study
from recbole_metarec.evaluation.significance import differences, holm
from recbole_metarec.reports.study import markdown, notes, table_csv, terminal_table, write_reports
from recbole_metarec.tables import percent, probability, score, signed, signed_interval

SEED = (1, 2, 3)


def world(folder, names="ABCD", ranks=True, kind="ablate"):
    """(study of arms held against the first, everything found)."""
    arms = tuple(
        Arm(
            name,
            "" if kind == "ablate" else value,
            float(value),
            name * 2,
            tuple(planned(folder, name, s) for s in SEED),
        )
        for name, value in zip(names, ("1", "2", "3", "4"))
    )
    rows, kept = {}, {}
    for arm in arms:
        for run in arm.runs:
            result = found_by(run, users=300)
            result = replace(result, test={"ndcg@10": float(ndcg_at(result.test_ranks, 10).mean())})
            unseen = replace(result.unseen, test={"ndcg@10": float(ndcg_at(result.unseen.test_ranks, 10).mean())})
            result = replace(result, test_ranks=np.maximum(1, result.test_ranks // (1 + 9 * (run.model == "B"))))
            result = replace(result, unseen=unseen)
            rows[run.recipe] = Row.of(run, result, "e", arm.model, "again")
            kept[run.recipe] = Ranks.of(result)
    against = ((None,), *((0,) for _ in arms[1:]))
    key = "" if kind == "ablate" else "temperature"
    return Study(kind, "Shop", key, arms, (arms[0].name,), against), StudyResults(rows, kept if ranks else {}, [])


def by_user(found, arm) -> np.ndarray:
    return np.mean([ndcg_at(found.ranks[run.recipe].ranks.astype(int), 10) for run in arm.runs], axis=0)


def test_differences_are_the_leaderboards_paired_over_users_and_corrected_over_the_column(tmp_path):
    study, found = world(tmp_path)
    table = findings(study, found)
    scores = np.stack([by_user(found, arm) for arm in study.arms])
    raw = []
    for n, arm in enumerate(table.arms[1:], start=1):
        pair = differences(scores[[n, 0]])  # a single pair: nothing to correct
        (contrast,) = arm.contrasts
        interval = contrast.difference.interval
        assert contrast.over == USERS and contrast.seeds == 3 and contrast.reference == "A"
        np.testing.assert_allclose(interval.mean, scores[n].mean() - scores[0].mean(), atol=1e-12)
        np.testing.assert_allclose((interval.low, interval.high), (pair.low[0, 1], pair.high[0, 1]), atol=1e-12)
        raw.append(pair.p[0, 1])
    np.testing.assert_allclose([arm.contrasts[0].difference.p for arm in table.arms[1:]], holm(raw))
    assert table.arms[1].contrasts[0].difference.real, "B ranks ten times better"
    tests = [[found.rows[run.recipe].test for run in arm.runs] for arm in study.arms]
    over_seeds = [stats.ttest_rel(own, tests[0]).pvalue for own in tests[1:]]
    np.testing.assert_allclose([arm.contrasts[0].p_seeds for arm in table.arms[1:]], holm(over_seeds))
    assert table.arms[0].contrasts == (None,) and table.arms[0].users == 300


def test_seeds_of_other_users_are_pooled_and_those_of_the_same_averaged(tmp_path):
    """Seeds 1 and 3 have the same 300 users, seed 2 has 120 others: 420 in all, each of them once."""
    study, found = world(tmp_path)
    for arm in study.arms:
        place = arm.runs[1].recipe
        kept = found.ranks[place]
        found.ranks[place] = Ranks("others", kept.ranks[:120], kept.unseen[:120], kept.valid[:120])
    table = findings(study, found)
    scores = []
    for arm in study.arms:
        one, two, three = (ndcg_at(found.ranks[run.recipe].ranks.astype(int), 10) for run in arm.runs)
        scores.append(np.array([*((one + three) / 2), *two]))
    for n, arm in enumerate(table.arms[1:], start=1):
        pair, (contrast,) = differences(np.stack([scores[n], scores[0]])), arm.contrasts
        interval = contrast.difference.interval
        assert arm.users == 420 and contrast.over == USERS and contrast.seeds == 3
        np.testing.assert_allclose(arm.level.mean, scores[n].mean())
        np.testing.assert_allclose(interval.mean, (scores[n] - scores[0]).mean(), atol=1e-12)
        np.testing.assert_allclose((interval.low, interval.high), (pair.low[0, 1], pair.high[0, 1]), atol=1e-12)


@pytest.mark.parametrize("way", ["no ranks", "one run's ranks", "other users"])
def test_without_common_users_differences_are_over_seeds_and_say_so(tmp_path, way):
    study, found = world(tmp_path)
    ranks = dict(found.ranks)
    last = study.arms[3].runs[2].recipe
    if way == "other users":
        ranks[last] = replace(ranks[last], users="others")
    else:
        del ranks[last]
    if way == "no ranks":
        ranks = {}
    table = findings(study, replace(found, ranks=ranks))
    ours, theirs = ([found.rows[run.recipe].test for run in study.arms[n].runs] for n in (3, 0))
    wanted = stats.ttest_rel(ours, theirs)
    contrast = table.arms[3].contrasts[0]
    assert contrast.over == SEEDS
    low, high = wanted.confidence_interval(0.95)
    interval = contrast.difference.interval
    np.testing.assert_allclose((interval.low, interval.high), (low, high))
    assert contrast.difference.p >= wanted.pvalue
    assert {arm.contrasts[0].over for arm in table.arms[1:3]} == {SEEDS if way == "no ranks" else USERS}
    assert "‡" in terminal_table(table, PROTOCOL) and "‡ over seeds" in markdown(table, PROTOCOL, "again")


def test_only_seeds_that_both_have_are_compared_and_what_is_wanting_is_shown(tmp_path):
    study, found = world(tmp_path)
    gone = [study.arms[0].runs[0].recipe, *(run.recipe for run in study.arms[2].runs)]
    rows = {key: row for key, row in found.rows.items() if key not in gone}
    table = findings(study, replace(found, rows=rows))
    contrast = table.arms[1].contrasts[0]
    both = [np.mean([ndcg_at(found.ranks[run.recipe].ranks.astype(int), 10) for run in study.arms[n].runs[1:]])
            for n in (1, 0)]  # fmt: skip
    assert contrast.seeds == 2
    np.testing.assert_allclose(contrast.difference.interval.mean, both[0] - both[1])
    assert table.arms[2].test is None and table.arms[2].contrasts == (None,)
    assert [len(arm.rows) for arm in table.arms] == [2, 3, 0, 3]
    assert len(terminal_table(table, PROTOCOL).splitlines()) > 5


def test_one_seed_without_ranks_tells_nothing_and_equal_runs_do_not_differ(tmp_path):
    study, found = world(tmp_path, ranks=False)
    first = {arm.runs[0].recipe for arm in study.arms}
    alone = findings(study, replace(found, rows={key: row for key, row in found.rows.items() if key in first}))
    contrast = alone.arms[1].contrasts[0]
    assert contrast.difference.p == 1 and np.isinf(contrast.difference.interval.low) and contrast.p_seeds is None
    assert "[n/a]" in terminal_table(alone, PROTOCOL)
    twin = replace(study, arms=(study.arms[0], replace(study.arms[0], value="0")), against=((None,), (0,)))
    for ranks in (found.ranks, world(tmp_path)[1].ranks):
        contrast = findings(twin, replace(found, ranks=ranks)).arms[1].contrasts[0]
        assert contrast.difference.interval.mean == 0 and contrast.difference.p == 1


def test_the_ranking_without_seen_items_has_scores_and_differences_of_its_own(tmp_path):
    """B, ten times better where seen items are kept, is like the others where they are removed."""
    study, found = world(tmp_path)
    table = findings(study, found)
    swapped = {
        "rows": {key: replace(row, valid=row.valid_removed, test=row.test_removed) for key, row in found.rows.items()},
        "ranks": {key: replace(both, ranks=both.unseen) for key, both in found.ranks.items()},
    }
    alone = findings(study, replace(found, **swapped))
    for arm, expected in zip(table.arms, alone.arms, strict=True):
        assert (arm.unseen.test, arm.unseen.contrasts) == (expected.test, expected.contrasts)
    assert table.arms[1].contrasts[0].difference.real and not table.arms[1].unseen.contrasts[0].difference.real
    contrast, (row, *_) = table.arms[1].unseen.contrasts[0], csv_rows(table_csv(table, PROTOCOL))[1:]
    assert float(row["test_unseen_ndcg@10_mean"]) == table.arms[1].unseen.test.mean
    assert float(row["unseen_to_A"]) == contrast.difference.interval.mean
    assert float(row["unseen_to_A_p_holm"]) == contrast.difference.p
    shown = markdown_tables(markdown(table, PROTOCOL, "again"))[0][1]
    assert shown["NDCG@10 (seen removed)"].startswith(score(table.arms[1].unseen.test.mean))
    assert shown["Δ to A (seen removed)"].startswith(signed(contrast.difference.interval.mean))


@pytest.mark.parametrize("kind", ["ablate", "sweep"])
def test_reports_read_back_hold_every_arm_seed_and_command_and_tell_of_other_code(tmp_path, kind):
    study, found = world(tmp_path, kind=kind)
    key = study.arms[1].runs[0].recipe
    found.rows[key] = replace(found.rows[key], code="older")
    table = findings(study, found)
    text, (name,) = markdown(table, PROTOCOL, "recbole-metarec again"), study.columns
    assert "older" in text and "2 versions of the code" in text and "SIMULATED DATA" in text
    arms, runs = markdown_tables(text)
    rows = csv_rows(table_csv(table, PROTOCOL))
    for arm, shown, row in zip(table.arms, arms, rows, strict=True):
        what = [shown["variant"], shown["what differs"]] if kind == "ablate" else [shown["model"], shown["temperature"]]
        assert what == [arm.arm.model, arm.arm.detail if kind == "ablate" else arm.arm.value]
        assert (row["model"], row["seeds"], row["users"]) == (arm.arm.model, "1 2 3", "300")
        assert row["changes" if kind == "ablate" else "temperature"] == what[1]
        assert float(row["test_ndcg@10_mean"]) == arm.test.mean and float(row["test_ndcg@10_high"]) == arm.level.high
        assert shown["NDCG@10 test"].startswith(score(arm.test.mean)) and shown["seeds"] == "3"
        (contrast,) = arm.contrasts
        if contrast is None:
            assert row[f"to_{name}"] == row[f"to_{name}_p_seeds_holm"] == "" and shown[f"Δ to {name}, 95 %"] == "–"
            continue
        apart = contrast.difference.interval
        assert [float(row[f"to_{name}{ending}"]) for ending in ("", "_low", "_high")] == [
            apart.mean,
            apart.low,
            apart.high,
        ]
        assert float(row[f"to_{name}_relative"]) == contrast.relative and row[f"to_{name}_over"] == contrast.over
        assert float(row[f"to_{name}_p_holm"]) == contrast.difference.p
        assert float(row[f"to_{name}_p_seeds_holm"]) == contrast.p_seeds
        assert shown[f"Δ to {name}, 95 %"] == f"{signed(apart.mean)} {signed_interval(apart.low, apart.high)}"
        assert shown["%"] == percent(contrast.relative) and shown["p over seeds"] == probability(contrast.p_seeds)
    every = [(arm.arm.name, str(row.seed), score(row.test)) for arm in table.arms for row in arm.rows]
    assert [(run["Arm"], run["Seed"], run["NDCG@10 test"]) for run in runs] == every
    files = write_reports(table, PROTOCOL, "again", tmp_path)
    assert [file.name for file in files] == [f"{kind}.md", f"{kind}.csv", f"{kind}.png"]
    assert files[2].read_bytes().startswith(b"\x89PNG")


def test_a_report_says_when_every_model_reads_texts_and_when_seeds_are_subsamples(tmp_path):
    study, found = world(tmp_path)
    said = "text_alignment", "different subsample"
    assert not any(words in note for note in notes(findings(study, found)) for words in said)

    def read(run, number):
        return replace(run, config={**run.config, "text_alignment": True}, dataset=f"Shop-{number}")

    arms = tuple(replace(arm, runs=tuple(map(read, arm.runs, range(3)))) for arm in study.arms)
    told = " ".join(notes(findings(replace(study, arms=arms), StudyResults({}, {}, []))))
    assert all(words in told for words in said)


def test_a_report_without_any_finished_run_has_no_picture(tmp_path):
    study, _ = world(tmp_path)
    table = findings(study, StudyResults({}, {}, []))
    assert [file.suffix for file in write_reports(table, PROTOCOL, "again", tmp_path)] == [".md", ".csv"]


def test_the_cost_is_of_what_is_missing_by_what_like_runs_took(tmp_path):
    data = tmp_path / "data"
    data.write_text("head\n" + "event\n" * 60_000)

    def run(model, sources=(), exact=False):
        own = planned(tmp_path, model, data=data)
        return replace(own, sources=list(sources), config={**own.config, "second_order": exact})

    alone, two, exact = run("LRURec"), run("MetaRec", "XY"), run("MetaRec", "XY", True)
    plan = [alone, two, exact]
    cost = estimate(plan, plan, [], [])
    assert cost.seconds == 130 * (1 + 3 + 3 * 4) and "rule of thumb" in cost.text(1)
    brief = replace(alone, config={**alone.config, "epochs": 3})
    assert estimate([brief], [brief], [], []).seconds == 13, "a tenth of the epochs that a run usually takes"
    known = [{"model": "LRURec", "dataset": "Shop", "sources": [], "config": {}, "seconds": 65.0}]
    assert estimate(plan, plan, known, []).seconds == 65 * (1 + 3 + 12), "this machine is twice as fast"
    quick = [{**known[0], "config": {"epochs": 1}, "seconds": 2.0}]
    assert estimate(plan, plan, quick, []).seconds == 130 * (1 + 3 + 3 * 4), "one epoch tells nothing of a whole run"
    row = replace(Row.of(two, found_by(two), "e", "v", "c"), seconds=100.0)
    cost = estimate(plan, [two, two], [], [row])
    assert (
        cost.seconds == 200 and "earlier runs like them" in cost.text(2) and "about 1 min 40 s with 2" in cost.text(2)
    )
    assert estimate(plan, [], known, []).text(1) == "cost: nothing; all 3 runs are there"
