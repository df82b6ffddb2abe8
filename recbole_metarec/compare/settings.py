"""The settings of a sweep: which target and which config keys the runs get for each value that is varied."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from recbole_metarec.config.dataset_files import recbole_settings
from recbole_metarec.config.models import DEFAULT_MODEL, loaded_models, model_spec
from recbole_metarec.config.origins import Origins
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.config.run_config import RunConfig, UserKeys
from recbole_metarec.config.schema import check_keys, key_reference, key_table, keys_in, own_keys
from recbole_metarec.config.suggestions import nearest
from recbole_metarec.config.yaml_files import as_text, parse_value
from recbole_metarec.data.domains import resolve_sources
from recbole_metarec.errors import ConfigError
from recbole_metarec.prepare.subsets import cut_overlap, cut_users, disjoint_subsamples, share_name

# Scopes of keys that are not to be varied, and why.
_NOT_SWEPT = {
    "option": "it has an option of its own",
    "measure": "all runs are measured alike",
    "by_name": "models differ by it: choose with --models, or see recbole-metarec ablate",
}


Targets = dict[int, tuple[str, dict]]  # of each seed: the target, and the config keys of its runs


@dataclass(frozen=True)
class TargetSubsets:
    """The targets of a study: a whole domain for every seed, or for each seed a subsample of its users.

    origins: where the user gave each of the config keys.
    """

    dataset: str
    share: float
    by_seed: Targets
    origins: Origins = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As it is shown."""
        return share_name(self.dataset, self.share)


@dataclass(frozen=True)
class Setting:
    """One value of a sweep. text: as typed. by_seed: the target and the config keys of the runs with each seed."""

    value: object
    text: str
    by_seed: Targets


@dataclass(frozen=True)
class DataKey:
    """A swept key that is not a config key: it decides which data the runs read.

    meaning: for readers. allows: whether a value is valid. expects: what a value must be. setting: (value, dataset,
    keys, seed) -> the target and the config keys of the runs with this seed. makes_sources: whether it makes the
    sources, too.
    """

    meaning: str
    allows: Callable[[object], bool]
    expects: str
    setting: Callable[[object, str, dict, int], tuple[str, dict]]
    makes_sources: bool = False


def _number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _first_sources(value: int, dataset: str, keys: dict, seed: int) -> tuple[str, dict]:
    names = _sources(dataset, keys)
    if value > len(names):
        raise ConfigError(
            f"n_sources: {value} sources, but there are {len(names)} ({', '.join(names) or 'none'}); name more with "
            "--sources"
        )
    return dataset, {**keys, "sources": names[:value] or "none"}


def _share_of_users(value: float, dataset: str, keys: dict, seed: int) -> tuple[str, dict]:
    names = _sources(dataset, keys)  # the copy has no default ones
    # by the seed itself, so that a run can be repeated alone; consecutive seeds have different subsamples
    cut = cut_users(dataset, keys.get("data_path") or DEFAULT_DATA_PATH, value, seed % disjoint_subsamples(value))
    # the domain's settings of RecBole apply to its subsample, too
    return cut, {**recbole_settings(dataset), **keys, "sources": names or "none"}


def _overlap(kind: str) -> Callable:
    def setting(value: float, dataset: str, keys: dict, seed: int) -> tuple[str, dict]:
        if "sources" in keys:
            raise ConfigError(f"overlap_{kind}: the source is the other half of {dataset}; leave sources out")
        target, source = cut_overlap(dataset, keys.get("data_path") or DEFAULT_DATA_PATH, kind, value)
        return target, {**recbole_settings(dataset), **keys, "sources": [source]}

    return setting


def _sources(dataset: str, keys: dict) -> list[str]:
    return resolve_sources(dataset, keys.get("sources", "auto"), keys.get("data_path") or DEFAULT_DATA_PATH)[0]


DATA_KEYS = {
    "n_sources": DataKey(
        "the first N sources, in the order of --sources",
        lambda value: _number(value) and isinstance(value, int) and value >= 0,
        "an int >= 0",
        _first_sources,
    ),
    "target_users": DataKey(
        "the target with this share of its users; each seed uses a different subsample, disjoint where possible",
        lambda value: _number(value) and 0 < value <= 1,
        "a number in (0, 1]",
        _share_of_users,
    ),
    **{
        f"overlap_{kind}": DataKey(
            f"half of the domain as target, the other half as source, which also has this share of the target's {kind} "
            "(and grows by them)",
            lambda value: _number(value) and 0 <= value <= 1,
            "a number in [0, 1]",
            _overlap(kind),
            makes_sources=True,
        )
        for kind in ("users", "items")
    },
}


def parse_grid(text: str) -> tuple[str, list]:
    """Key and values of ``KEY=v1,v2,...``; values as ``--key=`` reads them, a list in brackets.

    Raises ConfigError for anything else, an unknown key, one that cannot be varied, no value, or a repeated one.
    """
    key, sign, listed = text.partition("=")
    if not sign:
        raise ConfigError(f"{text}: not of the form KEY=v1,v2,...; write for example temperature=0.02,0.05,0.1")
    for scope, reason in _NOT_SWEPT.items():
        if key in keys_in(scope):
            raise ConfigError(f"{key}: not to be varied; {reason}")
    if key not in DATA_KEYS and _model_with(key) is None:
        guess = nearest(key, DATA_KEYS)
        if guess:
            raise ConfigError(f"{key}: unknown key; did you mean {guess}?")
        check_keys([key], {key: "sweep"})
        raise ConfigError(f"{key}: no key of MetaRec; vary one of its keys, {' or '.join(DATA_KEYS)}")
    parts = _parts(listed)
    if not all(parts):
        raise ConfigError(f"{key}: an empty value in {text}; write KEY=v1,v2,...")
    values = [parse_value(part, key) for part in parts]
    for value in values:
        if [other == value for other in values].count(True) > 1:
            raise ConfigError(f"{key}: {as_text(value)} is given twice; name each value once")
    return key, values


def _model_with(key: str) -> str | None:
    """MetaRec if it has the key, or else the first of the user's models that brings it along."""
    if key in key_reference(DEFAULT_MODEL):
        return DEFAULT_MODEL
    return next((name for name in loaded_models() if key in model_spec(name).defaults), None)


def _parts(listed: str) -> list[str]:
    """Split at commas, those within brackets aside."""
    parts, depth = [""], 0
    for sign in listed:
        depth += (sign in "[{") - (sign in "]}")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def check_values(key: str, values: list, dataset: str, keys: dict) -> None:
    """Raises ConfigError for the first value that the key does not allow, together with the other config ``keys``."""
    for value in values:
        if key not in DATA_KEYS:
            RunConfig.build(_model_with(key), dataset, UserKeys({**keys, key: value}, {key: "sweep"}))
        elif not DATA_KEYS[key].allows(value):
            raise ConfigError(f"{key}: {as_text(value)} is not allowed; use {DATA_KEYS[key].expects}")


def settings(key: str, values: list, subsets: TargetSubsets) -> list[Setting]:
    """One setting per value; may write subsamples and halves of domains to the cache. Raises MetaRecError."""
    made = []
    for value in values:
        text = "+".join(value) if isinstance(value, list) else as_text(value)
        if key in DATA_KEYS:
            vary = DATA_KEYS[key].setting
            by_seed = {seed: vary(value, *target, seed) for seed, target in subsets.by_seed.items()}
        else:
            by_seed = {seed: (dataset, {**keys, key: value}) for seed, (dataset, keys) in subsets.by_seed.items()}
        made.append(Setting(value, text, by_seed))
    return made


def read_share(text: str, key: str, dataset: str, keys: dict) -> float:
    """``--target_users`` as typed, beside a sweep of ``key`` ("" for none).

    Raises ConfigError for a value that is no share, and where the sweep itself decides which users the target has.
    """
    users_key, values = parse_grid(f"target_users={text}")
    if len(values) > 1:
        raise ConfigError("--target_users: one share; recbole-metarec sweep target_users=v1,v2,... compares several")
    check_values(users_key, values, dataset, keys)
    if values != [1] and (key == users_key or (key in DATA_KEYS and DATA_KEYS[key].makes_sources)):
        raise ConfigError(f"{key}: already decides which users the target has; leave --target_users out")
    return values[0]


def target_subsets(
    share: float, dataset: str, keys: dict, seeds: Iterable[int], origins: Origins | None = None
) -> TargetSubsets:
    """The whole target for every seed, or for each seed a different subsample with this share of its users.

    May write subsamples to the cache. Raises MetaRecError.
    """
    whole = TargetSubsets(dataset, 1, dict.fromkeys(seeds, (dataset, keys)), origins or {})
    if share == 1:
        return whole
    return replace(whole, share=share, by_seed=settings("target_users", [share], whole)[0].by_seed)


def weighs_sources(key: str) -> bool:
    """Whether a key does no more than decide how much each source counts beside the others."""
    return key in keys_in("source_weights")


def meaning(key: str) -> str:
    """What a swept key means, for readers."""
    if key in DATA_KEYS:
        return DATA_KEYS[key].meaning
    name = _model_with(key)
    return {**key_table(), **own_keys(name)}[key].sentence
