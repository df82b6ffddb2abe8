"""Trials of one model's configurations in an Optuna storage, which commands on several machines may share.

A trial counts against the budget once it has ended, well or with an error of its own, and while it is in living hands.
One whose process is gone counts no more, and its configuration is tried again.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from time import time

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from recbole_metarec.config.machine_keys import THIS_MACHINE
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.owner import SILENCE_SECONDS, Owner
from recbole_metarec.tuning.storage import DATABASE_ERRORS

_ENDED = (ValueError, optuna.exceptions.UpdateFinishedTrialError)  # tell, where another process was first
_DIGITS = 4  # of a tried value that are kept: more would be noise, in commands to be typed


def subject_of(run: PlannedRun) -> str:
    """Equal for runs that differ in nothing but their seed."""
    return replace(run, seed=0).key


class _SeededByTrial(BaseSampler):
    """TPE (Bergstra et al., NeurIPS 2011) whose draws follow from seed, trial number and the trials so far.

    One generator for a whole command would draw the same first points again in each command that goes on with the
    study, and in each that works at it at the same time.
    """

    def __init__(self, seed: int):
        self._seed, self._tpe = seed, TPESampler(seed=seed)

    def before_trial(self, study, trial):
        self._tpe = TPESampler(seed=int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0]))
        self._tpe.before_trial(study, trial)

    def infer_relative_search_space(self, study, trial):
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(self, study, trial, search_space):
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(self, study, trial, param_name, param_distribution):
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study, trial, state, values):
        self._tpe.after_trial(study, trial, state, values)


@dataclass(frozen=True)
class Trial:
    """A configuration in this process's hands, or one that was tried. place: counted from 1, among those that count."""

    number: int
    place: int
    overrides: dict
    value: float | None = None


class TuningStudy:
    """The study of one model on one target: of one code, data, fixed config, seed and space, which its name is made of.

    base: the run of the default configuration. space: what may be changed in it.
    """

    def __init__(self, storage: BaseStorage, base: PlannedRun, space: Mapping[str, BaseDistribution]):
        self.base, self._space, self._storage = base, dict(space), storage
        text = json.dumps([base.key, {key: distribution_to_json(own) for key, own in sorted(space.items())}])
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

    # -- the life of a trial -------------------------------------------------------------------------------------

    def begin(self, total: int) -> Trial | None:
        """Takes the next trial in hand; None if ``total`` of them count already. The first is the default."""
        self.free_abandoned()
        if not any(trial.user_attrs.get("default") and not _is_abandoned(trial) for trial in self._trials()):
            defaults = {key: self.base.config[key] for key in self._space}
            self._study.enqueue_trial(defaults, user_attrs={"default": True})
        if self.count() >= total:
            return None
        trial = self._study.ask(self._space)
        trial.set_user_attr("owner", vars(Owner.this_process()))
        trial.set_user_attr("heartbeat", time())
        # another command may have asked in the same moment: of two, the later one steps back
        place = 1 + sum(_counts(other) for other in self._trials() if other.number < trial.number)
        if place > total:
            self.give_back(Trial(trial.number, place, {}))
            return None
        return Trial(trial.number, place, overrides_of(trial.params))

    def beat(self, trial: Trial) -> None:
        """Says that this process still works at it. A storage that is away for a while is no reason to stop."""
        with suppress(*DATABASE_ERRORS):
            self._set(trial.number, "heartbeat", time())

    def finish(self, trial: Trial, value: float) -> None:
        """Ends it with what it found on validation. Nothing happens if it was given up for dead meanwhile."""
        with suppress(*_ENDED):
            self._study.tell(trial.number, value)

    def fail(self, trial: Trial, error: str) -> None:
        """Ends it with its error; it counts."""
        with suppress(*_ENDED):
            self._set(trial.number, "error", " ".join(error.split()) or "unknown error")
            self._study.tell(trial.number, state=TrialState.FAIL)

    def give_back(self, trial: Trial) -> None:
        """Lets go of it: it counts no more, and its configuration is tried next."""
        self._give_back(self._study.get_trials(deepcopy=False)[trial.number])

    def _give_back(self, trial: FrozenTrial) -> None:
        if self._end_unfinished(trial.number) and set(trial.params) == set(self._space):
            default = {"default": True} if trial.user_attrs.get("default") else {}
            self._study.enqueue_trial(trial.params, user_attrs=default)

    def _end_unfinished(self, number: int) -> bool:
        """False if another process has ended it before."""
        try:
            self._study.tell(number, state=TrialState.FAIL)
        except _ENDED:
            return False
        return True

    def free_abandoned(self) -> None:
        """Gives back every trial whose process is gone."""
        for trial in self._trials():
            if trial.state != TrialState.RUNNING or _is_in_living_hands(trial):
                continue
            if "error" in trial.user_attrs:  # it had ended, but for the last word
                self._end_unfinished(trial.number)
            else:
                self._give_back(trial)

    def _set(self, number: int, key: str, value) -> None:
        study = self._storage.get_study_id_from_name(self.name)
        trial = self._storage.get_trial_id_from_study_id_trial_number(study, number)
        self._storage.set_trial_user_attr(trial, key, value)

    # -- reading -------------------------------------------------------------------------------------------------

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def count(self) -> int:
        """Trials that count against the budget."""
        return sum(map(_counts, self._trials()))

    def running(self) -> int:
        """Those of them that are in hand somewhere."""
        return sum(trial.state == TrialState.RUNNING for trial in self._trials())

    def failed(self) -> list[str]:
        """Errors of the trials that ended with one."""
        return [
            trial.user_attrs["error"] for trial in self._trials() if trial.state == TrialState.FAIL and _counts(trial)
        ]

    def best(self) -> Trial | None:
        """The best trial so far; of equal ones the first."""
        return best_of(self._trials())

    def default(self) -> Trial | None:
        """The trial of the default configuration, if it has ended well."""
        return best_of([trial for trial in self._trials() if trial.user_attrs.get("default")])


def _attributes(base: PlannedRun) -> dict:
    """What a study tells of itself, for whoever looks for the best configuration."""
    config = {key: value for key, value in base.config.items() if key not in THIS_MACHINE}
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
    """The one with the highest value; of equal ones the first. None if none has ended well."""
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not done:
        return None
    best = max(done, key=lambda trial: (trial.value, -trial.number))
    place = sum(_counts(trial) for trial in trials if trial.number <= best.number)
    return Trial(best.number, place, overrides_of(best.params), best.value)


def count_of(trials: list[FrozenTrial]) -> int:
    """Those that have ended, well or with an error of their own."""
    return sum(_counts(trial) and trial.state.is_finished() for trial in trials)


def overrides_of(params: Mapping) -> dict:
    """Config keys of a trial, in the digits that are run with."""
    return {key: float(f"{v:.{_DIGITS}g}") if isinstance(v, float) else v for key, v in params.items()}


def _is_abandoned(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and "error" not in trial.user_attrs


def _counts(trial: FrozenTrial) -> bool:
    return trial.state != TrialState.WAITING and not _is_abandoned(trial)


def _is_in_living_hands(trial: FrozenTrial) -> bool:
    owner = trial.user_attrs.get("owner")
    if owner is None:  # its process has only just begun with it, or was killed then: all to go by is its age
        return time() - trial.datetime_start.timestamp() < SILENCE_SECONDS
    return Owner(**owner).is_alive(time() - trial.user_attrs.get("heartbeat", 0.0))
