"""Rules that concern several config keys, and RecBole's own keys where this package allows less than RecBole does."""

from collections.abc import Mapping
from pathlib import Path

from recbole_metarec.config.recbole_rules import (
    MADE_FIELDS,
    check_clipping,
    check_columns,
    check_filters,
    check_gpu,
    check_logging,
)
from recbole_metarec.config.schema import Key, Where, fail, place_of
from recbole_metarec.config.suggestions import nearest, show, source_fault, source_names

_INTS = {"seed": "in [0, 4294967295]", "eval_batch_size": ">= 1", "eval_step": ">= 1", "loss_decimal_place": ">= 0"}
_BOOLS = (
    "use_gpu",
    "reproducibility",
    "show_progress",
    "save_dataset",
    "log_wandb",
    "filter_inter_by_user_or_item",
)
_KINDS = {
    "str": ("data_path", "checkpoint_dir", "USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", *MADE_FIELDS),
    "str or none": ("device", "state"),
    "dict or none": ("clip_grad_norm", "val_interval"),
    "list or none": ("alias_of_user_id", "alias_of_item_id"),
}

# RecBole does not check these; a wrong one would end in a traceback far from its cause.
RECBOLE_KEYS = {
    **{name: Key(name, None, "int", rule, "", "RecBole") for name, rule in _INTS.items()},
    **{name: Key(name, None, "bool", "", "", "RecBole") for name in _BOOLS},
    **{name: Key(name, None, kind, "", "", "RecBole") for kind, names in _KINDS.items() for name in names},
}

# key -> (the value that changes nothing, why anything else is refused)
_UNSUPPORTED = {
    "worker": (0, "batches are cut from one array in this process; leave worker at 0"),
    "save_dataloaders": (False, "the training loader is rebuilt from the data in seconds; remove save_dataloaders"),
    "save_dataset": (False, "data is read from its files in seconds; remove save_dataset"),
    "dataset_save_path": (None, "data is read from its files, never unpickled; remove dataset_save_path"),
    "dataloaders_save_path": (None, "data loaders are rebuilt from the data, never unpickled; remove it"),
    "benchmark_filename": (None, "histories are split by leave-one-out alone; give one NAME.inter and remove it"),
    "transform": (None, "training batches are not RecBole interactions that could be transformed; remove it"),
    "neg_sampling": (None, "the loss has its own negatives; remove it"),
    "training_neg_sample_num": (None, "the loss has its own negatives; remove it"),
    "enable_amp": (False, "the meta step has no mixed precision; remove enable_amp"),
    "enable_scaler": (False, "the meta step has no mixed precision; remove enable_scaler"),
    "shuffle": (True, "batches are cut anew in every epoch; remove shuffle"),
    "local_rank": (None, "RecBole would demand NCCL and a GPU for it; start one process without it"),
}
# RecBole's metrics that the one ranking gives: they need no more than the rank of each user's held-out item
RANKING_METRICS = ("hit", "map", "mrr", "ndcg", "precision", "recall")
_EVAL = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"}


def check_rules(values: Mapping, where: Where) -> None:
    """Rules between keys, on values whose types are right already. A rule holds where a model has all of its keys.

    Raises ConfigError for the first one broken.
    """
    for rule in (
        _check_unsupported,
        _check_heads,
        _check_ring,
        _check_sources,
        _check_eval_args,
        _check_metrics,
        check_columns,
        check_filters,
        check_files,
        check_clipping,
        check_logging,
        check_gpu,
    ):
        rule(values, where)


def _check_unsupported(values: Mapping, where: Where) -> None:
    for name, (harmless, reason) in _UNSUPPORTED.items():
        value = values.get(name)
        # RecBole takes the mere presence of this one for a wish
        if (value is not None and value != harmless) or (name == "local_rank" and name in values):
            fail(where, name, f"{name} is {show(value)}, which is not supported here", reason)
    if values.get("repeatable") is False:
        fail(where, "repeatable", "repeatable is False, which no sequential model can", "use True")


def _check_heads(values: Mapping, where: Where) -> None:
    for name, least in (("vq_heads", 0), ("n_heads", 1)):
        heads, width = values.get(name), values["embedding_size"]
        if heads and width % heads:
            fitting = [str(n) for n in range(least, width + 1) if n == 0 or width % n == 0]
            choice = " or ".join(filter(None, [", ".join(fitting[:-1]), fitting[-1]]))
            problem = f"{name} is {heads}, which does not divide embedding_size {width}"
            fail(where, (name, "embedding_size"), problem, f"use {choice}")


def _check_ring(values: Mapping, where: Where) -> None:
    if not {"lru_r_min", "lru_r_max"} <= values.keys():
        return
    inner, outer = values["lru_r_min"], values["lru_r_max"]
    if not inner < outer:
        fail(
            where,
            ("lru_r_min", "lru_r_max"),
            f"lru_r_min is {inner}, not below lru_r_max {outer}",
            f"use a number below {outer}, or raise lru_r_max",
        )


def _check_sources(values: Mapping, where: Where) -> None:
    names = source_names(values.get("sources"))
    if names == "auto":
        return
    for name in names:
        if not name or name in ("auto", "none"):
            problem = f"sources is {show(values['sources'])}, where {name or 'an empty name'} is no domain"
            fail(where, "sources", problem, "use auto, none, or names such as Office,Tools")
    fault = source_fault(names, values.get("dataset"))
    if fault:
        fail(where, ("sources", "dataset"), *fault)


def _check_eval_args(values: Mapping, where: Where) -> None:
    given = values["eval_args"]
    for name in given:
        if name not in ("split", "order", "group_by", "mode"):
            guess = nearest(str(name), ("split", "order", "group_by", "mode"))
            fail(
                where,
                "eval_args",
                f"unknown key {name} in eval_args",
                f"did you mean {guess}?" if guess else "its keys are split, order, group_by and mode",
            )
    for name, wanted in _EVAL.items():
        if given.get(name, wanted) != wanted:
            problem = f"eval_args has {name} {show(given[name])}"
            fail(where, "eval_args", problem, f"use {wanted}: leave-one-out in time order")
    mode = given.get("mode", "full")
    for value in mode.values() if isinstance(mode, dict) else [mode]:
        if value != "full":
            problem = f"eval_args has mode {show(value)}"
            fail(where, "eval_args", problem, "use full: every item of the catalogue is ranked")


def _check_metrics(values: Mapping, where: Where) -> None:
    metrics = [values["metrics"]] if isinstance(values["metrics"], str) else list(values["metrics"])
    for name in metrics:
        if name.lower() not in RANKING_METRICS:
            guess = nearest(name, RANKING_METRICS)
            fail(
                where,
                "metrics",
                f"{name} is not a metric that the rank of the held-out item gives",
                f"did you mean {guess}?" if guess else f"use some of {', '.join(RANKING_METRICS)}",
            )
    topk = [values["topk"]] if isinstance(values["topk"], int) else list(values["topk"])
    offered = [f"{name}@{k}" for name in metrics for k in topk]
    if values["valid_metric"].lower() not in [name.lower() for name in offered]:
        fail(
            where,
            ("valid_metric", "topk", "metrics"),
            f"valid_metric {values['valid_metric']} is not measured by metrics and topk",
            f"use {', '.join(offered[:-1])}{' or ' if offered[:-1] else ''}{offered[-1]}",
        )


def check_files(values: Mapping, where: Where) -> None:
    """Raise ConfigError if the ``data_path`` that the user gave is no folder."""
    path = values.get("data_path")
    if path and place_of(where, "data_path") != "defaults" and not Path(path).expanduser().is_dir():
        fail(where, "data_path", f"data_path {path} is not a folder", "give the folder that holds NAME/NAME.inter")
