"""One run in a process of its own: ``python -m recbole_metarec.jobs.worker RUN.json STORE PARENT``.

PARENT is the number of the process that waits for it. The process that trains is the one that claims the run, so a
run whose process was killed is known to be nobody's.
"""

import csv
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recbole_metarec.errors import DataError, MetaRecError
from recbole_metarec.evaluation.results import RunResult
from recbole_metarec.files import data_fingerprint
from recbole_metarec.jobs.heartbeat import INTERRUPTED, Heartbeat
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.store import RunStore
from recbole_metarec.runs.code_version import code_version

STORED, FAILED, IN_OTHER_HANDS = 0, 3, 4  # exit codes


def train(run: PlannedRun) -> Path:
    """Trains and evaluates the planned run, or goes on with it where it was killed before; returns its run folder."""
    from recbole_metarec.jobs.competitors import POPULARITY

    overrides = {**run.overrides, "seed": run.seed, "checkpoint_dir": run.folder}
    if run.experiment == POPULARITY:
        from recbole_metarec.jobs.popularity import run_popularity

        return run_popularity(run.dataset, overrides)
    from recbole_metarec.quick_start import run_experiment
    from recbole_metarec.runs.resume import unfinished_run

    killed = unfinished_run(run.folder)  # the folder is of this very key, so that it can only be the same run
    return run_experiment(run.experiment, run.dataset, overrides=overrides, resume=killed).run_dir


def main(arguments: list[str], experiment: Callable[[PlannedRun], Path] = train) -> int:
    """Claims the run, does it and stores what it found, or its error. Returns one of the exit codes above."""
    run, store_file, parent = PlannedRun.read(Path(arguments[0])), Path(arguments[1]), int(arguments[2])
    with RunStore(store_file) as store:
        number = store.claim(run)
        if number is None:
            return IN_OTHER_HANDS
        with Heartbeat(parent, lambda: _beat(store_file, number)):
            try:
                check_versions(run)
                run_dir = experiment(run)
                check_versions(run)
                result, versions = read_result(run, run_dir)
                store.finish(number, result, run_dir, versions)
            except KeyboardInterrupt:
                store.release(number)
                return INTERRUPTED
            except Exception as error:
                traceback.print_exc()
                known = isinstance(error, MetaRecError)
                store.fail(number, str(error) if known else f"{type(error).__name__}: {error}")
                return FAILED
    return STORED


def _beat(store_file: Path, number: int) -> None:
    with RunStore(store_file) as store:  # of the thread that beats; SQLite's connections stay in theirs
        store.beat(number)


def check_versions(run: PlannedRun) -> None:
    """The key must name what really ran. Raises DataError."""
    if run.code != code_version():
        raise DataError("the code has changed since this run was planned; start the command again")
    if run.data != data_fingerprint(run.data_files):
        raise DataError(f"{', '.join(run.data_files)}: changed since this run was planned; start the command again")


def read_result(run: PlannedRun, run_dir: Path) -> tuple[RunResult, dict]:
    """What a finished run left in its folder, and the versions it ran with."""
    metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    ranks = _rows(run_dir / "ranks.csv")
    epochs = _rows(run_dir / "history.csv") if (run_dir / "history.csv").exists() else []
    guard = metrics.get("guard") or {}
    guarded = {None: None, True: guard.get("no_transfer_test"), False: guard.get("transfer_test")}[guard.get("fired")]
    result = RunResult(
        model=run.model,
        seed=run.seed,
        valid=metrics["valid"],
        test=metrics["test"],
        test_users=np.array([row["user_id"] for row in ranks]),
        test_ranks=np.array([int(row["rank"]) for row in ranks], dtype=np.int64),
        seconds=metrics["seconds"],
        peak_memory_mib=metrics["peak_memory_mib"]["resident"],
        parameters=metrics["parameters"],
        command=run.command,
        guarded_test=guarded,
        history=[_numbers(row) for row in epochs],
        trials=run.trials,
    )
    versions = {**metrics["versions"], "git_commit": metrics["git_commit"], "device": metrics.get("device")}
    return result, versions


def _numbers(row: dict[str, str]) -> dict:
    values = {name: float(text) if text else None for name, text in row.items()}
    return values | {"epoch": int(values["epoch"])}


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
