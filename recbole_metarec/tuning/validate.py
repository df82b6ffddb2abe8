"""One trial in its own process: trains, validates, and writes the outcome to a file."""

from pathlib import Path

from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.quick_start import validate_experiment
from recbole_metarec.tuning.worker import work


def validate(run: PlannedRun) -> dict[str, float]:
    """Trains the run's model; its metrics on validation."""
    overrides = {**run.overrides, "seed": run.seed, "checkpoint_dir": run.folder}
    metrics = validate_experiment(run.experiment, run.dataset, overrides)
    for checkpoint in Path(run.folder).glob("*/*.pth"):  # one per trial would fill the disk, and nobody reads them
        checkpoint.unlink()
    return metrics


def main(arguments: list[str]) -> int:
    """``RUN.json PARENT``: see :func:`recbole_metarec.tuning.worker.work`."""
    return work(arguments, validate)
