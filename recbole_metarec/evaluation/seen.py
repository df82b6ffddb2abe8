"""The items that a user has seen before the held-out event: the second protocol removes them from the ranking.

RecBole, where ``repeatable`` is False, leaves a held-out item in that was seen before, and so ranks a repeat among new
items alone. A model that puts seen items first, which this protocol is meant to forgive, would be paid for it: the
fraction of repeats, about, is added to its NDCG. A shop that shows no seen item does not show that one either, so here
it goes, too, and a repeat is missed by every model alike.
"""

from dataclasses import dataclass

import numpy as np

from recbole_metarec.data.runs import runs
from recbole_metarec.data.sequences import SequenceStore


@dataclass(frozen=True)
class SeenItems:
    """Of each row the items of its user's events before the held-out one, each once.

    The whole history counts, also where a model sees its last MAX_ITEM_LIST_LENGTH events alone.

    items: int64 [N], rows in turn. offsets: int64 [R + 1]; row r has seen items[offsets[r]:offsets[r + 1]].
    """

    items: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, users: np.ndarray, items: np.ndarray, row_users: np.ndarray) -> "SeenItems":
        """users, items int [N]: every event before the rows', in any order. row_users int [R]: whose row each is."""
        n_items = int(items.max(initial=0)) + 1
        once = np.unique(users.astype(np.int64) * n_items + items)
        starts, ends = (np.searchsorted(once, (row_users + next_) * n_items) for next_ in (0, 1))
        rows, place = runs(ends - starts)
        return cls(once[starts[rows] + place] % n_items, np.r_[0, np.cumsum(ends - starts)])

    @classmethod
    def before(cls, store: SequenceStore, which: np.ndarray, places: np.ndarray) -> "SeenItems":
        """What stands before event ``places[r]`` in the history of user ``which[r]`` of a store, int [R] each."""
        rows = np.arange(len(which))
        return cls.of(np.repeat(rows, places), store.of_users(which).first(places).items, rows)

    def of_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What some rows, int [B], have seen: (int64 [n] positions 0 .. B - 1 of the rows, int64 [n] their items)."""
        starts = self.offsets[rows]
        positions, place = runs(self.offsets[rows + 1] - starts)
        return positions, self.items[starts[positions] + place]


def events_of(train) -> tuple[np.ndarray, np.ndarray]:
    """(users, items) int64 [N] of every training event."""
    users, items = held_out_of(train)
    feat, histories = train.inter_feat, getattr(train, f"{train.iid_field}_list_field")
    if histories not in feat.columns:
        return users, items
    # RecBole's prefix rows have an event as their target, but a user's first one, the history of the second
    first = feat[train.item_list_length_field].numpy() == 1
    return np.r_[users, users[first]], np.r_[items, feat[histories].numpy()[first, 0]]


def held_out_of(part) -> tuple[np.ndarray, np.ndarray]:
    """(users, items) int64 [R] of the rows of a part."""
    return tuple(part.inter_feat[field].numpy() for field in (part.uid_field, part.iid_field))
