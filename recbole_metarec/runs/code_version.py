"""The version of everything that decides a number, so that results of two versions are never mixed.

What counts is the syntax of the source files, and the table of keys without its sentences. Another comment, docstring
or line break changes no number, and must not cost hours of training again.
"""

import ast
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

import recbole_metarec
from recbole_metarec.config.models import model_spec
from recbole_metarec.config.own_models import is_reference, load_class, source_files
from recbole_metarec.config.resources import resource_dir
from recbole_metarec.config.schema import read_keys
from recbole_metarec.errors import DataError
from recbole_metarec.files import cache_dir, make_dir, write_atomically
from recbole_metarec.runs.folder import release

_PACKAGE = Path(__file__).resolve().parent.parent
# What only makes data (whose fingerprint is part of a result's identity), starts runs, keeps them, shows them, serves
# their models or words errors.
_DECIDES_NOTHING = (
    "cli/",
    "compare/",
    "jobs/",
    "prepare/",
    "reports/",
    "tuning/",
    "__main__.py",
    "config/origins.py",
    "config/suggestions.py",
    "data/histories.py",
    "data/statistics.py",
    "errors.py",
    "evaluation/intervals.py",
    "evaluation/results.py",
    "evaluation/segments.py",
    "evaluation/significance.py",
    "figures.py",
    "lazy.py",
    "model/saved_network.py",
    "plugin/gpu.py",
    "runs/code_version.py",
    "runs/figures.py",
    "runs/folder.py",
    "runs/resume.py",
    "serve.py",
    "tables.py",
)
# What tuning may try; what it chose is in the config of a run.
_SEARCHED = "search/"
_CACHE = "code-digests.json"
# what a digest is of decides, too: the trees of this Python's parser, and what counts of a file (form 2)
_KEY = f"python {sys.version_info[0]}.{sys.version_info[1]}, form 2, {{}}"
_OWN = "own files"
_PACKAGES = ("recbole", "torch", "numpy", "scikit-learn")  # the last makes vectors of item texts


def code_version(model_files: Iterable[str | Path] = ()) -> str:
    """``PACKAGE VERSION+HASH`` and the versions of the packages that decide numbers, builds for CPU or GPU aside.

    model_files: the source files of a model that is not this package's, whose hash follows then. Raises DataError if
    one is no Python file.
    """
    packages = [f"{name} {(release(name) or 'unknown').partition('+')[0]}" for name in _PACKAGES]
    own = [("model", Path(file)) for file in model_files]
    ours = f"recbole-metarec {recbole_metarec.__version__}+{_identity(deciding_files())}"
    return ", ".join([ours, *packages, *([f"{_OWN} {_identity(own)}"] if own else [])])


def own_files(config: Mapping) -> tuple[Path, ...]:
    """The files of what is a user's in a run: of the class of its model, and of its weighting.

    config: its keys; those that are missing are not the user's.
    """
    name = config.get("gradient_rescaling")
    named = [load_class(name, "gradient_rescaling")] if is_reference(name) else []
    return tuple(dict.fromkeys([*model_spec(config["model"]).source_files, *source_files(named)]))


def without_own_files(version: str) -> str:
    """A code version without the hash of a user's model: what it has in common with those of other models."""
    return version.partition(f", {_OWN} ")[0]


def _identity(files: list[tuple[str, Path]]) -> str:
    text = "".join(f"{name}\0{digest}\0" for name, digest in _digests(files))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def deciding_files() -> list[tuple[str, Path]]:
    """(name, path) of each of this package's files that decides numbers, in a fixed order."""
    sources = [(path.relative_to(_PACKAGE).as_posix(), path) for path in _PACKAGE.rglob("*.py")]
    sources = [(name, path) for name, path in sources if not name.startswith(_DECIDES_NOTHING)]
    folder = resource_dir("properties")
    defaults = [(path.relative_to(folder).as_posix(), path) for path in folder.rglob("*.yaml")]
    defaults = [(f"properties/{name}", path) for name, path in defaults if not name.startswith(_SEARCHED)]
    return sorted({*sources, *defaults})


def syntax(source: str | bytes) -> str:
    """The syntax tree of Python source as text, without comments, docstrings and formatting. Raises SyntaxError."""
    return repr(_tree(ast.parse(source)))


def _tree(node):
    # not ast.dump, which writes an empty list in some versions of Python only
    if isinstance(node, ast.AST):
        children = ((name, getattr(node, name, None)) for name in node._fields)
        return (type(node).__name__, *((name, _tree(child)) for name, child in children if child not in (None, [])))
    if isinstance(node, list):
        return [_tree(child) for child in node if not _is_docstring(child)]
    return repr(node)


def _is_docstring(node) -> bool:
    """Whether it is a statement that is nothing but text."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _key_facts(path: Path) -> str:
    """What a file of the table of keys says, as text, without sentences and formatting."""
    facts = [(key.name, key.default, key.kind, key.rule, sorted(key.scopes)) for key in read_keys(path).values()]
    return json.dumps(sorted(facts, key=lambda fact: fact[0]), sort_keys=True, default=str)


def _digests(files: list[tuple[str, Path]]) -> list[tuple[str, str]]:
    """(name, digest of what counts) of each file."""
    known, used, digests = _parsed_before(), {}, []
    for name, path in files:
        content = path.read_bytes()
        key = _KEY.format(hashlib.sha256(content).hexdigest())
        used[key] = known.get(key) or _digest(path, content)
        digests.append((name, used[key]))
    if used.keys() - known.keys():
        known.update(used)
        with suppress(DataError):  # without a cache that may be written each process parses anew, for a second
            write_atomically(make_dir(cache_dir()) / _CACHE, [json.dumps(used).encode()])
    return digests


def _digest(path: Path, content: bytes) -> str:
    try:
        text = _key_facts(path) if path.suffix == ".yaml" else syntax(content)
    except (SyntaxError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as Python ({error}); fix it") from None
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _parsed_before() -> dict[str, str]:
    """Digest of a file's bytes -> digest of what counts of them, as an earlier process has kept them."""
    with suppress(OSError, ValueError):
        return dict(json.loads((cache_dir() / _CACHE).read_text(encoding="utf-8")))
    return {}
