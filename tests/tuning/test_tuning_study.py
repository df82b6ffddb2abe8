"""Tuning: the budget is kept to the trial, whatever is killed, and nothing but validation is looked at."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import RandomSampler
from support import fake_trials, nursery
from support.fake_runs import until
from support.fake_trials import DEFAULTS, SPACE, base, executed, forked_worker, tune, url, value

from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.jobs.plan import Tuned
from recbole_metarec.tuning.best import best_found
from recbole_metarec.tuning.storage import storage_at, storage_name
from recbole_metarec.tuning.study import TuningStudy

EASY = {"a": SPACE["a"], "b": CategoricalDistribution(["wrong", "right"])}


def command(folder, total) -> subprocess.Popen:
    words = [*nursery.python(), str(Path(fake_trials.__file__)), "tune", str(folder), str(total), *forked_worker()]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def study_in(folder) -> optuna.Study:
    (name,) = optuna.get_all_study_names(url(folder))
    return optuna.load_study(study_name=name, storage=url(folder), sampler=RandomSampler())


def search(storage, total, run, space=EASY) -> TuningStudy:
    """A study brought to ``total`` trials in this process."""
    study = TuningStudy(storage, run, space)
    study.optimize(total, lambda trial: value(**{**DEFAULTS, **trial.overrides}))
    return study


@pytest.fixture(params=["file", "server"])
def kept(request, monkeypatch):
    """Trials are kept in a file, or on a server."""
    if request.param == "server":
        url = request.getfixturevalue("postgres").new_database()
        monkeypatch.setenv("TRIALS_ARE_KEPT_IN", url.replace("://", "+psycopg://"))


@pytest.fixture
def memory():
    return optuna.storages.InMemoryStorage()


def trials_of(storage, study: TuningStudy) -> list:
    return optuna.load_study(study_name=study.name, storage=storage, sampler=RandomSampler()).trials


def test_a_known_optimum_is_found_and_the_default_is_the_first_trial(tmp_path, memory):
    study = search(memory, 30, base(tmp_path))
    best, trials = study.best(), trials_of(memory, study)
    assert study.count() == len(trials) == 30 and trials[0].params == DEFAULTS
    assert best.overrides["b"] == "right" and abs(best.overrides["a"] - 0.25) < 0.05
    assert max(trial.value for trial in trials) == best.value and study.default().value == trials[0].value
    assert len({tuple(trial.params.values()) for trial in trials}) == 30


def test_a_search_in_pieces_is_the_search_in_one(tmp_path, memory):
    """No generator starts anew: what is proposed follows from the seed and the trials so far."""
    whole = trials_of(memory, search(memory, 16, base(tmp_path)))
    other = optuna.storages.InMemoryStorage()
    for total in (1, 4, 13, 16):
        study = search(other, total, base(tmp_path))
    pieces = trials_of(other, study)
    assert [trial.params for trial in pieces] == [trial.params for trial in whole]
    seeded = trials_of(other, search(other, 3, base(tmp_path, seed=2)))
    assert seeded[0].params == whole[0].params and seeded[1].params != whole[1].params


def test_trials_run_in_processes_a_failing_one_counts_and_the_same_command_goes_on(tmp_path):
    said = []
    best, count, errors = tune(tmp_path, 3, say=said.append)
    assert count == 3 and executed(tmp_path)[0] == DEFAULTS
    assert said[0] == "[1/3] A: a 0.9, b wrong: started" and "ndcg@10 0.0775 on validation" in said[1]
    best, count, errors = tune(tmp_path, 9, say=said.append)
    assert count == 9
    assert f"3 of 9 trials are done or in progress: {base(tmp_path).model}-Shop-" in "\n".join(said)
    proposed = [trial.params for trial in study_in(tmp_path).trials]
    tried = Counter(params["b"] for params in proposed)
    assert tried["bad"] and tried["odd"], "the seed proposes both kinds of failure"
    assert len(executed(tmp_path)) == 9 - tried["odd"], "a configuration that makes no run is not run"
    assert Counter(errors) == {
        "RuntimeError: the loss is not finite": tried["bad"],
        "b is odd, which does not go with a": tried["odd"],
    }
    good = [row for row in executed(tmp_path) if row["b"] != "bad"]
    assert best.value == max(value(**row) for row in good)
    before = executed(tmp_path)
    assert tune(tmp_path, 9)[1] == 9 and executed(tmp_path) == before, "nothing is left to do"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_trial_is_tried_again_and_the_budget_is_kept_to_the_trial(tmp_path, how, kept):
    tune(tmp_path, 1)
    (tmp_path / "hold").touch()
    first = command(tmp_path, 4)
    until(lambda: len(executed(tmp_path)) == 2)
    os.kill(first.pid, how)
    output = first.communicate(timeout=180)[0]
    if how == signal.SIGINT:
        assert first.returncode == 130
        assert "1 of 4 trials are done in A-Shop-" in output
    (tmp_path / "hold").unlink()
    second = command(tmp_path, 4)
    output = second.communicate(timeout=180)[0]
    assert second.returncode == 0, output
    tried = executed(tmp_path)
    assert tried[1] in tried[2:], "the same configuration, once its process is known to be dead"
    trials = study_in(tmp_path).trials
    assert len(trials) == 5 and sum("error" in t.user_attrs or t.value is not None for t in trials) == 4
    assert not any(trial.state.name in ("RUNNING", "WAITING") for trial in trials)


def test_a_killed_default_is_still_the_first_to_be_tried(tmp_path):
    (tmp_path / "hold").touch()
    first = command(tmp_path, 2)
    until(lambda: executed(tmp_path))
    first.kill()
    first.communicate(timeout=180)
    (tmp_path / "hold").unlink()
    tune(tmp_path, 1)
    assert executed(tmp_path) == [DEFAULTS, DEFAULTS]


def test_a_killed_trial_alone_has_failed_and_the_next_one_is_begun(tmp_path):
    words = (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")
    best, _, errors = tune(tmp_path, 2, space=EASY, worker=words)
    assert best is None and errors == ["killed by SIGKILL, possibly out of memory"] * 2


def test_two_commands_at_once_share_the_budget(tmp_path, kept):
    processes = [command(tmp_path, 6) for _ in range(2)]
    outputs = [process.communicate(timeout=180)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    trials = study_in(tmp_path).trials
    counted = [trial for trial in trials if trial.value is not None or "error" in trial.user_attrs]
    assert len(counted) == 6 and optuna.trial.TrialState.RUNNING not in [trial.state for trial in trials]
    assert len({tuple(trial.params.values()) for trial in counted}) >= 5, "no two draw the same, but the first perhaps"


def test_of_two_that_ask_in_the_same_moment_the_later_one_steps_back(tmp_path, monkeypatch):
    with storage_at(url(tmp_path)) as trials:
        ours, theirs = (TuningStudy(trials, base(tmp_path), EASY) for _ in range(2))
        evaluated = []

        def evaluate(trial):
            evaluated.append(trial.number)
            with monkeypatch.context() as unaware:  # the other command looked before our trial was there
                unaware.setattr(TuningStudy, "_has_room", lambda *_: not unaware.setattr(TuningStudy, "_has_room", no))
                theirs.optimize(1, evaluate)
            return 0.5

        def no(*_):
            return False

        ours.optimize(1, evaluate)
        assert evaluated == [0] and ours.count() == 1 and ours.best().value == 0.5


def test_a_trial_that_another_command_gave_up_for_dead_is_dropped_and_tried_again(tmp_path):
    with storage_at(url(tmp_path)) as trials:
        study, evaluated = TuningStudy(trials, base(tmp_path), EASY), []

        def evaluate(trial):
            if not evaluated:
                stale = study_in(tmp_path).trials[trial.number]
                trials.set_trial_state_values(stale._trial_id, optuna.trial.TrialState.FAIL)
                trials.get_heartbeat_stale_trial_callback()(study_in(tmp_path), stale)
            evaluated.append(trial.overrides)
            return 0.9 - 0.1 * len(evaluated)

        study.optimize(2, evaluate)
        assert evaluated[0] == evaluated[1] == DEFAULTS, "the same configuration"
        assert len(evaluated) == 3 and study.count() == 2 and study.best().value == pytest.approx(0.7)


def test_a_mistake_of_the_user_s_ends_the_search_also_beside_a_trial_that_is_lost(tmp_path, memory, monkeypatch):
    def lost_and_wrong(study, trial, total, evaluate, lost):
        lost.append(trial.number)
        raise DataError("Shop.inter: has changed")

    monkeypatch.setattr(TuningStudy, "_evaluated", lost_and_wrong)
    with pytest.raises(DataError, match="has changed"):
        search(memory, 1, base(tmp_path))


def test_other_code_data_config_seed_or_space_are_another_study(tmp_path):
    data = tmp_path / "Shop.inter"
    data.write_text("one")
    run = base(tmp_path, data=data)
    data.write_text("two")
    others = [
        base(tmp_path, data=data),
        replace(run, code="another"),
        replace(run, config=run.config | {"learning_rate": 0.2}),
        replace(run, seed=2),
        replace(run, sources=["Near"]),
        replace(run, model="B", experiment="B"),
        replace(run, dataset="Shop2"),
    ]
    with storage_at(url(tmp_path)) as storage:
        names = [TuningStudy(storage, each, EASY).name for each in (run, *others)]
        names.append(TuningStudy(storage, run, EASY | {"a": FloatDistribution(0.0, 2.0)}).name)
        names.append(TuningStudy(storage, run, {"a": EASY["a"]}).name)
        assert len(set(names)) == len(names)
        elsewhere = replace(run, folder="x", overrides={"data_path": "/x"}, config=run.config | {"data_path": "/x"})
        assert TuningStudy(storage, elsewhere, EASY).name == names[0]


def test_code_or_data_that_change_meanwhile_end_the_command_and_cost_no_trial(tmp_path):
    data = tmp_path / "Shop.inter"
    data.write_text("one")
    run = base(tmp_path, data=data)

    def spoil(line):
        if "started" in line:
            data.write_text("two")

    with pytest.raises(DataError, match="Shop.inter: changed since this run was planned"):
        tune(tmp_path, 2, run, EASY, spoil)
    data.write_text("one")
    with storage_at(url(tmp_path)) as storage:
        assert TuningStudy(storage, run, EASY).count() == 0


def test_the_comparison_takes_the_best_of_what_belongs_to_it(tmp_path, memory):
    run = base(tmp_path)
    one = search(memory, 6, run)
    other = search(memory, 4, replace(run, seed=3), {"a": FloatDistribution(0.2, 0.9), "b": EASY["b"]})
    best = max(one.best(), other.best(), key=lambda trial: trial.value)
    tuned, notes = best_found(memory, [replace(run, seed=99), replace(run, model="B", experiment="B")])
    assert tuned == {"A": Tuned(best.overrides, trials=10)}, "both searches count"
    values = ", ".join(f"{key} {value}" for key, value in best.overrides.items())
    assert notes == [
        f"A: best of 10 trials, ndcg@10 {best.value:.4f} on validation: {values}",
        "B: the default configuration, 0 trials; it was not tuned on Shop",
    ]


def test_what_was_found_for_another_run_is_not_taken_and_the_difference_is_said(tmp_path, memory):
    run = base(tmp_path, patience=5)
    search(memory, 2, run)
    config = {key: value for key, value in run.config.items() if key != "patience"} | {"learning_rate": 0.2}
    for difference, wanted in {
        f"other code ({run.code}; this is newer)": replace(run, code="newer"),
        "other data files": replace(run, data="x"),
        "sources none": replace(run, sources=["Near"]),
        "learning_rate 0.1 instead of 0.2; patience 5 instead of None": replace(run, config=config),
    }.items():
        tuned, notes = best_found(memory, [wanted])
        assert tuned == {}
        assert notes == [f"A: the default configuration, 0 trials; it was tuned with {difference}: tune it again"]


def test_the_storage_holds_one_number_of_a_trial_and_it_is_validations(tmp_path):
    tune(tmp_path, 2, space=EASY)
    with sqlite3.connect(tmp_path / "tuning.sqlite") as connection:
        values = [row[0] for row in connection.execute("SELECT value FROM trial_values ORDER BY trial_id")]
        attributes = {row[0] for row in connection.execute("SELECT key FROM trial_user_attributes")}
        (steps,) = connection.execute("SELECT count(*) FROM trial_intermediate_values").fetchone()
    assert values == [value(**row) for row in executed(tmp_path)] and steps == 0
    assert attributes == {"default"}


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("tuning.sqlite", ConfigError, "--storage: tuning.sqlite is not the URL of a storage; use one such as sqlite"),
        ("postgresql://me:x@host:port/x", ConfigError, "--storage: postgresql://me@host:port/x is not the URL of a "),
        ("postgresql://me:my x@host/x", ConfigError, "--storage: white space in a URL; write a space as %20"),
        ("postgresql://me@host/x?password=x", ConfigError, "--storage: a password is no part of a query; set PGPASSW"),
        ("postgresql://me:x@127.0.0.1:1/x", DataError, "postgresql://me@127.0.0.1:1/x: .*refused.*; check that it is"),
        ("nobase://host/x", DataError, "nobase://host/x: .*nobase; check that it is a storage of trials"),
        ("sqlite:///notes.txt", DataError, "sqlite:///notes.txt: file is not a database; check"),
    ],
)
def test_a_storage_that_is_none_is_said_in_one_line(tmp_path, address, error, message):
    (tmp_path / "notes.txt").write_text("notes\n" * 300)
    with pytest.raises(error, match=message), storage_at(address):
        pass
    with pytest.raises(ConfigError, match="there is no such storage; run recbole-metarec tune first"):
        storage_at("sqlite:///absent.sqlite", must_exist=True).__enter__()
    assert not (tmp_path / "absent.sqlite").exists()


def test_a_password_is_not_shown():
    assert storage_name("postgresql://me:secret@host/trials?sslmode=require") == (
        "postgresql://me@host/trials?sslmode=require"
    )
