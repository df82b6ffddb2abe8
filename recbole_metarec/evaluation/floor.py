"""Popularity and item-kNN on the validation rows: the floor that a trained model must rise above."""

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags

from recbole_metarec.evaluation.ranking import both_ranks_of, rows_at_once
from recbole_metarec.evaluation.seen import SeenItems

_MOST_PAIRS = 50_000_000  # pairs of items in one history; counting more would take too long for a quick check
_ROWS = 256  # scored at once, at most


def floor_ranks(users: np.ndarray, items: np.ndarray, rows: tuple, n_items: int, seen: SeenItems) -> dict:
    """Ranks of the validation rows' items by each method: name -> (with seen items, without), int64 [R] each.

    users, items: int [N], every training event. rows: users and held-out items, int [R] each. n_items: padding
    included. item-kNN is left out if it would have to count too many pairs.
    """
    row_users, targets = rows
    counts = np.bincount(items, minlength=n_items).astype(np.float32)
    ranks = {"popularity": _ranked(lambda part: np.broadcast_to(counts, (len(part), n_items)), n_items, targets, seen)}
    sets = csr_matrix((np.ones(len(items), np.float32), (users, items)), shape=(int(users.max()) + 1, n_items))
    sets.data[:] = np.minimum(sets.data, 1.0)
    if np.square(np.diff(sets.indptr), dtype=np.float64).sum() <= _MOST_PAIRS:
        scale = diags(1.0 / np.sqrt(np.maximum(np.asarray(sets.sum(axis=0)).ravel(), 1.0)))
        similarity = (scale @ (sets.T @ sets) @ scale).tolil()
        similarity.setdiag(0.0)
        similarity, histories = similarity.tocsr(), sets[row_users]
        ranks["item-kNN"] = _ranked(lambda part: (histories[part] @ similarity).toarray(), n_items, targets, seen)
    return ranks


def _ranked(scores_of, n_items: int, targets: np.ndarray, seen: SeenItems) -> tuple[np.ndarray, np.ndarray]:
    ranks, step = [], min(_ROWS, rows_at_once(n_items))
    for start in range(0, len(targets), step):
        part = np.arange(start, min(start + step, len(targets)))
        scores = torch.from_numpy(np.array(scores_of(part), dtype=np.float32))
        rows, items = (torch.from_numpy(numbers) for numbers in seen.of_rows(part))
        ranks.append(both_ranks_of(scores, torch.from_numpy(targets[part]), rows, items))
    return tuple(torch.cat(parts).numpy() for parts in zip(*ranks))
