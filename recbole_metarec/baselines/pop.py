"""Popularity: every user is shown the items with most training events. The floor that every model must beat.

RecBole's Pop is made for data without order, with a split of its own; this one counts what sequential models train on.
"""

import numpy as np

from recbole_metarec.baselines.base import HistoryRecommender, training_histories


class SequentialPop(HistoryRecommender):
    """The number of an item's training events, which is exact in float32 up to 2^24."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        store = training_histories(dataset)
        self.counts = store.item_counts(store.lengths).astype(np.float32)

    def scores_of(self, items, lengths, users):
        """The same scores for every row."""
        return np.broadcast_to(self.counts, (len(items), self.n_items))
