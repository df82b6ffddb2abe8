"""Batches of similar length, padded on the right, cut anew from the windows in every epoch."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from recbole_metarec import processes
from recbole_metarec.data.sequences import SequenceStore, Windows
from recbole_metarec.processes import Portion
from recbole_metarec.randomness import RowsOf, numpy_stream

# RecBole's Interaction field of training batches: the next item at every position, 0 for none.
TARGET_LIST = "target_id_list"

# Rows are sorted by length only among this many batches' worth of randomly drawn rows: enough for little padding,
# few enough that a batch's members change from epoch to epoch.
_BATCHES_PER_POOL = 16


@dataclass(frozen=True)
class SequenceBatch:
    """inputs, targets: int64 [B, W], 0 where padded; a target of 0 beside a real input carries no loss.

    positions: flat positions that are predicted, int64 [T], where they are known: a GPU would have to be waited for.
    facts: what else a network has worked out for its loss: nested tuples with tensors in them.
    """

    inputs: Tensor
    targets: Tensor
    positions: Tensor | None = None
    facts: tuple | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def whole(self) -> "SequenceBatch":
        """The batch that these rows are of."""
        return self

    def portion(self, size: int) -> Portion:
        """The part of ``size`` rows made of the whole batch that belongs to the rows of this one."""
        return Portion()

    def drawing(self, generator: torch.Generator | None) -> torch.Generator | RowsOf | None:
        """What draws a tensor of these rows."""
        return generator

    def part_of(self, mean: Tensor) -> Tensor:
        """What the mean over the predicted positions of these rows adds to the mean over those of the whole batch."""
        return mean

    @property
    def lengths(self) -> Tensor:
        """int64 [B], real inputs of each row."""
        return (self.inputs > 0).sum(dim=1)

    def predicted(self) -> tuple[Tensor, Tensor]:
        """Flat positions in [B * W] that are predicted, and the item of each: two int64 [T]."""
        flat = self.targets.flatten()
        positions = flat.nonzero()[:, 0] if self.positions is None else self.positions
        return positions, flat[positions]

    def histories(self) -> Tensor:
        """int64 [B, W + 1]: the inputs of each row and the last target behind them."""
        lengths = self.lengths[:, None]
        last = self.targets.gather(1, (lengths - 1).clamp(min=0))
        return F.pad(self.inputs, (0, 1)).scatter(1, lengths, last)

    def distinct_inputs(self) -> tuple[Tensor, Tensor, int]:
        """The items of the inputs, ascending, which of them each input is, and how many of them are padding."""
        items, places = torch.unique(self.inputs, return_inverse=True)
        return items, places, int(items[0] == 0)

    def rows(self, which: Tensor) -> "SequenceBatch":
        """The rows ``which``, no wider than their longest."""
        inputs, targets = self.inputs[which], self.targets[which]
        width = max(1, int((inputs > 0).any(dim=0).sum()))
        return SequenceBatch(inputs[:, :width], targets[:, :width])

    def to(self, device: torch.device) -> "SequenceBatch":
        """The same on another device, facts included."""
        if self.inputs.device == torch.device(device):
            return self
        parts = self.inputs, self.targets, self.predicted()[0], self.facts
        moved = tree_map(lambda part: part.to(device) if isinstance(part, Tensor) else part, parts)
        return replace(self, **dict(zip(("inputs", "targets", "positions", "facts"), moved, strict=True)))


@dataclass(frozen=True)
class BatchShare(SequenceBatch):
    """The rows of a batch that are this process's: what the processes make of theirs adds up to the whole batch's."""

    batch: SequenceBatch = field(kw_only=True)

    @classmethod
    def of(cls, batch: SequenceBatch) -> SequenceBatch:
        """This process's rows of a batch, as wide as all of it; for one process alone the batch."""
        if processes.count() == 1:
            return batch
        rows = processes.portion(len(batch)).rows
        return cls(batch.inputs[rows], batch.targets[rows], batch=batch)

    @property
    def whole(self) -> SequenceBatch:
        return self.batch

    def portion(self, size: int) -> Portion:
        return processes.portion(size)

    def drawing(self, generator: torch.Generator | None) -> torch.Generator | RowsOf | None:
        return generator and RowsOf(generator, self.portion(len(self.whole)).rows, len(self.whole))

    def part_of(self, mean: Tensor) -> Tensor:
        share = (self.targets > 0).sum() / (self.whole.targets > 0).sum()
        # rows that are too few to be shared out are every process's
        return mean * (share / processes.count() if len(self) == len(self.whole) else share)


@dataclass
class SequenceBatches:
    """The training batches of one domain: about ``budget`` predicted events each, membership and order shuffled.

    The plan of an epoch depends on (seed, domain, epoch) alone.
    """

    store: SequenceStore
    windows: Windows
    budget: int
    seed: int
    domain: str
    shuffle: bool = True
    _plans: dict[int, list[np.ndarray]] = field(default_factory=dict, repr=False)

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Rows of each batch of an epoch, int64 arrays that together hold every window once."""
        if epoch not in self._plans:
            self._plans = {epoch: self._make_plan(epoch)}  # only the current epoch's is worth keeping
        return self._plans[epoch]

    def _make_plan(self, epoch: int) -> list[np.ndarray]:
        random = numpy_stream(self.seed, "order", self.domain, epoch if self.shuffle else 0)
        order = random.permutation(len(self.windows)) if self.shuffle else np.arange(len(self.windows))
        batches = []
        for pool in _cut(order, self.windows.targets, self.budget * _BATCHES_PER_POOL):
            by_length = pool[np.argsort(self.windows.length[pool], kind="stable")]
            batches += _cut(by_length, self.windows.targets, self.budget)
        return [batches[i] for i in random.permutation(len(batches))] if self.shuffle else batches

    def batch(self, rows: np.ndarray) -> SequenceBatch:
        """Gathers windows ``rows`` (int64 [B]) into a batch as wide as the longest of them."""
        start, length, context = self.windows.start[rows], self.windows.length[rows], self.windows.context[rows]
        columns = np.arange(int(length.max()))
        index = start[:, None] + columns
        real = columns < length[:, None]
        last = len(self.store.items) - 1
        inputs = np.where(real, self.store.items[np.minimum(index, last)], 0)
        loss = real & (columns >= context[:, None])
        targets = np.where(loss, self.store.items[np.minimum(index + 1, last)], 0)
        return SequenceBatch(torch.from_numpy(inputs.astype(np.int64)), torch.from_numpy(targets.astype(np.int64)))

    def epoch(self, number: int) -> Iterator[SequenceBatch]:
        """All batches of an epoch."""
        return (self.batch(rows) for rows in self.plan(number))


def _cut(order: np.ndarray, targets: np.ndarray, budget: int) -> list[np.ndarray]:
    """Pieces of like size: cutting off ``budget`` after ``budget`` would leave a crumb, and a step of a few rows."""
    if not len(order):
        return []
    until = np.cumsum(targets[order])
    pieces = max(1, round(until[-1] / budget))
    piece = (until - targets[order]) * pieces // until[-1]
    return np.split(order, np.flatnonzero(np.diff(piece)) + 1)


class BatchStream:
    """Fresh batches of a source without end: pass after pass, each shuffled anew. Its whole state is two integers."""

    def __init__(self, batches: SequenceBatches):
        self.batches = batches
        self.passed = 0
        self.position = 0

    def __next__(self) -> SequenceBatch:
        plan = self.batches.plan(self.passed)
        rows = plan[self.position]
        self.position += 1
        if self.position == len(plan):
            self.passed, self.position = self.passed + 1, 0
        return self.batches.batch(rows)

    def state_dict(self) -> dict[str, int]:
        """Where the stream stands."""
        return {"passed": self.passed, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues where :meth:`state_dict` was taken."""
        self.passed, self.position = state["passed"], state["position"]
