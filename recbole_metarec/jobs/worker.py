"""What the process of one run does besides training: it claims the run, and stores its result or its error."""

import csv
import json
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recbole_metarec.errors import DataError, MetaRecError
from recbole_metarec.evaluation.results import RunResult, UnseenResult
from recbole_metarec.files import data_fingerprint
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.parent import INTERRUPTED, ends_with
from recbole_metarec.jobs.store import RunStore
from recbole_metarec.runs.code_version import code_version

STORED, FAILED, IN_OTHER_HANDS = 0, 3, 4  # exit codes


def work(arguments: list[str], experiment: Callable[[PlannedRun], Path]) -> int:
    """Does one run and returns one of the exit codes above.

    arguments: the run's file, the store's name, and the id of the process that waits for this one. experiment: trains
    and evaluates the run, and returns its run folder. The process that trains also holds the claim, so that the claim
    ends if it is killed.
    """
    run, place, parent = PlannedRun.read(Path(arguments[0])), arguments[1], int(arguments[2])
    with RunStore(place) as store, store.claimed(run) as mine:
        if not mine:
            return IN_OTHER_HANDS
        try:
            with ends_with(parent):
                check_versions(run)
                run_dir = experiment(run)
                check_versions(run)
                result, versions = read_result(run, run_dir)
                store.finish(run, result, run_dir, versions)
        except KeyboardInterrupt:
            return INTERRUPTED
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            store.fail(run, str(error) if isinstance(error, MetaRecError) else f"{type(error).__name__}: {error}")
            return FAILED
    return STORED


def check_versions(run: PlannedRun) -> None:
    """Raises DataError if code or data are not those of the run's key any more."""
    if run.code != code_version(run.model_files):
        raise DataError("the code has changed since this run was planned; start the command again")
    if run.data != data_fingerprint(run.data_files):
        raise DataError(f"{', '.join(run.data_files)}: changed since this run was planned; start the command again")


def read_result(run: PlannedRun, run_dir: Path) -> tuple[RunResult, dict]:
    """The result that a finished run left in its folder, and the versions that it ran with."""
    metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    rows = _rows(run_dir / "ranks.csv")
    ranks = [row for row in rows if row["rank"]]
    epochs = _rows(run_dir / "history.csv") if (run_dir / "history.csv").exists() else []
    guard = metrics.get("guard") or {}
    deployed = {None: None, True: "no_transfer_test", False: "transfer_test"}[guard.get("fired")]
    result = RunResult(
        model=run.model,
        seed=run.seed,
        valid=metrics["valid"],
        test=metrics["test"],
        test_users=np.array([row["user_id"] for row in ranks]),
        test_ranks=_column(ranks, "rank"),
        valid_ranks=_column(ranks, "valid_rank"),
        seconds=metrics["seconds"],
        peak_memory_mib=metrics["peak_memory_mib"]["resident"],
        parameters=metrics["parameters"],
        command=run.command,
        guarded_test=guard.get(deployed),
        unseen=UnseenResult(
            metrics["valid_unseen"],
            metrics["test_unseen"],
            _column(ranks, "rank_unseen"),
            guard.get(f"{deployed}_unseen"),
        ),
        history=[_numbers(row) for row in epochs],
        trials=run.trials,
        only_valid={row["user_id"]: int(row["valid_rank"]) for row in rows if not row["rank"]},
    )
    versions = {**metrics["versions"], "git_commit": metrics["git_commit"], "device": metrics.get("device")}
    return result, versions


def _column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([int(row[name] or 0) for row in rows], dtype=np.int64)


def _numbers(row: dict[str, str]) -> dict:
    values = {name: float(text) if text else None for name, text in row.items()}
    return values | {"epoch": int(values["epoch"])}


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
