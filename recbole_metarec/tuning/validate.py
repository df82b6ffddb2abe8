"""One trial: trains and validates, in its own process or in the one that tunes."""

from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.process import log_file, run_file
from recbole_metarec.quick_start import validate_experiment
from recbole_metarec.runs.log import close_log
from recbole_metarec.tuning.worker import outcome_of, work


def validate(run: PlannedRun) -> dict[str, float]:
    """Trains the run's model; its metrics on validation."""
    overrides = {**run.overrides, "seed": run.seed, "checkpoint_dir": run.folder}
    metrics = validate_experiment(run.typed_model, run.dataset, overrides)
    for checkpoint in Path(run.folder).glob("*/*.pth"):  # one per trial would fill the disk, and nobody reads them
        checkpoint.unlink()
    return metrics


def outcome_here(run: PlannedRun) -> dict:
    """A trial in this process: what :func:`~recbole_metarec.tuning.worker.outcome_of` says of it.

    Its output goes where that of a process of its own would.
    """
    Path(run.folder).mkdir(parents=True, exist_ok=True)
    run.write(run_file(run))
    with open(log_file(run), "a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            return outcome_of(run, validate)
        finally:
            close_log()


def main(arguments: list[str]) -> int:
    """``RUN.json PARENT``: see :func:`recbole_metarec.tuning.worker.work`."""
    return work(arguments, validate)
