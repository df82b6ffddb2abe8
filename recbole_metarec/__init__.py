"""Meta transfer learning across disjoint domains, as a RecBole plugin: importing it is all that RecBole needs."""

from importlib import import_module

from recbole_metarec.config.models import register_model
from recbole_metarec.plugin import on_import

__version__ = "0.1.0"
__all__ = ["Recommender", "register_model", "run_experiment"]

_LATER = {"run_experiment": "recbole_metarec.quick_start", "Recommender": "recbole_metarec.serve"}

on_import.install()


def __getattr__(name: str):
    """Imports what brings PyTorch along when it is asked for: importing the package is cheap."""
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
