"""The items that a user has seen before the held-out event: the second protocol removes them from the ranking.

With ``repeatable: False`` RecBole keeps the held-out item itself, even if it was seen before, and so ranks a repeat
only among new items. That rewards a model that puts seen items first, which this protocol should only forgive: its NDCG
rises by about the share of repeats. A shop that shows no seen item does not show that one either, so it is removed
here, too, and every model misses a repeat. Only in the early stopping of RecBole's general recommenders, whose
validation is RecBole's own, a repeat stays in.
"""

from dataclasses import dataclass

import numpy as np

from recbole_metarec.data.runs import runs
from recbole_metarec.data.sequences import SequenceStore


@dataclass(frozen=True)
class SeenItems:
    """For each row the distinct items of its user's events before the held-out one.

    The whole history counts, even if a model reads only its last MAX_ITEM_LIST_LENGTH events.

    items: int64 [N], row after row. offsets: int64 [R + 1]; row r has seen items[offsets[r]:offsets[r + 1]].
    """

    items: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, users: np.ndarray, items: np.ndarray, row_users: np.ndarray) -> "SeenItems":
        """users, items int [N]: all earlier events, in any order. row_users int [R]: the user of each row."""
        n_items = int(items.max(initial=0)) + 1
        once = np.unique(users.astype(np.int64) * n_items + items)
        starts, ends = (np.searchsorted(once, (row_users + next_) * n_items) for next_ in (0, 1))
        rows, column = runs(ends - starts)
        return cls(once[starts[rows] + column] % n_items, np.r_[0, np.cumsum(ends - starts)])

    @classmethod
    def before(cls, store: SequenceStore, which: np.ndarray, places: np.ndarray) -> "SeenItems":
        """The items before event ``places[r]`` in the history of user ``which[r]`` of a store, int [R] each."""
        rows = np.arange(len(which))
        return cls.of(np.repeat(rows, places), store.of_users(which).first(places).items, rows)

    def of_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What some rows, int [B], have seen: (int64 [n] positions 0 .. B - 1 in ``rows``, int64 [n] items)."""
        starts = self.offsets[rows]
        positions, column = runs(self.offsets[rows + 1] - starts)
        return positions, self.items[starts[positions] + column]


def events_of(train) -> tuple[np.ndarray, np.ndarray]:
    """(users, items) int64 [N] of every training event."""
    users, items = held_out_of(train)
    feat, histories = train.inter_feat, getattr(train, f"{train.iid_field}_list_field")
    if histories not in feat.columns:
        return users, items
    # RecBole's prefix rows have every event as a target but each user's first, which is the history of the second
    first = feat[train.item_list_length_field].numpy() == 1
    return np.r_[users, users[first]], np.r_[items, feat[histories].numpy()[first, 0]]


def held_out_of(part) -> tuple[np.ndarray, np.ndarray]:
    """(users, items) int64 [R] of the held-out events of a part's rows."""
    return tuple(part.inter_feat[field].numpy() for field in (part.uid_field, part.iid_field))
