"""The network of UniSRec: items by their texts, a Transformer over them, scores by cosine (Hou et al., KDD 2022).

Trained on every position of a history, as LRURec is; the published code trains on RecBole's prefix rows. A causal
Transformer gives the same next-item losses either way for histories of up to L + 1 events. A longer one is cut into
windows, where an event is predicted from those of the L events before it that are in its window. Other departures from
that code:

- a window, not each prefix, is a sequence of the sequence-sequence contrast;
- an item of a batch goes through the adaptor once, so its gate noise and dropout are the same wherever it is read or
  predicted in that batch (a second view without words draws new ones);
- items without text are neither predicted nor negatives in pre-training, and their adapted vectors are zero;
- fine-tuning moves every parameter by default; the paper keeps the encoder as pre-trained: ``frozen_encoder``.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.model.adaptor import WhiteningAdaptor
from recbole_metarec.model.contrast import directions, drop_items, sequence_item_loss, sequence_sequence_loss
from recbole_metarec.model.losses import softmax_loss
from recbole_metarec.model.network import Memory, SequenceNetwork
from recbole_metarec.model.transformer import TransformerEncoder


class UniSRecNetwork(SequenceNetwork):
    """An item's vector is its text through an adaptor that all domains share (inductive), or that plus a learned vector
    (transductive). Text vectors are set by :meth:`set_texts` and saved with the weights, so a saved model needs
    neither texts nor sources. Row 0 is padding: a zero vector, outside every softmax.

    experts: number of whitenings that the adaptor mixes. with_ids: whether items also have learned vectors.
    contrast_weight, drop_ratio, word_drop_share: of the pre-training loss. frozen_encoder: whether fine-tuning leaves a
    pre-trained encoder as it is.
    """

    def __init__(
        self,
        n_items: int,
        width: int,
        text_width: int,
        longest: int,
        n_layers: int,
        n_heads: int,
        experts: int,
        with_ids: bool,
        temperature: float,
        dropout_prob: float = 0.0,
        adaptor_dropout_prob: float = 0.0,
        contrast_weight: float = 0.0,
        drop_ratio: float = 0.0,
        word_drop_share: float = 0.0,
        frozen_encoder: bool = False,
    ):
        super().__init__(n_items, longest)
        self.temperature = temperature
        self.contrast_weight = contrast_weight
        self.drop_ratio, self.word_drop_share = drop_ratio, word_drop_share
        self.frozen_encoder = frozen_encoder
        self.register_buffer("texts", torch.zeros(n_items, text_width))
        self.adaptor = WhiteningAdaptor(text_width, width, experts, adaptor_dropout_prob)
        self.encoder = TransformerEncoder(width, longest, n_layers, n_heads, dropout_prob)
        self.item_embedding = None
        if with_ids:
            self.item_embedding = nn.Embedding(n_items, width, padding_idx=0)
            nn.init.normal_(self.item_embedding.weight, std=0.02)
            with torch.no_grad():
                self.item_embedding.weight[0] = 0.0

    def set_texts(self, vectors: np.ndarray) -> None:
        """Text vectors of the target's items, float32 [n_items, w]."""
        self.texts.copy_(torch.from_numpy(vectors))
        self._kept = None

    # -- what moves --------------------------------------------------------------------------------------------

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """What pre-training moves: the parameters that mean the same in every domain."""
        return {name: value for name, value in self.named_parameters() if not name.startswith("item_embedding.")}

    def target_parameters(self, pretrained: bool) -> dict[str, nn.Parameter]:
        """What fine-tuning moves; an encoder that was not pre-trained is never frozen."""
        frozen = self.frozen_encoder and pretrained
        return {name: value for name, value in self.named_parameters() if not (frozen and name.startswith("encoder."))}

    # -- items and states --------------------------------------------------------------------------------------

    def item_vectors(self) -> Tensor:
        """Vectors of the target's items, padding included: [n_items, d]."""
        vectors = self._vectors(self.texts)
        return vectors if self.item_embedding is None else vectors + self.item_embedding.weight

    def states(self, inputs: Tensor, vectors: Tensor) -> Tensor:
        """States after each event: inputs int64 [B, L], padded on the right, with vectors [B, L, d] to [B, L, d]."""
        return self.encoder(vectors, inputs > 0)

    def catalogue(self) -> tuple[Tensor, Tensor]:
        """Vectors of the items, and the same scaled to length 1: [n_items, d] each."""

        def make():
            vectors = self.item_vectors()
            return vectors, directions(vectors)

        return self.kept(make)

    # -- training ----------------------------------------------------------------------------------------------

    def next_item_loss(self, batch: SequenceBatch) -> Tensor:
        """Cross-entropy over the catalogue of cosines over temperature, mean over the predicted positions: a scalar."""
        table, scaled = self.catalogue()
        states = self.states(batch.inputs, F.embedding(batch.inputs, table))
        positions, answers = batch.predicted()
        states = directions(states.flatten(0, 1).index_select(0, positions)) / self.temperature
        return softmax_loss(states, scaled, table.new_zeros(len(table)), answers)

    def pretraining_loss(self, batch: SequenceBatch, texts: Tensor, dropped: Tensor) -> Tensor:
        """Sequence-item plus weighted sequence-sequence contrast of a batch that mixes domains: a scalar.

        texts, dropped: float [N, w], vectors of the items' texts, whole and after words were dropped; the batch's item
        numbers are their rows, 0 is padding. Items without text are neither predicted nor negatives.
        """
        positions, answers = batch.predicted()
        known = texts[answers].any(dim=1)
        positions, answers = positions[known], answers[known]
        # padding is added, so that it is the first item and keeps the number 0 within the batch
        items, places = torch.unique(F.pad(torch.cat([batch.inputs.flatten(), answers]), (1, 0)), return_inverse=True)
        vectors = self._vectors(texts[items])
        until = batch.inputs.numel() + 1
        inputs, answers = places[1:until].view_as(batch.inputs), places[until:]
        states = self.states(inputs, F.embedding(inputs, vectors))
        distinct, counts = torch.unique(answers, return_counts=True)
        loss = sequence_item_loss(
            states.flatten(0, 1).index_select(0, positions),
            vectors[distinct],
            torch.searchsorted(distinct, answers),
            counts,
            self.temperature,
        )
        if not self.contrast_weight:
            return loss
        last = batch.lengths - 1
        ends = batch.targets.gather(1, last[:, None])[:, 0]
        firsts = _at(states, last)
        views = self._second_views(inputs, vectors, dropped[items])
        return loss + self.contrast_weight * sequence_sequence_loss(firsts, views, ends, self.temperature)

    def _vectors(self, texts: Tensor) -> Tensor:
        """Text vectors [n, w] through the adaptor: [n, d], zero for padding (the first row) and for items without text.

        The adaptor's shift alone says nothing of an item, and the shorter it is, the larger its direction's gradient.
        """
        texts = texts[1:]
        return F.pad(self.adaptor(texts) * texts.any(dim=1, keepdim=True), (0, 0, 1, 0))

    def _second_views(self, inputs: Tensor, vectors: Tensor, dropped: Tensor) -> Tensor:
        """State [B, d] of each row after items were dropped from it or, by chance, words from its items' texts.

        inputs int64 [B, L] into vectors [n, d] and dropped [n, w].
        """
        by_words = torch.rand(len(inputs), device=inputs.device) < self.word_drop_share
        inputs = torch.where(by_words[:, None], inputs, drop_items(inputs, self.drop_ratio))
        read = F.embedding(inputs, vectors)
        rows = by_words.nonzero()[:, 0]
        # few rows: run the adaptor, which costs more than the encoder, only for their items
        items, places = torch.unique(F.pad(inputs[rows].flatten(), (1, 0)), return_inverse=True)
        without_words = F.embedding(places[1:].view(len(rows), inputs.shape[1]), self._vectors(dropped[items]))
        read = read.index_put((rows,), without_words)
        return _at(self.states(inputs, read), (inputs > 0).sum(dim=1) - 1)

    # -- serving -----------------------------------------------------------------------------------------------

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """State of each user after its last event: int64 [B, L] padded on the right, int64 [B]. Returns [B, d]."""
        item_seq = item_seq[:, : int(item_seq_len.max())]
        states = self.states(item_seq, F.embedding(item_seq, self.catalogue()[0]))
        return _at(states, item_seq_len - 1)

    def first_memory(self) -> Memory:
        """What is remembered of a user without events: the empty history, int64 [1, 0]."""
        return (torch.zeros(1, 0, dtype=torch.int64, device=self.texts.device),)

    def next_memory(self, memory: Memory, item: int) -> tuple[Tensor, Memory]:
        """One more event: (state [1, d], what is remembered now). A Transformer reads the whole history again."""
        return self._read(F.pad(memory[0], (0, 1), value=item))

    def memory_of(self, history: list[int]) -> tuple[Tensor, Memory]:
        """As :meth:`next_memory` after the last event of a history, not empty, which is read once."""
        return self._read(torch.tensor([history], device=self.texts.device))

    def _read(self, history: Tensor) -> tuple[Tensor, Memory]:
        history = history[:, -self.longest :]
        length = torch.tensor([history.shape[1]], device=history.device)
        return self.forward(history, length), (history,)

    def score(self, states: Tensor) -> Tensor:
        """states [B, d] to scores [B, n_items]: cosine over temperature; padding scores 0."""
        return directions(states) @ self.catalogue()[1].t() / self.temperature

    def score_of(self, states: Tensor, items: Tensor) -> Tensor:
        """Score of one item for each state: [B, d], int64 [B] to [B]."""
        return (directions(states) * self.catalogue()[1][items]).sum(dim=1) / self.temperature

    def deployed_sizes(self) -> dict[str, int | float | bool]:
        """Sizes of this network; serving needs nothing that is only read in training."""
        experts, text_width, width = self.adaptor.whitening.shape
        layers = self.encoder.layers.layer
        return {
            "n_items": self.n_items,
            "width": width,
            "text_width": text_width,
            "longest": self.longest,
            "n_layers": len(layers),
            "n_heads": layers[0].multi_head_attention.n_heads,
            "experts": experts,
            "with_ids": self.item_embedding is not None,
            "temperature": self.temperature,
        }


def _at(states: Tensor, positions: Tensor) -> Tensor:
    """The state of each row at one position: [B, L, d], int64 [B] to [B, d]."""
    return states.gather(1, positions[:, None, None].expand(-1, -1, states.shape[-1]))[:, 0]
