"""Several processes that train one model together, on one machine or on several. ``torchrun`` starts them.

All communication between them goes through here. In a single process each function returns its argument, so that code
that shares work out reads the same for one process as for many.
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
_met = False  # whether this process has joined the others: until then it works alone, however it was started
_together = False  # whether the processes can still communicate
_store = None  # through which they have met; torchrun keeps it, so that it outlives each of them


def started() -> int:
    """How many processes were started together."""
    return int(os.environ["WORLD_SIZE"]) if all(word in os.environ for word in _WORDS) else 1


def on_machine() -> int:
    """The rank of this process on its machine, from 0."""
    return int(os.environ["LOCAL_RANK"]) if started() > 1 else 0


def count() -> int:
    """How many processes share the work: those that were started together, once they have met, else 1."""
    return started() if _met else 1


def number() -> int:
    """The rank of this process, from 0."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def is_first() -> bool:
    """Whether this is the process that writes files and speaks to the user."""
    return number() == 0


@contextmanager
def joined(device: Any) -> Iterator[None]:
    """While this is open, the processes can communicate: by NCCL for tensors on a GPU, else by Gloo.

    Raises ConnectionError if another process is gone.
    """
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
    _together = False  # not after an error: the others may be gone, and nobody is left to part from
    distributed.destroy_process_group()


@contextmanager
def _nobody_lost() -> Iterator[None]:
    """Raises ConnectionError if another process no longer answers."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(f"another of the {started()} processes of this run is gone") from error


def speaks() -> bool:
    """Whether this process tells the user why the run ends: only the first that asks does, and only once."""
    is_first_started = started() == 1 or os.environ["RANK"] == "0"
    if _store is None:  # they have not met: each finds the same mistake by itself
        return is_first_started
    try:
        return _store.add("told", 1) == 1
    except RuntimeError:
        return is_first_started


# -- who does what -----------------------------------------------------------------------------------------------------


class Portion(NamedTuple):
    """This process's part of a batch: its ``rows``. Their mean times ``weight``, summed over the processes, is the mean
    of the batch."""

    rows: slice = slice(None)
    weight: float = 1.0

    def of(self, mean: Tensor) -> Tensor:
        """What this process adds to the mean of the batch. mean: over its rows."""
        return mean if self.weight == 1.0 else mean * self.weight


def portion(size: int) -> Portion:
    """Of ``size`` rows every k-th, with k processes; all of them if there are fewer rows than processes."""
    if count() == 1:
        return Portion()
    if size < count():
        return Portion(weight=1.0 / count())
    rows = slice(number(), None, count())
    return Portion(rows, len(range(size)[rows]) / size)


def assigned(costs: Sequence[float]) -> list[int]:
    """Which of some tasks this process does, ascending. costs: of each task.

    The most expensive task is assigned first, each to the process with the least to do.
    """
    loads, workers = [0.0] * count(), {}
    for task in sorted(range(len(costs)), key=lambda task: -costs[task]):
        workers[task] = min(range(count()), key=lambda process: (loads[process], process))
        loads[workers[task]] += costs[task]
    return [task for task in range(len(costs)) if workers[task] == number()]


# -- communication -----------------------------------------------------------------------------------------------------


def summed(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Each tensor summed over the processes, in one message. All processes give the same names, shapes and dtypes."""
    if not _together:
        return tensors
    import torch
    from torch import distributed

    dense = {name: value for name, value in tensors.items() if not value.is_sparse}
    flat = torch.cat([value.detach().flatten() for value in dense.values()])
    with _nobody_lost():
        distributed.all_reduce(flat)
    parts = flat.split([value.numel() for value in dense.values()])
    sums = {name: part.view(value.shape) for (name, value), part in zip(dense.items(), parts, strict=True)}
    return {name: sums[name] if name in sums else _rows_of_all(value) for name, value in tensors.items()}


def _rows_of_all(value: Tensor) -> Tensor:
    """A sparse tensor summed over the processes, each of which holds other rows of it."""
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


def of_all(values: Tensor, tasks: Sequence[int], n_tasks: int) -> Tensor:
    """The values [n_tasks] of all processes' tasks. values [len(tasks)]: those of the ``tasks`` of this process."""
    if not _together:
        return values
    whole = values.new_zeros(n_tasks).float()
    whole[list(tasks)] = values.float()
    return summed({"values": whole})["values"].to(values.dtype)


def gathered(value: Any) -> list:
    """The value of every process, in the order of their ranks: plain values and CPU tensors."""
    if not _together:
        return [value]
    from torch import distributed

    values = [None] * count()
    with _nobody_lost():
        distributed.all_gather_object(values, value)
    return values


def gathered_by_first(value: Any) -> list:
    """As :func:`gathered` on the first process; an empty list on the others."""
    if not _together:
        return [value]
    from torch import distributed

    values = [None] * count() if is_first() else None
    with _nobody_lost():
        distributed.gather_object(value, values)
    return values or []


def from_first(make: Callable[[], _Made]) -> _Made:
    """The first process calls ``make``, and every process gets the result."""
    if not _together:
        return make()
    from torch import distributed

    values = [make() if is_first() else None]
    with _nobody_lost():
        distributed.broadcast_object_list(values)
    return values[0]


def folder_of_its_own() -> str:
    """A temporary folder for what a library writes in a process that is not the first; it goes when that one ends."""
    folder = tempfile.TemporaryDirectory(prefix="recbole-metarec-", ignore_cleanup_errors=True)
    _kept.append(folder)
    return folder.name


_kept: list[tempfile.TemporaryDirectory] = []  # until this process ends
