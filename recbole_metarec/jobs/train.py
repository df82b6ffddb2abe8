"""One run in its own process: trains, evaluates, and stores the result."""

from pathlib import Path

from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.worker import work
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.runs.resume import unfinished_run


def train(run: PlannedRun) -> Path:
    """Trains and evaluates the planned run, or resumes it if it was killed before. Returns its run folder."""
    overrides = {**run.overrides, "seed": run.seed, "checkpoint_dir": run.folder}
    killed = unfinished_run(run.folder)  # the folder's name has the key of the run, so it can only be the same run
    return run_experiment(run.typed_model, run.dataset, overrides=overrides, resume=killed).run_dir


def main(arguments: list[str]) -> int:
    """``RUN.json STORE PARENT``: see :func:`recbole_metarec.jobs.worker.work`."""
    return work(arguments, train)
