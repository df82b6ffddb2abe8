"""Neighbours by text: an item is scored by how its text resembles those of the history; events do not count."""

import numpy as np

from recbole_metarec.baselines.base import HistoryRecommender, weighted_histories


class TextKNN(HistoryRecommender):
    """Sum of cosines of text vectors, decayed from the last event; an item is not its own neighbour."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        vectors = dataset.text_vectors.target
        self.vectors = vectors / np.float32(np.sqrt(vectors.shape[1]))  # of length 1, or 0 without a text
        self.self_similarity = (self.vectors**2).sum(axis=1)
        self.decay = config["history_decay"]

    def scores_of(self, items, lengths, users):
        """Decayed sum of cosines, without those of an item with itself."""
        history = weighted_histories(items, lengths, self.decay, self.n_items)
        scores = (history @ self.vectors) @ self.vectors.T
        entries = history.tocoo()
        scores[entries.row, entries.col] -= entries.data * self.self_similarity[entries.col]
        return scores
