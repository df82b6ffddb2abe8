"""Whether the values that a user gave are allowed: unknown keys, single values, and the form they are handed on in.

What a key allows is read from ``properties/*.yaml`` by :mod:`recbole_metarec.config.schema`; rules between keys stand
in :mod:`recbole_metarec.config.rules`.
"""

from collections.abc import Mapping

from recbole_metarec.config.rules import RECBOLE_KEYS, check_rules
from recbole_metarec.config.schema import (
    LARGEST_INT,
    OUR_MODELS,
    Key,
    Where,
    default_values,
    key_reference,
    known_keys,
    place_of,
    said_at,
)
from recbole_metarec.config.suggestions import nearest, show, source_names
from recbole_metarec.config.yaml_files import parse_value, read_yaml
from recbole_metarec.errors import ConfigError

__all__ = [
    "OUR_MODELS",
    "Key",
    "Where",
    "check_config",
    "check_keys",
    "default_values",
    "key_reference",
    "known_keys",
    "nearest",
    "normalised",
    "parse_value",
    "place_of",
    "read_yaml",
    "show",
    "source_names",
    "unknown_key_error",
]

_SYMBOLS = {
    "lr": "learning_rate",
    "batch_size": "train_batch_size",
    "tau": "temperature",
    "heads": "vq_heads",
    "patience": "stopping_step",
    "max_seq_length": "MAX_ITEM_LIST_LENGTH",
    "wd": "weight_decay",
}


def unknown_key_error(key: str, where: str) -> ConfigError:
    """The error for a key that nobody knows, naming the nearest known one; this package's own keys come first."""
    guess = _SYMBOLS.get(key.lower()) or nearest(key, key_reference()) or nearest(key, known_keys())
    advice = f"did you mean {guess}?" if guess else "the README lists every key"
    named = "" if where == f"--{key}" else f" {key}"
    return ConfigError(f"{where}: unknown config key{named}; {advice}")


def normalised(given: Mapping, defaults: Mapping) -> dict:
    """What the user gave, in the form that is checked and handed on: ``None`` written as a word is None, ``sources``
    without any is ``none``, and a partial ``eval_args`` is completed (RecBole would complete it with a random split).
    """
    values = {key: None if value == "None" else value for key, value in given.items()}
    if values.get("sources", "") is None:
        values["sources"] = "none"
    if isinstance(values.get("eval_args"), dict):
        values["eval_args"] = {**defaults["eval_args"], **values["eval_args"]}
    return values


def check_keys(keys, where: Where) -> None:
    """Raise ConfigError for the first of ``keys`` that neither this package nor RecBole knows."""
    known = known_keys()
    for key in keys:
        if key not in known:
            raise unknown_key_error(str(key), place_of(where, key))


def check_config(values: Mapping, where: Where) -> None:
    """Check every given value, then the rules between keys.

    values: every config key of a model and its value; unknown keys are ignored here (see ``check_keys``).
    where: for a key the user gave, the place (``my.yaml:12``, ``--key``, ``config_dict``); nothing for a default.
    Raises ConfigError ``WHERE: what is wrong; what to do`` for the first fault.
    """
    reference = {**RECBOLE_KEYS, **key_reference()}
    for name, value in values.items():
        key = reference.get(name)
        if key is None or key.allows(value):
            continue
        advice = f"use {key.expects}"
        guess = nearest(value, key.choices) if key.choices and isinstance(value, str) else None
        if guess:
            advice += f" (did you mean {guess}?)"
        if isinstance(value, int) and value > LARGEST_INT and key.allows(LARGEST_INT) > key.allows(LARGEST_INT + 1):
            advice += f", at most {LARGEST_INT}"
        if key.kind == "none":
            advice = f"it must stay empty: {key.sentence.split(': ', 1)[-1].rstrip('.')}"
        raise ConfigError(f"{said_at(place_of(where, name), f'{name} is {show(value)}')}; {advice}")
    check_rules(values, where)
