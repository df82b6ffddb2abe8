"""The version of everything that decides a number, so that results of two versions are never mixed."""

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import recbole_metarec
from recbole_metarec.config.resources import resource_dir

_PACKAGE = Path(__file__).resolve().parent.parent
# What only starts runs, keeps them or shows them: a better picture must not cost hours of training again.
_SHOWING = ("reports/", "compare/", "jobs/", "tuning/", "cli/", "__main__.py", "serve.py", "runs/figures.py")
# What tuning may try; what it has found stands in the config of a run.
_SEARCHED = "properties/search/"
_TRAINING = ("jobs/popularity.py",)
_PACKAGES = ("recbole", "torch", "numpy", "scikit-learn")  # the last makes vectors of item texts


def code_version() -> str:
    """``PACKAGE VERSION+HASH`` and the versions of the packages that decide numbers, builds for CPU or GPU aside.

    The hash is over the package's source files and default values and not the commit: a change that is not committed
    counts, one of the README does not.
    """
    found = [f"{name} {_release(name)}" for name in _PACKAGES]
    return ", ".join([f"recbole-metarec {recbole_metarec.__version__}+{_content_hash()}", *found])


def deciding_files() -> list[tuple[str, Path]]:
    """(name, path) of each file that is hashed, in a fixed order."""
    files = [(path.relative_to(_PACKAGE).as_posix(), path) for path in _PACKAGE.rglob("*.py")]
    files = [(name, path) for name, path in files if name in _TRAINING or not name.startswith(_SHOWING)]
    defaults = resource_dir("properties")
    files += [(f"properties/{path.relative_to(defaults).as_posix()}", path) for path in defaults.rglob("*.yaml")]
    return sorted({(name, path) for name, path in files if not name.startswith(_SEARCHED)})


def _content_hash() -> str:
    digest = hashlib.sha256()
    for name, path in deciding_files():
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _release(package: str) -> str:
    try:
        return version(package).split("+")[0]
    except PackageNotFoundError:
        return "unknown"
