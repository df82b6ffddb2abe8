"""The best configurations of a tuning storage, for a comparison of tuned models."""

from collections.abc import Iterable

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudySummary
from optuna.trial import FrozenTrial

from recbole_metarec.config.schema import keys_in
from recbole_metarec.config.suggestions import show
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.plan import Tuned
from recbole_metarec.tuning.study import best_of, count_of, subject_of


def best_found(storage: BaseStorage, defaults: Iterable[PlannedRun]) -> tuple[dict[str, Tuned], list[str]]:
    """(best configuration of each tuned model, a line on every model: which configuration is compared, and why).

    defaults: each model's run with its default configuration. Trials of other code, data, sources or fixed config
    never count; the line mentions them. The trials of several seeds and spaces count together, as one
    search.
    """
    studies = optuna.get_all_study_summaries(storage)
    tuned, notes = {}, []
    for run in defaults:
        same = [study for study in studies if study.user_attrs.get("subject") == subject_of(run)]
        trials = [t for study in same for t in _trials(storage, study)]
        best, count = best_of(trials), count_of(trials)
        if best is not None:
            tuned[run.model] = Tuned(best.overrides, count)
            metric = run.config["valid_metric"].lower()
            notes.append(note(run.model, tuned[run.model], f"{metric} {best.value:.4f} on validation"))
        else:
            notes.append(f"{run.model}: the default configuration, 0 trials; {_why(run, studies)}")
    return tuned, notes


def note(model: str, tuned: Tuned, result: str | None) -> str:
    """The line on which configuration of a model is compared. result: its value on validation, where that is known."""
    values = ", ".join(f"{key} {value}" for key, value in tuned.overrides.items()) or "the default configuration"
    return f"{model}: best of {tuned.trials} trials{f', {result}' if result else ''}: {values}"


def _trials(storage: BaseStorage, study: StudySummary) -> list[FrozenTrial]:
    return storage.get_all_trials(storage.get_study_id_from_name(study.study_name), deepcopy=False)


def _why(run: PlannedRun, studies: list[StudySummary]) -> str:
    """Why no configuration can be taken: how this run differs from the nearest study of this model."""
    near = [study.user_attrs for study in studies if study.user_attrs.get("model") == run.model]
    near = [attributes for attributes in near if attributes["dataset"] == run.dataset]
    if not near:
        return f"it was not tuned on {run.dataset}"
    differences = min((_differences(run, attributes) for attributes in near), key=len)
    if not differences:
        return "none of its trials has succeeded"
    return f"it was tuned with {'; '.join(differences)}: tune it again"


def _differences(run: PlannedRun, attributes: dict) -> list[str]:
    differences = []
    if attributes["code"] != run.code:
        differences.append(f"other code ({attributes['code']}; this is {run.code})")
    if attributes["sources"] != run.sources:
        differences.append(f"sources {','.join(attributes['sources']) or 'none'}")
    elif attributes["data"] != run.data:
        differences.append("other data files")
    config = {key: value for key, value in run.config.items() if key not in keys_in("machine", "repetition")}
    for key in sorted(config.keys() | attributes["config"].keys()):
        theirs = attributes["config"].get(key)
        if theirs != config.get(key):
            differences.append(f"{key} {show(theirs)} instead of {show(config.get(key))}")
    return differences
