"""What an item memory reads of a batch before any weight enters: whole numbers from histories and pair counts.

A cell is a scored row and an item that has occurred near one of the row's history, or is in it. All of this can be
computed on the CPU, so that nothing waits for a GPU.

Letters: n catalogue size with padding in row 0, P kept pairs, R rows that are scored, E entries of evidence, C cells.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_metarec.data.pair_lags import GROUPS, LAGS, REACH
from recbole_metarec.data.repeats import LAG_STARTS
from recbole_metarec.model.losses import Places
from recbole_metarec.model.seen_offset import seen_places, up_to


class Entries(NamedTuple):
    """The neighbours of the latest items of each row. place: int64 [E], row * REACH + lag of the item whose neighbour
    this is; item: int64 [E], the neighbour; counts: int [E, 4], of the pair."""

    place: Tensor
    item: Tensor
    counts: Tensor


class OwnCounts(NamedTuple):
    """What each row itself has added to the domain's counts.

    pairs: ascending keys (row * n + i) * n + j, int64 [K]; pair_counts: int [K, 4]. events: ascending keys row * n + i,
    int64 [I]; event_counts: int64 [I].
    """

    pairs: Tensor
    pair_counts: Tensor
    events: Tensor
    event_counts: Tensor

    @classmethod
    def of(cls, histories: Tensor, n_items: int) -> "OwnCounts":
        """The counts of each row of int64 [B, L], padded on the right."""
        row, column = histories.nonzero(as_tuple=True)
        events = torch.unique(row * n_items + histories[row, column], return_counts=True)
        return cls(*own_pairs(histories, n_items), *events)

    def events_of(self, owner: Tensor, n_items: int) -> tuple[Tensor, Tensor, Tensor]:
        """The items of the history ``owner`` int64 [R] of each scored row: (row, item, count), int64 each."""
        starts, ends = (torch.searchsorted(self.events, (owner + shift) * n_items) for shift in (0, 1))
        row, at = _ranges(starts, ends - starts)
        return row, self.events.index_select(0, at) % n_items, self.event_counts.index_select(0, at)


class PairTable(nn.Module):
    """A domain's pair counts as tensors, in the shapes of :class:`~recbole_metarec.data.pair_counts.PairCounts`."""

    def __init__(self, n_items: int, n_pairs: int):
        super().__init__()
        self.n_items = n_items
        self.register_buffer("starts", torch.zeros(n_items + 1, dtype=torch.int64))
        self.register_buffer("neighbours", torch.zeros(n_pairs, dtype=torch.int32))
        self.register_buffer("counts", torch.zeros(n_pairs, GROUPS, dtype=torch.int16))
        self.register_buffer("popularity", torch.zeros(n_items, dtype=torch.int64))
        self.register_buffer("lift", torch.zeros(len(LAG_STARTS)))
        self._on_cpu: tuple[PairTable, ...] = ()  # in a tuple, so that it is no submodule with a state of its own

    def lengths(self, items: Tensor) -> Tensor:
        """How many neighbours each of these items has: int64 in the shape of ``items``."""
        return self.starts[items + 1] - self.starts[items]

    def fill(self, pairs) -> None:
        """Copies in a domain's PairCounts of the same sizes."""
        self._on_cpu = ()
        for name in ("starts", "neighbours", "counts", "popularity", "lift"):
            getattr(self, name).copy_(torch.from_numpy(getattr(pairs, name)))

    def _load_from_state_dict(self, *args, **kwargs):
        """PyTorch's hook for loading a state; forgets the copy on the CPU."""
        self._on_cpu = ()
        return super()._load_from_state_dict(*args, **kwargs)

    def beside(self, batch: Tensor) -> "PairTable":
        """The table on the device of a batch; for one on the CPU it makes a copy, once."""
        if batch.device == self.starts.device:
            return self
        if not self._on_cpu:
            self._on_cpu = (copy.deepcopy(self).to("cpu"),)
        return self._on_cpu[0]

    def entries(self, latest: Tensor, owner: Tensor, own: OwnCounts) -> Entries:
        """The entries of R rows. latest: int64 [R, REACH], the latest items, 0 where there is none. owner: int64 [R],
        the history of each row, whose own pairs are subtracted."""
        n, near = self.n_items, latest.flatten()
        start = self.starts.index_select(0, near)
        place, pair = _ranges(start, self.starts.index_select(0, near + 1) - start)
        item = self.neighbours.index_select(0, pair).long()
        counts = self.counts.index_select(0, pair)
        if len(item):
            # own pairs are far fewer than entries: look up each of them among the entries of its place
            first = (owner.repeat_interleave(REACH) * n + near) * n
            start = torch.searchsorted(own.pairs, first)
            of_place, at = _ranges(start, torch.searchsorted(own.pairs, first + n) - start)
            wanted = of_place * n + own.pairs.index_select(0, at) % n
            keys = place * n + item
            entry = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
            hits = (keys.index_select(0, entry) == wanted).nonzero()[:, 0]
            entry, at = entry.index_select(0, hits), at.index_select(0, hits)
            left = counts.index_select(0, entry) - own.pair_counts.index_select(0, at)
            counts.index_copy_(0, entry, left.clamp_(min=0).to(counts.dtype))
        return Entries(place, item, counts)


def _ranges(starts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The ranges starts[k] .. starts[k] + lengths[k] - 1 end to end: (k of each element, the element), int64 each."""
    which = torch.repeat_interleave(lengths)
    shift = starts - lengths.cumsum(0) + lengths
    return which, torch.arange(len(which), device=starts.device) + shift.index_select(0, which)


def own_pairs(histories: Tensor, n_items: int) -> tuple[Tensor, Tensor]:
    """The pairs inside each row of int64 [B, L], padded on the right.

    Returns ascending keys (row * n + i) * n + j, int64 [K], and their counts, int [K, 4].
    """
    behind = F.pad(histories, (0, REACH)).unfold(1, REACH + 1, 1)[..., 1:]  # [B, L, REACH]
    row, column, lag = (behind > 0).nonzero(as_tuple=True)
    first, second = histories[row, column], behind[row, column, lag]
    group = histories.new_tensor([g for g, (near, far) in enumerate(LAGS) for _ in range(near, far + 1)])[lag]
    row = row * n_items
    keys = torch.cat([(row + first) * n_items + second, (row + second) * n_items + first])
    unique, inverse = torch.unique(keys, return_inverse=True)
    places = inverse * GROUPS + torch.cat([group, torch.full_like(group, GROUPS - 1)])
    return unique, torch.bincount(places, minlength=len(unique) * GROUPS).view(-1, GROUPS).int()


class Cells(NamedTuple):
    """The cells of R rows, and the evidence for each.

    places: row and item of each, [C]. entries: the evidence; near: int64 [R * REACH], events of the item at each lag of
    each row; cell: int64 [E], the cell of each entry. popularity, left: int64 [C], events of each cell's item, with and
    without the row's own. seen_cell, seen_group: int64 [S], the cells whose item is in the history, and the group of
    its latest lag. latest: int64 [R, REACH], the latest items of each row.
    """

    places: Places
    entries: Entries
    near: Tensor
    cell: Tensor
    popularity: Tensor
    left: Tensor
    seen_cell: Tensor
    seen_group: Tensor
    latest: Tensor


def cells_of(
    pairs: PairTable, histories: Tensor, inputs: Tensor, positions: Tensor, targets: Tensor | None = None
) -> Cells:
    """The cells of R rows. Each reads the items of ``inputs`` [B, W] up to one of the flat ``positions``, int64 [R],
    ascending.

    histories: int64 [B, L], all events of each row of ``inputs``, which are taken out of the counts. targets: int64
    [R], the item that each of the R rows is to predict.
    """
    n, owner = pairs.n_items, positions // inputs.shape[1]
    own = OwnCounts.of(histories, n)
    latest = up_to(inputs, positions, REACH)
    entries = pairs.entries(latest, owner, own)
    rows, items, counts = own.events_of(owner, n)
    of_place = torch.arange(len(latest), device=latest.device).repeat_interleave(REACH) * n
    keys = torch.cat([of_place.index_select(0, entries.place) + entries.item, rows * n + items])
    keys, inverse = torch.unique(keys, return_inverse=True)
    cell, of_owner = inverse.split([len(entries.item), len(rows)])
    places = Places.of(keys, n, len(positions), targets)
    popularity = pairs.popularity.index_select(0, places.items)
    left = popularity.index_add(0, of_owner, counts, alpha=-1).clamp_(min=0)
    seen = seen_places(inputs, positions)  # of the owner's own events
    seen_cell = torch.searchsorted(keys, seen.places.rows * n + seen.places.items)
    near = pairs.popularity.index_select(0, latest.flatten())
    return Cells(places, entries, near, cell, popularity, left, seen_cell, seen.group, latest)
