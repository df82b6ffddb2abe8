"""Approximate search in a large catalogue: the best items without a score of every one.

A score of LRURec and MetaRec is an inner product of what is known of the user with what is known of the item, and
offsets of a few items: those of the history and, with an item memory, their neighbours. faiss finds the items with the
largest inner products in the cells of the catalogue that are nearest to the user; the items with offsets join them, and
all of these are scored exactly. So a score is never wrong, and an item is missed only if it has no offset and stands in
a cell that was not looked into.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from recbole_metarec.errors import DataError
from recbole_metarec.model.losses import Offsets
from recbole_metarec.model.lru_network import LRUNetwork, Reading
from recbole_metarec.model.memory_cells import cells_of
from recbole_metarec.model.seen_offset import seen_places
from recbole_metarec.serve import Recommender

_PER_CELL = 256  # items, about: looking into cells then costs as much as choosing them
_PASSES, _SAMPLE = 10, 64  # of k-means that finds the cells, and the items of each that it reads


class ItemSearch:
    """The items of a model, in cells: for ``recommend`` and ``top`` of its Recommender.

    probes: the share of the cells that a search looks into, in (0, 1]; with 1 it is exact. Raises DataError without
    faiss, and for models other than LRURec and MetaRec.

    >>> search = ItemSearch(recommender)                           # doctest: +SKIP
    >>> recommender.recommend(["B00001"], search=search)           # doctest: +SKIP
    """

    def __init__(self, recommender: Recommender, probes: float = 0.05):
        network = recommender.network
        if not isinstance(network, LRUNetwork):
            raise DataError(f"{type(network).__name__}: approximate search is for LRURec and MetaRec; leave it out")
        if not 0 < probes <= 1:
            raise DataError(f"probes is {probes}; give a share of the catalogue above 0 and up to 1, such as 0.05")
        self._recommender, self._network, self._vectors = recommender, network, dense_items(network)
        self._index = _index_of(self._vectors[1:].float().cpu().numpy(), probes)

    def recall(self, histories: Iterable[Iterable[str]], k: int = 10) -> float:
        """The share of the k best items after each of some histories that are found, their mean."""
        shares = []
        for history in histories:
            best, found = (self._recommender.recommend(history, k, search=search) for search in (None, self))
            found = {item for item, _ in found}
            shares.append(sum(item in found for item, _ in best) / max(1, len(best)))
        return float(np.mean(shares))

    @torch.no_grad()
    def top(self, output: Tensor | Reading, k: int, exclude: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Of one user, as the network's ``forward`` has it: the best items by number, and their scores, best first.

        exclude: numbers of items that are not wanted.
        """
        query, offsets = dense_query(self._network, output)
        excluded = torch.tensor(list(exclude), dtype=torch.int64, device=query.device)
        items = torch.unique(torch.cat([excluded, *(part.places.items for part in offsets)]))
        added = query.new_zeros(len(items))
        for part in offsets:
            added = added.index_add(0, torch.searchsorted(items, part.places.items), part.values)
        added[torch.isin(items, excluded)] = float("-inf")
        # each item that sinks may stand among the largest products, in the place of one that belongs there
        wanted = min(k + int((added < 0).sum()), self._index.ntotal)
        found = torch.from_numpy(self._index.search(query.float().cpu().numpy(), wanted)[1][0]).to(query.device) + 1
        found = found[(found > 0) & ~torch.isin(found, items)]  # where the cells hold fewer, the rest is -1
        items, added = torch.cat([items, found]), torch.cat([added, added.new_zeros(len(found))])
        scores = (query @ self._vectors[items].T)[0] + added
        best = scores.topk(min(k, len(items)))
        return items[best.indices], best.values


def dense_items(network: LRUNetwork) -> Tensor:
    """What the dense part of every score is made of: [n_items, w], padding in row 0."""
    with torch.no_grad():
        memory, bias = network.memory, network.item_bias
        if memory is None:
            return torch.cat([network.table, bias[:, None]], dim=1)
        bias = torch.lerp(memory.head.base(memory.pairs.popularity) + memory.item_bias, bias, network.lru_share)
        texts = [] if memory.texts is None else [memory.text_vectors]
        return torch.cat([network.table, bias[:, None], *texts], dim=1)


def dense_query(network: LRUNetwork, output: Tensor | Reading) -> tuple[Tensor, list[Offsets]]:
    """Of one user: [1, w], whose product with :func:`dense_items` is the dense part of the scores, and the offsets."""
    if not network.reads_history:
        return torch.cat([output, output.new_ones(1, 1)], dim=1), []
    state, history = output
    last = (history > 0).sum(dim=1) - 1
    seen = [] if network.seen is None else [network.seen(seen_places(history, last))]
    memory, share = network.memory, network.lru_share
    if memory is None:
        return torch.cat([state, state.new_ones(1, 1)], dim=1), seen
    cells = cells_of(memory.pairs, history, history, last)
    texts = [] if memory.texts is None else [(1 - share) * memory.texts(cells.latest, memory.text_vectors)]
    near = memory.offsets(cells, memory.pairs.lift)
    offsets = [part._replace(values=share * part.values) for part in seen]
    offsets.append(near._replace(values=(1 - share) * near.values))
    return torch.cat([share * state, state.new_ones(1, 1), *texts], dim=1), offsets


def _index_of(vectors: np.ndarray, probes: float):
    try:
        import faiss
    except ImportError as error:
        raise DataError("approximate search needs faiss; pip install 'recbole-metarec[search]'") from error
    cells = max(1, len(vectors) // _PER_CELL)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = _PASSES, _SAMPLE, 1
    index.train(vectors)
    index.add(vectors)
    index.nprobe = max(1, round(probes * cells))
    return index
