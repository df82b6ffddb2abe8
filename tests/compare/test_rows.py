"""The file of rows: what is in it is not run again, whatever happens to whoever writes it."""

import csv
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
from support.fake_runs import WORKER, executed, found_by, planned

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole_metarec.compare import execution
from recbole_metarec.compare.execution import Execution, portable
from recbole_metarec.compare.rows import Ranks, Row, RowsFile, columns_of
from recbole_metarec.compare.study import Arm, Study
from recbole_metarec.errors import DataError
from recbole_metarec.evaluation.metric import NDCG_10, Metric
from recbole_metarec.jobs.store import RunStore


def experiment(folder: Path, seeds=(1, 2), **overrides) -> Study:
    """Arms A and B, B held against A. overrides: of every run of B."""
    (folder / "data").write_text("user\n1\n2\n")
    arms = [
        Arm(name, "", None, "", tuple(planned(folder / "runs", name, seed, folder / "data", **own) for seed in seeds))
        for name, own in (("A", {}), ("B", overrides))
    ]
    return Study("ablate", "Shop", "", tuple(arms), ("A",), ((None,), (0,)))


def carry_out(folder: Path, rows: RowsFile | None, store: str = "runs.sqlite", **kwargs):
    with RunStore(folder / store) as opened:
        return Execution(experiment(folder, **kwargs), opened, rows).run(2, lambda line: None, WORKER)


def begun(folder: Path) -> list[str]:
    return sorted(name for name, _ in executed(folder / "runs"))


@pytest.fixture
def rows(tmp_path) -> RowsFile:
    (tmp_path / "runs").mkdir()
    return RowsFile(tmp_path / "results" / "rows.csv")


def test_what_is_in_the_file_is_not_run_again_without_its_store_and_its_figures_are_the_same(tmp_path, rows):
    first = carry_out(tmp_path, rows)
    assert begun(tmp_path) == ["A 1", "A 2", "B 1", "B 2"]
    again = carry_out(tmp_path, rows, "other.sqlite")
    assert len(begun(tmp_path)) == 4
    assert again.rows == first.rows and again.ranks.keys() == first.ranks.keys()
    for key in first.ranks:
        assert again.ranks[key].users == first.ranks[key].users
        np.testing.assert_array_equal(again.ranks[key].packed, first.ranks[key].packed)
    more = carry_out(tmp_path, rows, "other.sqlite", seeds=(1, 2, 3))
    assert begun(tmp_path) == ["A 1", "A 2", "A 3", "B 1", "B 2", "B 3"] and len(more.rows) == 6
    assert [row["seed"] for row in csv.DictReader(rows.path.open())] == ["1", "1", "2", "2", "3", "3"]


def test_a_row_holds_what_the_run_has_found(tmp_path, rows):
    carry_out(tmp_path, rows, seeds=(1,))
    run = experiment(tmp_path, seeds=(1,)).arms[1].runs[0]
    result = found_by(run)
    row = next(row for row in csv.DictReader(rows.path.open()) if row["variant"] == "B")
    assert list(row) == list(columns_of(NDCG_10))
    assert (row["experiment"], row["dataset"], row["seed"]) == ("ablate Shop", "Shop", "1")
    assert float(row["valid_ndcg@10"]) == result.valid["ndcg@10"]
    assert float(row["test_ndcg@10"]) == result.test["ndcg@10"] and float(row["seconds"]) == 1.5
    assert (row["best_epoch"], row["code_version"], row["data_fingerprint"]) == ("0", run.code, run.data)
    assert float(row["valid_removed_ndcg@10"]) == result.unseen.valid["ndcg@10"]
    assert float(row["test_removed_ndcg@10"]) == result.unseen.test["ndcg@10"]
    kept = rows.ranks()[run.recipe]
    for ranks, expected in ((kept.ranks, result.test_ranks), (kept.unseen, result.unseen.test_ranks)):
        by_user = dict(zip(result.test_users, expected))
        np.testing.assert_array_equal(ranks, [min(by_user[user], 255) for user in sorted(by_user)])


def test_ranks_of_users_who_have_a_row_in_one_part_alone_are_kept(tmp_path, rows):
    """As with a split by time: those on validation come after the test users', each sorted by token."""
    run = planned(tmp_path)
    found = replace(found_by(run), only_valid={"z": 4, "u1 too": 300})
    rows.path.parent.mkdir()
    rows.put([Row.of(run, found, "e", "v", "c")], {run.recipe: Ranks.of(found)})
    kept, alone = rows.ranks()[run.recipe], Ranks.of(found_by(run))
    np.testing.assert_array_equal(kept.valid, [*alone.valid, 255, 4])
    assert kept.users == alone.users
    np.testing.assert_array_equal([kept.ranks, kept.unseen], [alone.ranks, alone.unseen])


def test_a_file_is_of_the_metric_of_its_runs_and_of_no_other(tmp_path, rows):
    mrr = RowsFile(rows.path, Metric("mrr", 5))
    (tmp_path / "data").write_text("user\n1\n2\n")
    run = planned(tmp_path / "runs", "A", 1, tmp_path / "data")
    found, run = found_by(run), replace(run, config={"valid_metric": "MRR@5"})
    values = {"ndcg@10": 0.5, "mrr@5": 0.25}
    found = replace(found, valid=values, test=values, unseen=replace(found.unseen, valid=values, test=values))
    row = Row.of(run, found, "e", "v", "c")
    mrr.path.parent.mkdir()
    assert mrr.put([row], {}) == 1 and mrr.rows() == {run.recipe: row} and row.test == 0.25
    assert {"valid_mrr@5", "test_removed_mrr@5"} <= set(rows.path.read_text().split("\n")[0].split(","))
    with pytest.raises(DataError, match=r"rows.csv: its figures are mrr@5, and these compare by ndcg@10; choose anoth"):
        rows.rows()


@pytest.mark.parametrize("older", ["", "unseen"])
def test_a_file_of_an_earlier_form_is_refused(tmp_path, rows, older):
    """Its figures without seen items, where it has them, are of a rule by which no model missed a repeat."""
    run = planned(tmp_path)
    rows.put([Row.of(run, found_by(run), "e", "v", "c")], {})
    header, *lines = csv.reader(rows.path.open())
    kept = [number for number, name in enumerate(header) if older or "removed" not in name]
    header = [name.replace("removed", older) for name in header]
    with open(rows.path, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([line[n] for n in kept] for line in (header, *lines))
    with pytest.raises(DataError, match="rows.csv: of an earlier form; choose another --rows$"):
        rows.rows()


def test_the_best_epoch_is_the_first_with_the_best_validation(tmp_path):
    run = planned(tmp_path)
    history = [
        {"epoch": -1, "valid_score": None},
        *({"epoch": e, "valid_score": s} for e, s in enumerate((1, 3, 3, 2))),
    ]
    assert Row.of(run, replace(found_by(run), history=history), "e", "v", "c").best_epoch == 1
    assert Row.of(run, replace(found_by(run), history=[]), "e", "v", "c").best_epoch is None


def test_a_verdict_of_the_guard_is_added_when_it_is_known_and_nothing_else_changes(tmp_path, rows):
    run = planned(tmp_path)
    row, ranks = Row.of(run, found_by(run), "e", "v", "c"), {run.recipe: Ranks.of(found_by(run))}
    assert rows.put([row], ranks) == 1
    assert rows.put([replace(row, guard="fired", test=0.9)], ranks) == 0
    assert rows.rows() == {row.recipe: replace(row, guard="fired")}
    rows.put([replace(row, guard="kept")], ranks)
    assert rows.rows()[row.recipe].guard == "fired"


def test_the_guard_says_nothing_of_two_runs_whose_validation_rows_are_of_other_users(tmp_path, monkeypatch):
    """As where the row of one of them was made with other code."""
    monkeypatch.setattr(execution, "same_backbone", lambda ours, without: True)
    ours, theirs = planned(tmp_path, "A"), planned(tmp_path, "B", learning_rate=0.2)
    own = Ranks.of(found_by(ours))
    for other, verdict in (
        (own, "fired"),
        (replace(own, users="others"), ""),
        (replace(own, valid=np.r_[own.valid, 1].astype(np.uint8)), ""),
    ):
        assert execution._guard(ours, theirs, {ours.recipe: own, theirs.recipe: other}) == verdict


def test_ranks_left_by_a_file_that_is_gone_are_not_those_of_new_rows(tmp_path, rows):
    run = planned(tmp_path)
    row, found = Row.of(run, found_by(run), "e", "v", "c"), Ranks.of(found_by(run))
    rows.put([row], {run.recipe: replace(found, unseen=found.unseen + 1)})
    rows.path.unlink()
    rows.put([row], {run.recipe: found})
    np.testing.assert_array_equal(rows.ranks()[run.recipe].unseen, found.unseen)


def test_several_writers_lose_nothing(tmp_path, rows):
    runs = [planned(tmp_path, seed=seed) for seed in range(24)]

    def write(run):
        RowsFile(rows.path).put([Row.of(run, found_by(run), "e", "v", "c")], {run.recipe: Ranks.of(found_by(run))})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, runs))
    assert set(rows.rows()) == set(rows.ranks()) == {run.recipe for run in runs}
    assert sorted(path.name for path in rows.path.parent.iterdir()) == ["rows.csv", "rows.csv.ranks.npz"]


def test_a_run_that_fails_leaves_no_row_and_is_tried_again(tmp_path, rows):
    found = carry_out(tmp_path, rows, seeds=(1,), fails="no luck")
    assert [failure.error for failure in found.failures] == ["RuntimeError: no luck"] and len(found.rows) == 1
    carry_out(tmp_path, rows, seeds=(1,))
    assert begun(tmp_path) == ["A 1", "B 1", "B 1"] and len(rows.rows()) == 2


_SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = {folders!r}
from test_rows import RowsFile, carry_out
folder = Path(sys.argv[1])
carry_out(folder, RowsFile(folder / "results" / "rows.csv"), waits=str(folder / "go"))
"""


def test_rows_are_there_as_runs_finish_and_outlive_a_killed_command_and_its_store(tmp_path, rows):
    script = tmp_path / "script.py"
    here = Path(__file__).resolve()
    script.write_text(_SCRIPT.format(folders=[str(folder) for folder in here.parents[:3]]))
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path)], cwd=tmp_path)
    deadline = monotonic() + 120
    while len(rows.rows()) < 2 and monotonic() < deadline and process.poll() is None:  # A's two; B's wait
        sleep(0.05)
    process.kill()
    process.wait()
    assert [row.variant for row in rows.rows().values()] == ["A", "A"]
    (tmp_path / "go").touch()
    found = carry_out(tmp_path, rows, "other.sqlite", waits=str(tmp_path / "go"))
    assert begun(tmp_path).count("A 1") == begun(tmp_path).count("A 2") == 1 and len(found.rows) == 4


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: ["a,b\n", *lines[1:]], ":1: column 'a' is unknown; fix the line, remove it, or choose another"),
        (lambda lines: [], ":1: columns are not experiment, variant, "),
        (lambda lines: [*lines, "short,line\n"], ":4: 2 fields where the header has 16; "),
        (lambda lines: [*lines[:2], lines[2].replace(",2,0,", ",two,0,")], ":3: seed is 'two', not a number; "),
        (lambda lines: [lines[0], lines[1].replace(",1.5,", ",,")], ":2: seconds is '', not a number; "),
        (lambda lines: [*lines, lines[2].replace(",1.5,", ",9.5,")], ":4: a second row of A, seed 2, with other"),
        (lambda lines: [*lines, '"open\n'], ": cannot be read as CSV ("),
    ],
)  # fmt: skip
def test_a_spoilt_file_is_one_line_that_says_where_and_is_left_alone(tmp_path, rows, spoil, message):
    runs = [planned(tmp_path, seed=seed) for seed in (1, 2)]
    rows.put([Row.of(run, found_by(run), "e", run.model, "c") for run in runs], {})
    rows.path.write_text("".join(spoil(rows.path.read_text().splitlines(keepends=True))))
    before = rows.path.read_bytes()
    more = planned(tmp_path, seed=3)
    for act in (rows.rows, lambda: rows.put([Row.of(more, found_by(more), "e", "v", "c")], {})):
        with pytest.raises(DataError) as refused:
            act()
        assert str(refused.value).startswith(f"{rows.path}{message}") and "\n" not in str(refused.value)
    assert rows.path.read_bytes() == before


def test_metrics_outside_their_range_and_ranks_that_are_none_are_refused(tmp_path, rows):
    run = planned(tmp_path)
    rows.put([replace(Row.of(run, found_by(run), "e", "v", "c"), test=float("nan"))], {})
    with pytest.raises(DataError, match=r"rows.csv:2: valid and test ndcg@10 must lie in \[0, 1\]"):
        rows.rows()
    rows.ranks_path.write_text("notes")
    with pytest.raises(DataError, match="rows.csv.ranks.npz: not a file of ranks"):
        rows.ranks()


def test_ranks_are_small(tmp_path, rows):
    """Of both protocols, thousands of a catalogue of a thousand in about a byte each."""
    run = planned(tmp_path)
    rows.put([Row.of(run, found_by(run), "e", "v", "c")], {run.recipe: Ranks.of(found_by(run, users=8000))})
    assert rows.ranks_path.stat().st_size < 2 * 8500


def test_commands_tell_nothing_of_the_machine():
    given = "recbole-metarec train --model A --data_path=/home/me/data --checkpoint_dir=/x --device=cpu --topk='[1, 2]'"
    assert portable(given) == "recbole-metarec train --model A --data_path=data '--topk=[1, 2]'"
    typed = "recbole-metarec ablate --data-path /home/me --rows /tmp/r.csv --store=/tmp/s --cost --jobs 2"
    assert portable(typed) == "recbole-metarec ablate --data_path=data --cost --jobs 2"
