"""UniSRec as a RecBole sequential recommender."""

from torch import Tensor

from recbole_metarec.model.base import EveryPositionRecommender
from recbole_metarec.model.unisrec_network import UniSRecNetwork


class UniSRec(UniSRecNetwork, EveryPositionRecommender):
    """Towards Universal Sequence Representation Learning for Recommender Systems (Hou et al., KDD 2022)."""

    network = UniSRecNetwork

    def __init__(self, config, dataset):
        EveryPositionRecommender.__init__(self, config, dataset)
        UniSRecNetwork.__init__(
            self,
            n_items=self.n_items,
            width=config["embedding_size"],
            text_width=config["text_width"],
            longest=self.max_seq_length,
            n_layers=config["n_layers"],
            n_heads=config["n_heads"],
            experts=config["adaptor_experts"],
            with_ids=config["item_vectors"] == "text_and_id",
            temperature=config["score_temperature"],
            dropout_prob=config["dropout_prob"],
            adaptor_dropout_prob=config["adaptor_dropout_prob"],
            contrast_weight=config["contrast_weight"],
            drop_ratio=config["drop_ratio"],
            word_drop_share=config["word_drop_share"],
            frozen_encoder=config["frozen_encoder"],
        )

    def calculate_loss(self, interaction) -> Tensor:
        """Loss of a batch of this package's loader (every position) or of RecBole's prefix rows (the last one)."""
        return self.next_item_loss(self.batch_of(interaction))
