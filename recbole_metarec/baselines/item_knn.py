"""Item-based neighbourhood methods: an item is scored by its similarity to the items of the history."""

import numpy as np
from recbole.model.general_recommender.itemknn import ComputeSimilarity
from scipy.sparse import csr_matrix

from recbole_metarec.baselines.base import HistoryRecommender, training_histories, weighted_histories
from recbole_metarec.data.sequences import SequenceStore


class SequentialItemKNN(HistoryRecommender):
    """RecBole's ItemKNN for sequential rows: its similarities, summed over a row's own history."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        matrix = dataset.inter_matrix(form="csr").astype(np.float32)
        _, similarity = ComputeSimilarity(matrix, topk=config["k"], shrink=config["shrink"]).compute_similarity()
        self.similarity = similarity.tocsr()

    def scores_of(self, items, lengths, users):
        """Sum of similarities to the events of the history, each of which counts alike."""
        return (weighted_histories(items, lengths, 1.0, self.n_items) @ self.similarity).toarray()


class ItemKNNDecay(HistoryRecommender):
    """Items near each other in histories are neighbours, the more the nearer, and recent events count more.

    Similarity of j to i: the decayed count of j after i, and ``backward_weight`` times that of j before i, over
    sqrt(n_i n_j) + ``shrink``; a little popularity decides between items without any.
    """

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        store = training_histories(dataset)
        counts = store.item_counts(store.lengths)
        pairs = followers(store, config["pair_window"], config["pair_decay"])
        pairs = (pairs + config["backward_weight"] * pairs.T).tocoo()
        scale = np.sqrt(counts[pairs.row] * counts[pairs.col].astype(np.float64)) + config["shrink"]
        places = pairs.row, pairs.col
        self.similarity = csr_matrix(((pairs.data / scale).astype(np.float32), places), shape=pairs.shape)
        popularity = np.log1p(counts)
        self.prior = (config["popularity_weight"] * popularity / popularity.max()).astype(np.float32)
        self.decay = config["history_decay"]

    def scores_of(self, items, lengths, users):
        """Sum of similarities to the events of the history, decayed from the last one, and the prior."""
        history = weighted_histories(items, lengths, self.decay, self.n_items)
        return (history @ self.similarity).toarray() + self.prior


def followers(store: SequenceStore, window: int, decay: float) -> csr_matrix:
    """How often item j comes after item i: float64 [n_items, n_items], decay^(lag - 1) for each pair of events.

    window: the longest lag, in events of the same history; decay in (0, 1].
    """
    total = csr_matrix((store.n_items, store.n_items))
    for lag, first, second in store.pairs(store.lengths, range(1, min(window, int(store.lengths.max()) - 1) + 1)):
        total += csr_matrix((np.full(len(first), decay ** (lag - 1.0)), (first, second)), shape=total.shape)
    return total
