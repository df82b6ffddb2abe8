"""The items that a user has seen before the held-out event: the second protocol removes them from the ranking."""

from dataclasses import dataclass

import numpy as np

from recbole_metarec.data.runs import runs
from recbole_metarec.data.sequences import SequenceStore


@dataclass(frozen=True)
class SeenItems:
    """Of each row the items of its user's events before the held-out one, each once, but never the held-out item.

    The whole history counts, also where a model sees its last MAX_ITEM_LIST_LENGTH events alone. An item that is
    bought again stays to be found, among the unseen ones.

    items: int64 [N], rows in turn. offsets: int64 [R + 1]; row r has seen items[offsets[r]:offsets[r + 1]].
    """

    items: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, users: np.ndarray, items: np.ndarray, row_users: np.ndarray, held_out: np.ndarray) -> "SeenItems":
        """users, items int [N]: every event before the rows', in any order. row_users, held_out int [R]: the rows."""
        n_items = int(max(items.max(initial=0), held_out.max(initial=0))) + 1
        once = np.unique(users.astype(np.int64) * n_items + items)
        starts, ends = (np.searchsorted(once, (row_users + next_) * n_items) for next_ in (0, 1))
        rows, place = runs(ends - starts)
        seen = once[starts[rows] + place] % n_items
        kept = seen != held_out[rows]
        counts = np.bincount(rows[kept], minlength=len(row_users))
        return cls(seen[kept], np.r_[0, np.cumsum(counts)])

    @classmethod
    def before(cls, store: SequenceStore, which: np.ndarray, places: np.ndarray) -> "SeenItems":
        """What stands before event ``places[r]`` in the history of user ``which[r]`` of a store, int [R] each."""
        held_out = store.items[store.offsets[which] + places]
        rows = np.arange(len(which))
        return cls.of(np.repeat(rows, places), store.of_users(which).first(places).items, rows, held_out)

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
