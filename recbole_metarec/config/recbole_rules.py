"""Rules for RecBole's own keys, which it takes as they come: a wrong one ends in a traceback far from its cause."""

import math
import os
import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec

from recbole_metarec.config.schema import Where, fail, place_of
from recbole_metarec.config.suggestions import nearest, show

_COLUMNS = {"USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "TIME_FIELD": "timestamp"}
# What RecBole adds to the columns: the length of a history, and each column's list of earlier values.
MADE_FIELDS = {"ITEM_LIST_LENGTH_FIELD": "item_length", "LIST_SUFFIX": "_list"}
_FILES = ("inter", "user", "item")
_LEVELS = ("debug", "info", "warning", "error", "critical")


def check_columns(values: Mapping, where: Where) -> None:
    """The columns that are read, by the names they have, and those that RecBole makes beside them."""
    names = {key: values.get(key, default) for key, default in (_COLUMNS | MADE_FIELDS).items()}
    for key, name in names.items():
        if not name.strip():
            fail(where, key, f"{key} is empty", f"use a name such as {(_COLUMNS | MADE_FIELDS)[key]}")
    loaded = values["load_col"] or {}
    for part in loaded:
        if part not in (*_FILES, *_listed(values.get("additional_feat_suffix"))):
            fail(where, "load_col", f"load_col has {show(part)}, which no file ends in", f"use {', '.join(_FILES)}")
    columns = list(dict.fromkeys(_listed(loaded.get("inter"))))
    for key in _COLUMNS:
        if names[key] not in columns:
            problem = f"load_col does not read {names[key]} from the .inter file"
            fail(where, ("load_col", key), problem, f"add {names[key]} to its inter list")
    _check_clashes(names, columns, where)
    read = [name for part in loaded.values() if isinstance(part, (list, tuple)) for name in part]
    for key in ("alias_of_user_id", "alias_of_item_id"):
        for name in _listed(values.get(key)):
            if name not in read or name == names["TIME_FIELD"]:
                problem = f"{key} has {show(name)}, which is no column of names that load_col reads"
                fail(where, key, problem, "remove it, or add it to load_col")


def _check_clashes(names: Mapping, columns, where: Where) -> None:
    taken = {}
    made = [("LIST_SUFFIX", f"{name}{names['LIST_SUFFIX']}") for name in columns if name != names["USER_ID_FIELD"]]
    own = [(key, names[key]) for key in (*_COLUMNS, "ITEM_LIST_LENGTH_FIELD")]
    other = [("load_col", name) for name in columns if name not in [names[key] for key in _COLUMNS]]
    for key, name in (*other, *own, *made):
        if name in taken:
            problem = f"{key} makes a second {show(name)} beside that of {taken[name]}"
            fail(where, (key, taken[name]), problem, "give each a name of its own")
        taken[name] = key


def _listed(value) -> list:
    return [value] if isinstance(value, str) else list(value or ())


def check_filters(values: Mapping, where: Where) -> None:
    """How many events a user or an item may have: RecBole leaves a filter out that it cannot read."""
    from recbole_metarec.config.intervals import Intervals  # NumPy, which --help can do without

    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        text = values.get(key)
        if text is not None and Intervals.parse(text) is None:
            fail(where, key, f"{key} is {show(text)}, which is no interval", "use one such as [5,inf)")


def check_clipping(values: Mapping, where: Where) -> None:
    """``clip_grad_norm`` is handed to PyTorch's function of that name as it stands."""
    given = values.get("clip_grad_norm")
    if given is None:
        return
    for name in given:
        if name not in ("max_norm", "norm_type"):
            problem = f"clip_grad_norm has {show(name)}"
            fail(where, "clip_grad_norm", problem, "use {max_norm: 1.0}, and norm_type beside it if it is not 2")
    for name, largest in (("max_norm", sys.float_info.max), ("norm_type", math.inf)):
        value = given.get(name, 2.0 if name == "norm_type" else None)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= largest:
            problem = f"clip_grad_norm has {name} {show(value)}"
            fail(where, "clip_grad_norm", problem, f"use a {'finite ' * (largest < math.inf)}float > 0")


def check_logging(values: Mapping, where: Where) -> None:
    """The level of the log, and whether what ``log_wandb`` needs is there."""
    level = values.get("state")
    if level is not None and level.lower() not in _LEVELS:
        guess = nearest(level, _LEVELS)
        advice = f"use {', '.join(_LEVELS[:-1])} or {_LEVELS[-1]}" + (f" (did you mean {guess}?)" if guess else "")
        fail(where, "state", f"state is {show(level)}", advice)
    if values.get("log_wandb"):
        found = find_spec("wandb")
        if found is None or found.origin is None:  # a folder of that name, as wandb itself leaves, is no package
            fail(where, "log_wandb", "log_wandb is True, but wandb is not installed", "pip install wandb, or remove it")


def check_gpu(values: Mapping, where: Where) -> None:
    """A GPU counts as asked for where the user wrote ``device: cuda`` or a ``gpu_id``; ``use_gpu: True`` and
    ``gpu_id: 0`` as RecBole's defaults only mean "if there is one"."""
    device = str(values.get("device") or "")
    if device and place_of(where, "device") != "defaults" and not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", device):
        fail(where, "device", f"device is {device}", "use cpu or cuda")
    asked = [name for name in ("device", "gpu_id") if place_of(where, name) != "defaults"]
    wanted = {"device": device.startswith("cuda"), "gpu_id": values.get("gpu_id") not in (None, "", ())}
    asked = [name for name in asked if wanted[name]]
    if not asked or values.get("use_gpu") is False or device == "cpu":
        return
    import torch

    name, value = asked[0], show(str(values[asked[0]]))
    if not torch.cuda.is_available():
        fail(where, name, f"{name} is {value}, but PyTorch sees no GPU", f"remove {name}, or use device: cpu")
    numbers = [part.strip() for part in str(values.get("gpu_id", "")).strip("()[]").split(",")]
    count = torch.cuda.device_count()
    counted = "gpu_id" in asked and "CUDA_VISIBLE_DEVICES" not in os.environ and all(n.isdigit() for n in numbers)
    if counted and max(map(int, numbers)) >= count:
        fail(
            where,
            "gpu_id",
            f"gpu_id is {show(str(values['gpu_id']))}, but there are {count} GPUs, counted from 0",
            f"use a number below {count}",
        )
