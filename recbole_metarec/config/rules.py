"""Rules between config keys, and for RecBole's own, which it does not check: a wrong one would end in a traceback."""

import math
import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from recbole_metarec.config.intervals import Intervals
from recbole_metarec.config.origins import DEFAULTS, Origins, fail, origin_of
from recbole_metarec.config.schema import key_table, keys_in
from recbole_metarec.config.sources import source_fault, source_names
from recbole_metarec.config.suggestions import nearest, show
from recbole_metarec.config.time_points import TimePoints

# RecBole's metrics that the one ranking gives: they need no more than the rank of each user's held-out item
RANKING_METRICS = ("hit", "map", "mrr", "ndcg", "precision", "recall")
# and those of the lists that users are shown, which belong to no single user
LIST_MEASURES = ("itemcoverage", "averagepopularity", "shannonentropy", "giniindex", "tailpercentage")
_EVAL = {"order": "TO", "group_by": "user"}
_LEAVE_ONE_OUT = {"LS": "valid_and_test"}
_COLUMNS = ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")
# What RecBole adds to the columns: the length of a history, and each column's list of earlier values.
_MADE_FIELDS = ("ITEM_LIST_LENGTH_FIELD", "LIST_SUFFIX")
_FILES = ("inter", "user", "item")
_LEVELS = ("debug", "info", "warning", "error", "critical")


def check_config(values: Mapping, origins: Origins) -> None:
    """Check every value that the key table knows, then the rules between keys.

    values: every config key of a model and its value; unknown keys are ignored here (see ``schema.check_keys``).
    origins: of the keys that the user gave. Raises ConfigError ``ORIGIN: what is wrong; what to do`` for the first
    fault.
    """
    table = key_table()
    for name, value in values.items():
        if name in table:
            table[name].check(value, origins)
    check_rules(values, origins)


def check_rules(values: Mapping, origins: Origins) -> None:
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
        _check_columns,
        _check_read,
        _check_filters,
        check_files,
        _check_clipping,
        _check_logging,
        _check_device,
    ):
        rule(values, origins)


def _check_unsupported(values: Mapping, origins: Origins) -> None:
    for name in sorted(keys_in("fixed") & values.keys()):
        key, value = key_table()[name], values[name]
        # RecBole takes the mere presence of this one for a wish
        is_wish = name == "local_rank" and name in origins
        if (value is not None and value != key.default) or is_wish:
            problem = f"{name} is {show(value)}, which is not supported here ({key.sentence.rstrip('.')})"
            fail(origins, name, problem, f"remove {name}")


def _check_heads(values: Mapping, origins: Origins) -> None:
    for name, least in (("vq_heads", 0), ("n_heads", 1)):
        heads, width = values.get(name), values.get("embedding_size")
        if heads and width and width % heads:
            fitting = [str(n) for n in range(least, width + 1) if n == 0 or width % n == 0]
            choice = " or ".join(filter(None, [", ".join(fitting[:-1]), fitting[-1]]))
            problem = f"{name} is {heads}, which does not divide embedding_size {width}"
            fail(origins, (name, "embedding_size"), problem, f"use {choice}")


def _check_ring(values: Mapping, origins: Origins) -> None:
    if not {"lru_r_min", "lru_r_max"} <= values.keys():
        return
    inner, outer = values["lru_r_min"], values["lru_r_max"]
    if not inner < outer:
        fail(
            origins,
            ("lru_r_min", "lru_r_max"),
            f"lru_r_min is {inner}, not below lru_r_max {outer}",
            f"use a number below {outer}, or raise lru_r_max",
        )


def _check_sources(values: Mapping, origins: Origins) -> None:
    names = source_names(values.get("sources"))
    if names == "auto":
        return
    for name in names:
        if not name or name in ("auto", "none"):
            problem = f"sources is {show(values['sources'])}, where {name or 'an empty name'} is no domain"
            fail(origins, "sources", problem, "use auto, none, or names such as Office,Tools")
    fault = source_fault(names, values.get("dataset"))
    if fault:
        fail(origins, ("sources", "dataset"), *fault)


def _check_eval_args(values: Mapping, origins: Origins) -> None:
    eval_args = values["eval_args"]
    for name in eval_args:
        if name not in ("split", "order", "group_by", "mode"):
            guess = nearest(str(name), ("split", "order", "group_by", "mode"))
            fail(
                origins,
                "eval_args",
                f"unknown key {name} in eval_args",
                f"did you mean {guess}?" if guess else "its keys are split, order, group_by and mode",
            )
    for name, wanted in _EVAL.items():
        if eval_args.get(name, wanted) != wanted:
            problem = f"eval_args has {name} {show(eval_args[name])}"
            fail(origins, "eval_args", problem, f"use {wanted}: histories are split user by user, in time")
    _check_split(eval_args.get("split", _LEAVE_ONE_OUT), origins)
    mode = eval_args.get("mode", "full")
    for value in mode.values() if isinstance(mode, dict) else [mode]:
        if value != "full":
            problem = f"eval_args has mode {show(value)}"
            fail(origins, "eval_args", problem, "use full: every item of the catalogue is ranked")


def _check_split(split, origins: Origins) -> None:
    if split == _LEAVE_ONE_OUT:
        return
    advice = f"use {_LEAVE_ONE_OUT}, leave-one-out, or {{'TS': [0.8, 0.1, 0.1]}}, a split by time"
    if isinstance(split, Mapping) and set(split) == {"TS"}:
        try:
            TimePoints.of({"split": split})
            return
        except ValueError as error:
            advice = str(error)
    fail(origins, "eval_args", f"eval_args has split {show(split)}", advice)


def _check_metrics(values: Mapping, origins: Origins) -> None:
    metrics = [values["metrics"]] if isinstance(values["metrics"], str) else list(values["metrics"])
    for name in metrics:
        if name.lower() not in RANKING_METRICS + LIST_MEASURES:
            guess = nearest(name, RANKING_METRICS + LIST_MEASURES)
            fail(
                origins,
                "metrics",
                f"{name} is not a metric of a ranking with one held-out item",
                f"did you mean {guess}?" if guess else f"use some of {', '.join(RANKING_METRICS + LIST_MEASURES)}",
            )
    topk = [values["topk"]] if isinstance(values["topk"], int) else list(values["topk"])
    offered = [f"{name}@{k}" for name in metrics for k in topk if name.lower() in RANKING_METRICS]
    if not offered:
        problem = f"metrics {', '.join(metrics)} are of whole lists, and validation needs one of each user"
        fail(origins, ("metrics", "valid_metric"), problem, f"add some of {', '.join(RANKING_METRICS)}")
    if values["valid_metric"].lower() not in [name.lower() for name in offered]:
        fail(
            origins,
            ("valid_metric", "topk", "metrics"),
            f"valid_metric {values['valid_metric']} is not measured by metrics and topk",
            f"use {', '.join(offered[:-1])}{' or ' if offered[:-1] else ''}{offered[-1]}",
        )


def check_files(values: Mapping, origins: Origins) -> None:
    """Raise ConfigError if the ``data_path`` that the user gave is no folder."""
    path = values.get("data_path")
    if path and origin_of(origins, "data_path") != DEFAULTS and not Path(path).expanduser().is_dir():
        fail(origins, "data_path", f"data_path {path} is not a folder", "give the folder that holds NAME/NAME.inter")


def _check_columns(values: Mapping, origins: Origins) -> None:
    """The columns that are read, by the names they have, and those that RecBole makes beside them."""
    usual = {key: key_table()[key].default for key in (*_COLUMNS, *_MADE_FIELDS)}
    names = {key: values.get(key, name) for key, name in usual.items()}
    for key, name in names.items():
        if not name.strip():
            fail(origins, key, f"{key} is empty", f"use a name such as {usual[key]}")
    loaded = values["load_col"] or {}
    for part in loaded:
        if part not in (*_FILES, *_listed(values.get("additional_feat_suffix"))):
            fail(origins, "load_col", f"load_col has {show(part)}, which no file ends in", f"use {', '.join(_FILES)}")
    columns = list(dict.fromkeys(_listed(loaded.get("inter"))))
    for key in _COLUMNS:
        if names[key] not in columns:
            problem = f"load_col does not read {names[key]} from the .inter file"
            fail(origins, ("load_col", key), problem, f"add {names[key]} to its inter list")
    _check_clashes(names, columns, origins)
    read = [name for part in loaded.values() if isinstance(part, (list, tuple)) for name in part]
    for key in ("alias_of_user_id", "alias_of_item_id"):
        for name in _listed(values.get(key)):
            if name not in read or name == names["TIME_FIELD"]:
                problem = f"{key} has {show(name)}, which is no column of names that load_col reads"
                fail(origins, key, problem, "remove it, or add it to load_col")


def _check_read(values: Mapping, origins: Origins) -> None:
    """The columns that filters and labels are made of must be among those that are read."""
    loaded = values["load_col"]
    if loaded is None:  # all that are there
        return
    read = [name for names in loaded.values() for name in _listed(names)]
    for key, does in (("val_interval", "filters by"), ("threshold", "makes labels of"), ("normalize_field", "scales")):
        named = values.get(key)
        for name in named if isinstance(named, (dict, list, tuple)) else ():
            if name not in read:
                problem = f"{key} {does} {show(name)}, which load_col does not read"
                inter = ", ".join([*_listed(loaded.get("inter")), str(name)])
                fail(origins, key, problem, f"add it to the inter list of load_col: {{inter: [{inter}]}}")


def _check_clashes(names: Mapping, columns, origins: Origins) -> None:
    taken = {}
    made = [("LIST_SUFFIX", f"{name}{names['LIST_SUFFIX']}") for name in columns if name != names["USER_ID_FIELD"]]
    columns_of_recbole = [(key, names[key]) for key in (*_COLUMNS, "ITEM_LIST_LENGTH_FIELD")]
    other = [("load_col", name) for name in columns if name not in [names[key] for key in _COLUMNS]]
    for key, name in (*other, *columns_of_recbole, *made):
        if name in taken:
            problem = f"{key} makes a second {show(name)} beside that of {taken[name]}"
            fail(origins, (key, taken[name]), problem, "give each a name of its own")
        taken[name] = key


def _listed(value) -> list:
    return [value] if isinstance(value, str) else list(value or ())


def _check_filters(values: Mapping, origins: Origins) -> None:
    """How many events a user or an item may have: RecBole leaves a filter out that it cannot read."""
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        text = values.get(key)
        if text is not None and Intervals.parse(text) is None:
            fail(origins, key, f"{key} is {show(text)}, which is no interval", "use one such as [5,inf)")


def _check_clipping(values: Mapping, origins: Origins) -> None:
    """``clip_grad_norm`` is handed to PyTorch's function of that name unchanged."""
    arguments = values.get("clip_grad_norm")
    if arguments is None:
        return
    for name in arguments:
        if name not in ("max_norm", "norm_type"):
            problem = f"clip_grad_norm has {show(name)}"
            fail(origins, "clip_grad_norm", problem, "use {max_norm: 1.0}, and norm_type beside it if it is not 2")
    for name, largest in (("max_norm", sys.float_info.max), ("norm_type", math.inf)):
        value = arguments.get(name, 2.0 if name == "norm_type" else None)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= largest:
            problem = f"clip_grad_norm has {name} {show(value)}"
            fail(origins, "clip_grad_norm", problem, f"use a {'finite ' * (largest < math.inf)}float > 0")


def _check_logging(values: Mapping, origins: Origins) -> None:
    """The level of the log, and whether what ``log_wandb`` needs is there."""
    level = values.get("state")
    if level is not None and level.lower() not in _LEVELS:
        guess = nearest(level, _LEVELS)
        advice = f"use {', '.join(_LEVELS[:-1])} or {_LEVELS[-1]}" + (f" (did you mean {guess}?)" if guess else "")
        fail(origins, "state", f"state is {show(level)}", advice)
    if values.get("log_wandb"):
        package = find_spec("wandb")
        if package is None or package.origin is None:  # a folder of that name, as wandb itself leaves, is no package
            fail(
                origins, "log_wandb", "log_wandb is True, but wandb is not installed", "pip install wandb, or remove it"
            )


def _check_device(values: Mapping, origins: Origins) -> None:
    device = str(values.get("device") or "")
    if device and origin_of(origins, "device") != DEFAULTS and not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", device):
        fail(origins, "device", f"device is {device}", "use cpu or cuda")
