"""Commands and their runs, killed at every turn: nothing is lost but the run in hand, and nothing is done twice."""

import os
import signal
import subprocess
import sys

import pytest
from support.fake_runs import WORKER, assert_complete, begun, command, executed, is_gone, planned, results, until

from recbole_metarec.jobs.pool import Runner
from recbole_metarec.jobs.process import log_file, python_module
from recbole_metarec.jobs.store import RunStore


@pytest.mark.parametrize(
    ("place", "who"), [("file", "command"), ("file", "run"), ("server", "run")], indirect=["place"]
)
def test_killed_in_the_middle_and_typed_again_only_what_is_missing_runs(tmp_path, place, who):
    go = tmp_path / "go"
    plan = [planned(tmp_path, "A"), planned(tmp_path, "B", waits=str(go)), planned(tmp_path, "C")]
    first = command(tmp_path, plan, store=place)
    _, run = until(lambda: [item for item in executed(tmp_path) if item[0] == "B 1"])[0]
    os.kill(first.pid if who == "command" else run, signal.SIGKILL)
    output = first.communicate(timeout=180)[0]
    until(lambda: is_gone(run))
    if who == "run":
        assert first.returncode == 1 and begun(tmp_path)["C 1"] == 1, "the others go on"
        assert "[2/3] B seed 1: FAILED after" in output and "killed by SIGKILL, possibly out of memory" in output
    with RunStore(place) as store:
        assert store.status(plan[0]) == "done" and store.status(plan[1]) == {"command": "missing", "run": "failed"}[who]
    go.touch()
    second = command(tmp_path, plan, store=place)
    output = second.communicate(timeout=180)[0]
    assert second.returncode == 0, output
    assert begun(tmp_path) == {"A 1": 1, "B 1": 2, "C 1": 1}
    assert_complete(tmp_path, plan, place)


def test_interrupted_it_ends_its_runs_and_says_what_is_kept(tmp_path):
    plan = [planned(tmp_path, "A"), planned(tmp_path, "B", waits="never")]
    process = command(tmp_path, plan)
    _, run = until(lambda: [item for item in executed(tmp_path) if item[0] == "B 1"])[0]
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 130 and is_gone(run)
    assert output.rstrip().endswith(
        "1 of 2 runs are in " + str(tmp_path / "runs.sqlite") + "; the same command does the rest"
    )
    with RunStore(tmp_path / "runs.sqlite") as store:
        assert [store.status(run) for run in plan] == ["done", "missing"]


def test_two_commands_at_once_do_nothing_twice(tmp_path, place):
    plan = [planned(tmp_path, model, seed) for seed in (1, 2) for model in "AB"]
    processes = [command(tmp_path, plan, jobs, place) for jobs in (1, 2)]
    outputs = [process.communicate(timeout=180)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert begun(tmp_path) == {"A 1": 1, "B 1": 1, "A 2": 1, "B 2": 1}
    assert_complete(tmp_path, plan, place)


def test_what_another_command_has_in_hand_is_taken_over_when_that_is_killed(tmp_path, place):
    go = tmp_path / "go"
    plan = [planned(tmp_path, "A", waits=str(go))]
    first = command(tmp_path, plan, store=place)
    until(lambda: executed(tmp_path))
    second = command(tmp_path, plan, store=place)
    until(lambda: "already running in another process" in second.stdout.readline())
    first.kill()
    first.communicate(timeout=180)
    until(lambda: len(executed(tmp_path)) == 2)
    go.touch()
    second.communicate(timeout=180)
    assert second.returncode == 0
    assert_complete(tmp_path, plan, place)


def test_a_failing_run_is_recorded_and_the_others_go_on(tmp_path):
    plan = [planned(tmp_path, "A", fails="the loss\nis not finite"), planned(tmp_path, "B")]
    said = []
    with RunStore(tmp_path / "runs.sqlite") as store:
        Runner(store, 1, said.append, WORKER).run(plan)
        (failure,) = store.failures(plan)
    assert (failure.model, failure.error) == ("A", "RuntimeError: the loss is not finite")
    assert "Traceback" in log_file(plan[0]).read_text()
    assert any(f"RuntimeError: the loss is not finite (see {log_file(plan[0])})" in line for line in said)
    assert_complete(tmp_path, plan[1:])


def test_a_process_that_cannot_even_start_is_recorded_with_its_last_words(tmp_path):
    plan = [planned(tmp_path, "A")]
    words = (sys.executable, "-c", "import nowhere_to_be_found")
    with RunStore(tmp_path / "runs.sqlite") as store:
        Runner(store, 1, lambda line: None, words).run(plan)
        (failure,) = store.failures(plan)
    assert failure.error == "exit code 1: ModuleNotFoundError: No module named 'nowhere_to_be_found'"


def test_data_that_change_while_a_run_is_on_its_way_are_not_credited_to_it(tmp_path):
    data, go = tmp_path / "Shop.inter", tmp_path / "go"
    data.write_text("one")
    plan = [planned(tmp_path, "A", data=data, waits=str(go))]
    process = command(tmp_path, plan)
    until(lambda: executed(tmp_path))
    data.write_text("two")
    go.touch()
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 1 and "Shop.inter: changed since this run was planned" in output
    assert results(tmp_path, plan) == []


def test_jobs_run_at_once_and_share_the_processors(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("recbole_metarec.jobs.process.processors", lambda: 8)
    go = tmp_path / "go"
    plan = [planned(tmp_path, model, waits=str(go)) for model in "ABC"]
    with RunStore(tmp_path / "runs.sqlite") as store:
        runner = Runner(store, 2, lambda line: None, WORKER)
        assert runner._environment["OMP_NUM_THREADS"] == "4"
        assert Runner(store, 16, print, WORKER)._environment["OMP_NUM_THREADS"] == "1"
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert Runner(store, 2, print, WORKER)._environment["OMP_NUM_THREADS"] == "3", "the user's word counts"
    process = command(tmp_path, plan, jobs=2)
    until(lambda: len(executed(tmp_path)) == 2)  # both wait: were it one at a time, the second would never come
    assert begun(tmp_path).keys() == {"A 1", "B 1"}
    go.touch()
    process.communicate(timeout=180)
    assert process.returncode == 0
    assert_complete(tmp_path, plan)


def test_a_run_imports_nothing_from_the_current_folder(tmp_path):
    """It may be a clone of RecBole, whose changes would be stored as the installed version's results."""
    (tmp_path / "calendar.py").write_text("raise AssertionError('the wrong one')")
    (tmp_path / "somewhere").mkdir()
    (tmp_path / "somewhere" / "worker_of_mine.py").write_text(
        "import calendar, sys\n\ndef main(arguments):\n    print(arguments, calendar.isleap(2024))\n    return 3\n"
    )
    words = [*python_module("worker_of_mine"), "a", "b c"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "somewhere")}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "['a', 'b c'] True\n", "")
