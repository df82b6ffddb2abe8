"""LRURec as a RecBole sequential recommender."""

import torch
from torch import Tensor

from recbole_metarec.data.pair_counts import PairCounts
from recbole_metarec.model.base import EveryPositionRecommender
from recbole_metarec.model.item_memory import HIDDEN
from recbole_metarec.model.losses import negatives_distribution
from recbole_metarec.model.lru_network import LRUNetwork

_SHARE = 0.3  # of the encoder beside an item memory under RecBole's Trainer, whose validation chooses none


class LRURecommender(EveryPositionRecommender):
    """Gives an :class:`LRUNetwork` what it needs from RecBole's config and dataset."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.seed = config["seed"]
        self._loss_stream: torch.Generator | None = None

    def _sizes(self, config, pairs: PairCounts | None) -> dict:
        """The arguments of the network's constructor. pairs: of an item memory, None without one."""
        return {
            "n_items": self.n_items,
            "width": config["embedding_size"],
            "n_layers": config["n_layers"],
            "longest": self.max_seq_length,
            "dropout_prob": config["dropout_prob"],
            "ring": (config["lru_r_min"], config["lru_r_max"]),
            "text_width": config["text_width"] if config["text_alignment"] else 0,
            "text_dropout_prob": config["text_dropout_prob"],
            "target_negatives": config["target_negatives"],
            "seen_offset": config["seen_offset"],
            "memory_pairs": 0 if pairs is None else len(pairs.neighbours),
            "memory_hidden": HIDDEN if config["memory_form"] == "network" else 0,
            "memory_text_width": config["text_width"] if _compares_texts(config) else 0,
        }

    def _set_counts(self, dataset, pairs: PairCounts | None) -> None:
        """Fills the item memory, and sets the distribution of sampled negatives by the counts in training, if the
        dataset has a training part."""
        if pairs is not None:
            self.memory.pairs.fill(pairs)
        trained = getattr(dataset, "trained", None)
        if trained is not None:
            self.popularity = negatives_distribution(dataset.store.item_counts(trained), torch.device("cpu"))

    def calculate_loss(self, interaction) -> Tensor:
        """Loss of a batch of this package's loader (every position) or of RecBole's prefix rows (the last position)."""
        if self._loss_stream is None or self._loss_stream.device != interaction[self.ITEM_SEQ].device:
            self._loss_stream = torch.Generator(interaction[self.ITEM_SEQ].device).manual_seed(self.seed)
            if self.training and self.memory is not None and not self.lru_share:
                self.lru_share.fill_(_SHARE)
        generator = self._loss_stream if self.training else None
        return self.target_loss(dict(self.named_parameters()), self.batch_of(interaction), generator)


class LRURec(LRUNetwork, LRURecommender):
    """Linear Recurrent Units for Sequential Recommendation (Yue et al., WSDM 2024)."""

    network = LRUNetwork

    def __init__(self, config, dataset):
        LRURecommender.__init__(self, config, dataset)
        pairs = memory_pairs(config, dataset)
        LRUNetwork.__init__(self, **self._sizes(config, pairs))
        self._set_counts(dataset, pairs)


def memory_pairs(config, dataset) -> PairCounts | None:
    """The pair counts of an item memory, None without one: of training events only, even if the dataset is not split
    yet."""
    if not config["item_memory"]:
        return None
    store, kept = dataset.store, dataset.trained
    if kept is None:
        kept = dataset.split.trained
    return PairCounts.of(store, kept, config["memory_neighbours"])


def _compares_texts(config) -> bool:
    return config["text_alignment"] if config["memory_texts"] == "auto" else config["memory_texts"]
