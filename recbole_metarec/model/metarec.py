"""MetaRec: LRURec whose training also reads source domains through the target's item table (arXiv 2411.01785).

The model holds the target's parameters only. Source item tables belong to the trainer and die with it, so a saved
model serves without any source and costs what LRURec costs.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.model.lrurec import LRURec, Parameters
from recbole_metarec.model.quantizer import quantize


@dataclass(frozen=True)
class SourceItems:
    """Item table [n_i, d] and bias [n_i] of a source; popularity [n_i] is the distribution of sampled negatives, texts
    [n_i, w] are its items' text vectors where they are read."""

    table: Tensor
    bias: Tensor
    popularity: Tensor | None = None
    texts: Tensor | None = None


class MetaRec(LRURec):
    """Transferable Sequential Recommendation via Vector Quantized Meta Learning.

    Under RecBole's plain Trainer :meth:`calculate_loss` is the target's loss alone; the meta transfer is done by this
    package's trainer, which calls :meth:`source_loss` and :meth:`target_loss` under trial weights.
    """

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.vq_heads = config["vq_heads"]
        self.codebook_gradient = config["codebook_gradient"]
        self.codebook_weight = config["codebook_weight"]
        self.commitment_weight = config["commitment_weight"]
        self.quantize_output = config["quantize_output"]
        self.source_negatives = config["source_negatives"]
        self.register_buffer("candidate_codes", self._popular_items(config["vq_codes"], dataset), persistent=False)
        self._warned = False

    def _popular_items(self, count: int | str, dataset) -> Tensor | None:
        """Target rows that may be codes, ascending; None: all. An item that training has never seen is no code."""
        if getattr(dataset, "trained", None) is None:
            return None
        counts = dataset.store.item_counts(dataset.trained)[1:]
        seen = int((counts > 0).sum())
        wanted = seen if count == "all" else min(count, seen)
        return (
            None if wanted == len(counts) else torch.from_numpy(1 + np.sort((-counts).argsort(kind="stable")[:wanted]))
        )

    def calculate_loss(self, interaction) -> Tensor:
        """The target's loss alone, for RecBole's plain Trainer; says so once."""
        if not self._warned:
            self._warned = True
            self.logger.warning("MetaRec under a plain Trainer learns from the target alone; MetaRecTrainer transfers")
        return super().calculate_loss(interaction)

    def source_loss(
        self,
        parameters: Parameters,
        source: SourceItems,
        batch: SequenceBatch,
        generator: torch.Generator | None = None,
        plain: bool = False,
        rows_only: bool = False,
    ) -> Tensor:
        """L_src: next-item loss of quantized source sequences, plus codebook and commitment loss (MetaRec, section 3).

        The sequence is read through the codebook, the answer is sought in the source's own table. Vector quantization
        losses are means over the unique items of the batch. rows_only: the gradient of the source's table is a sparse
        tensor of the rows that were read; needs a sampled softmax over items that are neither quantized nor text.
        """
        whole = self.source_table(parameters, source)
        items, place = torch.unique(batch.inputs, return_inverse=True)
        padded = int(items[0] == 0)  # items are sorted: padding, where there is any, comes first
        own = self._read(parameters, source, whole, items[padded:], generator, rows_only)
        codebook = self.item_table(parameters)
        vectors, penalty = self._through_codebook(codebook, own)
        vectors = F.pad(vectors, (0, 0, padded, 0))
        states = self.encode(parameters, F.embedding(place, vectors), generator, plain)
        table = whole
        if self.quantize_output and self.vq_heads:
            table = F.pad(self._through_codebook(codebook, whole[1:])[0], (0, 0, 1, 0))
        outputs = table, source.bias, source.popularity
        loss = self.item_loss(states, batch, outputs, self.source_negatives, generator, plain, rows_only)
        return loss + penalty

    def source_table(self, parameters: Parameters, source: SourceItems) -> Tensor:
        """Vectors of a source's items under trial weights, before quantization: [n_i, d]."""
        if self.text_map is None or source.texts is None:
            return source.table
        return self.text_map.added(source.table, parameters["text_map.weight"], source.texts, None)

    def _read(
        self, parameters, source: SourceItems, whole: Tensor, items: Tensor, generator, rows_only: bool
    ) -> Tensor:
        """The rows of ``items`` [U] as they are read: texts are dropped out there alone, not in the whole catalogue."""
        if self.text_map is None or source.texts is None:
            return F.embedding(items, whole, sparse=rows_only)
        weight, texts = parameters["text_map.weight"], source.texts[items]
        return self.text_map.added(F.embedding(items, source.table), weight, texts, generator)

    def trial_scale(self, name: str) -> float:
        """What alpha is multiplied by for one parameter.

        Texts have the length sqrt(w), so a step of the map moves an item's vector w times as far as an equal step of
        the vector itself: at the same alpha a trial on a source would overshoot.
        """
        return 1.0 / self.text_map.texts.shape[1] if name == "text_map.weight" else 1.0

    def _through_codebook(self, codebook: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        if not self.vq_heads:
            return vectors, vectors.new_zeros(())
        result = quantize(vectors, codebook, self.vq_heads, self.codebook_gradient, self.candidate_codes)
        penalty = self.codebook_weight * result.codebook_loss + self.commitment_weight * result.commitment_loss
        return result.vectors, penalty
