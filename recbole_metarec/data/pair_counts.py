"""How often, in the training histories of a domain, one item was near another."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from recbole_metarec.data.pair_lags import GROUPS, LAGS, REACH
from recbole_metarec.data.repeats import repeat_lift
from recbole_metarec.data.sequences import SequenceStore

LARGEST_COUNT = np.iinfo(np.int16).max
_PAIRS_AT_ONCE = 1 << 24  # 128 MiB of keys, and several times that to count them, whatever the number of events


@dataclass(frozen=True)
class PairCounts:
    """The neighbours of each item and how often they were near it; 12 bytes a pair.

    starts: int64 [n + 1]; the neighbours of item i are neighbours[starts[i]:starts[i + 1]], int32 [P], ascending.
    counts: int16 [P, 4]: how often the neighbour came 1, 2 to 3, and 4 to 10 events after i, and up to 10 before it.
    popularity: int64 [n], events of each item. lift: how often people come back to an item, as :func:`repeat_lift` has
    it. cut: how many pairs were left out.
    """

    starts: np.ndarray
    neighbours: np.ndarray
    counts: np.ndarray
    popularity: np.ndarray
    lift: np.ndarray
    cut: int = 0

    @classmethod
    def of(cls, store: SequenceStore, kept: np.ndarray, most: int) -> "PairCounts":
        """Counts the first ``kept[u]`` events of each user u, and keeps the ``most`` frequent neighbours of an item.

        Of neighbours that are equally frequent those with the smaller number stay. Items are counted block by block:
        what is held beside the kept pairs, and in the end a copy of them, is bounded.
        """
        n, popularity = store.n_items, store.item_counts(kept)
        followers = np.clip(store.followers(kept), -1, REACH).astype(np.int8)
        parts = [_block(store.items, followers, n, most, *ends) for ends in pairwise(_block_ends(popularity))]
        lengths, neighbours, counts, cut = zip(*parts)
        return cls(
            np.r_[0, np.cumsum(np.concatenate(lengths))],
            np.concatenate(neighbours),
            np.concatenate(counts),
            popularity,
            repeat_lift(store, kept),
            sum(cut),
        )


def _block_ends(popularity: np.ndarray) -> np.ndarray:
    """Where blocks of items begin, and the last one ends: of about ``_PAIRS_AT_ONCE`` pairs each."""
    block = np.cumsum(2 * REACH * popularity) // _PAIRS_AT_ONCE
    return np.r_[0, np.flatnonzero(np.diff(block)) + 1, len(popularity)]


def _block(
    items: np.ndarray, followers: np.ndarray, n: int, most: int, first: int, last: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Of items ``first`` .. ``last`` - 1: how many neighbours each keeps, int64 [last - first], those of the items in
    turn, each item's ascending, int32 [P], their counts, int16 [P, 4], and how many pairs were left out.

    followers: int8 [N], how many kept events of the same user, of the next REACH, follow each event; -1 for what is not
    kept.
    """
    keys = np.concatenate(list(_keys(items, followers, n, first, last)))
    keys, times = np.unique(keys, return_counts=True)
    pairs, groups = np.divmod(keys, GROUPS)
    is_new = np.diff(pairs, prepend=-1) > 0
    counts = np.zeros((int(is_new.sum()), GROUPS), np.int32)
    counts[np.cumsum(is_new) - 1, groups] = times
    pairs = pairs[is_new]
    starts = np.searchsorted(pairs, np.arange(last - first + 1) * n)
    chosen = _most_frequent(starts, counts.sum(axis=1), most)
    counts = np.minimum(counts[chosen], LARGEST_COUNT).astype(np.int16)
    lengths = np.minimum(np.diff(starts), most)
    return lengths, (pairs[chosen] % n).astype(np.int32), counts, int(len(chosen) - chosen.sum())


def _keys(items: np.ndarray, followers: np.ndarray, n: int, first: int, last: int) -> Iterator[np.ndarray]:
    """((item - first) * n + neighbour) * GROUPS + group of every pair whose item is in the block, int64."""
    inside = (items >= first) & (items < last)
    for group, (nearest, furthest) in enumerate(LAGS):
        for lag in range(nearest, furthest + 1):
            is_pair, before, after = followers[:-lag] >= lag, slice(None, -lag), slice(lag, None)
            for one, other, counted in ((before, after, group), (after, before, GROUPS - 1)):
                at = np.flatnonzero(is_pair & inside[one])
                yield ((items[one][at] - first).astype(np.int64) * n + items[other][at]) * GROUPS + counted


def _most_frequent(starts: np.ndarray, totals: np.ndarray, most: int) -> np.ndarray:
    """bool [P]: the ``most`` largest of the totals from each start to the next, of equal ones those that come first."""
    chosen = np.ones(len(totals), bool)
    for row in np.flatnonzero(np.diff(starts) > most):
        part = slice(starts[row], starts[row + 1])
        chosen[part][np.argsort(-totals[part], kind="stable")[most:]] = False
    return chosen
