"""What RecBole's installed files say about its config keys and models. Importing RecBole would take seconds."""

import ast
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from recbole_metarec.config.yaml_files import read_yaml
from recbole_metarec.errors import RecBoleMissingError

_KEY = re.compile(r"^(\w+)\s*:", re.MULTILINE)


def recbole_root() -> Path:
    """The folder of RecBole's package. Raises RecBoleMissingError where it is not installed."""
    spec = find_spec("recbole")
    if spec is None:
        raise RecBoleMissingError(
            "recbole is not installed; pip install --no-deps recbole==1.2.1 (recbole-metarec doctor says what else is "
            "missing)"
        )
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def recbole_keys() -> dict[str, str]:
    """Every key of RecBole's -> "recbole", or the name of its model that alone reads it.

    They are in its properties and in its lists of arguments.
    """
    root = recbole_root()
    keys = {}
    for path in sorted(root.glob("properties/model/*.yaml")):
        for name in _keys_in(path):
            keys.setdefault(name, path.stem)
    for path in [
        *root.glob("properties/*.yaml"),
        *root.glob("properties/quick_start_config/*.yaml"),
        root / "properties/dataset/sample.yaml",
        root / "properties/dataset/ml-100k.yaml",
    ]:
        keys.update(dict.fromkeys(_keys_in(path), "recbole"))
    for node in ast.walk(ast.parse((root / "utils/argument_list.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            keys[node.value] = "recbole"
    return keys


def recbole_model_keys(model: str) -> set[str]:
    """The keys in the properties of one of RecBole's models; none for any other name."""
    path = recbole_root() / "properties" / "model" / f"{model}.yaml"
    return set(_keys_in(path)) if path.exists() else set()


def recbole_model_defaults(model: str) -> dict:
    """The defaults of one of RecBole's models; none for any other name."""
    path = recbole_root() / "properties" / "model" / f"{model}.yaml"
    return read_yaml(path)[0] if path.exists() else {}


def _keys_in(path: Path) -> list[str]:
    return _KEY.findall(path.read_text(encoding="utf-8"))


@cache
def recbole_models(kind: str = "*") -> list[str]:
    """Names of RecBole's models, from its source: importing them all takes seconds, and some libraries are not here.

    kind: ``sequential``, ``general``, ... or all.
    """
    files = sorted(recbole_root().glob(f"model/{kind}_recommender/__init__.py"))
    return [name for file in files for name in re.findall(r"import (\w+)", file.read_text(encoding="utf-8"))]
