"""The best items for many histories at once, for recommendations in bulk."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from recbole_metarec.data.sequences import SequenceStore
from recbole_metarec.evaluation.ranking import chunk_sizes, rows_at_once

_USERS_PER_POOL = 8192  # users that are sorted by length together, so that rows in a chunk need little padding


class Best(NamedTuple):
    """For each of U users, in order: the items int64 [U, k], best first, and their scores float32 [U, k].

    If fewer than k items are left, the rest of a row is item 0 with score -inf.
    """

    items: np.ndarray
    scores: np.ndarray


@torch.no_grad()
def best_items(network, store: SequenceStore, k: int, include_seen: bool, device) -> Iterator[Best]:
    """Yields the k best items after each history of ``store``, for consecutive parts of its users.

    network: a :class:`~recbole_metarec.model.network.SequenceNetwork`. store: no history may be empty; its user ids are
    the network's numbers of the users, 0 for an unknown user. k: places, at most all items. include_seen: whether items
    of a user's whole history may be among the best.
    """
    k = min(k, store.n_items - 1)
    for start in range(0, len(store.users), _USERS_PER_POOL):
        pool = store.of_users(np.arange(start, min(start + _USERS_PER_POOL, len(store.users))))
        lengths = np.minimum(pool.lengths, network.longest)
        order = np.argsort(lengths, kind="stable")
        sizes = chunk_sizes(lengths[order].tolist(), rows_at_once(store.n_items))
        best = Best(np.zeros((len(order), k), np.int64), np.zeros((len(order), k), np.float32))
        for rows in np.split(order, np.cumsum(sizes)[:-1]):
            scores = _scores(network, pool, rows, int(lengths[rows].max()), device)
            scores[:, 0] = float("-inf")
            if not include_seen:
                seen = pool.of_users(rows)
                at = np.repeat(np.arange(len(rows)), seen.lengths), seen.items.astype(np.int64)
                scores[tuple(torch.from_numpy(places).to(device) for places in at)] = float("-inf")
            values, items = (part.cpu().numpy() for part in scores.topk(k))
            best.items[rows], best.scores[rows] = np.where(np.isneginf(values), 0, items), values
        yield best


def _scores(network, store: SequenceStore, rows: np.ndarray, width: int, device) -> torch.Tensor:
    """Scores of every item for the users ``rows`` of the store, from their latest ``width`` events: [B, n_items]."""
    index, real = store.prefix_rows(rows, store.lengths[rows], width)
    items = np.where(real, store.items[index], 0).astype(np.int64)
    inputs = [items, real.sum(axis=1)] + ([store.users[rows]] if network.users else [])
    return network.score(network(*(torch.from_numpy(values).to(device) for values in inputs)))
