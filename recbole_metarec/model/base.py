"""What this package's models share as RecBole models: a network behind RecBole's interface of sequential models."""

from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor

from recbole_metarec.data.batches import TARGET_LIST, SequenceBatch


class EveryPositionRecommender(SequentialRecommender):
    """A causal network as RecBole sees it. It can learn from every position of a history at once.

    A model inherits from a :class:`~recbole_metarec.model.network.SequenceNetwork` and from this class, in that order.
    Its constructor calls this class's first, which creates no parameter, and then the network's.
    """

    def batch_of(self, interaction) -> SequenceBatch:
        """The interaction's sequences with a target at each real position, or at the last one only."""
        inputs = interaction[self.ITEM_SEQ]
        if TARGET_LIST in interaction:
            return SequenceBatch(inputs, interaction[TARGET_LIST])
        last = (interaction[self.ITEM_SEQ_LEN] - 1)[:, None]
        targets = inputs.new_zeros(inputs.shape).scatter_(1, last, interaction[self.POS_ITEM_ID][:, None])
        return SequenceBatch(inputs, targets)

    def predict(self, interaction) -> Tensor:
        """Score of one item for each row: [B]."""
        states = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return self.score_of(states, interaction[self.ITEM_ID])

    def full_sort_predict(self, interaction) -> Tensor:
        """Score of every item for each row: [B, n_items]."""
        return self.score(self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]))
