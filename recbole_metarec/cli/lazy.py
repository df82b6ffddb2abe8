"""Modules that are imported at their first use: ``--help`` and a mistyped option need not wait for PyTorch."""

import importlib
from types import ModuleType


class LazyModule(ModuleType):
    """Stands for the module of its name, which is imported as soon as something in it is asked for."""

    def __getattr__(self, attribute: str):
        return getattr(importlib.import_module(self.__name__), attribute)
