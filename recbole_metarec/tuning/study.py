"""Trials of one model's configurations in an Optuna storage, which commands on several machines may share.

Optuna runs the trials. Its heartbeat shows which of them lost their process; such a trial does not count, and its
configuration is tried again. A trial counts once it has ended, with a value or with an error of the run.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import monotonic, sleep
from warnings import catch_warnings, simplefilter

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from recbole_metarec.config.schema import keys_in
from recbole_metarec.errors import MetaRecError
from recbole_metarec.jobs.job import PlannedRun

_DIGITS = 4  # of a tried value that are kept: more would be noise, in commands to be typed
_POLL_SECONDS = 1.0


class TrialError(Exception):
    """A trial that ends with an error of its run: it counts, and the search continues."""


class _SeededByTrial(TPESampler):
    """TPE (Bergstra et al., NeurIPS 2011) whose draws follow from seed, trial number and the trials so far.

    A generator that starts with the command would draw the same first points again in each command that continues the
    study, and in each that works on it at the same time.
    """

    def __init__(self, seed: int):
        super().__init__(seed=seed)
        self._study_seed = seed

    def before_trial(self, study, trial):
        seed = np.random.SeedSequence([self._study_seed, trial.number]).generate_state(1)[0]
        super().__init__(seed=int(seed))
        super().before_trial(study, trial)


@dataclass(frozen=True)
class Trial:
    """One configuration. rank: its number in the budget, from 1. value: on validation; None before it has ended."""

    number: int
    rank: int
    overrides: dict
    value: float | None = None


class TuningStudy:
    """The study of one model on one target. Its name is derived from the code, data, fixed config, seed and space.

    base: the run of the default configuration. space: the keys to vary.
    """

    def __init__(self, storage: BaseStorage, base: PlannedRun, space: Mapping[str, BaseDistribution]):
        self.base, self._space = base, dict(space)
        self._grace_seconds = getattr(storage, "grace_period", None) or 0
        text = json.dumps([base.key, {key: distribution_to_json(values) for key, values in sorted(space.items())}])
        self.name = f"{base.model}-{base.dataset}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        self._study = optuna.create_study(
            storage=storage,
            study_name=self.name,
            sampler=_SeededByTrial(base.seed),
            direction="maximize",
            load_if_exists=True,
        )
        for key, value in _attributes(base).items():
            self._study.set_user_attr(key, value)

    # -- running trials ------------------------------------------------------------------------------------------

    def optimize(self, total: int, evaluate: Callable[[Trial], float]) -> None:
        """Runs trials until ``total`` count, those of other commands among them. The first is the default.

        evaluate: the value of a trial on validation; raises TrialError for a trial that failed. Any other exception
        ends the search, and the configuration is tried again by the next command.
        """
        self._free_abandoned()
        if not any(trial.user_attrs.get("default") and not _is_abandoned(trial) for trial in self._trials()):
            defaults = {key: self.base.config[key] for key in self._space}
            self._study.enqueue_trial(defaults, user_attrs={"default": True})
        lost: list[int] = []  # trials so slow that another command gave them up for dead
        while self.count() < total and (self._has_room(total) or self._waits_for_others(total)):
            try:
                self._study.optimize(
                    lambda trial: self._evaluated(trial, total, evaluate, lost),
                    callbacks=[lambda study, _: None if self._has_room(total) else study.stop()],
                    catch=(TrialError,),
                )
            except ValueError as error:  # Optuna's, which cannot end them twice; a user's mistake is one, too
                if isinstance(error, MetaRecError) or not lost:
                    raise
                lost.clear()

    def _evaluated(self, trial: optuna.Trial, total: int, evaluate: Callable[[Trial], float], lost: list[int]) -> float:
        # another command may have asked in the same moment: of two, the later one steps back
        rank = 1 + sum(_takes_room(other) for other in self._trials() if other.number < trial.number)
        if rank > total:
            trial.study.stop()
            raise optuna.TrialPruned
        params = {key: _suggested(trial, key, values) for key, values in self._space.items()}
        result = self._result_of(Trial(trial.number, rank, overrides_of(params)), params, evaluate)
        if self._trials()[trial.number].state.is_finished():
            lost.append(trial.number)
            raise optuna.TrialPruned
        if isinstance(result, TrialError):
            trial.set_user_attr("error", " ".join(str(result).split()) or "unknown error")
            raise result
        return result

    def _result_of(self, trial: Trial, params: dict, evaluate: Callable[[Trial], float]) -> float | TrialError:
        """The value or the error of a trial; of any other exception the next command tries its configuration again."""
        try:
            return evaluate(trial)
        except TrialError as error:
            return error
        except BaseException:
            is_default = self._trials()[trial.number].user_attrs.get("default")
            self._study.enqueue_trial(params, user_attrs={"default": True} if is_default else {})
            raise

    def _has_room(self, total: int) -> bool:
        """Whether the budget has room for a trial of this command."""
        trials = self._trials()
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        return sum(map(_takes_room, trials)) - waiting < total

    def _waits_for_others(self, total: int) -> bool:
        """Waits while another command runs the last trials; True if one of them lost its process and is free again."""
        deadline = monotonic() + self._grace_seconds + 2 * _POLL_SECONDS
        while self.running() and not self._has_room(total) and monotonic() < deadline:
            sleep(_POLL_SECONDS)
            self._free_abandoned()
        return self._has_room(total)

    def _free_abandoned(self) -> None:
        with catch_warnings():
            simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(self._study)

    # -- reading -------------------------------------------------------------------------------------------------

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def count(self) -> int:
        """Trials that count against the budget."""
        return count_of(self._trials())

    def running(self) -> int:
        """Trials in progress, in any command."""
        return sum(trial.state == TrialState.RUNNING for trial in self._trials())

    def failed(self) -> list[str]:
        """Errors of the trials that ended with one."""
        return [trial.user_attrs["error"] for trial in self._trials() if "error" in trial.user_attrs]

    def best(self) -> Trial | None:
        """The best trial so far; of equal ones the first."""
        return best_of(self._trials())

    def default(self) -> Trial | None:
        """The trial of the default configuration, if it has a value."""
        return best_of([trial for trial in self._trials() if trial.user_attrs.get("default")])


def subject_of(run: PlannedRun) -> str:
    """Equal for runs that differ in nothing but their seed."""
    return replace(run, seed=0).key


def _attributes(base: PlannedRun) -> dict:
    """What a study records about itself, for the search for the best configuration."""
    config = {key: value for key, value in base.config.items() if key not in keys_in("machine", "repetition")}
    return {
        "subject": subject_of(base),
        "model": base.model,
        "dataset": base.dataset,
        "sources": base.sources,
        "seed": base.seed,
        "code": base.code,
        "data": base.data,
        "config": json.loads(json.dumps(config, default=str)),
    }


def best_of(trials: list[FrozenTrial]) -> Trial | None:
    """The one with the highest value; of equal ones the first. None if none has a value."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        return None
    best = max(complete, key=lambda trial: (trial.value, -trial.number))
    rank = sum(map(_counts, (trial for trial in trials if trial.number <= best.number)))
    return Trial(best.number, rank, overrides_of(best.params), best.value)


def count_of(trials: list[FrozenTrial]) -> int:
    """How many have ended, with a value or with an error of the run."""
    return sum(map(_counts, trials))


def overrides_of(params: Mapping) -> dict:
    """Config keys of a trial, rounded to the digits that the run uses."""
    return {key: float(f"{v:.{_DIGITS}g}") if isinstance(v, float) else v for key, v in params.items()}


def _suggested(trial: optuna.Trial, key: str, values: BaseDistribution):
    if isinstance(values, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(key, values.choices)
    if isinstance(values, optuna.distributions.IntDistribution):
        return trial.suggest_int(key, values.low, values.high, log=values.log)
    return trial.suggest_float(key, values.low, values.high, log=values.log)


def _is_abandoned(trial: FrozenTrial) -> bool:
    """Ended without a value or an error of the run: its process was lost or interrupted."""
    return trial.state in (TrialState.FAIL, TrialState.PRUNED) and "error" not in trial.user_attrs


def _counts(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE or (trial.state == TrialState.FAIL and "error" in trial.user_attrs)


def _takes_room(trial: FrozenTrial) -> bool:
    """Whether it counts, or will if its process lives or it is tried again."""
    return _counts(trial) or trial.state in (TrialState.RUNNING, TrialState.WAITING)
