"""Which folder a run works in: a new one, or with ``--resume`` that of an unfinished run of the very same config."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

import yaml

from recbole_metarec.config.models import added_models, model_spec
from recbole_metarec.config.saved_config import with_later_keys
from recbole_metarec.config.schema import keys_in
from recbole_metarec.config.sources import source_names
from recbole_metarec.config.suggestions import show
from recbole_metarec.config.yaml_files import parse_value, read_yaml
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.files import locked, plain_values, write_json, write_text
from recbole_metarec.runs import folder
from recbole_metarec.runs.code_version import code_version, own_files

_STARTED = "started.json"


@dataclass(frozen=True)
class RunStart:
    """What a run starts from: all its settings as plain values, those of them that the user gave, and the fingerprint
    of its data."""

    settings: dict
    given: dict
    data: str

    def differences(self, run_dir: Path) -> list[str]:
        """How the run in ``run_dir`` differs, a sentence each; nothing if this one may resume it."""
        then = saved_settings(run_dir)
        now = parse_value(yaml_text(self.settings))  # through YAML, as the other ones went
        for values in (then, now):
            values |= {"sources": source_names(values["sources"])} if "sources" in values else {}
        keys = sorted((then.keys() | now.keys()) - keys_in("machine", "user_only"))
        changed = [key for key in keys if then.get(key) != now.get(key)]
        if not changed and _read_start(run_dir).get("data") != self.data:
            return ["the data has changed since"]
        return [f"{key} was {show(then.get(key))} and is {show(now.get(key))}" for key in changed]


@contextmanager
def opened_run(parent: str | Path, start: RunStart, resume: str | Path | bool | None) -> Iterator[Path]:
    """The folder of a run, which no other process works in while this is open.

    resume: None or False: a new run under ``parent``; a path: that run; True: the newest unfinished run under
    ``parent`` of the same settings and data, or the newest finished one, which has nothing left to do, or a new one if
    no run of this model, dataset and seed is unfinished there. Raises ConfigError if the run to resume is another one,
    is running, or is none; OSError or DataError if nothing can be written.
    """
    run_dir = _run_to_resume(Path(parent), start, resume) if resume else None
    run_dir = run_dir or _begin(Path(parent), start)
    with locked(run_dir / "lock", seconds=0) as alone:
        if not alone:
            raise ConfigError(f"--resume: {run_dir} is already running in another process; wait for it to end")
        for leftover in run_dir.glob(".*.tmp"):  # of a write that was killed
            leftover.unlink()
        yield run_dir


def is_complete(run_dir: Path) -> bool:
    """Whether a run has come to its end: its metrics are written last."""
    return (run_dir / "metrics.json").exists()


def unfinished_run(parent: str | Path, dataset: str | None = None) -> Path | None:
    """The newest run under ``parent`` that has not come to its end, on this dataset or on any."""
    runs = (path for path in _runs(Path(parent)) if not is_complete(path))
    return next((path for path in runs if dataset in (None, _read_start(path)["given"].get("dataset"))), None)


def given_to_run(run_dir: str | Path) -> dict:
    """The config keys that the user gave to a run, with ``model`` and ``dataset``, and no defaults: what was given
    holds for every domain, a default for one. Raises ConfigError if the folder holds no run to resume, or one of a
    user's class that is not known yet: no folder decides which code is imported.
    """
    if not _is_run(Path(run_dir)):
        raise ConfigError(
            f"--resume: {run_dir} is not the folder of a run; give one such as saved/MetaRec-..., or leave out --resume"
        )
    if reference := unknown_class(run_dir):
        raise ConfigError(f"--resume: the model of {run_dir} is a class of your own; add --model {reference}")
    return dict(_read_start(Path(run_dir))["given"])


def unknown_class(run_dir: str | Path) -> str | None:
    """Where the class of a run's model is, if it is one of the user's that is not known yet."""
    started = _read_start(Path(run_dir)) if _is_run(Path(run_dir)) else {}
    return started.get("class") if started and started["given"].get("model") not in added_models() else None


def saved_settings(run_dir: str | Path) -> dict:
    """All settings of a run, as its folder keeps them. Raises ConfigError for a file that cannot be read."""
    saved = read_yaml(Path(run_dir) / "config.yaml")[0]
    return with_later_keys(saved, str(saved.get("model")))


def _begin(parent: Path, start: RunStart) -> Path:
    model, dataset, seed = (start.settings[key] for key in ("model", "dataset", "seed"))
    run_dir = folder.make_run_folder(parent, model, dataset, seed)
    try:
        given = start.given | {"model": model, "dataset": dataset}
        code = code_version(own_files(start.settings))
        started = {"given": given, "data": start.data, "code": code, "versions": folder.versions()}
        started |= {"class": model_spec(model).reference} if model_spec(model).reference else {}
        write_json(run_dir / _STARTED, started)
        write_text(run_dir / "config.yaml", yaml_text(start.settings))
    except BaseException:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
    return run_dir


def _run_to_resume(parent: Path, start: RunStart, resume: str | Path | bool) -> Path | None:
    """The folder that ``resume`` names or stands for; None for a new run. Raises ConfigError if it is another run."""
    runs = [Path(resume)] if resume is not True else _runs(parent)
    if resume is True:
        prefix = "-".join(str(start.settings[key]) for key in ("model", "dataset", "seed")) + "-"
        runs = [path for path in runs if path.name.startswith(prefix)]
    differences = {path: start.differences(path) for path in runs}
    same = sorted((path for path in runs if not differences[path]), key=is_complete)
    others = [path for path in runs if differences[path] and not (resume is True and is_complete(path))]
    if same:
        _log_resumed(same[0])
        return same[0]
    if others:
        some, more = differences[others[0]][:3], len(differences[others[0]]) - 3
        raise ConfigError(
            f"--resume: {others[0]} is another run: {', '.join(some)}{f' and {more} more' if more > 0 else ''}; "
            "revert that change, or leave out --resume to start a new run"
        )
    getLogger().info(f"nothing to resume in {parent}: a new run is started")
    return None


def _is_run(path: Path) -> bool:
    return all((path / name).is_file() for name in (_STARTED, "config.yaml"))


def _runs(parent: Path) -> list[Path]:
    """Every run folder under ``parent``, the newest first."""
    runs = filter(_is_run, parent.iterdir() if parent.is_dir() else ())
    return sorted(runs, key=lambda path: ((path / _STARTED).stat().st_mtime_ns, path.name), reverse=True)


def _log_resumed(run_dir: Path) -> None:
    getLogger().info(f"{run_dir} is complete" if is_complete(run_dir) else f"resuming {run_dir}")
    started = _read_start(run_dir)
    then, now = started.get("code"), code_version(own_files(started["given"]))
    if then != now and not is_complete(run_dir):
        getLogger().warning(f"{run_dir} was started with {then}, now it is {now}: the rest may come out differently")


def _read_start(run_dir: Path) -> dict:
    try:
        started = json.loads((run_dir / _STARTED).read_text(encoding="utf-8"))
        if not isinstance(started, dict) or not isinstance(started.get("given"), dict):
            raise ValueError("not what a run writes there")
        return started
    except (OSError, ValueError) as error:
        raise DataError(f"{run_dir / _STARTED}: cannot be read ({error}); start the run anew") from None


def yaml_text(settings: dict) -> str:
    """The config of a run as YAML, readable again by ``--config_files``."""
    return yaml.safe_dump(plain_values(settings), sort_keys=True, allow_unicode=True)
