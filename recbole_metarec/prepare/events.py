"""Events of a raw file as a few bytes each: read, without repetitions, reduced to a core, sorted.

Users and items are numbers in the order in which the file first names them, so that nothing depends on threads.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from recbole_metarec.data import filters
from recbole_metarec.prepare.forms import ITEM, RATING, TIME, USER
from recbole_metarec.prepare.vocabulary import Vocabulary

_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd and without a pattern: 2**64 by the golden ratio


@dataclass
class RawEvents:
    """Parallel arrays [n] in the order of the file: users, items uint32, times int64 or float64, ratings or None."""

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    ratings: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray) -> "RawEvents":
        """Those of some rows (indices or a mask), in that order."""
        ratings = None if self.ratings is None else self.ratings[rows]
        return RawEvents(self.users[rows], self.items[rows], self.times[rows], ratings)

    def give(self, column: str) -> np.ndarray:
        """One of the arrays, which is then no longer kept here, to save memory."""
        values = getattr(self, column)
        setattr(self, column, None)
        return values

    def counts(self) -> tuple[int, int, int]:
        """(events, users, items)."""
        return len(self), _distinct(self.users), _distinct(self.items)


def collect(frames: Iterable[pl.DataFrame]) -> tuple[RawEvents, Vocabulary, Vocabulary]:
    """The events of frames with columns user, item, time and perhaps rating; the names of users and of items."""
    users, items = Vocabulary(), Vocabulary()
    columns = {USER: _Column(np.uint32), ITEM: _Column(np.uint32), TIME: _Column(np.int64)}
    for frame in frames:
        if RATING in frame.columns:
            columns.setdefault(RATING, _Column(np.float32)).append(frame[RATING].to_numpy())
        columns[USER].append(users.encode(frame[USER]))
        columns[ITEM].append(items.encode(frame[ITEM]))
        columns[TIME].append(frame[TIME].to_numpy())
    users.forget_hashes()
    items.forget_hashes()
    # one column after the other, so that only one of them is held twice at a time
    whole = {name: columns.pop(name).joined() for name in list(columns)}
    return RawEvents(whole[USER], whole[ITEM], _whole(whole[TIME]), whole.get(RATING)), users, items


class _Column:
    """Values that come in blocks, kept in a few long arrays: many small ones would fragment the memory."""

    _LENGTH = 1 << 23  # at 4 bytes a value, what the system hands out and takes back as a whole

    def __init__(self, dtype):
        self._arrays, self._dtype, self._used = [], np.dtype(dtype), self._LENGTH

    def append(self, values: np.ndarray) -> None:
        """Adds values; whole numbers become float64 when the first fraction comes."""
        if values.dtype.kind == "f" and self._dtype.kind == "i":
            self._dtype = values.dtype
            self._arrays = [array.astype(values.dtype) for array in self._arrays]
        while len(values):
            if self._used == self._LENGTH:
                self._arrays.append(np.empty(self._LENGTH, self._dtype))
                self._used = 0
            part = values[: self._LENGTH - self._used]
            self._arrays[-1][self._used : self._used + len(part)] = part
            self._used += len(part)
            values = values[len(part) :]

    def joined(self) -> np.ndarray:
        """All values; to be called once."""
        if self._arrays:
            self._arrays[-1] = self._arrays[-1][: self._used]
        whole = np.concatenate([np.empty(0, self._dtype), *self._arrays])
        self._arrays.clear()
        return whole


def without_repetitions(events: RawEvents) -> RawEvents:
    """Of the events of the same user, item and time, the first in the file."""
    # Events with a key are no repetitions; only the others are compared field by field.
    key = (events.users.astype(np.uint64) << np.uint64(32)) | events.items
    key *= _MIX
    key ^= events.times.view(np.uint64)
    key *= _MIX
    ordered = np.sort(key)
    shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    if not len(shared):
        return events
    at = np.minimum(np.searchsorted(shared, key), len(shared) - 1)
    rows = np.flatnonzero(shared[at] == key)
    del key, at
    few = events.take(rows)
    order = np.lexsort((few.times, few.items, few.users))
    repeated = np.zeros(len(few), bool)
    same = [values[order][1:] == values[order][:-1] for values in (few.users, few.items, few.times)]
    repeated[order[1:]] = np.logical_and.reduce(same)
    keep = np.ones(len(events), bool)
    keep[rows[repeated]] = False
    return events.take(keep)


def core(events: RawEvents, user_least: int, item_least: int) -> RawEvents:
    """The largest part in which each user has ``user_least`` events and each item ``item_least``, or more."""
    rows = filters.core(events.users, events.items, user_least, item_least)
    return events if rows is None else events.take(rows)


def in_order(events: RawEvents) -> RawEvents:
    """User by user in the order of their numbers, in time; equal times keep the order of the file."""
    return events.take(np.lexsort((events.times, events.users)))


def time_ties(ordered: RawEvents) -> int:
    """Neighbours in a history with the very same time, of events that are in order."""
    same = (ordered.users[1:] == ordered.users[:-1]) & (ordered.times[1:] == ordered.times[:-1])
    return int(np.count_nonzero(same))


def _distinct(codes: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(codes))) if len(codes) else 0


def _whole(times: np.ndarray) -> np.ndarray:
    """Times as int64 if that loses nothing: a block with fractions may have made them float64."""
    if times.dtype.kind != "f" or not len(times):
        return times.astype(np.int64, copy=False)
    exact = np.abs(times).max() < 2**53 and not np.any(times % 1)
    return times.astype(np.int64) if exact else times
