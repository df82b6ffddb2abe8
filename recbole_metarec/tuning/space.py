"""Search spaces: which keys of a model tuning may change, and between which values, read from YAML.

One line per config key, ``key: {low: 0.0001, high: 0.01, log: True}`` for a range (of whole numbers where the model's
default is one; ``log``: even on a logarithmic scale) or ``key: {choices: [a, b, c]}``.
"""

import math
from collections.abc import Mapping
from pathlib import Path

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from recbole_metarec.config.own_models import SPACE
from recbole_metarec.config.resources import resource_dir
from recbole_metarec.config.schema import check_keys, key_reference, keys_in, keys_read_by
from recbole_metarec.config.suggestions import nearest, show
from recbole_metarec.config.yaml_files import read_yaml
from recbole_metarec.errors import ConfigError
from recbole_metarec.jobs.competitors import Competitor

Space = dict[str, BaseDistribution]
_FORMS = "write {low: A, high: B}, {low: A, high: B, log: True} or {choices: [A, B]}"


def space_file(model: Competitor) -> Path:
    """The space that ships for this line of the leaderboard, or is beside a user's class. Raises ConfigError if
    there is none."""
    if not model.is_tunable:
        raise ConfigError(f"--model: {model.name} has nothing to tune; choose another model")
    if (beside := model.spec.settings_file) and SPACE in read_yaml(beside)[0]:
        return beside
    folder = resource_dir("properties") / "search"
    for name in (model.name, model.experiment, model.spec.base):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    advice = f"write it under {SPACE} in {model.name}.yaml beside the class, or " if model.spec.is_own else ""
    raise ConfigError(f"--model: no search space ships for {model.name}; {advice}give one with --space FILE")


def read_space(path: Path, model: Competitor, config: Mapping, fixed: Mapping) -> Space:
    """The space in a file, without the keys in ``fixed``, which keep the user's value.

    config: the model's settled config, whose values are the default configuration. Raises ConfigError ``FILE:LINE``
    for a key that ``model`` does not read or that all models share, for a range or choice that is none or holds a
    value that is not allowed, and for one without the default: a search must not end below where it began.
    """
    specs, lines = read_yaml(path, SPACE if path == model.spec.settings_file else None)
    origins = {key: f"{path}:{line}" for key, line in lines.items()}
    check_keys(specs, origins)
    for key, origin in origins.items():
        check_is_tunable(key, model, origin)
    space = {
        key: _distribution(key, spec, config.get(key), origins[key]) for key, spec in specs.items() if key not in fixed
    }
    if not space:
        raise ConfigError(f"{path}: no key is left to tune; add one, or give fewer keys a fixed value")
    return space


def check_is_tunable(key: str, model: Competitor, origin: str) -> None:
    """Raises ConfigError for a key that the model does not read or that all models share. origin: ``FILE:LINE``."""
    if key in keys_in("protocol", "shared", "by_name", "option") or key == model.spec.width_key:
        raise ConfigError(f"{origin}: {key} is not for tuning: all models that are compared share it; remove it")
    read = keys_read_by(model.experiment)
    if key not in read:
        guess = nearest(key, read)
        raise ConfigError(
            f"{origin}: {model.name} does not read {key}; " + (f"did you mean {guess}?" if guess else "remove it")
        )


def _distribution(key: str, spec, default, origin: str) -> BaseDistribution:
    if not isinstance(spec, dict) or set(spec) not in ({"low", "high"}, {"low", "high", "log"}, {"choices"}):
        raise ConfigError(f"{origin}: {key} is {show(spec)}; {_FORMS}")
    values = _choices(key, spec["choices"], origin) if "choices" in spec else _range(key, spec, default, origin)
    if not _contains(values, default):
        raise ConfigError(
            f"{origin}: {key} leaves out {show(default)}, the default, which is tried first; "
            f"widen it, or fix the key with --{key}=VALUE"
        )
    return values


def _choices(key: str, values, origin: str) -> CategoricalDistribution:
    plain = isinstance(values, list) and all(isinstance(v, (bool, int, float, str, type(None))) for v in values)
    if not plain or len({repr(value) for value in values}) != len(values) or len(values) < 2:
        raise ConfigError(f"{origin}: {key} has choices {show(values)}; give two or more different plain values")
    for value in values:
        check_value(key, value, origin)
    return CategoricalDistribution(values)


def _range(key: str, spec: dict, default, origin: str) -> FloatDistribution | IntDistribution:
    low, high, log = spec["low"], spec["high"], spec.get("log", False)
    if not isinstance(log, bool):
        raise ConfigError(f"{origin}: {key} has log {show(log)}; use True or False")
    for name, bound in (("low", low), ("high", high)):
        if not _is_number(bound) or not math.isfinite(bound):
            raise ConfigError(f"{origin}: {key} has {name} {show(bound)}; use a number")
        check_value(key, bound, origin)
    if low >= high:
        raise ConfigError(f"{origin}: {key} has low {low} and high {high}; low must be below high")
    if log and low <= 0:
        raise ConfigError(f"{origin}: {key} has low {low}, which has no logarithm; use low > 0 or leave log out")
    if not _is_number(default):
        raise ConfigError(f"{origin}: {key} is {show(default)} by default, which no range holds; use choices")
    if isinstance(default, float):
        return FloatDistribution(float(low), float(high), log=log)
    if isinstance(low, float) or isinstance(high, float):
        raise ConfigError(f"{origin}: {key} is a whole number; give it whole bounds, not {low} and {high}")
    return IntDistribution(low, high, log=log)


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_value(key: str, value, origin: str) -> None:
    """Raises ConfigError for a value that this package's keys cannot have."""
    if key in key_reference():
        key_reference()[key].check(value, {key: origin})


def _contains(distribution: BaseDistribution, value) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(value == choice and type(value) is type(choice) for choice in distribution.choices)
    return distribution.low <= value <= distribution.high
