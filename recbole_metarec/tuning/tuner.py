"""Runs the trials of a study one after the other: each in its own process, or all in this one."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

from recbole_metarec.errors import MetaRecError
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.process import (
    POLL_SECONDS,
    RunProcess,
    duration,
    end_all,
    environment,
    log_file,
    python_module,
)
from recbole_metarec.jobs.worker import check_versions
from recbole_metarec.lazy import LazyModule
from recbole_metarec.tuning.study import Trial, TrialError, TuningStudy
from recbole_metarec.tuning.worker import outcome_file, read_outcome

validate = LazyModule("recbole_metarec.tuning.validate")  # it brings RecBole

WORKER = python_module("recbole_metarec.tuning.validate")


class Tuner:
    """Runs trials of a study.

    plan: makes the run of the default configuration with some keys changed. folder: gets one folder per trial.
    say: gets one line of progress at a time. worker: the command that does one trial; None for trials in this process,
    where starting one would take longer than a trial does.
    """

    def __init__(
        self,
        study: TuningStudy,
        plan: Callable[[Mapping], PlannedRun],
        folder: Path,
        say: Callable[[str], None] = print,
        worker: Sequence[str] | None = WORKER,
    ):
        self.study, self.plan, self.folder, self.say, self.worker = study, plan, Path(folder), say, worker
        self._metric = study.base.config["valid_metric"].lower()
        self._total = 0

    def run(self, total: int) -> None:
        """Continues until ``total`` trials count. One that fails is recorded, and the next one is begun.

        Raises KeyboardInterrupt if it is interrupted and DataError if code or data have changed since the study was
        begun; the next command tries that trial again.
        """
        self._total = total
        if count := self.study.count() + self.study.running():
            self.say(f"{count} of {total} trials are done or in progress: {self.study.name}")
        try:
            self.study.optimize(total, self._evaluate)
        except KeyboardInterrupt as stop:
            count = self.study.count()
            raise type(stop)(
                f"{count} of {total} trials are done in {self.study.name}; rerun the command to continue"
            ) from None

    def _evaluate(self, trial: Trial) -> float:
        """The trial's value on validation. Raises TrialError if it has none."""
        check_versions(self.study.base)
        try:
            run = replace(self.plan(trial.overrides), folder=str(self.folder / f"trial-{trial.number:04d}"))
        except MetaRecError as error:  # values that do not go together
            raise self._failed(trial, str(error)) from None
        self._tell(trial, f"{', '.join(f'{key} {value}' for key, value in trial.overrides.items())}: started")
        started = monotonic()
        outcome = validate.outcome_here(run) if self.worker is None else self._in_a_process(trial, run)
        value = outcome.get("valid", {}).get(self._metric)
        if value is None or not math.isfinite(value):
            check_versions(self.study.base)  # no fault of the configuration, if they have changed
            raise self._failed(trial, outcome.get("error", f"{self._metric} is not finite"), f" (see {log_file(run)})")
        best = max(filter(None, (self.study.best(), replace(trial, value=value))), key=lambda each: each.value)
        result = f"{self._metric} {value:.4f} on validation, {duration(monotonic() - started)}"
        self._tell(trial, f"{result}; best {best.value:.4f} (trial {best.number})")
        return value

    def _in_a_process(self, trial: Trial, run: PlannedRun) -> dict:
        outcome_file(run).unlink(missing_ok=True)
        process = RunProcess(run, self.worker, (), environment(1))
        try:
            while process.exit_code is None:
                sleep(POLL_SECONDS)
                if line := process.progress():
                    self._tell(trial, line)
        except BaseException:
            end_all([process])
            raise
        return read_outcome(run) or {"error": process.last_words()}

    def _failed(self, trial: Trial, error: str, log: str = "") -> TrialError:
        self._tell(trial, f"FAILED: {error}{log}")
        return TrialError(error)

    def _tell(self, trial: Trial, text: str) -> None:
        self.say(f"[{trial.rank}/{self._total}] {self.study.base.model}: {text}")
