"""The process of one trial, apart from training: it writes the metrics on validation, or the error, to a file.

The file is beside the run's, for the process that runs the study. The test rows are never ranked.
"""

import json
import traceback
from collections.abc import Callable
from pathlib import Path

from recbole_metarec.errors import MetaRecError
from recbole_metarec.files import write_json
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.parent import INTERRUPTED, ends_with
from recbole_metarec.jobs.worker import FAILED, check_versions


def outcome_file(run: PlannedRun) -> Path:
    """The file to which a trial's process writes ``{"valid": metrics}`` or ``{"error": text}``."""
    return Path(run.folder) / "outcome.json"


def read_outcome(run: PlannedRun) -> dict | None:
    """What a trial's process has written; None if it was ended before."""
    try:
        return json.loads(outcome_file(run).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def outcome_of(run: PlannedRun, experiment: Callable[[PlannedRun], dict[str, float]]) -> dict:
    """What a trial's file holds. experiment: trains the run and returns its metrics on validation."""
    try:
        check_versions(run)
        metrics = experiment(run)
        check_versions(run)
    except Exception as error:
        traceback.print_exc()
        return {"error": str(error) if isinstance(error, MetaRecError) else f"{type(error).__name__}: {error}"}
    return {"valid": metrics}


def work(arguments: list[str], experiment: Callable[[PlannedRun], dict[str, float]]) -> int:
    """Does one trial and writes its outcome. Returns 0, or the exit code of a failed or interrupted run.

    arguments: the run's file and the number of the process that waits for this one. experiment: as in outcome_of.
    """
    run, parent = PlannedRun.read(Path(arguments[0])), int(arguments[1])
    with ends_with(parent):
        try:
            outcome = outcome_of(run, experiment)
        except KeyboardInterrupt:
            return INTERRUPTED
        write_json(outcome_file(run), outcome)
    return FAILED if "error" in outcome else 0
