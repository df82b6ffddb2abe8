"""The file of runs: nothing lost, nothing mixed, nothing changed on the way."""

import os
import platform
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from time import time

import numpy as np
import psutil
import pytest
from support import fake_runs
from support.fake_runs import found_by, planned, same

from recbole_metarec.errors import DataError
from recbole_metarec.jobs.owner import Owner
from recbole_metarec.jobs.store import SCHEMA_VERSION, RunStore
from recbole_metarec.runs import code_version as code


@pytest.fixture
def store(tmp_path):
    with RunStore(tmp_path / "runs.sqlite") as opened:
        yield opened


def finish(store, run, result=None):
    store.finish(store.claim(run), result or found_by(run), "folder", {"python": "3"})


def test_a_result_comes_back_as_it_went_in(store, tmp_path):
    run = planned(tmp_path)
    history = [
        {"epoch": -1, "train_loss": 1 / 3, "valid_score": None, "seconds": 0.1},
        {"epoch": 0, "train_loss": 0.1 + 0.2, "valid_score": 2**-40, "seconds": 12.0},
    ]
    ranks = np.array([1, 2, 2**31 - 1, 10, 11])
    users = np.array(["9", "10", "ü x", "a,b", "A"])
    put = replace(found_by(run), test_users=users, test_ranks=ranks, history=history, guarded_test={"ndcg@10": 0.5})
    finish(store, run, put)
    (got,) = store.results([run])
    assert same(put, got)
    assert list(got.test) == list(put.test), "metrics keep their order"
    assert store.status(run) == "done" and store.claim(run) is None


def test_trials_are_those_of_who_asks(store, tmp_path):
    """The default configuration, run once, is the same run where twenty trials have found nothing better."""
    run = planned(tmp_path)
    finish(store, run, found_by(run))
    assert [store.results([replace(run, trials=tried)])[0].trials for tried in (0, 20)] == [0, 20]


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
    number = store.claim(run)
    with pytest.raises(DataError, match="rank"):
        store.finish(number, replace(found_by(run), test_users=np.array(users), test_ranks=np.array(ranks)))
    assert store.results([run]) == [] and store.status(run) == "running"


def test_two_processes_write_at_once_and_none_is_lost(tmp_path):
    file, script = tmp_path / "runs.sqlite", str(Path(fake_runs.__file__))
    parts = [("0", "50"), ("50", "50")]
    writers = [subprocess.Popen([sys.executable, script, "write", tmp_path, file, *part]) for part in parts]
    assert [writer.wait(300) for writer in writers] == [0, 0]
    runs = [planned(tmp_path, seed=seed) for seed in range(100)]
    with RunStore(file) as store:
        results = store.results(runs)
    assert len(results) == 100
    assert all(same(found_by(run), result) for run, result in zip(runs, results, strict=True))


def test_a_run_is_in_one_hand_until_its_process_is_gone(store, tmp_path):
    run = planned(tmp_path)
    number = store.claim(run)
    assert store.claim(run) is None and store.status(run) == "running"
    store.record_death(run, "is not true")
    assert store.status(run) == "running"
    with sqlite3.connect(store.path) as base:
        base.execute("UPDATE runs SET process_started = process_started - 1000")  # that process number, used before
    assert store.status(run) == "missing"
    taken = store.claim(run)
    store.finish(number, found_by(run))  # the former owner is too late
    store.fail(number, "too late")
    store.release(number)
    assert store.status(run) == "running"
    store.finish(taken, replace(found_by(run), seconds=9.0))
    assert store.results([run])[0].seconds == 9.0


def test_owners():
    me = Owner.this_process()
    assert me.pid == os.getpid() and me.is_alive(silence=1e9), "on this host the process itself is asked"
    assert not replace(me, started=me.started - 60).is_alive(0.0)
    elsewhere = replace(me, host=platform.node() + "-2")
    assert elsewhere.is_alive(30.0) and not elsewhere.is_alive(3600.0)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    owner = replace(me, pid=child.pid, started=psutil.Process(child.pid).create_time())
    assert owner.is_alive(0.0)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, but nobody has asked how: a zombie
    assert not owner.is_alive(0.0)
    child.wait()
    assert not owner.is_alive(0.0)


def test_failures_are_kept_in_one_line_and_may_be_tried_again(store, tmp_path):
    run, dead = planned(tmp_path), planned(tmp_path, seed=2)
    store.fail(store.claim(run), "loss is\n  not finite")
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
    store.release(store.claim(run))
    assert store.status(run) == "missing"


@pytest.mark.parametrize(
    "change",
    [{"model": "B"}, {"experiment": "B"}, {"dataset": "Market"}, {"sources": ["S"]}, {"seed": 2},
     {"config": {"valid_metric": "NDCG@10", "learning_rate": 0.2}}, {"code": "1"}, {"data": "1"}],
)  # fmt: skip
def test_another_config_seed_code_or_data_is_another_run(store, tmp_path, change):
    run = planned(tmp_path)
    finish(store, run)
    other = replace(run, **change)
    assert other.key != run.key
    assert store.status(other) == "missing" and store.results([other]) == []


def test_what_belongs_to_a_machine_or_to_showing_does_not_make_another_run(tmp_path):
    run = planned(tmp_path)
    config = run.config | {"data_path": "/elsewhere", "device": "cuda:0", "checkpoint_dir": "x", "show_progress": True}
    assert replace(run, config=config, folder="x", command="x", overrides={"a": 1}, trials=3).key == run.key
    assert replace(run, config=dict(reversed(config.items()))).key == run.key


def test_the_code_version_follows_what_decides_numbers(tmp_path, monkeypatch):
    package = tmp_path / "recbole_metarec"
    for name in (
        "evaluation/ranking.py",
        "model/lru.py",
        "reports/html.py",
        "jobs/popularity.py",
        "cli/x.py",
        "tuning/space.py",
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("x = 1\n")
    for folder in ("model", "search"):
        (tmp_path / "properties" / folder).mkdir(parents=True)
    (tmp_path / "properties/search/LRURec.yaml").write_text("a: {low: 0, high: 1}\n")
    (tmp_path / "properties/model/LRURec.yaml").write_text("a: 1\n")
    monkeypatch.setattr(code, "_PACKAGE", package)
    monkeypatch.setattr(code, "resource_dir", lambda name: tmp_path / name)
    first = code.code_version()
    for file in (*(package / name for name in ("reports/html.py", "cli/x.py", "tuning/space.py")),
                 tmp_path / "properties/search/LRURec.yaml"):  # fmt: skip
        file.write_text("x = 2\n")
        assert code.code_version() == first
    seen = {first}
    for file in (
        "recbole_metarec/evaluation/ranking.py",
        "recbole_metarec/model/lru.py",
        "properties/model/LRURec.yaml",
        "recbole_metarec/jobs/popularity.py",
    ):
        (tmp_path / file).write_text("b: 2\n")
        seen.add(code.code_version())
    (package / "model/new.py").write_text("")
    assert len(seen | {code.code_version()}) == 6


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
        base.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(DataError, match="written by another release"):
        RunStore(tmp_path / "new.sqlite")
    with pytest.raises(DataError, match="cannot be opened"):
        RunStore(text / "below.sqlite")


def test_a_heartbeat_is_kept(store, tmp_path):
    number = store.claim(planned(tmp_path))
    with sqlite3.connect(store.path) as base:
        base.execute("UPDATE runs SET heartbeat = 0")
        store_heartbeat = "SELECT heartbeat FROM runs"
        base.commit()
        store.beat(number)
        assert time() - base.execute(store_heartbeat).fetchone()[0] < 60
