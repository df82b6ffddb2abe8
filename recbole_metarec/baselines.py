"""RecBole's own models under the protocol of ours: the same data, split, lengths and metrics, and as strict checks."""

from logging import getLogger
from pathlib import Path

from recbole_metarec.config import check_config, default_values, key_reference
from recbole_metarec.data.atomic import check_inter_file, write_ranked_copy
from recbole_metarec.data.domains import find_domain
from recbole_metarec.data.files import cache_dir
from recbole_metarec.errors import ConfigError
from recbole_metarec.resources import DEFAULT_DATA_PATH

# What must be the same for every model that is compared.
PROTOCOL = (
    "MAX_ITEM_LIST_LENGTH",
    "load_col",
    "normalize_all",
    "train_neg_sample_args",
    "loss_type",
    "eval_args",
    "repeatable",
    "metrics",
    "topk",
    "valid_metric",
    "metric_decimal_place",
    "stopping_step",
)
_TRAINING = (
    "epochs",
    "train_batch_size",
    "learner",
    "learning_rate",
    "weight_decay",
    "exact_time",
    "trust_pickle",
)
_HYPER_PARAMETERS = (
    "embedding_size",
    "n_layers",
    "n_heads",
    "dropout_prob",
)  # names that RecBole's models use for their own
_FORM = {
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "TIME_FIELD": "timestamp",
    "field_separator": "\t",
    "encoding": "utf-8",
}


def protocol_overrides(model: str, dataset: str, given: dict) -> dict:
    """The protocol's keys that the user has not ``given``. Warns of given keys that ``model`` does not read.

    Raises ConfigError for a value out of range, as for our own models.
    """
    defaults = default_values("LRURec")
    checked = {key: value for key, value in given.items() if key in (*PROTOCOL, *_TRAINING)}
    check_config(defaults | checked | {"dataset": dataset}, lambda key: f"--{key}")
    unread = sorted(set(given) & set(key_reference()) - {*PROTOCOL, *_TRAINING, *_HYPER_PARAMETERS})
    if unread:
        getLogger().warning(f"{model} is RecBole's own and does not read {', '.join(unread)}")
    return {key: defaults[key] for key in PROTOCOL if key not in given}


def checked_folder(dataset: str, given: dict) -> Path:
    """Folder F with F/NAME/NAME.inter for RecBole: found, checked and, with ``exact_time``, ordered as for ours.

    Raises DataError with file and line for a malformed file.
    """
    place = find_domain(dataset, given.get("data_path") or DEFAULT_DATA_PATH)
    form = [given.get(key) or default for key, default in _FORM.items()]
    summary = check_inter_file(place / dataset / f"{dataset}.inter", *form)
    if given.get("exact_time"):
        return write_ranked_copy(place / dataset, dataset, cache_dir() / "exact_time", *form).parent
    if summary.repetitions:
        getLogger().info(f"{dataset}: {summary.repetitions}")
    if summary.lost_order:
        getLogger().warning(f"{dataset}: {summary.lost_order}")
    return place


def check_depth(config, dataset) -> None:
    """RecBole's own evaluation looks up the first max(topk) items, which must be there. Raises ConfigError."""
    deepest, items = max(config["topk"]), dataset.item_num - 1
    if deepest > items:
        raise ConfigError(
            f"topk: the first {deepest} items are asked for, {config['dataset']} has {items}; ask for fewer"
        )
