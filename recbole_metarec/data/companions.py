"""Items that are near each other time and again: often variants of one article, which people review together.

Any count of pairs finds them; their share of the test events says how much of a gain may come from them.
"""

import numpy as np

from recbole_metarec.data.pair_lags import REACH
from recbole_metarec.data.sequences import HistorySplit, SequenceStore

COMPANION_SHARE = 0.5  # of an item's training events that have the other item near them


def companion_rows(store: SequenceStore, split: HistorySplit) -> np.ndarray:
    """bool [test rows]: the held-out item was near the last one in at least half of that one's training events."""
    places = store.offsets[split.test] + split.test_at
    held_out, last = store.items[places], store.items[places - 1]
    events = store.item_counts(split.trained)[last]
    return (events > 1) & (near_counts(store, split.trained, last, held_out) >= COMPANION_SHARE * events)


def repeat_rows(store: SequenceStore, split: HistorySplit) -> np.ndarray:
    """bool [test rows]: the held-out item is in the user's history already."""
    rows = np.arange(len(split.test))
    before = store.of_users(split.test).first(split.test_at).items
    held_out = store.items[store.offsets[split.test] + split.test_at]
    of_row = np.repeat(rows, split.test_at)
    return np.bincount(of_row, before == held_out[of_row], minlength=len(rows)) > 0


def near_counts(store: SequenceStore, kept: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How often second[u] stood within REACH events of first[u], before or behind it, in training: int64 [U].

    kept int [users of the store]: of whose histories the first so many events are counted.
    """
    keys, inverse = np.unique(first.astype(np.int64) * store.n_items + second, return_inverse=True)
    counts = np.zeros(len(keys), np.int64)
    for _, one, other in store.pairs(kept, range(1, REACH + 1)):
        for pair in (one.astype(np.int64) * store.n_items + other, other.astype(np.int64) * store.n_items + one):
            at = np.searchsorted(keys, pair[np.isin(pair, keys)])
            counts += np.bincount(at, minlength=len(keys))
    return counts[inverse]
