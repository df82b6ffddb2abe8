"""Session-based neighbours: the items of users whose histories share items with this one."""

import numpy as np
from numpy import ndarray
from scipy.sparse import csr_matrix, diags

from recbole_metarec.baselines.base import HistoryRecommender, item_sets, training_histories, weighted_histories
from recbole_metarec.data.runs import runs

_ROWS = 64  # whose neighbours' events are held at once


class STAN(HistoryRecommender):
    """Sequence and Time Aware Neighborhood (Garg et al., SIGIR 2019), without its decay by the time between sessions.

    A training history is the nearer the more items it shares, recent ones above all, and the shorter it is. Each of the
    ``neighbours`` nearest gives its items its nearness, less the farther they stand from the item that it shares with
    the history most recently; with ``recommend_shared`` (the paper) those that it shares get theirs, too. A user's own
    training history is no neighbour.
    """

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.store = training_histories(dataset)
        sets = item_sets(self.store)
        sizes = np.asarray(sets.sum(axis=1))[:, 0]
        self.by_item = (diags(1 / np.sqrt(sizes)) @ sets).T.tocsr().astype(np.float32)
        self.history_of = np.full(dataset.user_num, -1)
        self.history_of[self.store.users] = np.arange(len(self.store.users))
        self.decay, self.n_neighbours = config["history_decay"], config["neighbours"]
        self.neighbour_decay, self.recommend_shared = config["neighbour_decay"], config["recommend_shared"]

    def scores_of(self, items, lengths, users):
        """What the nearest histories have, by nearness and place."""
        starts = range(0, len(items), _ROWS)
        parts = [self._scores(*(part[start : start + _ROWS] for part in (items, lengths, users))) for start in starts]
        return np.concatenate(parts)

    def _scores(self, items, lengths, users) -> ndarray:
        history = weighted_histories(items, lengths, self.decay, self.n_items)
        row, neighbour, nearness = _nearest(history @ self.by_item, self.history_of[users], self.n_neighbours)
        place = np.zeros((len(items), self.n_items), dtype=np.int64)  # of an item's last event in the history, from 1
        for column in range(items.shape[1]):
            real = np.flatnonzero(column < lengths)
            place[real, items[real, column]] = column + 1
        return self._spread(row, neighbour, nearness, place)

    def _spread(self, row: ndarray, neighbour: ndarray, nearness: ndarray, place: ndarray) -> ndarray:
        """Gives each neighbour's nearness to its items: float32 [B, n_items].

        row, neighbour, nearness [P]: of pairs of a row and a history. place int64 [B, n_items].
        """
        sizes = self.store.lengths[neighbour]
        pair, position = runs(sizes)
        first = np.cumsum(sizes) - sizes
        event_items = self.store.items[self.store.offsets[neighbour][pair] + position]
        shared = place[row[pair], event_items]
        # the event whose item the history has most recently, the last one of them
        base = len(self.store.items)
        anchor = np.maximum.reduceat(shared * base + position, first) % base if len(first) else first
        weights = nearness[pair] * self.neighbour_decay ** np.abs(position - anchor[pair])
        if not self.recommend_shared:
            weights[shared > 0] = 0.0
        cells = row[pair] * self.n_items + event_items
        return np.bincount(cells, weights, place.size).reshape(place.shape).astype(np.float32)


def _nearest(nearness: csr_matrix, own: ndarray, most: int) -> tuple[ndarray, ndarray, ndarray]:
    """(row, history, nearness) of the ``most`` nearest histories of each row, and of all that are as near as the last.

    nearness float32 [B, U]; own int64 [B]: the history that is the row's own. Ties stay together, so that how users
    are numbered decides nothing.
    """
    rows, columns, values = [], [], []
    for row in range(nearness.shape[0]):
        entries = slice(nearness.indptr[row], nearness.indptr[row + 1])
        column, value = nearness.indices[entries], nearness.data[entries]
        kept = column != own[row]
        column, value = column[kept], value[kept]
        if len(value) > most:
            near = value >= np.partition(value, -most)[-most]
            column, value = column[near], value[near]
        rows.append(np.full(len(column), row))
        columns.append(column)
        values.append(value)
    return tuple(np.concatenate(parts) for parts in (rows, columns, values))
