"""Which folder a run works in: a new one, or with ``--resume`` that of an unfinished run of the very same config."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

import yaml

from recbole_metarec.config.schema import keys_in
from recbole_metarec.config.suggestions import show, source_names
from recbole_metarec.config.yaml_files import parse_value, read_yaml
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.files import locked, plain_values, write_json, write_text
from recbole_metarec.runs import folder
from recbole_metarec.runs.code_version import code_version

_FREE = keys_in("machine", "user_only")  # a run goes on whatever these are
_ORIGIN = "started.json"


@dataclass(frozen=True)
class RunStart:
    """What a run starts from: all its settings as plain values, those of them that were given, and the fingerprint of
    its data."""

    settings: dict
    given: dict
    data: str

    def differences(self, run_dir: Path) -> list[str]:
        """What is different of the run in ``run_dir``, a sentence each; nothing if it may go on as this one."""
        then = read_yaml(run_dir / "config.yaml")[0]
        now = parse_value(yaml_text(self.settings))  # through YAML, as the other ones went
        for values in (then, now):
            values |= {"sources": source_names(values["sources"])} if "sources" in values else {}
        found = [
            f"{key} was {show(then.get(key))} and is {show(now.get(key))}"
            for key in sorted(then.keys() | now.keys())
            if key not in _FREE and then.get(key) != now.get(key)
        ]
        if not found and _origin(run_dir).get("data") != self.data:
            found = ["the data has changed since"]
        return found


@contextmanager
def opened_run(parent: str | Path, start: RunStart, resume: str | Path | bool | None) -> Iterator[Path]:
    """The folder of a run, which is no other process's while this is open.

    resume: None or False: a new one under ``parent``; a path: that run; True: the newest unfinished run under
    ``parent`` of the same settings and data, or the newest finished one, which has nothing left to do, or a new one if
    no run of this model, dataset and seed is unfinished there. Raises ConfigError if the run to go on with is another
    one, is in use, or is none; OSError or DataError if nothing can be written.
    """
    if not resume:
        run_dir = None
    elif resume is True:
        run_dir = _newest(Path(parent), start)
    else:
        run_dir = _named(Path(resume), start)
    run_dir = _begin(Path(parent), start) if run_dir is None else run_dir
    with locked(run_dir / "lock", seconds=0) as alone:
        if not alone:
            raise ConfigError(f"--resume: {run_dir} is already running in another process; wait for its end")
        for leftover in run_dir.glob(".*.tmp"):  # of a write that was killed
            leftover.unlink()
        yield run_dir


def is_complete(run_dir: Path) -> bool:
    """Whether a run has come to its end: its metrics are written last."""
    return (run_dir / "metrics.json").exists()


def unfinished_run(parent: str | Path) -> Path | None:
    """The newest run under ``parent`` that has not come to its end, whatever run it is."""
    return next((path for path in _runs(Path(parent)) if not is_complete(path)), None)


def given_to_run(run_dir: str | Path) -> dict:
    """The config keys that a run was started with, ``model`` and ``dataset`` among them, and not their completion: what
    is given holds for every domain, a default for one. Raises ConfigError if the folder holds no run to resume.
    """
    if not all((Path(run_dir) / name).is_file() for name in (_ORIGIN, "config.yaml")):
        raise ConfigError(
            f"--resume: {run_dir} is not the folder of a run that could go on; give one such as saved/MetaRec-..., "
            "or leave out --resume"
        )
    return dict(_origin(Path(run_dir))["given"])


def _begin(parent: Path, start: RunStart) -> Path:
    model, dataset, seed = (start.settings[key] for key in ("model", "dataset", "seed"))
    run_dir = folder.make_run_folder(parent, model, dataset, seed)
    try:
        given = start.given | {"model": model, "dataset": dataset}
        origin = {"given": given, "data": start.data, "code": code_version(), "versions": folder.versions()}
        write_json(run_dir / _ORIGIN, origin)
        write_text(run_dir / "config.yaml", yaml_text(start.settings))
    except BaseException:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
    return run_dir


def _named(run_dir: Path, start: RunStart) -> Path:
    if found := start.differences(run_dir):
        raise ConfigError(f"--resume: {run_dir} is another run: {_some(found)}; take that back, or leave out --resume")
    _tell(run_dir)
    return run_dir


def _newest(parent: Path, start: RunStart) -> Path | None:
    prefix = "-".join(str(start.settings[key]) for key in ("model", "dataset", "seed")) + "-"
    runs = [path for path in _runs(parent) if path.name.startswith(prefix)]
    differences = {path: start.differences(path) for path in runs}
    same = [path for path in runs if not differences[path]]
    unfinished = [path for path in same if not is_complete(path)]
    if same:
        found = (unfinished or same)[0]
        _tell(found)
        return found
    if other := next((path for path in runs if not is_complete(path)), None):
        raise ConfigError(
            f"--resume: the newest unfinished run, {other}, is another one: {_some(differences[other])}; "
            "take that back, or leave out --resume to start a new run"
        )
    getLogger().info(f"nothing to resume in {parent}: a new run is started")
    return None


def _runs(parent: Path) -> list[Path]:
    """Every run folder under ``parent``, the newest first."""
    there = list(parent.iterdir()) if parent.is_dir() else []
    runs = [path for path in there if all((path / name).is_file() for name in (_ORIGIN, "config.yaml"))]
    return sorted(runs, key=lambda path: ((path / _ORIGIN).stat().st_mtime_ns, path.name), reverse=True)


def _some(found: list[str]) -> str:
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _tell(run_dir: Path) -> None:
    getLogger().info(f"{run_dir} is complete" if is_complete(run_dir) else f"going on with {run_dir}")
    code, now = _origin(run_dir).get("code"), code_version()
    if code != now and not is_complete(run_dir):
        getLogger().warning(f"{run_dir} was started with {code}, now it is {now}: the rest may come out differently")


def _origin(run_dir: Path) -> dict:
    try:
        found = json.loads((run_dir / _ORIGIN).read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not isinstance(found.get("given"), dict):
            raise ValueError("not what a run writes there")
        return found
    except (OSError, ValueError) as error:
        raise DataError(f"{run_dir / _ORIGIN}: cannot be read ({error}); start the run anew") from None


def yaml_text(settings: dict) -> str:
    """The config of a run as YAML, readable again by ``--config_files``."""
    return yaml.safe_dump(plain_values(settings), sort_keys=True, allow_unicode=True)
