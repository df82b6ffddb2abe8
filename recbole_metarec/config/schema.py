"""The table of config keys: type, range, default, meaning and scopes of every key that this package has or restricts.

It is kept in the shipped files ``properties/*.yaml``, in RecBole's form, one line for each key::

    key: default   # (type, range; scopes) Sentence.

``overall.yaml`` and ``model/NAME.yaml`` hold the keys of this package's models, ``recbole.yaml`` those of RecBole's own
that are restricted or need a scope. To add a key, add its line (a key that several models share has one in each file)
and read it where it acts; a test finds a key that nobody reads, and ``docs/make_reference.py`` writes the reference
page. Rules between keys are in :mod:`.rules`. A scope is what code asks keys for (:func:`keys_in`); ``SCOPES`` lists
them all.
"""

import copy
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from recbole_metarec.config.models import SHIPPED_MODELS, load_entry_points, loaded_models, model_spec
from recbole_metarec.config.origins import Origins, located, origin_of
from recbole_metarec.config.own_models import is_reference
from recbole_metarec.config.recbole_files import recbole_keys, recbole_model_keys
from recbole_metarec.config.resources import resource_dir
from recbole_metarec.config.suggestions import nearest, show
from recbole_metarec.config.yaml_files import read_yaml
from recbole_metarec.errors import ConfigError

LARGEST_INT = 2**31 - 1  # where a key has no bound; PyTorch itself cannot go beyond int64
SCOPES = {
    "data": "changes the dataset that is read",
    "recbole_reader": "asks for what only RecBole's own Dataset does",
    "protocol": "must be equal for all models of a comparison",
    "measure": "decides what runs are measured by, which is the same for all",
    "shared": "the same for all models of a comparison, so not for tuning",
    "by_name": "set by the name of a model in the leaderboard",
    "option": "has its own option in the commands that compare, and its own field in a run's identity",
    "repetition": "distinguishes repetitions of a run",
    "machine": "says where or how a run is done and not what it finds, so no part of a run's identity",
    "derived": "computed by RecBole's Config from the other keys and the machine",
    "user_only": "never taken from a checkpoint: it would decide that a pickle is read or that something is sent",
    "fixed": "has no other value than its default with this package's models",
    "source_weights": "only decides how much each source counts beside the others",
    "text": "literal text on the command line, never YAML",
}

_TYPES = {"int", "float", "bool", "str", "list", "dict", "none", "class"}
_UNCHECKED = ("any", "computed")  # any value; set by RecBole alone, so that users do not know the key
_LINE = re.compile(r"^(?P<name>\w+):\s*(?P<value>.*?)\s*#\s\((?P<spec>.+?)\)\s(?P<sentence>\S.*)$")
_INTERVAL = re.compile(r"^in ([\[(])(\S+), (\S+)([\])])$")
_SYMBOLS = {
    "lr": "learning_rate",
    "batch_size": "train_batch_size",
    "tau": "temperature",
    "heads": "vq_heads",
    "patience": "stopping_step",
    "max_seq_length": "MAX_ITEM_LIST_LENGTH",
    "wd": "weight_decay",
}


@dataclass(frozen=True)
class Key:
    """One config key: ``kind`` is its type as printed ("int", "all or int", ...), ``rule`` its range ("" if any)."""

    name: str
    default: object
    kind: str
    rule: str
    scopes: frozenset[str]
    sentence: str
    file: str

    @property
    def choices(self) -> tuple[str, ...]:
        """Allowed words, for ``one of: a b c``; else empty."""
        return tuple(self.rule.removeprefix("one of: ").split()) if self.rule.startswith("one of: ") else ()

    @property
    def words(self) -> tuple[str, ...]:
        """Words that are values: the choices, or those of a kind such as ``all or int``."""
        return self.choices or tuple(word for word in self.kind.split(" or ") if word not in {*_TYPES, *_UNCHECKED})

    @property
    def is_checked(self) -> bool:
        """Whether there is a type that its values must have."""
        return self.kind not in _UNCHECKED

    @property
    def expects(self) -> str:
        """What a value must be, for messages: ``an int >= 1``, ``both or loss``, ``all or an int >= 1``."""
        if self.choices:
            return " or ".join(filter(None, [", ".join(self.choices[:-1]), self.choices[-1]]))
        article = {"int": "an int", "bool": "True or False", "none": "nothing (~)", "class": "my_file.py:MyClass"}
        kinds = [article.get(k, f"a {k}" if k in _TYPES else k) for k in self.kind.split(" or ")]
        return " ".join(filter(None, [" or ".join(kinds), self.rule]))

    def allows(self, value) -> bool:
        """Whether ``value`` has the type and is in the range; a single value stands for a list of one."""
        if not self.is_checked:
            return True
        for kind in self.kind.split(" or "):
            if kind == "list" and isinstance(value, (list, tuple)):
                return (len(value) > 0 or self.kind != "list") and all(self._fits_item(item) for item in value)
            if kind == "list" and isinstance(value, (str, int)) and not isinstance(value, bool):
                return self._fits_item(value)
            if kind not in _TYPES and value == kind:
                return True
            if kind in _TYPES and _is_kind(value, kind):
                return self._in_range(value)
        return False

    def check(self, value, origins: Origins) -> None:
        """Raise ConfigError ``ORIGIN: key is value; use ...`` for a value that is not allowed."""
        if self.allows(value):
            return
        advice = f"use {self.expects}"
        guess = nearest(value, self.words) if self.words and isinstance(value, str) else None
        if guess:
            advice += f" (did you mean {guess}?)"
        if isinstance(value, int) and value > LARGEST_INT and self.allows(LARGEST_INT) > self.allows(LARGEST_INT + 1):
            advice += f", at most {LARGEST_INT}"
        if self.kind == "none":
            advice = f"it must stay empty: {self.sentence.split(': ', 1)[-1].rstrip('.')}"
        raise ConfigError(f"{located(origin_of(origins, self.name), f'{self.name} is {show(value)}')}; {advice}")

    def _fits_item(self, item) -> bool:
        if self.rule:
            return _is_kind(item, "int") and self._in_range(item)
        return _is_kind(item, "str") and item.strip() != ""

    def _in_range(self, value) -> bool:
        if self.choices:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return True
        if isinstance(value, int) and "float" not in self.kind and not self.rule.startswith("in "):
            return value <= LARGEST_INT and _in_interval(value, self.rule)
        return _is_finite(value) and _in_interval(value, self.rule)


def _is_kind(value, kind: str) -> bool:
    if kind == "none":
        return value is None
    if kind == "class":
        return is_reference(value)
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    return isinstance(value, {"int": int, "float": (int, float), "str": str, "list": (list, tuple), "dict": dict}[kind])


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that no float can hold
        return False


def _in_interval(value: float, rule: str) -> bool:
    if not rule:
        return True
    if rule.startswith(">= "):
        return value >= float(rule[3:])
    if rule.startswith("> "):
        return value > float(rule[2:])
    left, low, high, right = _INTERVAL.match(rule).groups()
    above = value >= float(low) if left == "[" else value > float(low)
    return above and (value <= float(high) if right == "]" else value < float(high))


def _parse_spec(spec: str, line: str) -> tuple[str, str, frozenset[str]]:
    """Type, range and scopes of ``type, range; scopes``. Raises ValueError for anything that means nothing."""
    spec, _, scopes = spec.partition("; ")
    kind, _, rule = spec.partition(", ")
    is_type = bool(set(kind.split(" or ")) & _TYPES) or kind in _UNCHECKED
    is_rule = not rule or rule.startswith("one of: ") or _INTERVAL.match(rule) or re.match(r"^>=? -?[\d.]+$", rule)
    if not is_type or not is_rule:
        raise ValueError(f"{line}: ({spec}) cannot be checked; write (TYPE, RANGE), such as (float or none, in [0, 1))")
    unknown = sorted(set(scopes.split()) - set(SCOPES))
    if unknown:
        raise ValueError(f"{line}: {unknown[0]} is no scope; use some of {', '.join(SCOPES)}")
    return kind, rule, frozenset(scopes.split())


def read_keys(path: Path) -> dict[str, Key]:
    """The keys of one of the files of the table, in its order. Raises ValueError for a line that is not of its form."""
    values, lines = read_yaml(path)
    text = path.read_text(encoding="utf-8").splitlines()
    keys = {}
    for name, number in lines.items():
        match = _LINE.match(text[number - 1])
        if match is None:
            raise ValueError(f"{path}:{number}: {name} lacks its `# (type, range; scopes) sentence`")
        spec = _parse_spec(match["spec"], f"{path}:{number}")
        keys[name] = Key(name, values[name], *spec, match["sentence"], f"{path.parent.name}/{path.name}")
    return keys


@cache
def _shipped_keys(models: tuple[str, ...] = SHIPPED_MODELS) -> dict[str, Key]:
    folder = resource_dir("properties")
    keys = {}
    for path in [folder / "overall.yaml", *(folder / "model" / f"{name}.yaml" for name in models)]:
        keys.update(read_keys(path))
    return keys


def key_reference(model: str | None = None) -> dict[str, Key]:
    """Every key of a model that is built on this package's, or of all that ship, in the order of ``properties/``."""
    if model is None:
        return _shipped_keys()
    spec = model_spec(model)
    keys = _shipped_keys((spec.base,))
    changed = {name: replace(keys[name], default=spec.defaults[name]) for name in keys.keys() & spec.defaults.keys()}
    return {**keys, **changed, **own_keys(model)} if spec.defaults else keys


def own_keys(model: str) -> dict[str, Key]:
    """The keys that a registered model brings along, each of the type of its default."""
    defaults = model_spec(model).defaults
    new = {name: defaults[name] for name in defaults.keys() - key_table().keys() - recbole_keys().keys()}
    kinds = {bool: "bool", int: "int", float: "float", str: "str", list: "list"}
    return {
        name: Key(name, value, kinds.get(type(value), "any"), "", frozenset(), f"A key of {model}.", model)
        for name, value in new.items()
    }


@cache
def restricted_keys() -> dict[str, Key]:
    """The keys of RecBole's own that ``properties/recbole.yaml`` tells about."""
    return read_keys(resource_dir("properties") / "recbole.yaml")


@cache
def key_table() -> dict[str, Key]:
    """Every key of this package and those of RecBole's that it restricts."""
    return {**restricted_keys(), **_shipped_keys()}


@cache
def keys_in(*scopes: str) -> frozenset[str]:
    """The keys that have one of these scopes. Raises ValueError for a scope that ``SCOPES`` does not know."""
    if unknown := set(scopes) - set(SCOPES):
        raise ValueError(f"{', '.join(sorted(unknown))}: no scope of config keys")
    return frozenset(name for name, key in key_table().items() if key.scopes & set(scopes))


@cache
def common_keys() -> frozenset[str]:
    """The keys that every model reads, those of RecBole, too: ``properties/overall.yaml``."""
    return frozenset(read_keys(resource_dir("properties") / "overall.yaml"))


def keys_read_by(model: str) -> set[str]:
    """The keys that a model reads: those of all models, and its own, be it built on this package's or on RecBole's."""
    spec = model_spec(model)
    own = (
        key_reference(model)
        if spec.is_ours
        else recbole_model_keys(spec.base or model) | spec.defaults.keys() | {spec.width_key}
    )
    return common_keys() | set(own)


def default_values(model: str) -> dict:
    """Defaults of a model that is built on this package's: ``properties/overall.yaml`` under ``model/MODEL.yaml`` under
    those it was registered with; fresh."""
    return {name: copy.deepcopy(key.default) for name, key in key_reference(model).items()}


def known_keys(asked: Iterable[str] = ()) -> dict[str, str]:
    """Every key that a user may set -> "ours", "recbole", or the model of RecBole's or a user's that alone reads it.

    Of the models that entry points offer, only those count that have been asked for; but if nobody else knows one of
    the ``asked`` keys, all are loaded.
    """
    known = _known_by_now()
    if known.keys() >= set(asked):
        return known
    load_entry_points()
    return _known_by_now()


def _known_by_now() -> dict[str, str]:
    added = {key: name for name in loaded_models() for key in own_keys(name)}
    return {**added, **_known_keys()}


@cache
def _known_keys() -> dict[str, str]:
    listed = {name: "recbole" for name, key in restricted_keys().items() if key.kind != "computed"}
    return {**recbole_keys(), **listed, **dict.fromkeys(_shipped_keys(), "ours")}


def unknown_key_error(key: str, origin: str) -> ConfigError:
    """The error for a key that nobody knows, naming the nearest known one; this package's own keys come first."""
    guess = _SYMBOLS.get(key.lower()) or nearest(key, _shipped_keys()) or nearest(key, known_keys([key]))
    unloaded = load_entry_points()  # the key may be of such a model
    listed = "docs/reference/config-keys.md lists every key"
    advice = f"did you mean {guess}?" if guess else str(unloaded[0]) if unloaded else listed
    named = "" if origin == f"--{key}" else f" {key}"
    return ConfigError(f"{origin}: unknown config key{named}; {advice}")


def check_keys(keys: Iterable[str], origins: Origins) -> None:
    """Raise ConfigError for the first of ``keys`` that neither this package nor RecBole knows."""
    known = known_keys(keys := list(keys))
    for key in keys:
        if key not in known:
            raise unknown_key_error(str(key), origin_of(origins, key))
