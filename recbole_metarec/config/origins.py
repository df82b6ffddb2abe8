"""Where a config value came from, such as ``my.yaml:12``, ``--key`` or ``config_dict``, and errors that say so."""

from collections.abc import Mapping
from typing import NoReturn

from recbole_metarec.errors import ConfigError

Origins = Mapping[str, str]  # of each key that a user gave; a key without one has its default
DEFAULTS = "defaults"


def origin_of(origins: Origins, *names: str) -> str:
    """The origin of the first of ``names`` that the user gave; "defaults" if none was."""
    return next((origin for origin in map(origins.get, names) if origin), DEFAULTS)


def located(origin: str, problem: str) -> str:
    """``ORIGIN: problem``; but ``--key is ...`` where a problem begins with the key that was typed as an option."""
    is_option = origin.startswith("--") and problem.startswith(f"{origin[2:]} ")
    return f"--{problem}" if is_option else f"{origin}: {problem}"


def fail(origins: Origins, names: str | tuple[str, ...], problem: str, advice: str) -> NoReturn:
    """Raise ConfigError at the origin of ``names``, one key or several that conflict."""
    names = (names,) if isinstance(names, str) else names
    raise ConfigError(f"{located(origin_of(origins, *names), problem)}; {advice}")
