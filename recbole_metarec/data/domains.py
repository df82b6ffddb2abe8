"""Named domains: what is known about them (``dataset_configs/NAME.yaml``) and where their files are.

Nothing here uses the network.
"""

import importlib.util
from pathlib import Path

from recbole_metarec.config.dataset_files import domain_settings, known_domains
from recbole_metarec.config.sources import source_fault, source_names
from recbole_metarec.config.suggestions import nearest
from recbole_metarec.data.embedded import EMBEDDED_DOMAINS, ensure_embedded, movielens_dir
from recbole_metarec.data.writer import read_about
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.files import cache_dir

_MOST_NAMES = 8  # in a message
# RecBole reads this name from its own package, whatever data_path says.
_RECBOLE_EXAMPLE = "ml-100k"


def find_domain(name: str, data_path=None) -> Path:
    """Folder F with ``F/NAME/NAME.inter``, ready to be RecBole's ``data_path``.

    Looks in ``data_path``, then in the cache of prepared files; the embedded domains are made there when asked for.
    Raises DataError, in one line, saying what was looked for, where, and what to do.
    """
    check_name(name)
    folder = _locate(name, data_path)
    if folder is None:
        raise DataError(_absent(name, data_path))
    return folder


def resolve_sources(target: str, sources, data_path=None) -> tuple[list[str], list[str]]:
    """The source domains of a run: (those whose data is there, default ones whose data is missing).

    sources: ``"auto"`` for the target's default sources; None, ``""``, ``"none"`` or ``[]`` for no transfer; else names
    as a list or separated by commas. Order is kept. A target without a YAML file has no default sources: ``auto`` is
    then no transfer, see :func:`sources_warning`. Raises ConfigError for the target among its sources or a source given
    twice, DataError for a named source that is missing.
    """
    listed = isinstance(sources, (list, tuple)) and all(isinstance(name, str) for name in sources)
    if not (listed or sources is None or isinstance(sources, str)):
        raise ConfigError(f"sources is {sources!r}; give auto, none, or names such as Office,Tools")
    names = source_names(sources)
    if names == "auto":
        names = _default_sources(target, data_path) or []
        present = [name for name in names if _locate(name, data_path) is not None]
        return present, [name for name in names if name not in present]
    fault = source_fault(names, target)
    if fault:
        raise ConfigError(f"sources: {'; '.join(fault)}")
    for name in names:
        check_name(name, "sources: ")
        try:
            find_domain(name, data_path)
        except DataError as error:
            raise DataError(f"sources: {error}") from None
    return names, []


def sources_warning(target: str, sources, data_path=None) -> str:
    """What to say, once all has been checked, of a run that gets no source although nobody asked for that; else ""."""
    if source_names(sources) != "auto" or _default_sources(target, data_path) is not None:
        return ""
    return (
        f"{target} has no default sources, so sources: auto means no transfer; name some, for example "
        "--sources Office,Tools"
    )


def _default_sources(target: str, data_path) -> list[str] | None:
    names = domain_settings(target).get("default_sources")
    folder = _locate(target, data_path) if names is None else None
    if folder:  # domains that were made together say so themselves
        names = read_about(folder, target).get("default_sources")
    return names


def check_name(name, where: str = "") -> None:
    """Raises DataError unless ``name`` can be a folder's name; ``where`` begins the message."""
    if not isinstance(name, str) or not name.strip() or name in (".", "..") or set(name) & set("/\\\0\n"):
        raise DataError(
            f"{where}{name!r} is not the name of a domain; give a folder's name such as Scientific, "
            "and the folder above it as --data_path"
        )


def _locate(name: str, data_path) -> Path | None:
    if name == _RECBOLE_EXAMPLE and importlib.util.find_spec("recbole"):
        return movielens_dir().parent
    for folder in _folders(data_path):
        if (folder / name / f"{name}.inter").is_file():
            return folder
    return ensure_embedded(cache_dir()) if name in EMBEDDED_DOMAINS else None


def _folders(data_path) -> list[Path]:
    return ([Path(data_path).expanduser()] if data_path else []) + [cache_dir()]


def present_domains(data_path=None) -> list[str]:
    """Names of the domains whose files are in ``data_path`` or in the cache, sorted."""
    return sorted(
        {
            path.parent.name
            for folder in _folders(data_path)
            if folder.is_dir()
            for path in folder.glob("*/*.inter")
            if path.stem == path.parent.name
        }
    )


def _absent(name: str, data_path) -> str:
    """What is missing, where it was looked for, and what to do: one line."""
    known, present = name in known_domains(), present_domains(data_path)
    near = None if known else nearest(name, [*known_domains(), *present])
    state = "not here" if known else f"not known (did you mean {near}?)" if near else "not known"
    searched = " or ".join(str(folder) for folder in _folders(data_path))
    if data_path and (Path(data_path).expanduser() / f"{name}.inter").is_file():
        todo = f"{data_path}/{name}.inter must be in a folder {name}, and --data_path must name the folder above"
    elif known:
        simulate = "--simulate makes one up; " if "statistics" in domain_settings(name) else ""
        todo = (
            f"recbole-metarec prepare {name} fetches it from {_addresses(name)}; {simulate}--data_path says where it "
            "lies; without --dataset a run takes the embedded domains"
        )
    else:
        # parts that an experiment has cut are nobody's domains
        domains = [other for other in present if "cut_from" not in read_about(cache_dir(), other)]
        names = domains or list(EMBEDDED_DOMAINS)
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        todo = (
            f"here are {', '.join(names[:_MOST_NAMES])}{more}; --data_path says where it is; recbole-metarec prepare "
            f"{name} --raw FILE makes it of a log of yours"
        )
    return f"domain {name} is {state}: no {name}/{name}.inter in {searched}; {todo}"


def _addresses(name: str) -> str:
    source = domain_settings(name)["public_source"]
    files = source["editions"][source["edition"]]
    texts = "" if files["metadata"] == files["reviews"] else f" (item texts: {files['metadata']})"
    return f"{files['reviews']}{texts}"
