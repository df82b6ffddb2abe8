"""The names by which models are asked for: those that are known, and where a user's class is."""

import inspect

from recbole_metarec.config.models import KINDS, SHIPPED_MODELS, added_models, known_as
from recbole_metarec.config.own_models import is_reference, load_class
from recbole_metarec.config.recbole_files import recbole_models
from recbole_metarec.config.suggestions import nearest
from recbole_metarec.errors import ConfigError


def model_name(model: str | type | None, origin: str = "model") -> str | None:
    """The name of a model, which may also be a class, or a reference to one: ``package.module:Class`` or
    ``my_model.py:Class``. Such a class is registered first, unless its file has done so.

    origin: where it was typed. Raises ConfigError as :func:`register_model` and for a class that cannot be imported.
    """
    reference, model = model, load_class(model, origin) if is_reference(model) else model
    if not inspect.isclass(model):
        return model
    if model.__module__.startswith("recbole."):
        return model.__name__
    return known_as(model, reference if is_reference(reference) else "").name


def comparable_models() -> list[str]:
    """The names of RecBole's own models that rank a catalogue for a user."""
    return [name for kind in KINDS for name in recbole_models(kind)]


def check_model(name, origin: str, every_kind: bool = False) -> None:
    """Raises ConfigError, with the nearest name, if there is no such model, neither here nor among RecBole's.

    every_kind: those of RecBole's that rank no catalogue are models, too.
    """
    names = [*SHIPPED_MODELS, *added_models(), *(recbole_models() if every_kind else comparable_models())]
    if name in names:
        return
    guess = nearest(str(name), names)
    theirs = "a model of RecBole" if every_kind else "a sequential or general model of RecBole"
    own = "your own as my_model.py:MyModel"
    ours = ", ".join([*SHIPPED_MODELS, *added_models()])
    advice = f"did you mean {guess}?" if guess else f"use {ours}, {theirs}, or {own}"
    raise ConfigError(f"{origin}: unknown model {name}; {advice}")
