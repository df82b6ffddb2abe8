"""The best items for many histories at once: what recommendations in bulk are made of."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from recbole_metarec.data.sequences import SequenceStore
from recbole_metarec.evaluation.ranking import chunk_sizes, rows_at_once

_USERS_PER_POOL = 8192  # sorted by length among themselves, so that rows of like length share their padding


class Best(NamedTuple):
    """For each of U users, in their order: the items int64 [U, k], best first, and their scores float32 [U, k].

    Where fewer items are left than k, the rest of a row is item 0 at minus infinity.
    """

    items: np.ndarray
    scores: np.ndarray


@torch.no_grad()
def best_items(network, store: SequenceStore, k: int, include_seen: bool, device) -> Iterator[Best]:
    """The k best items after each history of ``store``, in parts that follow one another. No history may be empty.

    network: a :class:`~recbole_metarec.model.network.SequenceNetwork`.
    The ids of the store's users are those that the network knows them by, 0 for a stranger. include_seen: whether
    items of a user's whole history may be among the best.
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
            values, items = (found.cpu().numpy() for found in scores.topk(k))
            best.items[rows], best.scores[rows] = np.where(np.isneginf(values), 0, items), values
        yield best


def _scores(network, store: SequenceStore, rows: np.ndarray, width: int, device) -> torch.Tensor:
    """Of every item for the users ``rows`` of the store, whose latest ``width`` events are read: [B, n_items]."""
    index, real = store.prefix_rows(rows, store.lengths[rows], width)
    items = np.where(real, store.items[index], 0).astype(np.int64)
    given = [items, real.sum(axis=1)] + ([store.users[rows]] if network.users else [])
    return network.score(network(*(torch.from_numpy(values).to(device) for values in given)))
