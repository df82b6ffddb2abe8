"""Several processes that train one model together, on one machine or on several. ``torchrun`` starts them.

All that they tell each other goes through here, and for one process alone each function gives back what it was given:
code that shares work out reads the same for one as for many.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:  # commands that train nothing need no torch
    from torch import Tensor

_Made = TypeVar("_Made")
_WORDS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what torchrun tells each process
_met = False  # whether this process has met the others: until then it works for itself, whoever started it
_together = False  # whether they still can talk to each other
_store = None  # where they have met; whoever started them keeps it, so that it outlives each of them


def started() -> int:
    """How many processes were started together."""
    return int(os.environ["WORLD_SIZE"]) if all(word in os.environ for word in _WORDS) else 1


def on_machine() -> int:
    """Which of those on its machine this one is, from 0."""
    return int(os.environ["LOCAL_RANK"]) if started() > 1 else 0


def count() -> int:
    """How many processes share the work out: those that were started together, once they have met."""
    return started() if _met else 1


def number() -> int:
    """Which of them this one is, from 0."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def is_first() -> bool:
    """Whether this is the one that writes files and speaks to the user."""
    return number() == 0


@contextmanager
def joined(device: Any) -> Iterator[None]:
    """Within, the processes can talk to each other; tensors on ``device`` go the way that is fastest for them."""
    if started() == 1:
        yield
        return
    global _met, _together, _store
    from torch import distributed

    _store, *_ = next(distributed.rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if str(device).startswith("cuda") else "gloo"
    with _nobody_lost():
        distributed.init_process_group(backend, store=_store, rank=int(os.environ["RANK"]), world_size=started())
    _met = _together = True
    yield
    _together = False  # after an error the others may be gone: there is nobody to part from
    distributed.destroy_process_group()


@contextmanager
def _nobody_lost() -> Iterator[None]:
    """Raises ConnectionError where another process does not answer any more."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(f"another of the {started()} processes of this run is gone") from error


def speaks() -> bool:
    """Whether this process tells why the run ends: the first that knows, and that one once."""
    is_first_started = started() == 1 or os.environ["RANK"] == "0"
    if _store is None:  # what each of them finds wrong by itself
        return is_first_started
    try:
        return _store.add("told", 1) == 1
    except RuntimeError:
        return is_first_started


# -- who does what -----------------------------------------------------------------------------------------------------


class Portion(NamedTuple):
    """What this process does of some like things: those of ``rows``. The mean of theirs times ``weight``, summed over
    the processes, is the mean of all."""

    rows: slice = slice(None)
    weight: float = 1.0

    def of(self, mean: Tensor) -> Tensor:
        """Its part of the mean of all."""
        return mean if self.weight == 1.0 else mean * self.weight


def portion(things: int) -> Portion:
    """Every so many-th; all of them, if there are fewer than processes."""
    if count() == 1:
        return Portion()
    if things < count():
        return Portion(weight=1.0 / count())
    rows = slice(number(), None, count())
    return Portion(rows, len(range(things)[rows]) / things)


def own(costs: Sequence[float]) -> list[int]:
    """Numbers of the things that are this process's, ascending: the dearest first, to whoever has the least to do."""
    loads, owners = [0.0] * count(), {}
    for thing in sorted(range(len(costs)), key=lambda thing: -costs[thing]):
        owners[thing] = min(range(count()), key=lambda process: (loads[process], process))
        loads[owners[thing]] += costs[thing]
    return [thing for thing in range(len(costs)) if owners[thing] == number()]


# -- what they tell each other -----------------------------------------------------------------------------------------


def summed(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Each tensor summed over the processes, which all give the same names, shapes and types: one message for all."""
    if not _together:
        return tensors
    import torch
    from torch import distributed

    dense = {name: value for name, value in tensors.items() if not value.is_sparse}
    flat = torch.cat([value.detach().flatten() for value in dense.values()])
    with _nobody_lost():
        distributed.all_reduce(flat)
    parts = flat.split([value.numel() for value in dense.values()])
    found = {name: part.view(value.shape) for (name, value), part in zip(dense.items(), parts, strict=True)}
    return {name: found[name] if name in found else _rows_of_all(value) for name, value in tensors.items()}


def _rows_of_all(value: Tensor) -> Tensor:
    """The sum of sparse tensors, which hold different rows."""
    import torch

    parts = gathered((value._indices().cpu(), value._values().cpu()))
    indices, values = (torch.cat(each, dim=dim).to(value.device) for each, dim in zip(zip(*parts), (1, 0), strict=True))
    return torch.sparse_coo_tensor(indices, values, value.shape)


def total(value: float) -> float:
    """A number summed over the processes."""
    if not _together:
        return value
    import torch

    return float(summed({"value": torch.tensor(float(value), dtype=torch.float64)})["value"])


def of_all(values: Tensor, numbers: Sequence[int], things: int) -> Tensor:
    """A number for each of so many things, [things], of which this process knows those of its own, [len(numbers)]."""
    if not _together:
        return values
    whole = values.new_zeros(things).float()
    whole[list(numbers)] = values.float()
    return summed({"values": whole})["values"].to(values.dtype)


def gathered(value: Any) -> list:
    """What each process gives, in their order, on all of them: plain values and tensors of the CPU."""
    if not _together:
        return [value]
    from torch import distributed

    values = [None] * count()
    with _nobody_lost():
        distributed.all_gather_object(values, value)
    return values


def gathered_by_first(value: Any) -> list:
    """As :func:`gathered`, on the first process alone; elsewhere an empty list."""
    if not _together:
        return [value]
    from torch import distributed

    values = [None] * count() if is_first() else None
    with _nobody_lost():
        distributed.gather_object(value, values)
    return values or []


def from_first(make: Callable[[], _Made]) -> _Made:
    """What ``make`` gives on the first process, on all of them: it is called there alone."""
    if not _together:
        return make()
    from torch import distributed

    values = [make() if is_first() else None]
    with _nobody_lost():
        distributed.broadcast_object_list(values)
    return values[0]


def folder_of_its_own() -> str:
    """A folder for what a library writes in every process; that of the others than the first is thrown away."""
    folder = tempfile.TemporaryDirectory(prefix="recbole-metarec-", ignore_cleanup_errors=True)
    _kept.append(folder)
    return folder.name


_kept: list[tempfile.TemporaryDirectory] = []  # until this process ends
