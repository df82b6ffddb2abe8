"""MetaRec as a RecBole sequential recommender."""

import numpy as np
import torch
from torch import Tensor

from recbole_metarec.model.lru_network import LRUNetwork
from recbole_metarec.model.lrurec import LRURecommender, memory_pairs
from recbole_metarec.model.metarec_network import MetaRecNetwork


class MetaRec(MetaRecNetwork, LRURecommender):
    """Transferable Sequential Recommendation via Vector Quantized Meta Learning (arXiv 2411.01785).

    Under RecBole's own Trainer :meth:`calculate_loss` is the target's loss alone. The meta transfer needs this
    package's trainer, which calls ``source_loss`` and ``target_loss`` under trial weights.
    """

    network = LRUNetwork

    def __init__(self, config, dataset):
        LRURecommender.__init__(self, config, dataset)
        pairs = memory_pairs(config, dataset)
        MetaRecNetwork.__init__(
            self,
            **self._sizes(config, pairs),
            vq_heads=config["vq_heads"],
            codebook_gradient=config["codebook_gradient"],
            penalties=(config["codebook_weight"], config["commitment_weight"]),
            quantize_output=config["quantize_output"],
            source_negatives=config["source_negatives"],
        )
        self._set_counts(dataset, pairs)
        self.candidate_codes = _popular_items(config["vq_codes"], dataset)
        self._warned = False

    def calculate_loss(self, interaction) -> Tensor:
        """The target's loss alone, for RecBole's own Trainer; warns of that once."""
        if not self._warned:
            self._warned = True
            self.logger.warning(
                "MetaRec under a plain Trainer learns from the target alone; run_recbole trains it with its sources"
            )
        return super().calculate_loss(interaction)


def _popular_items(count: int | str, dataset) -> Tensor | None:
    """Rows of the target's table that may be codes, int64 ascending; None for all. Items unseen in training may not."""
    if getattr(dataset, "trained", None) is None:
        return None
    counts = dataset.store.item_counts(dataset.trained)[1:]
    seen = int((counts > 0).sum())
    wanted = seen if count == "all" else min(count, seen)
    if wanted == len(counts):
        return None
    return torch.from_numpy(1 + np.sort((-counts).argsort(kind="stable")[:wanted]))
