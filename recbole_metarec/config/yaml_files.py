"""YAML as this package reads it: safe, with RecBole's numbers, and with the line of every key for messages."""

import re
from pathlib import Path

import yaml

from recbole_metarec.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """YAML's safe loader; a key that appears twice in one mapping is an error; the later one does not win silently."""


# A date stays text: no key has an object of Python as its value.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# YAML 1.1 wants a dot and a sign before it believes in an exponent; RecBole reads 1e-3 as a number, and so do we.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
              |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
              |[-+]?\.[0-9_]+(?:[eE][-+]?[0-9]+)?
              |[-+]?\.(?:inf|Inf|INF)
              |\.(?:nan|NaN|NAN))$""",
        re.VERBOSE,
    ),
    list("-+0123456789."),
)
# RecBole's users write it in files and on the command line.
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^None$"), ["N"])


def _mapping(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"{key.value} is given twice; keep one of them", key.start_mark
            )
        seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
    return yaml.SafeLoader.construct_mapping(loader, node, deep=deep)


_Loader.add_constructor("tag:yaml.org,2002:map", lambda loader, node: _mapping(loader, node, deep=True))


def _fault(error: yaml.YAMLError, path) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark is not None else 1
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    return ConfigError(f"{path}:{line}: {problem}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file; check the path") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None


def read_yaml(path, section: str | None = None) -> tuple[dict, dict]:
    """Keys and values of a YAML file, and the line (from 1) of each top-level key.

    section: a key whose own keys, values and lines are wanted instead. An empty file gives two empty dicts. Raises
    ConfigError ``FILE:LINE: ...`` for a missing or unreadable file, a syntax error, a key given twice, a key that is
    not a word, and a file that is not ``key: value`` at the top.
    """
    path = Path(path)
    loader = None
    try:
        loader = _Loader(_text(path))
        node = loader.get_single_node()
        if node is None:
            return {}, {}
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}:{node.start_mark.line + 1}: not a list of settings; write lines of `key: value`")
        values = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise _fault(error, path) from None
    except (ValueError, RecursionError) as error:  # a number of too many digits; brackets nested without end
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: {error}; put the value in quotes or fix it") from None
    finally:
        if loader is not None:
            loader.dispose()
    if section is not None:
        node = next((value for key, value in node.value if key.value == section), None)
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}: no settings under {section}; write lines of `key: value` there")
        values = values[section]
    lines = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            raise ConfigError(
                f"{path}:{key.start_mark.line + 1}: a key must be a word, not {getattr(key, 'value', 'a list')}"
            )
        lines[key.value] = key.start_mark.line + 1
    return values, lines


def parse_value(text: str, where: str = "command line"):
    """Value of ``--key=text``: a YAML literal, or the text itself where it is none; nothing is evaluated.

    ``[10, 20]`` is a list, ``1e-3`` a float, ``True`` a bool, ``None`` and ``~`` are None, ``Office,Tools`` stays text.
    Raises ConfigError for brackets that do not close.
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        value = "" if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError):
        if text.lstrip()[:1] in ("[", "{") and not text.rstrip().endswith(")"):  # [5,inf) is an interval of RecBole
            raise ConfigError(f"{where}: {text} is not a YAML value; check its brackets and quotes") from None
        return text
    finally:
        if loader is not None:
            loader.dispose()
    return value if isinstance(value, (bool, int, float, str, list, dict, type(None))) else text


def is_yaml_name(name: str | Path) -> bool:
    """Whether it is the name of a YAML file, and not a URL or another file."""
    return Path(name).suffix in (".yaml", ".yml") and "://" not in str(name)


def as_text(value) -> str:
    """A value as ``--key=`` reads it again."""
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=10**9).removesuffix("\n").removesuffix("\n...")
