"""Linear models with a closed form: item-item weights that reconstruct histories, or what follows in them."""

import numpy as np
from numpy import ndarray
from recbole.model.general_recommender.ease import EASE
from scipy.linalg import lapack
from scipy.sparse import csr_matrix, identity

from recbole_metarec.baselines.base import (
    HistoryRecommender,
    check_dense_weights,
    item_sets,
    training_histories,
    weighted_histories,
)
from recbole_metarec.data.sequences import SequenceStore


class LinearRecommender(HistoryRecommender):
    """Scores are a history times dense weights float32 [n_items, n_items]."""

    weights: ndarray
    decay = 1.0

    def scores_of(self, items, lengths, users):
        """Sum of weights over the events of the history, decayed from the last one."""
        return weighted_histories(items, lengths, self.decay, self.n_items) @ self.weights


class SequentialEASE(LinearRecommender):
    """RecBole's EASE (Steck, WWW 2019) for sequential rows: its weights, summed over a row's own history."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        check_dense_weights(type(self).__name__, self.n_items, 4, 4)
        self.weights = np.asarray(EASE(config, dataset).item_similarity)


class EASEDecay(SequentialEASE):
    """EASE, asked with a history in which recent events count more."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.decay = config["history_decay"]


class SLIST(LinearRecommender):
    """Session-aware linear item-item models (Choi et al., WWW 2021), without their decay by the age of a session.

    B minimises alpha ||X - X B||^2 + (1 - alpha) ||T - S B||^2 + reg ||B||^2 with B_jj <= ``diagonal_limit``. Rows of X
    are whole histories; rows of S and T are what lies before and after each cut of one, up to ``pair_window`` events,
    decayed from the cut by ``pair_decay``.
    """

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        check_dense_weights("SLIST", self.n_items, 4, 8)
        store = training_histories(dataset)
        alpha = config["slis_share"]
        whole, (past, future) = item_sets(store), _cuts(store, config["pair_window"], config["pair_decay"])
        gram = alpha * (whole.T @ whole)
        of_inputs, to_targets = (gram + (1 - alpha) * (past.T @ other) for other in (past, future))
        self.weights = linear_weights(of_inputs, to_targets, config["reg_weight"], config["diagonal_limit"])
        self.decay = config["history_decay"]


def linear_weights(of_inputs: csr_matrix, to_targets: csr_matrix, reg: float, diagonal_limit: float) -> ndarray:
    """B float32 [n, n] of min ||Y - X B||^2 + reg ||B||^2 with B_jj <= diagonal_limit.

    of_inputs: X^T X, to_targets: X^T Y, float64 [n, n]. Each column's multiplier is zero, or what brings its diagonal
    down to the limit.
    """
    inverse = _inverse((of_inputs + reg * identity(of_inputs.shape[0])).toarray())
    weights = (to_targets.T @ inverse).T  # the inverse is symmetric
    over = np.maximum(0.0, np.diag(weights) - diagonal_limit)
    inverse *= over / np.diag(inverse)
    weights -= inverse
    return weights.astype(np.float32)


def _inverse(matrix: ndarray) -> ndarray:
    """Of a symmetric positive definite matrix float64 [n, n], which is overwritten: a third of the work of LAPACK's
    general one."""
    factor, fault = lapack.dpotrf(matrix.T, overwrite_a=True)
    inverse, fault = lapack.dpotri(factor, overwrite_c=True) if not fault else (factor, fault)
    if fault:
        raise np.linalg.LinAlgError("not positive definite")
    upper = np.triu(inverse)
    return upper + np.triu(upper, 1).T


def _cuts(store: SequenceStore, window: int, decay: float) -> tuple[csr_matrix, csr_matrix]:
    """What lies before each event, and from it on: two matrices float64 [events, n_items].

    Both reach ``window`` events, the nearest counting 1. A user's first event has nothing before it, and adds nothing.
    """
    events = np.arange(len(store.items))
    user = np.repeat(np.arange(len(store.users)), store.lengths)
    window = min(window, int(store.lengths.max()))

    def side(offsets) -> csr_matrix:
        entries = []
        for steps, offset in enumerate(offsets):
            other = events + offset
            other_user = user[np.clip(other, 0, len(user) - 1)]
            real = (other >= 0) & (other < len(events)) & (other_user == user)
            entries.append((np.full(real.sum(), decay**steps), events[real], store.items[other[real]]))
        data, row, column = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        return csr_matrix((data, (row, column)), shape=(len(events), store.n_items))

    return side(range(-1, -window - 1, -1)), side(range(window))
