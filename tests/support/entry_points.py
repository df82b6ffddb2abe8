"""Entry points of somebody's package, as ``importlib.metadata`` would find them."""

from collections.abc import Callable
from types import SimpleNamespace

from recbole_metarec.config import models


def offer(monkeypatch, **loads: Callable) -> list[str]:
    """Offers a model for each name, what its entry point loads being what the function returns.

    Returns a list in which every name is noted that is loaded.
    """
    loaded = []

    def point(name: str, load: Callable) -> SimpleNamespace:
        return SimpleNamespace(value=f"shop.models:{name}", load=lambda: loaded.append(name) or load())

    points = {name: point(name, load) for name, load in loads.items()}
    monkeypatch.setattr(models, "_entry_points", lambda: points)
    return loaded
