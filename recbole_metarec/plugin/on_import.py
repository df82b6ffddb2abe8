"""RecBole is set up while it is imported: a finder on ``sys.meta_path`` mends and extends each module as it is loaded.

``import recbole_metarec`` installs the finder and costs nothing. Whoever then imports ``recbole`` first, we or anybody
else, gets its modules as :mod:`.mends` and :mod:`.registration` make them, before anyone can see them otherwise. Both
may be imported in the middle of an import of RecBole, so neither they nor what they import may import RecBole at the
top.
"""

import functools
import importlib
import sys
from collections.abc import Callable
from contextlib import ExitStack, contextmanager

HOOKS: dict[str, list[Callable]] = {}  # a module of RecBole -> what is done around its execution, in this order
executed: set[str] = set()  # the modules around which it has been done


def around(module: str):
    """Have RecBole's ``module`` executed inside a context manager: a generator function of the module object."""

    def add(hook):
        HOOKS.setdefault(module, []).append(contextmanager(hook))
        return hook

    return add


def before(module: str):
    """Have a function called just before RecBole's ``module`` is executed."""

    def add(hook):
        @functools.wraps(hook)
        def wrapped(_):
            hook()
            yield

        around(module)(wrapped)
        return hook

    return add


def after(module: str):
    """Have a function called with RecBole's ``module`` as soon as that has been executed."""

    def add(hook):
        @functools.wraps(hook)
        def wrapped(module):
            yield
            hook(module)

        around(module)(wrapped)
        return hook

    return add


class RecBoleFinder:
    """Finds RecBole's modules where they are, and has the hooks run around their execution."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        """RecBole's own spec, whose loader also runs the hooks; None for any other module."""
        if name.partition(".")[0] != "recbole":
            return None
        finders = [finder for finder in sys.meta_path if finder is not cls and hasattr(finder, "find_spec")]
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in finders)), None)
        if spec is not None and spec.loader is not None:
            # this method alone is replaced: resources, source and origin stay those of RecBole's loader
            spec.loader.exec_module = functools.partial(_execute, spec.loader.exec_module)
        return spec


def install() -> None:
    """Put the finder in place, and set up what of RecBole has been imported before. A second call does nothing."""
    if RecBoleFinder in sys.meta_path:
        return
    sys.meta_path.insert(0, RecBoleFinder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "recbole"]:
        _execute(lambda module: None, sys.modules[name])


def _execute(execute: Callable, module) -> None:
    importlib.import_module("recbole_metarec.plugin.mends")
    importlib.import_module("recbole_metarec.plugin.checkpoint_mends")
    importlib.import_module("recbole_metarec.plugin.evaluation_mends")
    importlib.import_module("recbole_metarec.plugin.registration")
    with ExitStack() as stack:
        for hook in reversed(HOOKS.get(module.__name__, [])):  # what is entered last is left first
            stack.enter_context(hook(module))
        execute(module)
    executed.add(module.__name__)
