"""What a value read from a file must look like before it is used.

PyTorch checks little of a state: an optimiser accepts moments of any shape and then writes beyond their end, and
``copy_`` broadcasts one row over a table. So the whole of a state is compared with a form first. A form is

    a dict      exactly these names, each with a value of its form; the name ``...`` allows any further text as a name
    a list      (or tuple) as many values, each of its form
    a range     a whole number in it
    a tensor    a tensor of the same shape and dtype, without NaN
    a function  of (value, path), which returns a copy of the value or raises Mismatch: see below
    any other   exactly this value
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer, SparseAdam

from recbole_metarec.config.suggestions import show
from recbole_metarec.errors import CheckpointError
from recbole_metarec.trainer.optimizers import RowwiseOptimizer

COUNT = range(2**53)  # whole numbers up to here are floats, too
_WHOLE = "the content"
_NEVER_NEGATIVE = ("step", "exp_avg_sq", "max_exp_avg_sq", "sum", "square_avg")


class Mismatch(ValueError):
    """A value does not have its form. The message says where it is, what it is, and what it should be."""


def read_as(file: str | Path, content: Any, form: Any) -> Any:
    """A deep copy of a file's content. Raises CheckpointError, which names the first difference from the form."""
    try:
        return checked(content, form)
    except Mismatch as error:
        raise CheckpointError(
            f"{file}: {error}; resume with the config and the data of the run that wrote it, or put back a sound copy, "
            "or delete it to train from the start"
        ) from error


def checked(value: Any, form: Any, path: str = "") -> Any:
    """A copy of the value. Raises Mismatch unless it has the form. path: where the value is in the file."""
    if isinstance(form, Tensor):
        return tensor(form)(value, path)
    if isinstance(form, dict):
        return _checked_dict(value, form, path)
    if isinstance(form, list | tuple):
        if type(value) is not type(form) or len(value) != len(form):
            raise _mismatch(path, value, form)
        pairs = enumerate(zip(value, form, strict=True))
        return type(form)(checked(*pair, f"{path}[{index}]") for index, pair in pairs)
    if callable(form):
        return form(value, path)
    if isinstance(form, range):
        fits = type(value) is int and value in form
    else:  # by repr, so that NaN equals NaN
        fits = type(value) is type(form) and repr(value) == repr(form)
    if not fits:
        raise _mismatch(path, value, form)
    return value


def _checked_dict(value: Any, form: dict, path: str) -> dict:
    if not isinstance(value, dict):
        raise _mismatch(path, value, form)
    known, others = {name: name for name in form}, form.get(...)
    for name in value:
        is_known = type(known.get(name)) is type(name)  # True is 1 to a dict
        if not is_known and (others is None or type(name) is not str):
            raise Mismatch(f"{_joined(path, name)} is unknown")
    copies = {}
    for name in [*(name for name in form if name is not ...), *(name for name in value if name not in known)]:
        part = form.get(name, others)
        if name in value:
            part = part.of(copies) if isinstance(part, Dependent) else part
            copies[name] = checked(value[name], part, _joined(path, name))
        elif isinstance(part, Usual):
            copies[name] = part.value
        else:
            raise Mismatch(f"{_joined(path, name)} is missing")
    return {name: copies[name] for name in dict.fromkeys((*value, *copies))}


# -- what needs more than an example -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dependent:
    """The form of a dict's entry that depends on earlier entries: ``of`` makes it from their checked values."""

    of: Callable[[dict], Any]


@dataclass(frozen=True)
class Usual:
    """The form of a dict's entry that may be absent; if it is there, it has exactly this value."""

    value: Any

    def __call__(self, value: Any, path: str) -> Any:
        """The value."""
        return checked(value, self.value, path)


def number(value: Any, path: str) -> float:
    """An int or a float; an int is one that a float can hold exactly."""
    if type(value) is not float and (type(value) is not int or abs(value) not in COUNT):
        raise _mismatch(path, value, "a number")
    return value


def finite_number(value: Any, path: str) -> float:
    """An int or a float that is neither infinite nor NaN."""
    if not math.isfinite(number(value, path)):
        raise _mismatch(path, value, "a finite number")
    return value


def of_type(*types: type) -> Callable:
    """Any value of one of these types; subclasses do not count."""

    def check(value, path):
        if type(value) not in types:
            raise _mismatch(path, value, " or ".join(kind.__name__ for kind in types))
        return copy.deepcopy(value)

    return check


def rows(count: int, form_of: Callable[[int], Any]) -> Callable:
    """A list of ``count`` values; ``form_of(index)`` is the form of each."""

    def check(value, path):
        if type(value) is not list or len(value) != count:
            raise _mismatch(path, value, f"a list of {count}")
        return [checked(row, form_of(index), f"{path}[{index}]") for index, row in enumerate(value)]

    return check


def some(form: dict) -> Callable:
    """A dict of at least one of these entries."""

    def check(value, path):
        if not isinstance(value, dict) or not value:
            raise _mismatch(path, value, form)
        return _checked_dict(value, {name: part for name, part in form.items() if name in value}, path)

    return check


def tensor(
    like: Tensor, least: float = -math.inf, most: float = math.inf, whole: bool = False, may_be_nan: bool = False
) -> Callable:
    """A tensor of the shape and dtype of ``like``, whose elements share no memory; the copy is on its device.

    least, most: bounds of its numbers. whole: whether they must be whole.
    """

    def check(value, path):
        is_like = isinstance(value, Tensor) and value.layout == torch.strided
        is_like = is_like and (value.dtype, value.shape) == (like.dtype, like.shape)
        if not is_like or value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise _mismatch(path, value, like)
        name = path or _WHOLE
        if not may_be_nan and bool(value.isnan().any()):
            raise Mismatch(f"{name} holds NaN")
        if bool((value < least).any()) or bool((value > most).any()) or (whole and bool((value % 1 != 0).any())):
            kind = "whole numbers" if whole else "numbers"
            raise Mismatch(f"{name} holds values that are not {kind} from {least} to {most}")
        return torch.empty_like(like, requires_grad=False).copy_(value.detach())

    return check


# -- optimisers ----------------------------------------------------------------------------------------------------


def optimizer_form(optimizer: Optimizer | RowwiseOptimizer, steps: int, moves_all: bool) -> dict:
    """The form of an optimiser's ``state_dict`` after at most ``steps`` steps.

    moves_all: whether each step moves every parameter; otherwise at least one has moved.
    """
    if isinstance(optimizer, RowwiseOptimizer):
        dense = _optimizer_form(optimizer.dense, steps, moves_all, optimizer.tables)
        return {"dense": dense, "rows": _optimizer_form(optimizer.rows, steps, moves_all)}
    return _optimizer_form(optimizer, steps, moves_all)


def _optimizer_form(optimizer: Optimizer, steps: int, moves_all: bool, others: Sequence[Tensor] = ()) -> dict:
    """others: parameters in its groups that another optimiser moves, so that it keeps no state of them."""
    # a later PyTorch may know of more settings
    groups = [{name: Usual(value) for name, value in group.items()} for group in optimizer.state_dict()["param_groups"]]
    pairs = [(group, parameter) for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        index: moments
        for index, (group, parameter) in enumerate(pairs)
        if all(parameter is not other for other in others) and (moments := _moments(optimizer, group, parameter, steps))
    }
    return {"state": state if moves_all or not state else some(state), "param_groups": groups}


def _moments(optimizer: Optimizer, group: dict, parameter: Tensor, steps: int) -> dict:
    """The form of an optimiser's state for one parameter. PyTorch lists it nowhere: a step on one number shows it."""
    if not steps:
        return {}
    single = torch.nn.Parameter(parameter.new_ones([1] * parameter.dim()))
    twin = type(optimizer)([single], lr=group["lr"])
    twin.param_groups[0].update({name: value for name, value in group.items() if name != "params"})
    single.grad = torch.ones_like(single)
    if isinstance(optimizer, SparseAdam):
        single.grad = single.grad.to_sparse()
    twin.step()
    form = {}
    for name, value in twin.state[single].items():
        least = 0 if name in _NEVER_NEGATIVE else -math.inf
        if not isinstance(value, Tensor):
            form[name] = range(steps + 1)
        elif name == "step":
            form[name] = tensor(value, least, steps, whole=True)
        else:
            form[name] = tensor(parameter, least)
    return form


# -- words ---------------------------------------------------------------------------------------------------------


def _joined(path: str, name: Any) -> str:
    name = name if isinstance(name, str) else _described(name)
    return f"{path}.{name}" if path else name


def _mismatch(path: str, value: Any, form: Any) -> Mismatch:
    """form: what was wanted, as a form or in words."""
    wanted = form if isinstance(form, str) and " " in form else _described(form)
    return Mismatch(f"{path or _WHOLE} is {_described(value)}, not {wanted}")


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, range):
        return f"a whole number from {value.start} to {value.stop - 1}"
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    if len(inner) > 8 or not all(isinstance(one, str | int | float | None) for one in inner):
        return f"a {type(value).__name__} of {len(inner)}"
    return show(value) if value != "" else "an empty text"
