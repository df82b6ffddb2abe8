"""Whether, and how soon, people come back to an item: what histories say of it before anything is trained."""

import numpy as np

from recbole_metarec.data.sequences import SequenceStore

# the first lag of each group: 0 is the last item of the history, 1 the one before it
LAG_STARTS = (0, 1, 2, 3, 5, 10, 20)


def repeat_lift(store: SequenceStore, kept: np.ndarray) -> np.ndarray:
    """How much more often than by chance the next item is one that was last seen so long ago: float32 [G], logarithms.

    Of the first ``kept[u]`` events of each user u, for each group of lags: log((repeats + 1/2) / (expected + 1/2)).
    Expected are the repeats of a next item that is any of the catalogue with the same probability. A domain of few
    events has values near 0, so that they say nothing.
    """
    user, position = store.places()
    left = kept[user] - position
    order = np.lexsort((position, store.items, user))
    order = order[left[order] > 0]
    before, after = order[:-1], order[1:]
    returns = (user[before] == user[after]) & (store.items[before] == store.items[after])
    # an event is the latest one of its item for so many next items
    chances = left[order] - 1
    chances[:-1][returns] = (after - before)[returns]
    repeats = np.bincount(_group(chances[:-1][returns] - 1), minlength=len(LAG_STARTS))
    until = np.array([np.minimum(chances, end).sum() for end in LAG_STARTS[1:]] + [chances.sum()])
    expected = np.diff(until, prepend=0) / max(store.n_items - 1, 1)
    return np.log((repeats + 0.5) / (expected + 0.5)).astype(np.float32)


def _group(lags: np.ndarray) -> np.ndarray:
    return np.searchsorted(LAG_STARTS, lags, side="right") - 1
