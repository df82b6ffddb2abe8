"""What the models of this package have in common as RecBole models."""

from collections.abc import Callable, Mapping

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor

from recbole_metarec.data.batches import TARGET_LIST, SequenceBatch


class EveryPositionRecommender(SequentialRecommender):
    """A causal model, which may learn from every position of a history at once.

    target_negatives: negatives of a sampled softmax on the target, 0 for the whole catalogue.
    """

    target_negatives = 0
    _kept = None

    def kept(self, make: Callable):
        """What ``make`` gives of the items, made once while nothing moves: it costs more than a user's state."""
        if self._kept is not None and not torch.is_grad_enabled():
            return self._kept
        found = make()
        if not self.training and not torch.is_grad_enabled():
            self._kept = found
        return found

    def train(self, mode: bool = True):
        """Forgets what was kept."""
        self._kept = None
        return super().train(mode)

    def load_state_dict(self, *args, **kwargs):
        """Forgets what was kept."""
        self._kept = None
        return super().load_state_dict(*args, **kwargs)

    def _apply(self, *args, **kwargs):
        """PyTorch's hook for another device or type of number."""
        self._kept = None
        return super()._apply(*args, **kwargs)

    def deployed_weights(self) -> dict[str, Tensor]:
        """What a saved model holds."""
        return self.state_dict()

    def completed(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Weights for this model out of those of a saved one."""
        return weights

    def batch_of(self, interaction) -> SequenceBatch:
        """The interaction's sequences and targets, one target per real position or only the last one."""
        inputs = interaction[self.ITEM_SEQ]
        if TARGET_LIST in interaction:
            return SequenceBatch(inputs, interaction[TARGET_LIST])
        last = (interaction[self.ITEM_SEQ_LEN] - 1)[:, None]
        targets = torch.zeros_like(inputs).scatter_(1, last, interaction[self.POS_ITEM_ID][:, None])
        return SequenceBatch(inputs, targets)
