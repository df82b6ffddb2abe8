"""How often, in the training histories of a domain, one item was near another."""

from dataclasses import dataclass
from functools import reduce

import numpy as np
from scipy import sparse

from recbole_metarec.data.pair_lags import LAGS
from recbole_metarec.data.repeats import repeat_lift
from recbole_metarec.data.sequences import SequenceStore

LARGEST_COUNT = np.iinfo(np.int16).max


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

        Of neighbours that are equally frequent those with the smaller number stay.
        """
        n = store.n_items
        after = [_pairs(store, kept, *lags) for lags in LAGS]
        forward = reduce(lambda a, b: a + b, after)
        groups = [*after, forward.T.tocsr()]
        total = (forward + groups[-1]).tocsr()
        total.sort_indices()
        chosen = _most_frequent(total, most)
        keys = _keys(total)[chosen]
        counts = np.stack([_values_at(keys, group) for group in groups], axis=1)
        return cls(
            np.searchsorted(keys, np.arange(n + 1, dtype=np.int64) * n),
            (keys % n).astype(np.int32),
            np.minimum(counts, LARGEST_COUNT).astype(np.int16),
            store.item_counts(kept),
            repeat_lift(store, kept),
            int(len(chosen) - chosen.sum()),
        )


def _pairs(store: SequenceStore, kept: np.ndarray, nearest: int, furthest: int) -> sparse.csr_matrix:
    """int32 [n, n]: how often the item of a column stood ``nearest`` to ``furthest`` events behind that of a row."""
    total = sparse.csr_matrix((store.n_items, store.n_items), dtype=np.int32)
    for _, first, second in store.pairs(kept, range(nearest, furthest + 1)):
        total = total + sparse.csr_matrix((np.ones(len(first), np.int32), (first, second)), shape=total.shape)
    return total


def _most_frequent(pairs: sparse.csr_matrix, most: int) -> np.ndarray:
    """bool [P]: the ``most`` largest values of each row."""
    chosen = np.ones(pairs.nnz, bool)
    for row in np.flatnonzero(np.diff(pairs.indptr) > most):
        part = slice(pairs.indptr[row], pairs.indptr[row + 1])
        chosen[part][np.argsort(-pairs.data[part], kind="stable")[most:]] = False
    return chosen


def _keys(pairs: sparse.csr_matrix) -> np.ndarray:
    """int64 [P], ascending: row * n + column of each stored value."""
    pairs.sort_indices()
    rows = np.repeat(np.arange(pairs.shape[0], dtype=np.int64), np.diff(pairs.indptr))
    return rows * pairs.shape[1] + pairs.indices


def _values_at(keys: np.ndarray, pairs: sparse.csr_matrix) -> np.ndarray:
    """The value at each key, 0 where none is stored."""
    stored = np.append(_keys(pairs), -1)
    at = np.searchsorted(stored[:-1], keys)
    return np.where(stored[at] == keys, np.append(pairs.data, 0)[at], 0)
