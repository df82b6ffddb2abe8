"""Brings a study to so many trials, one after the other, each a run in a process of its own."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

from recbole_metarec.errors import MetaRecError
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.owner import HEARTBEAT_SECONDS
from recbole_metarec.jobs.process import POLL_SECONDS, RunProcess, end_all, environment, python_module
from recbole_metarec.jobs.worker import check_versions
from recbole_metarec.tuning.study import Trial, TuningStudy
from recbole_metarec.tuning.worker import outcome_file, read_outcome

WORKER = python_module("recbole_metarec.tuning.worker")


class Tuner:
    """Does trials of a study.

    plan: makes the run of the default configuration with some keys changed. folder: gets one folder per trial.
    say: gets one line of progress at a time. worker: the command that does one trial.
    """

    def __init__(
        self,
        study: TuningStudy,
        plan: Callable[[Mapping], PlannedRun],
        folder: Path,
        say: Callable[[str], None] = print,
        worker: Sequence[str] = WORKER,
    ):
        self.study, self.plan, self.folder, self.say, self.worker = study, plan, Path(folder), say, tuple(worker)
        self._metric = study.base.config["valid_metric"].lower()
        self._total = 0

    def run(self, total: int) -> None:
        """Goes on until ``total`` trials count. One that fails is recorded, and the next one is begun.

        Raises KeyboardInterrupt if it is interrupted and DataError if code or data have changed since the study was
        begun; the trial in hand is then tried again by the next command.
        """
        self._total = total
        self.study.free_abandoned()
        if there := self.study.count():
            self.say(f"{there} of {total} trials are there already or in hand: {self.study.name}")
        try:
            while (trial := self.study.begin(total)) is not None:
                try:
                    self._do(trial)
                except BaseException:
                    self.study.give_back(trial)
                    raise
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"{self.study.count()} of {total} trials are in {self.study.name}; the same command does the rest"
            ) from None

    def _do(self, trial: Trial) -> None:
        check_versions(self.study.base)
        try:
            run = replace(self.plan(trial.overrides), folder=str(self.folder / f"trial-{trial.number:04d}"))
        except MetaRecError as error:  # values that do not go together
            self._failed(trial, str(error))
            return
        outcome_file(run).unlink(missing_ok=True)
        self._tell(trial, f"{', '.join(f'{key} {value}' for key, value in trial.overrides.items())}: started")
        process = RunProcess(run, self.worker, (), environment(1))
        try:
            self._wait(process, trial)
        except BaseException:
            end_all([process])
            raise
        outcome = read_outcome(run) or {"error": process.last_words()}
        value = outcome.get("valid", {}).get(self._metric)
        if value is not None and math.isfinite(value):
            self.study.finish(trial, value)
            best = self.study.best()
            so_far = f"best {best.value:.4f} (trial {best.number})"
            self._tell(trial, f"{self._metric} {value:.4f} on validation, {process.lasted}; {so_far}")
        else:
            check_versions(self.study.base)  # no fault of the configuration, if they have changed
            self._failed(trial, outcome.get("error", f"{self._metric} is not finite"), f" (see {process.log})")

    def _wait(self, process: RunProcess, trial: Trial) -> None:
        beaten = monotonic()
        while process.exit_code is None:
            sleep(POLL_SECONDS)
            if line := process.progress():
                self._tell(trial, line)
            if monotonic() - beaten >= HEARTBEAT_SECONDS:
                beaten = monotonic()
                self.study.beat(trial)

    def _failed(self, trial: Trial, error: str, where: str = "") -> None:
        self.study.fail(trial, error)
        self._tell(trial, f"FAILED: {error}{where}")

    def _tell(self, trial: Trial, text: str) -> None:
        self.say(f"[{trial.place}/{self._total}] {self.study.base.model}: {text}")
