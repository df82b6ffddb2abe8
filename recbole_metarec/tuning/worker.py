"""One trial in a process of its own: ``python -m recbole_metarec.tuning.worker RUN.json PARENT``.

What it found on validation, or its error, is left beside RUN.json for the process PARENT, which keeps the study. The
test rows are never ranked.
"""

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from recbole_metarec.errors import MetaRecError
from recbole_metarec.files import write_json
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.parent import INTERRUPTED, ends_with
from recbole_metarec.jobs.worker import FAILED, check_versions


def outcome_file(run: PlannedRun) -> Path:
    """Where a trial's process leaves ``{"valid": metrics}`` or ``{"error": text}``."""
    return Path(run.folder) / "outcome.json"


def read_outcome(run: PlannedRun) -> dict | None:
    """What a trial's process has left; None if it had no time to."""
    try:
        return json.loads(outcome_file(run).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def validate(run: PlannedRun) -> dict[str, float]:
    """Trains the run's model; its metrics on validation."""
    from recbole_metarec.quick_start import validate_experiment

    overrides = {**run.overrides, "seed": run.seed, "checkpoint_dir": run.folder}
    metrics = validate_experiment(run.experiment, run.dataset, overrides)
    for checkpoint in Path(run.folder).glob("*/*.pth"):  # one per trial would fill the disk, and nobody reads them
        checkpoint.unlink()
    return metrics


def main(arguments: list[str], experiment: Callable[[PlannedRun], dict[str, float]] = validate) -> int:
    """Does the trial and writes its outcome. Returns 0, or the exit code of a failed or interrupted run."""
    run, parent = PlannedRun.read(Path(arguments[0])), int(arguments[1])
    with ends_with(parent):
        try:
            check_versions(run)
            metrics = experiment(run)
            check_versions(run)
        except KeyboardInterrupt:
            return INTERRUPTED
        except Exception as error:
            traceback.print_exc()
            text = str(error) if isinstance(error, MetaRecError) else f"{type(error).__name__}: {error}"
            write_json(outcome_file(run), {"error": text})
            return FAILED
        write_json(outcome_file(run), {"valid": metrics})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
