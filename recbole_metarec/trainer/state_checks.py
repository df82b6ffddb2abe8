"""The state of a run as it stands in a file: each part is of the form that the run would have written, or is refused.

PyTorch checks little of it: an optimiser takes moments of any shape and then writes beyond their end, and ``copy_``
spreads one row over a table. Whoever restores takes every part from here first, and assigns when all are there.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor
from torch.optim import Optimizer, SparseAdam

from recbole_metarec.config.suggestions import show
from recbole_metarec.errors import CheckpointError
from recbole_metarec.trainer.optimizers import RowwiseOptimizer

_MOST = 2**53  # whole numbers up to here are floats, too
_NEVER_NEGATIVE = ("step", "exp_avg_sq", "max_exp_avg_sq", "sum", "square_avg")


class CheckedState:
    """One dict of a state, whose entries come out checked. Every method raises CheckpointError for an entry that is
    missing or of another form; what it returns is a copy that shares nothing with the file's content.

    file: named in errors. content: what was read from it. name: of this part, empty for the whole.
    """

    def __init__(self, file: str | Path, content, name: str = ""):
        self.file, self.name, self.content = file, name, content
        if not isinstance(content, dict):
            self.refuse("", f"it is {described(content)}")

    def refuse(self, key: str, why: str) -> NoReturn:
        """Raises CheckpointError: the entry is wrong."""
        part = ".".join(filter(None, (self.name, str(key)))) or "the content"
        raise CheckpointError(
            f"{self.file}: {part} is not what this run would have written ({why}); put back a sound copy of the file, "
            "or delete it to train from the start"
        )

    def __getitem__(self, key):
        """The entry as it is, not checked."""
        if key not in self.content:
            self.refuse(key, "it is missing")
        return self.content[key]

    def part(self, key) -> "CheckedState":
        """The dict under ``key``."""
        return CheckedState(self.file, self[key], ".".join(filter(None, (self.name, str(key)))))

    # -- plain values ------------------------------------------------------------------------------------------

    def count(self, key: str, least: int = 0, most: int = _MOST) -> int:
        """A whole number from ``least`` to ``most``."""
        value = self[key]
        if type(value) is not int or not least <= value <= most:
            self.refuse(key, f"it is {described(value)}, not a whole number from {least} to {most}")
        return value

    def number(self, key: str, finite: bool = True) -> float:
        """A float, not NaN."""
        value = self[key]
        if type(value) is not float or math.isnan(value) or (finite and math.isinf(value)):
            self.refuse(key, f"it is {described(value)}, not a number")
        return value

    def numbers(self, key: str, wanted: Iterable[int]) -> dict[int, float]:
        """A dict of a float for each of the whole numbers that are wanted, in their order."""
        part = self.part(key)
        if not alike(list(part.content), list(wanted)):
            self.refuse(key, "it is not of these epochs")
        return {place: part.number(place, finite=False) for place in part.content}

    def best(self, metric: str, is_validated: bool) -> tuple[float, dict[str, float]]:
        """The best score and the best result, which agree. metric: the one that is the score."""
        score, result = self.number("best_valid_score", finite=is_validated), self.part("best_valid_result")
        result.only_names()
        result = {name: result.number(name) for name in result.content}
        if result.get(metric) != (score if is_validated else None):
            self.refuse("best_valid_score", f"it is {score}, {metric} of best_valid_result is {result.get(metric)}")
        return score, result

    def texts(self, key: str) -> dict[str, str]:
        """A dict of texts by names."""
        part = self.part(key)
        part.only_names()
        for name, value in part.content.items():
            if type(value) is not str:
                part.refuse(name, f"it is {described(value)}, not a text")
        return dict(part.content)

    def listed(self, key: str) -> list:
        """A list of anything."""
        value = self[key]
        if not isinstance(value, list):
            self.refuse(key, f"it is {described(value)}, not a list")
        return value

    def rows(self, key: str, expected: Sequence[Mapping], numbers: Iterable[str]) -> list[dict]:
        """A list of one dict for each of ``expected``, which holds what that says and, besides, numbers by names, those
        named in ``numbers`` at least."""
        rows = self.listed(key)
        if len(rows) != len(expected):
            self.refuse(key, f"it has {len(rows)} rows, not {len(expected)}")
        return [
            CheckedState(self.file, row, f"{self.name}{key}[{place}]")._row(wanted, numbers)
            for place, (row, wanted) in enumerate(zip(rows, expected, strict=True))
        ]

    def _row(self, wanted: Mapping, numbers: Iterable[str]) -> dict:
        self.only_names()
        for name, value in wanted.items():
            if not alike(self[name], value):
                self.refuse(name, f"it is {described(self[name])}, not {value}")
        for name in {*self.content, *numbers} - wanted.keys():
            value = self[name]
            if type(value) not in (int, float) or (type(value) is int and abs(value) > _MOST):
                self.refuse(name, f"it is {described(value)}, not a number")
        return dict(self.content)

    def only_names(self, wanted: Iterable[str] | None = None) -> None:
        """Raises CheckpointError unless all keys are texts and, where names are wanted, are these."""
        odd = [key for key in self.content if not isinstance(key, str)]
        if odd:
            self.refuse("", f"{described(odd[0])} is no name")
        if wanted is not None and (missing := sorted(set(wanted) - self.content.keys())):
            self.refuse(missing[0], "it is missing")
        if wanted is not None and (more := sorted(self.content.keys() - set(wanted))):
            self.refuse(more[0], "there is no such thing")

    # -- tensors -----------------------------------------------------------------------------------------------

    def tensor(self, key, like: Tensor, may_be_nan: bool = False) -> Tensor:
        """A copy of a tensor of the same shape and type of numbers, none of them NaN, on the device of ``like``."""
        value, wanted = self[key], described(like)
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            self.refuse(key, f"it is {described(value)}, not {wanted}")
        if (value.dtype, value.shape) != (like.dtype, like.shape):
            self.refuse(key, f"it is {described(value)}, not {wanted}")
        if value.untyped_storage().nbytes() < value.numel() * value.element_size():
            self.refuse(key, "several of its numbers stand in one place")
        if not may_be_nan and bool(value.isnan().any()):
            self.refuse(key, "it holds NaN")
        return torch.empty_like(like, requires_grad=False).copy_(value.detach())

    def tensors(self, key: str, like: Mapping[str, Tensor], may_be_nan: bool = False) -> dict[str, Tensor]:
        """Tensors of the very same names, shapes and types."""
        part = self.part(key)
        part.only_names(like)
        return {name: part.tensor(name, value, may_be_nan=may_be_nan) for name, value in like.items()}

    # -- optimisers --------------------------------------------------------------------------------------------

    def optimizer(
        self, key: str, optimizer: Optimizer | RowwiseOptimizer, most: int = _MOST, moved: str = "some"
    ) -> dict:
        """The state of an optimiser like the given one, for its ``load_state_dict``.

        most: steps that it can have done. moved: which of its parameters it has stepped: "all", "some" (one at
        least), or "none" if that is not certain.
        """
        if not isinstance(optimizer, RowwiseOptimizer):
            return self.part(key)._moments(optimizer, most, moved)
        both = self.part(key)
        rows = both.part("rows")._moments(optimizer.rows, most, "none")
        in_rows = {id(table) for place, table in enumerate(optimizer.tables) if place in rows["state"]}
        dense = both.part("dense")._moments(optimizer.dense, most, moved, in_rows)
        return {"dense": dense, "rows": rows}

    def _moments(self, optimizer: Optimizer, most: int, moved: str, elsewhere: Collection[int] = ()) -> dict:
        """elsewhere: ids of the parameters that another optimiser has moved."""
        own = optimizer.state_dict()
        self._check_settings(own["param_groups"])
        found, parameters = self.part("state"), _parameters(optimizer)
        strange = [place for place in found.content if type(place) is not int or not 0 <= place < len(parameters)]
        if strange:
            found.refuse(strange[0], "there is no such parameter")
        groups = [group for group in optimizer.param_groups for _ in group["params"]]
        after_a_step = [_after_a_step(optimizer, *pair) for pair in zip(groups, parameters, strict=True)]
        for place, parameter in enumerate(parameters):
            has_moved = moved == "all" and id(parameter) not in elsewhere
            wanted = own["state"].get(place) or (has_moved and after_a_step[place])
            if wanted and place not in found.content:
                found.refuse(place, "it is missing")
        if moved != "none" and not found.content and any(after_a_step):
            self.refuse("state", "it is empty after steps were done")
        state = {
            place: found.part(place)._of_parameter(parameters[place], after_a_step[place], most)
            for place in found.content
        }
        return {"state": state, "param_groups": own["param_groups"]}  # the same, or it would have been refused

    def _check_settings(self, own: list[dict]) -> None:
        groups = self["param_groups"]
        if not isinstance(groups, list) or len(groups) != len(own):
            self.refuse("param_groups", f"it is {described(groups)}, not a list of {len(own)} groups")
        for place, (group, wanted) in enumerate(zip(groups, own, strict=True)):
            group = CheckedState(self.file, group, f"{self.name}.param_groups[{place}]")
            for name, value in group.content.items():  # a later PyTorch may know more of them
                if name not in wanted or not alike(value, wanted[name]):
                    group.refuse(name, f"it is {described(value)}, not {show(wanted.get(name))}")

    def _of_parameter(self, parameter: Tensor, wanted: Mapping, most: int) -> dict:
        self.only_names(wanted)
        found = {}
        for name, value in wanted.items():
            if not isinstance(value, Tensor):
                found[name] = self.count(name, 0, most)
                continue
            found[name] = self.tensor(name, value if name == "step" else parameter)
            if name in _NEVER_NEGATIVE and bool((found[name] < 0).any()):
                self.refuse(name, "it is negative")
            if name == "step" and not (float(found[name]).is_integer() and float(found[name]) <= most):
                self.refuse(name, f"it is {float(found[name])}, not a whole number up to {most}")
        return found


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    """In the order of the numbers that its state has them under."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _after_a_step(optimizer: Optimizer, group: dict, parameter: Tensor) -> dict:
    """What such an optimiser keeps of such a parameter, seen on one of a single number: PyTorch lists it nowhere."""
    single = torch.nn.Parameter(parameter.new_ones([1] * parameter.dim()))
    twin = type(optimizer)([single], lr=group["lr"])
    twin.param_groups[0].update({name: value for name, value in group.items() if name != "params"})
    single.grad = torch.ones_like(single)
    if isinstance(optimizer, SparseAdam):
        single.grad = single.grad.to_sparse()
    twin.step()
    return dict(twin.state[single])


def alike(found, own) -> bool:
    """Whether a value from a file is that plain value, whatever it is compared with."""
    return type(found) is type(own) and repr(found) == repr(own)


def described(value) -> str:
    """A value of any kind, for a message."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return show(value) if value != "" else "an empty text"
