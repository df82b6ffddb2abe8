"""What the baselines have in common: models that are fitted from the training histories when they are made.

None is trained by gradients, draws a random number or keeps a weight in its checkpoint: made anew from the same data
and config, a model scores as before. All score a row from the history that every sequential model gets in that row,
seen items included, so that one ranking serves all.
"""

import numpy as np
import psutil
import torch
from numpy import ndarray
from recbole.model.abstract_recommender import SequentialRecommender
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from recbole_metarec.data.sequences import SequenceStore
from recbole_metarec.errors import ConfigError

_SCORES_PER_CHUNK = 1 << 22  # 16 MiB of float32 beside the answer, whatever the catalogue and the batch size


class HistoryRecommender(SequentialRecommender):
    """A baseline as RecBole sees it. A subclass fits itself in its constructor and has ``scores_of``."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.nothing = nn.Parameter(torch.zeros(0))  # RecBole's trainers make an optimiser of some parameter

    def scores_of(self, items: ndarray, lengths: ndarray, users: ndarray) -> ndarray:
        """Scores float32 [B, n_items] of histories int64 [B, L], padded behind ``lengths`` int64 [B].

        users int64 [B]: whose histories they are.
        """
        raise NotImplementedError

    def calculate_loss(self, interaction) -> Tensor:
        """Zero: nothing is left to be learned."""
        return self.nothing.sum()

    def full_sort_predict(self, interaction) -> Tensor:
        """Score of every item for each row: [B, n_items]."""
        columns = (self.ITEM_SEQ, self.ITEM_SEQ_LEN, self.USER_ID)
        items, lengths, users = (interaction[column].cpu().numpy() for column in columns)
        rows = max(1, _SCORES_PER_CHUNK // self.n_items)
        chunks = [slice(start, start + rows) for start in range(0, len(items), rows)]
        scores = np.empty((len(items), self.n_items), dtype=np.float32)
        for chunk in chunks:
            scores[chunk] = self.scores_of(items[chunk], lengths[chunk], users[chunk])
        return torch.from_numpy(scores).to(interaction[self.ITEM_SEQ].device)

    def predict(self, interaction) -> Tensor:
        """Score of one item for each row: [B]."""
        return self.full_sort_predict(interaction).gather(1, interaction[self.ITEM_ID][:, None])[:, 0]


def training_histories(dataset) -> SequenceStore:
    """Every user's training events, oldest first. dataset: the training part of a target."""
    events = dataset.inter_feat
    return SequenceStore.from_events(
        events[dataset.uid_field].numpy(), events[dataset.iid_field].numpy(), dataset.item_num
    )


def item_sets(store: SequenceStore) -> csr_matrix:
    """Which items each user's history has: float64 [U, n_items], 0 or 1."""
    shape = len(store.users), store.n_items
    sets = csr_matrix((np.ones(len(store.items)), store.items, store.offsets), shape=shape, copy=True)
    sets.sum_duplicates()  # in place, and so on a copy
    sets.data[:] = 1.0
    return sets


def weighted_histories(items: ndarray, lengths: ndarray, decay: float, n_items: int) -> csr_matrix:
    """Histories as rows float32 [B, n_items]: an event that p others follow adds decay^p to its item.

    items int64 [B, L], padded behind lengths int64 [B]; decay in (0, 1].
    """
    row, column = np.nonzero(np.arange(items.shape[1]) < lengths[:, None])
    weights = decay ** (lengths[row] - 1.0 - column)
    shape = len(items), n_items
    return csr_matrix((weights.astype(np.float32), (row, items[row, column])), shape=shape)


def check_dense_weights(model: str, n_items: int, matrices: int, bytes_each: int) -> None:
    """Raises ConfigError if that many matrices [n_items, n_items] do not fit in memory, naming the ``model``."""
    needed, free = matrices * bytes_each * n_items**2, psutil.virtual_memory().available
    if needed > free:
        raise ConfigError(
            f"{model}: its weights between {n_items} items take {needed / 2**30:.1f} GiB of memory, "
            f"{free / 2**30:.1f} are free; leave {model} out, or filter items with item_inter_num_interval"
        )
