"""Best configurations in a YAML file, to be kept under version control; they hold for any version of the code.

One entry per model::

    LRURec:
      config: {dropout_prob: 0.56, learning_rate: 0.0005}
      trials: 20
      found: ndcg@10 0.0655 on validation of Office
"""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryFile

import yaml

from recbole_metarec.config.schema import check_keys
from recbole_metarec.config.yaml_files import is_yaml_name, read_yaml
from recbole_metarec.errors import ConfigError
from recbole_metarec.files import locked, write_atomically
from recbole_metarec.jobs.competitors import Competitor
from recbole_metarec.jobs.plan import Tuned
from recbole_metarec.tuning.best import note
from recbole_metarec.tuning.space import check_is_tunable, check_value
from recbole_metarec.tuning.study import TuningStudy

_REMEDY = "free some space or choose another --best"
_FORM = "write config: {KEY: VALUE}, trials: N and, for readers, found: TEXT"


def check_writable(path: Path) -> None:
    """Checks now, not after hours, whether :func:`put_best` can write. Raises ConfigError."""
    if not is_yaml_name(path):
        raise ConfigError(f"--best: {path} is not the name of a YAML file; use one such as best.yaml")
    if path.exists():
        read_yaml(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise ConfigError(f"--best: {path} cannot be written ({error.strerror}); choose another file") from None


def put_best(path: Path, study: TuningStudy) -> None:
    """Writes the study's best configuration as its model's entry; the others stay. The file is replaced whole.

    Raises ConfigError for a file of another form, DataError if it cannot be written; it is then unchanged.
    """
    best, run = study.best(), study.base
    metric, sources = run.config["valid_metric"].lower(), f" with {', '.join(run.sources)}" if run.sources else ""
    entry = {
        "config": best.overrides,
        "trials": study.count(),
        "found": f"{metric} {best.value:.4f} on validation of {run.dataset}{sources}",
    }
    with locked(path.with_name(f".{path.name}.lock")):  # searches of several models may end in the same moment
        known = read_yaml(path)[0] if path.exists() else {}
        text = yaml.safe_dump(known | {run.model: entry}, sort_keys=False, default_flow_style=None, width=1000)
        write_atomically(path, [text.encode()], _REMEDY)


def read_best(path: Path, models: Iterable[Competitor]) -> tuple[dict[str, Tuned], list[str]]:
    """(the configuration of each model that has an entry, a line on every model of which configuration is compared).

    Raises ConfigError ``FILE:LINE`` for a missing file, an entry of another form, or a key or value that the model
    cannot have.
    """
    entries, lines = read_yaml(path)
    tuned, notes = {}, []
    for model in models:
        if model.name not in entries:
            notes.append(f"{model.name}: the default configuration, 0 trials; {path} has none")
            continue
        entry = _checked(entries[model.name], model, f"{path}:{lines[model.name]}")
        tuned[model.name] = Tuned(entry["config"], entry["trials"])
        notes.append(note(model.name, tuned[model.name], entry.get("found")))
    return tuned, notes


def _checked(entry, model: Competitor, origin: str) -> dict:
    is_form = isinstance(entry, dict) and {"config", "trials"} <= set(entry) <= {"config", "trials", "found"}
    if not is_form or not isinstance(entry["config"], dict):
        raise ConfigError(f"{origin}: {model.name} is no best configuration; {_FORM}")
    if type(entry["trials"]) is not int or entry["trials"] < 1:
        raise ConfigError(f"{origin}: trials of {model.name} is {entry['trials']!r}; use an int >= 1")
    check_keys(entry["config"], dict.fromkeys(entry["config"], origin))
    for key, value in entry["config"].items():
        check_is_tunable(key, model, origin)
        check_value(key, value, origin)
    return entry
