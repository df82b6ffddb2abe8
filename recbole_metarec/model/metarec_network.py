"""The network of MetaRec: LRURec's, which also reads sources through the target's item table (arXiv 2411.01785).

The network holds only the target's parameters. The sources' item tables belong to the trainer and are not deployed, so
a saved model serves without any source, at the cost of LRURec.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.model.item_memory import Evidence
from recbole_metarec.model.lru_network import LRUNetwork, Parameters
from recbole_metarec.model.quantizer import quantize


@dataclass(frozen=True)
class SourceItems:
    """What a source's loss reads of its n_i items; row 0 is padding.

    table [n_i, d], bias [n_i]. popularity [n_i]: distribution of sampled negatives. texts [n_i, w]: text vectors, None
    if they are not read.
    """

    table: Tensor
    bias: Tensor
    popularity: Tensor | None = None
    texts: Tensor | None = None


@dataclass(frozen=True)
class SourceBatch(SequenceBatch):
    """A batch of a source. lesson: what the item memory's head learns from beside it, a batch of some of the source's
    users and the evidence from these users alone."""

    lesson: tuple[SequenceBatch, Evidence] | None = None


class MetaRecNetwork(LRUNetwork):
    """Transferable Sequential Recommendation via Vector Quantized Meta Learning: the losses of target and sources.

    vq_heads: number of slices of an item vector that are quantized one by one, 0 for none. codebook_gradient: as in
    ``quantize``. penalties: weights of the codebook and of the commitment loss. quantize_output: whether a source's
    answers are quantized, too. source_negatives: as ``target_negatives``, for the sources' losses. sizes: arguments of
    LRUNetwork. ``candidate_codes``, int64 ascending: the target rows that may be codes, None for all.
    """

    def __init__(
        self,
        *,
        vq_heads: int,
        codebook_gradient: str,
        penalties: tuple[float, float],
        quantize_output: bool = False,
        source_negatives: int = 0,
        **sizes,
    ):
        super().__init__(**sizes)
        self.vq_heads = vq_heads
        self.codebook_gradient = codebook_gradient
        self.codebook_weight, self.commitment_weight = penalties
        self.quantize_output = quantize_output
        self.source_negatives = source_negatives
        self.register_buffer("candidate_codes", None, persistent=False)

    def prepared_source(self, batch: SourceBatch) -> SourceBatch:
        """As :meth:`prepared`, for the loss of a source."""
        if batch.facts is not None:
            return batch
        memory = self.memory.batch_of(*batch.lesson) if self.memory is not None and batch.lesson else None
        return self._with(batch, memory=memory, distinct=batch.distinct_inputs())

    def source_loss(
        self,
        parameters: Parameters,
        source: SourceItems,
        batch: SourceBatch,
        generator: torch.Generator | None = None,
        plain: bool = False,
        rows_only: bool = False,
    ) -> Tensor:
        """L_src: next-item loss of quantized source sequences, plus codebook and commitment loss (MetaRec, section 3).

        The sequence is read through the codebook; the answer is searched in the source's table. The losses of the
        quantization are means over the distinct items of the batch. Returns a scalar. rows_only: whether the gradient
        of the source's table is a sparse tensor of the rows that were read; needs a sampled softmax over items that are
        neither quantized nor text. The rest as in :meth:`target_loss`.
        """
        return self._source_losses([parameters], [source], [batch], [generator], plain, rows_only)[0]

    def source_losses(
        self,
        parameters: Sequence[Parameters],
        sources: Sequence[SourceItems],
        batches: Sequence[SourceBatch],
        generators: Sequence[torch.Generator | None],
        plain: bool = False,
        rows_only: bool = False,
    ) -> list[Tensor]:
        """:meth:`source_loss` of each of several sources under weights of its own, in one pass of the encoder."""
        if getattr(self.source_loss, "__func__", None) is not MetaRecNetwork.source_loss:  # somebody's own
            each = zip(parameters, sources, batches, generators, strict=True)
            return [self.source_loss(*one, plain, rows_only) for one in each]
        return self._source_losses(parameters, sources, batches, generators, plain, rows_only)

    def _source_losses(self, parameters, sources, batches, generators, plain: bool, rows_only: bool) -> list[Tensor]:
        batches = [self.prepared_source(batch) for batch in batches]
        sides = list(zip(parameters, sources, batches, generators, strict=True))
        read = [self._as_read(*side, rows_only) for side in sides]
        states = self.predicted_states(parameters, [vectors for vectors, _, _ in read], batches, generators, plain)
        losses = []
        for (weights, source, batch, generator), (_, table, penalty), at in zip(sides, read, states, strict=True):
            answers = table, source.bias, source.popularity
            draws = self.source_negatives, generator
            loss = self.item_loss(weights, at, batch, answers, *draws, plain, rows_only) + penalty
            if batch.facts.memory is not None:
                loss = loss + self._call("memory", weights, batch.facts.memory, batch.lesson[1], plain)
            losses.append(loss)
        return losses

    def _as_read(
        self, parameters: Parameters, source: SourceItems, batch: SourceBatch, generator, rows_only: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Quantized vectors [B, L, d] of a source's inputs, the table [n_i, d] in which its answers are searched, and
        the weighted losses of the quantization, a scalar."""
        whole = self.source_table(parameters, source)
        items, places, padded = batch.facts.distinct
        raw = self._read(parameters, source, whole, items[padded:], generator, rows_only)
        codebook = self.item_table(parameters)
        vectors, penalty = self._through_codebook(codebook, raw)
        vectors = F.pad(vectors, (0, 0, padded, 0))
        table = whole
        if self.quantize_output and self.vq_heads:
            table = F.pad(self._through_codebook(codebook, whole[1:])[0], (0, 0, 1, 0))
        return F.embedding(places, vectors), table, penalty

    def source_table(self, parameters: Parameters, source: SourceItems) -> Tensor:
        """Vectors of a source's items under trial weights, before quantization: [n_i, d]."""
        if self.text_map is None or source.texts is None:
            return source.table
        return self.text_map.added(source.table, parameters["text_map.weight"], source.texts, None)

    def _read(
        self, parameters, source: SourceItems, whole: Tensor, items: Tensor, generator, rows_only: bool
    ) -> Tensor:
        """Vectors [U, d] of ``items`` [U] as inputs: texts are dropped out only here, not in the whole catalogue."""
        if self.text_map is None or source.texts is None:
            return F.embedding(items, whole, sparse=rows_only)
        weight, texts = parameters["text_map.weight"], source.texts[items]
        return self.text_map.added(F.embedding(items, source.table), weight, texts, generator)

    def trial_scale(self, name: str) -> float:
        """The factor of alpha for one parameter: 1, and 1 / w for the text map.

        Texts have the length sqrt(w), so a step of the map moves an item's vector w times as far as an equal step of
        the vector itself: with the same alpha a trial on a source would overshoot.
        """
        return 1.0 / self.text_map.texts.shape[1] if name == "text_map.weight" else 1.0

    def _through_codebook(self, codebook: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        if not self.vq_heads:
            return vectors, vectors.new_zeros(())
        result = quantize(vectors, codebook, self.vq_heads, self.codebook_gradient, self.candidate_codes)
        penalty = self.codebook_weight * result.codebook_loss + self.commitment_weight * result.commitment_loss
        return result.vectors, penalty
