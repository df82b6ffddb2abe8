"""A module that is imported at its first use: what need not wait for PyTorch, or for pandas, does not."""

import importlib
from types import ModuleType


class LazyModule(ModuleType):
    """Stands for the module of its name, which is imported as soon as something in it is asked for."""

    def __getattr__(self, attribute: str):
        return getattr(importlib.import_module(self.__name__), attribute)
