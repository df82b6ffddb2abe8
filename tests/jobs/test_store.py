"""The file of runs: nothing lost, nothing mixed, nothing changed on the way."""

import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import fake_runs
from support.fake_runs import found_by, planned, same, until

from recbole_metarec.errors import DataError
from recbole_metarec.evaluation.results import UnseenResult
from recbole_metarec.jobs.store import SCHEMA_VERSION, RunStore


@pytest.fixture
def store(place):
    with RunStore(place) as opened:
        yield opened


def finish(store, run, result=None):
    with store.claimed(run) as mine:
        assert mine
        store.finish(run, result or found_by(run), "folder", {"python": "3"})


def test_a_result_comes_back_as_it_went_in(store, tmp_path):
    run = planned(tmp_path)
    history = [
        {"epoch": -1, "train_loss": 1 / 3, "valid_score": None, "seconds": 0.1},
        {"epoch": 0, "train_loss": 0.1 + 0.2, "valid_score": 2**-40, "seconds": 12.0},
    ]
    ranks = np.array([1, 2, 2**31 - 1, 10, 11])
    users = np.array(["9", "10", "ü x", "a,b", "A"])
    unseen = UnseenResult({"ndcg@10": 0.1}, {"ndcg@10": 0.2}, np.array([1, 1, 2**31 - 2, 3, 4]), {"ndcg@10": 0.3})
    put = replace(found_by(run), test_users=users, test_ranks=ranks, history=history, guarded_test={"ndcg@10": 0.5})
    put = replace(put, unseen=unseen, valid_ranks=np.array([3, 0, 1, 2**31 - 1, 0]), only_valid={"A b": 7, "0": 1})
    finish(store, run, put)
    (got,) = store.results([run])
    assert same(put, got)
    assert list(got.test) == list(put.test), "metrics keep their order"
    with store.claimed(run) as mine:
        assert not mine and store.status(run) == "done"


def test_trials_and_name_are_those_of_who_asks(store, tmp_path):
    """The default configuration, run once, is the same run where twenty trials have found nothing better."""
    run = planned(tmp_path)
    finish(store, run, found_by(run))
    asked = [replace(run, trials=tried, model=name) for tried, name in ((0, "A"), (20, "A-tuned"))]
    assert [(result.trials, result.model) for result in store.results(asked)] == [(0, "A"), (20, "A-tuned")]


def test_a_result_of_other_code_is_not_taken(store, tmp_path):
    run = planned(tmp_path)
    finish(store, run)
    other = replace(run, code="another")
    assert store.status(other) == "missing" and store.results([other]) == []


def test_users_of_all_runs_stand_in_one_order(store, tmp_path):
    runs = [planned(tmp_path, seed=seed) for seed in range(3)]
    for run in runs:
        finish(store, run)
    results = store.results(runs)
    assert all(result.test_users is results[0].test_users for result in results)
    assert all(same(found_by(run), result) for run, result in zip(runs, results, strict=True))


@pytest.mark.parametrize("users, ranks", [(["a", "b"], [1]), (["a", "a"], [1, 2]), (["a"], [0]), (["a"], [2**31])])
def test_ranks_that_belong_to_nobody_are_refused_and_leave_nothing(store, tmp_path, users, ranks):
    run = planned(tmp_path)
    with store.claimed(run), pytest.raises(DataError, match="rank"):
        store.finish(run, replace(found_by(run), test_users=np.array(users), test_ranks=np.array(ranks)))
    right = replace(found_by(run), test_users=np.array(["a", "b"]), test_ranks=np.array([1, 2]))
    with store.claimed(run), pytest.raises(DataError, match="rank"):  # 40 of them
        store.finish(run, right)
    assert store.results([run]) == [] and store.status(run) == "missing"


def test_two_processes_write_at_once_and_none_is_lost(tmp_path, place):
    script = str(Path(fake_runs.__file__))
    parts = [("0", "50"), ("50", "50")]
    writers = [subprocess.Popen([sys.executable, script, "write", tmp_path, place, *part]) for part in parts]
    assert [writer.wait(300) for writer in writers] == [0, 0]
    runs = [planned(tmp_path, seed=seed) for seed in range(100)]
    with RunStore(place) as store:
        results = store.results(runs)
    assert len(results) == 100
    assert all(same(found_by(run), result) for run, result in zip(runs, results, strict=True))


def test_a_run_is_one_process_s_until_that_is_gone(store, place, tmp_path):
    run, script = planned(tmp_path), str(Path(fake_runs.__file__))
    words = [sys.executable, script, "hold", tmp_path, place]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"True\n"
        assert store.status(run) == "running"
        with store.claimed(run) as mine:
            assert not mine
        store.record_death(run, "is not true")
        assert store.status(run) == "running" and store.failures([run]) == []
        holder.kill()
    until(lambda: store.status(run) == "missing", 10)
    with store.claimed(run) as mine, RunStore(place) as other:
        assert mine and other.status(run) == "running"
        store.finish(run, found_by(run))
    assert store.status(run) == "done" and list(tmp_path.glob("*.running/*")) == []


def test_failures_are_kept_in_one_line_and_may_be_tried_again(store, tmp_path):
    run, dead = planned(tmp_path), planned(tmp_path, seed=2)
    store.fail(run, "loss is\n  not finite")
    store.record_death(dead, "killed by SIGKILL")
    failures = store.failures([dead, run])
    assert [(f.seed, f.error) for f in failures] == [(2, "killed by SIGKILL"), (1, "loss is not finite")]
    assert failures[1].command == run.command and store.results([run, dead]) == []
    store.record_death(run, "killed by SIGTERM")  # a second attempt, which did not come so far
    assert [f.error for f in store.failures([run])] == ["killed by SIGTERM"]
    finish(store, run)
    assert store.failures([run]) == [] and len(store.results([run])) == 1
    store.record_death(run, "is not true")
    assert store.status(run) == "done"


def test_what_is_let_go_is_missing(store, tmp_path):
    run = planned(tmp_path)
    with store.claimed(run):
        pass
    assert store.status(run) == "missing"


def test_other_files_are_refused_in_one_line_and_stay_as_they_are(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("these are notes, and not few of them\n" * 50)
    with pytest.raises(DataError, match="notes.txt: file is not a database; check that it is a store"):
        RunStore(text)
    foreign = tmp_path / "other.sqlite"
    with sqlite3.connect(foreign) as base:
        base.execute("CREATE TABLE runs (id INTEGER)")
    with pytest.raises(DataError, match="not one of runs; choose another --store"):
        RunStore(foreign)
    RunStore(tmp_path / "new.sqlite").__exit__()
    with sqlite3.connect(tmp_path / "new.sqlite") as base:
        base.execute(f"PRAGMA user_version = {SCHEMA_VERSION - 1}")  # it has no ranks on validation
    with pytest.raises(DataError, match=f"written by another release .format {SCHEMA_VERSION - 1}, .*--store"):
        RunStore(tmp_path / "new.sqlite")
    with pytest.raises(DataError, match="cannot be opened"):
        RunStore(text / "below.sqlite")
