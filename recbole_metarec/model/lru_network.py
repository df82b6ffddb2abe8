"""The network of LRURec: item table, linear recurrent encoder, scores by inner product (WSDM 2024)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.model.losses import sampled_softmax_loss, softmax_loss, softmax_loss_reference
from recbole_metarec.model.lru import LRUEncoder
from recbole_metarec.model.network import Memory, SequenceNetwork
from recbole_metarec.model.text_map import TextMap

Parameters = Mapping[str, Tensor]


class LRUNetwork(SequenceNetwork):
    """Trained on every position of a history; serves from the state after the last event.

    Row 0 of the item table is padding: zero, never updated, outside every softmax. With texts an item's vector is its
    row of the table plus its text through a map that all domains share; the sum is deployed, so serving needs no text.

    ring: smallest and largest modulus of the eigenvalues at the start. text_width: 0 without texts. target_negatives:
    of a sampled softmax, 0 for the whole catalogue; they are drawn by ``popularity``, float [n_items], which is not
    saved with the model.
    """

    def __init__(
        self,
        n_items: int,
        width: int,
        n_layers: int,
        longest: int,
        dropout_prob: float = 0.0,
        ring: tuple[float, float] = (0.8, 0.99),
        text_width: int = 0,
        text_dropout_prob: float = 0.0,
        target_negatives: int = 0,
    ):
        super().__init__(n_items, longest)
        self.item_embedding = nn.Embedding(n_items, width, padding_idx=0)
        self.item_bias = nn.Parameter(torch.zeros(n_items))
        self.encoder = LRUEncoder(width, n_layers, dropout_prob, *ring)
        nn.init.trunc_normal_(self.item_embedding.weight, std=0.02, a=-0.04, b=0.04)
        with torch.no_grad():
            self.item_embedding.weight[0] = 0.0
        self.text_map = TextMap(n_items, text_width, width, text_dropout_prob) if text_width else None
        self.target_negatives = target_negatives
        self.register_buffer("popularity", None, persistent=False)

    # -- under trial weights -----------------------------------------------------------------------------------

    def encode(self, parameters: Parameters, vectors: Tensor, generator: torch.Generator | None, plain: bool) -> Tensor:
        """User states under trial weights: vectors [B, L, d] to [B, L, d]."""
        encoder = {name[8:]: value for name, value in parameters.items() if name.startswith("encoder.")}
        return functional_call(self.encoder, encoder, (vectors, generator, plain), tie_weights=False)

    def item_table(self, parameters: Parameters, generator: torch.Generator | None = None) -> Tensor:
        """Vectors of the target's items under trial weights, [n_items, d]."""
        table = parameters["item_embedding.weight"]
        if self.text_map is None:
            return table
        return self.text_map.added(table, parameters["text_map.weight"], self.text_map.texts, generator)

    def target_loss(
        self,
        parameters: Parameters,
        batch: SequenceBatch,
        generator: torch.Generator | None = None,
        plain: bool = False,
        rows_only: bool = False,
    ) -> Tensor:
        """Next-item loss of the target under trial weights, mean over the predicted positions.

        parameters: as ``named_parameters``. generator: the dropout masks (and negatives); None drops nothing.
        plain: use operations that can be differentiated twice. rows_only: the gradient of the item table is a sparse
        tensor of the rows that were read; needs a sampled softmax, and a table that is not read through a text map.
        """
        table, bias = self.item_table(parameters, generator), parameters["item_bias"]
        vectors = F.embedding(batch.inputs, table, padding_idx=0, sparse=rows_only)
        states = self.encode(parameters, vectors, generator, plain)
        items = table, bias, self.popularity
        return self.item_loss(states, batch, items, self.target_negatives, generator, plain, rows_only)

    def item_loss(self, states, batch, items, negatives, generator, plain, rows_only=False) -> Tensor:
        """Loss of states [B, L, d] against items: their table [n, d], bias [n] and distribution of negatives [n]."""
        positions, answers = batch.predicted()
        states = states.flatten(0, 1).index_select(0, positions)
        table, bias, popularity = items
        if negatives:
            return sampled_softmax_loss(states, table, bias, answers, popularity, negatives, generator, rows_only)
        return (softmax_loss_reference if plain else softmax_loss)(states, table, bias, answers)

    # -- serving -----------------------------------------------------------------------------------------------

    @property
    def table(self) -> Tensor:
        """Vectors of the items as they are served, [n_items, d]."""
        if self.text_map is None:
            return self.item_embedding.weight
        return self.kept(lambda: self.item_table(dict(self.named_parameters())))

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """State of each user after its last event: int64 [B, L] padded on the right, int64 [B]. Returns [B, d]."""
        item_seq = item_seq[:, : int(item_seq_len.max())]
        return self.encoder.last(F.embedding(item_seq, self.table, padding_idx=0), item_seq_len)

    def score(self, states: Tensor) -> Tensor:
        """states [B, d] to scores [B, n_items]."""
        return F.linear(states, self.table, self.item_bias)

    def score_of(self, states: Tensor, items: Tensor) -> Tensor:
        """Score of one item for each state: [B, d], int64 [B] to [B]."""
        return (states * self.table[items]).sum(dim=1) + self.item_bias[items]

    def first_memory(self) -> Memory:
        """What is remembered of a user without any event: a state per layer, complex [1, n]."""
        return tuple(self.encoder.initial_state(1))

    def next_memory(self, memory: Memory, item: int) -> tuple[Tensor, Memory]:
        """One more event at a cost that does not depend on the history: (state [1, d], what is remembered now)."""
        output, layers = self.encoder.step(self.table[[item]], list(memory))
        return output, tuple(layers)

    def memory_of(self, history: list[int]) -> tuple[Tensor, Memory]:
        """After a whole history of item numbers, not empty, read at once: (state [1, d], what is remembered of it)."""
        output, layers = self.encoder.remember(self.table[history][None])
        return output, tuple(layers)

    # -- what is saved -----------------------------------------------------------------------------------------

    def deployed_sizes(self) -> dict[str, int]:
        """Of the network without texts: what it is trained with is not needed to serve."""
        width, n_layers = self.encoder.width, len(self.encoder.blocks)
        return {"n_items": self.n_items, "width": width, "n_layers": n_layers, "longest": self.longest}

    def deployed_weights(self) -> dict[str, Tensor]:
        """The weights of the network without any text that scores as this one does."""
        weights = {name: value for name, value in self.state_dict().items() if not name.startswith("text_map.")}
        with torch.no_grad():
            weights["item_embedding.weight"] = self.item_table(dict(self.named_parameters())).detach()
        return weights

    def completed(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Weights for this network out of :meth:`deployed_weights`: texts add nothing to them any more."""
        if self.text_map is None or "text_map.weight" in weights:
            return weights
        return {**weights, "text_map.weight": torch.zeros_like(self.text_map.weight)}
