"""A module that is imported at its first use, so that commands that need no PyTorch or pandas do not wait for them."""

import importlib
from types import ModuleType


class LazyModule(ModuleType):
    """Stands for the module of its name, which is imported as soon as something in it is asked for."""

    def __getattr__(self, attribute: str):
        return getattr(importlib.import_module(self.__name__), attribute)
