"""Events of a raw file as a few bytes each: read, freed of repetitions, reduced to a core, put in order.

Users and items are numbers in the order in which the file first names them, so that nothing depends on threads.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from recbole_metarec.preparing.forms import ITEM, RATING, TIME, USER
from recbole_metarec.preparing.vocabulary import Vocabulary

_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd and without a pattern: 2**64 by the golden ratio


@dataclass
class Events:
    """Parallel arrays [n] in the order of the file: users, items uint32, times int64 or float64, ratings or None."""

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    ratings: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray) -> "Events":
        """Those of some rows (indices or a mask), in that order."""
        ratings = None if self.ratings is None else self.ratings[rows]
        return Events(self.users[rows], self.items[rows], self.times[rows], ratings)

    def counts(self) -> tuple[int, int, int]:
        """(events, users, items)."""
        return len(self), _distinct(self.users), _distinct(self.items)


def collect(frames: Iterable[pl.DataFrame]) -> tuple[Events, Vocabulary, Vocabulary]:
    """The events of frames with columns user, item, time and perhaps rating; the names of users and of items."""
    users, items = Vocabulary(), Vocabulary()
    parts: dict[str, list[np.ndarray]] = {}
    for frame in frames:
        columns = {USER: users.encode(frame[USER]), ITEM: items.encode(frame[ITEM]), TIME: frame[TIME].to_numpy()}
        if RATING in frame.columns:
            columns[RATING] = frame[RATING].to_numpy().astype(np.float32)
        for name, values in columns.items():
            parts.setdefault(name, []).append(values)
    users.forget_hashes()
    items.forget_hashes()
    empty = [np.empty(0, np.uint32)]
    # one column after the other, so that only one of them is held twice at a time
    whole = {name: _joined(parts.pop(name, empty)) for name in (USER, ITEM, TIME)}
    ratings = _joined(parts.pop(RATING)) if RATING in parts else None
    return Events(whole[USER], whole[ITEM], _whole(whole[TIME]), ratings), users, items


def without_repetitions(events: Events) -> Events:
    """Of the events of the same user, item and time, the first in the file."""
    # Events with a key of their own are no repetitions; only the others are compared field by field.
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


def core(events: Events, user_least: int, item_least: int) -> Events:
    """The largest part in which each user has ``user_least`` events and each item ``item_least``, or more."""
    rows, users, items = None, events.users, events.items
    while True:
        keep = _frequent(users, user_least) & _frequent(items, item_least)
        if keep.all():
            return events if rows is None else events.take(rows)
        rows = np.flatnonzero(keep) if rows is None else rows[keep]
        users, items = users[keep], items[keep]


def in_order(events: Events) -> Events:
    """User by user in the order of their numbers, in time; equal times keep the order of the file."""
    return events.take(np.lexsort((events.times, events.users)))


def time_ties(ordered: Events) -> int:
    """Neighbours in a history with the very same time, of events that are in order."""
    same = (ordered.users[1:] == ordered.users[:-1]) & (ordered.times[1:] == ordered.times[:-1])
    return int(np.count_nonzero(same))


def _frequent(codes: np.ndarray, least: int) -> np.ndarray:
    return (np.bincount(codes) >= least)[codes] if least > 1 else np.ones(len(codes), bool)


def _distinct(codes: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(codes))) if len(codes) else 0


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def _whole(times: np.ndarray) -> np.ndarray:
    """Times as int64 if that loses nothing, as they may come to be when only some blocks have fractions."""
    if times.dtype.kind != "f" or not len(times):
        return times.astype(np.int64, copy=False)
    exact = np.abs(times).max() < 2**53 and not np.any(times % 1)
    return times.astype(np.int64) if exact else times
