"""What one run is asked to do: every config key of its model with the value and its origin, read once, checked once."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import MappingProxyType

from recbole_metarec.config.dataset_files import recbole_settings
from recbole_metarec.config.models import WITHOUT_TRANSFER, ModelSpec, model_spec
from recbole_metarec.config.origins import Origins, fail, origin_of
from recbole_metarec.config.recbole_files import recbole_model_defaults
from recbole_metarec.config.rules import check_config
from recbole_metarec.config.schema import (
    check_keys,
    common_keys,
    default_values,
    keys_in,
    keys_read_by,
    known_keys,
    own_keys,
    restricted_keys,
)
from recbole_metarec.config.suggestions import show
from recbole_metarec.config.yaml_files import read_yaml
from recbole_metarec.errors import ConfigError

NOT_OF_GENERAL = ("loss_type", "train_neg_sample_args", "repeatable")  # keys of the protocol that are about histories


@dataclass(frozen=True)
class UserKeys:
    """The config keys that a user gave. origins: of each of them: ``my.yaml:12``, ``--key``, ``config_dict``."""

    values: Mapping[str, object] = field(default_factory=dict)
    origins: Origins = field(default_factory=dict)

    @classmethod
    def read(cls, files: Iterable[str | Path], overrides: Mapping | None = None, origin: str = "config_dict"):
        """The keys of YAML files, later ones stronger, under ``overrides``, which are of one ``origin``.

        origin: as in :meth:`of`. Raises ConfigError ``FILE:LINE`` for a file that cannot be read.
        """
        user = cls()
        if not isinstance(overrides or {}, Mapping):
            raise ConfigError(f"overrides: {overrides!r} are no config keys; give a dict: {{'epochs': 5}}")
        for path in files:
            values, lines = read_yaml(path)
            user |= cls(values, {key: f"{path}:{line}" for key, line in lines.items()})
        return user | cls.of(overrides or {}, origin)

    @classmethod
    def of(cls, values: Mapping, origin: str) -> "UserKeys":
        """Keys of one origin, in which ``{}`` stands for the key; nothing is checked."""
        return cls(dict(values), {key: origin.replace("{}", str(key)) for key in values})

    def __or__(self, stronger: "UserKeys") -> "UserKeys":
        return UserKeys({**self.values, **stronger.values}, {**self.origins, **stronger.origins})

    def without(self, *keys: str) -> "UserKeys":
        """All but some keys."""
        return UserKeys({key: value for key, value in self.values.items() if key not in keys}, self.origins)


@dataclass(frozen=True)
class RunConfig:
    """The settings of one run, which never change.

    model: one of this package or of RecBole's. values: every key that this package knows or restricts, and whatever
    else the user gave; RecBole's Config has further defaults, for other keys. defaults: what this package lays over
    RecBole's defaults, under what the user gave. user: what that was, completed (:func:`completed`).
    """

    model: str
    dataset: str
    values: Mapping[str, object]
    defaults: Mapping[str, object]
    user: UserKeys

    @classmethod
    def read(cls, model: str, dataset: str, config_files=(), overrides: Mapping | None = None) -> "RunConfig":
        """Of YAML files, in their order, under ``overrides``. Raises ConfigError for any mistake in them."""
        return cls.build(model, dataset, UserKeys.read(config_files, overrides))

    @classmethod
    def build(cls, model: str, dataset: str, user: UserKeys, changed_defaults: Mapping | None = None) -> "RunConfig":
        """Completes and checks what the user gave for a model and a dataset.

        changed_defaults: stronger than the shipped ones, weaker than the user. Raises ConfigError ``ORIGIN: what is
        wrong; what to do`` for an unknown key, a value out of range, or keys in conflict.
        """
        if not isinstance(model, str):
            fail(user.origins, "model", f"model is {show(model)}", "give the name of a model")
        spec = model_spec(model)
        check_keys(user.values, user.origins)
        defaults = _our_defaults(model, dataset) if spec.is_ours else _protocol_defaults(spec) | _added_defaults(spec)
        defaults |= changed_defaults or {}
        user = UserKeys(completed(user.values, defaults), user.origins)
        checked = user.values if spec.is_ours else _checked_of_recbole_model(model, user.values)
        base = defaults if spec.is_ours else default_values(WITHOUT_TRANSFER)
        check_config({**base, **checked, "dataset": dataset}, user.origins)
        for name, key in own_keys(model).items():
            key.check(user.values.get(name, key.default), user.origins)
        recboles = {
            name: copy.deepcopy(key.default) for name, key in restricted_keys().items() if key.kind != "computed"
        }
        values = {**recboles, **defaults, **user.values, "model": model, "dataset": dataset}
        return cls(model, dataset, MappingProxyType(values), MappingProxyType(defaults), user)

    def __getitem__(self, key: str):
        return self.values[key]

    def origin(self, key: str) -> str:
        """Where the key's value came from: as in :class:`UserKeys`, or ``defaults``."""
        return origin_of(self.user.origins, key)


def completed(values: Mapping, defaults: Mapping) -> dict:
    """What the user gave, in the form that is checked and handed on: ``None`` written as a word is None, ``sources``
    without any is ``none``, a partial ``eval_args`` is completed (RecBole would complete it with a random split), and
    its dates are text.
    """
    values = {key: None if value == "None" else value for key, value in values.items()}
    if values.get("sources", "") is None:
        values["sources"] = "none"
    if isinstance(values.get("eval_args"), dict):
        values["eval_args"] = {**defaults["eval_args"], **values["eval_args"]}
        split = values["eval_args"]["split"]
        if isinstance(split, dict) and isinstance(split.get("TS"), (list, tuple)):
            points = [str(point) if isinstance(point, date) else point for point in split["TS"]]
            values["eval_args"]["split"] = {**split, "TS": points}
    return values


def _our_defaults(model: str, dataset: str) -> dict:
    of_dataset = {key: value for key, value in recbole_settings(dataset).items() if key in known_keys()}
    return {**default_values(model), **of_dataset}


def _protocol_defaults(spec: ModelSpec) -> dict:
    """What RecBole's own models share with ours; the rest they decide each for themselves."""
    defaults = default_values(WITHOUT_TRANSFER)
    shared = {key: defaults[key] for key in keys_in("protocol")}
    return shared if spec.kind == "sequential" else _without_sequences(shared) | {"repeatable": False}


def _without_sequences(values: Mapping) -> dict:
    """A general recommender draws negatives or not as it likes, never among a user's items, and its validation leaves
    these out of the ranking, too: it could only learn to put them first."""
    return {key: value for key, value in values.items() if key not in NOT_OF_GENERAL}


def _added_defaults(spec: ModelSpec) -> dict:
    """Of a registered model of RecBole's kind: the defaults of the one that it is derived from, under its own."""
    return {**recbole_model_defaults(spec.base), **copy.deepcopy(dict(spec.defaults))}


def _checked_of_recbole_model(model: str, values: Mapping) -> dict:
    """Those keys that mean in a model of RecBole's what they mean in ours."""
    strict = {name for name, key in restricted_keys().items() if key.is_checked} | common_keys()
    strict |= {"pretrain_epochs"} & keys_read_by(model)
    checked = {key: value for key, value in values.items() if key in strict}
    return checked if model_spec(model).kind == "sequential" else _without_sequences(checked)
