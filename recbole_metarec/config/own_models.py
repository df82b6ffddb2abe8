"""A user's own model class: how it is named, what it is imported from, the YAML beside it, and its source files.

``package.module:Class`` and ``folder/my_model.py:Class`` name a class. ``Class.yaml`` beside the file that defines it
holds its config keys with their defaults, and under ``search_space`` what tuning may try, in the form of ``--space``.
"""

import importlib
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from recbole_metarec.config.suggestions import nearest
from recbole_metarec.config.yaml_files import read_yaml
from recbole_metarec.errors import ConfigError

SPACE = "search_space"
_NOT_THE_USERS = {"recbole_metarec", "recbole", "torch", *sys.stdlib_module_names}


def is_reference(name) -> bool:
    """Whether a name says where a class is: ``package.module:Class`` or ``my_model.py:Class``."""
    return isinstance(name, str) and ":" in name


def load_class(reference: str, origin: str) -> type:
    """The class of such a name. The current folder, or the folder of the file, is searched after all others.

    origin: where it was given. Raises ConfigError if there is none, or if importing it fails.
    """
    where, _, name = reference.rpartition(":")
    try:
        module = _module_of_file(Path(where), origin) if where.endswith(".py") else _module(where)
    except ConfigError:
        raise
    except Exception as error:  # somebody else's code, in which anything may happen
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise ConfigError(f"{origin}: {reference} cannot be imported ({what}){_line_of(error)}") from error
    loaded = getattr(module, name, None)
    if not inspect.isclass(loaded):
        classes = [each for each, value in vars(module).items() if inspect.isclass(value)]
        guess = nearest(name, classes)
        raise ConfigError(
            f"{origin}: there is no class {name or '(empty)'} in {where}; "
            + (f"did you mean {guess}?" if guess else "write my_model.py:MyModel or package.module:MyModel")
        )
    return loaded


def _module(name: str) -> ModuleType:
    _search_last(Path.cwd())
    return importlib.import_module(name)


def _module_of_file(path: Path, origin: str) -> ModuleType:
    file, name = path.expanduser().resolve(), path.stem
    if not file.is_file():
        raise ConfigError(f"{origin}: {path}: no such file; check the path")
    if name in sys.modules:
        if Path(getattr(sys.modules[name], "__file__", None) or "").resolve() == file:
            return sys.modules[name]
        raise ConfigError(f"{origin}: {path} has the name of another module, {name}; give the file another name")
    _search_last(file.parent)
    spec = importlib.util.spec_from_file_location(name, file)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _search_last(folder: Path) -> None:
    """Behind everything that is installed: a file that happens to be in the folder must not replace it."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        importlib.invalidate_caches()


def _line_of(error: Exception) -> str:
    """Where in the user's file importing has stopped, for the end of a message."""
    if isinstance(error, SyntaxError):
        return f"; mend {error.filename}:{error.lineno}"
    frames, trace = [], error.__traceback__
    while trace:
        frames.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    here = [f"{file}:{line}" for file, line in frames if not file.startswith("<") and Path(file) != Path(__file__)]
    theirs = [place for place in here if not place.startswith(sysconfig.get_path("stdlib"))]
    return f"; mend {theirs[-1]}" if theirs else "; check the name, and that it is in the current folder"


def settings_file(model: type) -> Path | None:
    """``Class.yaml`` beside the file that defines a user's class, if it is there."""
    source = _source_file(model) if is_users(model.__module__) else None
    file = source and source.with_name(f"{model.__name__}.yaml")
    return file if file and file.is_file() else None


def settings_of(model: type) -> dict:
    """The config keys that a user's class and its ancestors bring along, with their defaults.

    The YAML beside a class is stronger than its ``defaults``. Raises ConfigError for what is no such thing.
    """
    values = {}
    for each in reversed(model.__mro__):
        if not is_users(each.__module__):
            continue
        named, file = vars(each).get("defaults", {}), settings_file(each)
        if not isinstance(named, dict):
            raise ConfigError(f"{each.__name__}: its defaults are {named!r}; write a dict of config keys")
        values |= named | (read_yaml(file)[0] if file else {})
    return {key: value for key, value in values.items() if key != SPACE}


def source_files(classes: Iterable[type]) -> tuple[Path, ...]:
    """The files that the user's among these classes consist of, each once: those that define them and their ancestors,
    and the user's modules that these import.

    What is of this package, of RecBole, PyTorch and Python is left out, and so is whatever else is installed.
    """
    parents = [each for given in classes for each in given.__mro__ if is_users(each.__module__)]
    files = [file for each in parents if (file := _source_file(each))]
    packages = {each.__module__.partition(".")[0] for each in parents}
    modules = dict.fromkeys(each.__module__ for each in parents)
    todo = list(modules)
    while todo:
        for name in _imported_by(sys.modules.get(todo.pop(0))):
            if name not in modules and is_users(name) and (name.partition(".")[0] in packages or _is_loose(name)):
                modules[name] = None
                todo.append(name)
                files.append(Path(sys.modules[name].__file__))
    return tuple(dict.fromkeys(files))


def _imported_by(module: ModuleType | None) -> list[str]:
    """Names of the loaded modules that a module refers to, or whose values it holds."""
    values = list(vars(module).values()) if module else []
    names = [each.__name__ if inspect.ismodule(each) else getattr(each, "__module__", None) for each in values]
    return [name for name in names if isinstance(name, str) and getattr(sys.modules.get(name), "__file__", None)]


def is_users(module: str) -> bool:
    """Whether a module is neither of this package nor of RecBole, PyTorch or Python."""
    return module.partition(".")[0] not in _NOT_THE_USERS


def _is_loose(module: str) -> bool:
    """Whether it is outside the folders in which packages are installed."""
    folders = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib")]
    return not any(Path(sys.modules[module].__file__).is_relative_to(folder) for folder in folders)


def _source_file(each: type) -> Path | None:
    try:
        return Path(inspect.getsourcefile(each))
    except (TypeError, OSError):
        return None
