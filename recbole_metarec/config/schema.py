"""Every config key of this package with its default, type and range, and the keys that RecBole knows.

The reference is read from the comments of the shipped ``properties/*.yaml``: beside each key stands
``(type, range) One sentence.``, and that very text is what values are checked against.
"""

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from recbole_metarec.config.resources import resource_dir
from recbole_metarec.config.yaml_files import read_yaml
from recbole_metarec.errors import ConfigError

OUR_MODELS = ("LRURec", "MetaRec", "UniSRec")
Where = Mapping | Callable[[str], str]
LARGEST_INT = 2**31 - 1  # where a key names no bound of its own; beyond int64 PyTorch itself gives up

_TYPES = {"int", "float", "bool", "str", "list", "dict", "none"}
_LINE = re.compile(r"^(?P<name>\w+):\s*(?P<value>.*?)\s*#\s\((?P<spec>.+?)\)\s(?P<sentence>\S.*)$")
_INTERVAL = re.compile(r"^in ([\[(])(\S+), (\S+)([\])])$")


@dataclass(frozen=True)
class Key:
    """One config key: ``kind`` is its type as printed ("int", "all or int", ...), ``rule`` its range ("" if any)."""

    name: str
    default: object
    kind: str
    rule: str
    sentence: str
    file: str

    @property
    def choices(self) -> tuple[str, ...]:
        """Allowed words, for ``one of: a b c``; else empty."""
        return tuple(self.rule.removeprefix("one of: ").split()) if self.rule.startswith("one of: ") else ()

    @property
    def expects(self) -> str:
        """What a value must be, for messages: ``an int >= 1``, ``both or loss``, ``all or an int >= 1``."""
        if self.choices:
            return " or ".join(filter(None, [", ".join(self.choices[:-1]), self.choices[-1]]))
        article = {"int": "an int", "bool": "True or False", "none": "nothing (~)"}
        kinds = [article.get(k, f"a {k}" if k in _TYPES else k) for k in self.kind.split(" or ")]
        return " ".join(filter(None, [" or ".join(kinds), self.rule]))

    def allows(self, value) -> bool:
        """Whether ``value`` has the type and lies in the range; a single value stands for a list of one."""
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


def _parse_spec(spec: str, place: str) -> tuple[str, str]:
    """Type and range of ``type, range``. Raises ValueError for anything that could not be checked later."""
    kind, _, rule = spec.partition(", ")
    words = kind.split(" or ")
    known = not rule or rule.startswith("one of: ") or _INTERVAL.match(rule) or re.match(r"^>=? -?[\d.]+$", rule)
    if not (set(words) & _TYPES) or not known:
        raise ValueError(f"{place}: ({spec}) is not a type and a range that can be checked")
    return kind, rule


def _read_keys(path: Path) -> dict[str, Key]:
    values, lines = read_yaml(path)
    text = path.read_text(encoding="utf-8").splitlines()
    keys = {}
    for name, number in lines.items():
        match = _LINE.match(text[number - 1])
        if match is None:
            raise ValueError(f"{path}:{number}: {name} lacks its `# (type, range) sentence`")
        kind, rule = _parse_spec(match["spec"], f"{path}:{number}")
        keys[name] = Key(name, values[name], kind, rule, match["sentence"], f"{path.parent.name}/{path.name}")
    return keys


def _property_files(model: str | None) -> list[Path]:
    folder = resource_dir("properties")
    models = OUR_MODELS if model is None else (model,)
    return [folder / "overall.yaml", *(folder / "model" / f"{name}.yaml" for name in models)]


@cache
def key_reference(model: str | None = None) -> dict[str, Key]:
    """Every key of one of OUR_MODELS, or of all of them, in the order of ``properties/``."""
    keys = {}
    for path in _property_files(model):
        keys.update(_read_keys(path))
    return keys


def reads(model: str, key: str) -> bool:
    """Whether ``model`` is one of OUR_MODELS and has the key ``key``, such as ``sources`` or ``text_encoder``."""
    return model in OUR_MODELS and key in key_reference(model)


def default_values(model: str) -> dict:
    """Defaults of one of OUR_MODELS: ``properties/overall.yaml`` under ``properties/model/MODEL.yaml``; fresh."""
    values = {}
    for path in _property_files(model):
        values.update(read_yaml(path)[0])
    return values


# Options of RecBole's own run scripts and of its Config that stand in no properties file.
_OPTIONS = (
    "model",
    "dataset",
    "config_files",
    "config_file_list",
    "device",
    "nproc",
    "world_size",
    "ip",
    "port",
    "group_offset",
    "offset",
    "local_rank",
    "neg_sampling",
    "training_neg_sample_num",
    "encoding",
)


def recbole_root() -> Path:
    """The folder of RecBole's package, which is not imported. Raises ImportError where it is not installed."""
    spec = find_spec("recbole")
    if spec is None:
        raise ImportError("recbole is not installed; recbole-metarec doctor says what is missing")
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def known_keys() -> dict[str, str]:
    """Every key that this package or RecBole knows -> "ours", "recbole", or the RecBole model that alone reads it.

    RecBole's keys are taken from its files without importing it: its properties, its argument lists.
    """
    keys = {}
    root = recbole_root()
    for path in sorted(root.glob("properties/model/*.yaml")):
        for name in re.findall(r"^(\w+)\s*:", path.read_text(encoding="utf-8"), re.MULTILINE):
            keys.setdefault(name, path.stem)
    for path in [
        *root.glob("properties/*.yaml"),
        *root.glob("properties/quick_start_config/*.yaml"),
        root / "properties/dataset/sample.yaml",
        root / "properties/dataset/ml-100k.yaml",
    ]:
        keys.update(dict.fromkeys(re.findall(r"^(\w+)\s*:", path.read_text(encoding="utf-8"), re.MULTILINE), "recbole"))
    for node in ast.walk(ast.parse((root / "utils/argument_list.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            keys[node.value] = "recbole"
    keys.update(dict.fromkeys(_OPTIONS, "recbole"))
    keys.update(dict.fromkeys(key_reference(), "ours"))
    return keys


@cache
def recbole_models(kind: str = "*") -> list[str]:
    """Names of RecBole's models, from its source: importing them all takes seconds, and some libraries are not here.

    kind: ``sequential``, ``general``, ... or all.
    """
    root = recbole_root()
    files = sorted(root.glob(f"model/{kind}_recommender/__init__.py"))
    return [name for file in files for name in re.findall(r"import (\w+)", file.read_text(encoding="utf-8"))]


def said_at(place: str, problem: str) -> str:
    """``PLACE: problem``; but ``--key is ...`` where a problem that begins with a key was typed as that very option."""
    typed = place.startswith("--") and problem.startswith(f"{place[2:]} ")
    return f"--{problem}" if typed else f"{place}: {problem}"


def place_of(where: Where, *names: str) -> str:
    """Where the first of ``names`` that the user gave was given; "defaults" if none was."""
    get = where.get if isinstance(where, Mapping) else where
    return next((place for place in map(get, names) if place), "defaults")


def fail(where: Where, names, problem: str, advice: str) -> NoReturn:
    """Raise ConfigError at the place of ``names``, one key or several that conflict."""
    names = (names,) if isinstance(names, str) else names
    raise ConfigError(f"{said_at(place_of(where, *names), problem)}; {advice}")
