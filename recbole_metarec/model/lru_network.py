"""The network of LRURec: item table, linear recurrent encoder, scores by inner product (WSDM 2024)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.model.item_memory import ItemMemory, MemoryBatch, without_lift
from recbole_metarec.model.losses import sampled_softmax_loss, softmax_loss, softmax_loss_reference
from recbole_metarec.model.lru import LRUEncoder
from recbole_metarec.model.network import Memory, SequenceNetwork
from recbole_metarec.model.packing import Layout, PackedDraws, Packing
from recbole_metarec.model.seen_offset import SeenOffset, SeenPlaces, seen_places
from recbole_metarec.model.text_map import TextMap

Parameters = Mapping[str, Tensor]


class Reading(NamedTuple):
    """What scores are computed from if they also depend on the items of the history: the encoder's state [B, d], and
    the history int64 [B, L], padded on the right."""

    state: Tensor
    history: Tensor


class Facts(NamedTuple):
    """What losses read of a batch besides its items: where its inputs lie, the items seen at its predicted positions,
    what an item memory reads, and :meth:`~recbole_metarec.data.batches.SequenceBatch.distinct_inputs`."""

    layout: Layout
    seen: SeenPlaces | None = None
    memory: MemoryBatch | None = None
    distinct: tuple[Tensor, Tensor, int] | None = None


class LRUNetwork(SequenceNetwork):
    """Trained on every position of a history; serves from the state after the last event.

    Row 0 of the item table is padding: zero, never updated, outside every softmax. With texts an item's vector is its
    row of the table plus its text through a map that all domains share. The sum is deployed, so serving needs no text.

    width: d. longest: events of a history that are read at most. ring: smallest and largest modulus of the eigenvalues
    at the start. text_width: 0 without texts. target_negatives: number of negatives of a sampled softmax, 0 for the
    whole catalogue. They are drawn by ``popularity``, float [n_items], which is not saved with the model.

    seen_offset: whether scores have a learned offset for items of the history. memory_pairs: number of pairs that an
    item memory keeps, 0 without one. The memory is trained beside the encoder by its own loss, and a score is
    (1 - lru_share) * (the memory's) + lru_share * (the encoder's). The share is 0 until validation chooses one, so that
    an untrained encoder does not count. memory_text_width: width of the texts that the memory compares.
    memory_hidden: width of the network in the memory's head, 0 without one.
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
        seen_offset: bool = False,
        memory_pairs: int = 0,
        memory_text_width: int = 0,
        memory_hidden: int = 0,
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
        self.seen = SeenOffset() if seen_offset else None
        sizes = n_items, memory_pairs, memory_text_width, memory_hidden
        self.memory = ItemMemory(*sizes) if memory_pairs else None
        self.register_buffer("lru_share", torch.tensor(0.0) if memory_pairs else None)

    @property
    def reads_history(self) -> bool:
        """Whether scores depend on the items of the history besides the encoder's state."""
        return self.seen is not None or self.memory is not None

    # -- under trial weights -----------------------------------------------------------------------------------

    def encode(self, parameters: Parameters, vectors: Tensor, generator: torch.Generator | None, plain: bool) -> Tensor:
        """User states under trial weights: vectors [B, L, d] to [B, L, d]."""
        return self._call("encoder", parameters, vectors, generator, plain)

    def predicted_states(
        self,
        parameters: Sequence[Parameters],
        vectors: Sequence[Tensor],
        batches: Sequence[SequenceBatch],
        generators: Sequence[torch.Generator | None],
        plain: bool,
    ) -> Sequence[Tensor]:
        """User states at the predicted positions of some prepared batches, [P, d] each, in one pass of the encoder.

        Each batch has its own weights, vectors [B, L, d] and generator. A subclass that encodes in its own way
        reads one batch after the other.
        """
        if len(batches) == 1 or not self._encodes_as_here:
            each = zip(parameters, vectors, batches, generators, strict=True)
            return [self._predicted_states(*one, plain) for one in each]
        packing = Packing.of([batch.facts.layout for batch in batches], vectors[0].device)
        draws = None
        if generators[0] is not None:
            draws = PackedDraws(tuple(generators), tuple(batch.inputs.shape for batch in batches), packing)
        names = [name for name in parameters[0] if name.startswith("encoder.")]
        stacked = {name: torch.stack([weights[name] for weights in parameters]) for name in names}
        return packing.at_predicted(self._call("encoder", stacked, packing.packed(vectors), draws, plain, packing))

    @property
    def _encodes_as_here(self) -> bool:
        """Whether no subclass encodes in its own way, which need not know packed batches."""
        ways = (self.encode, LRUNetwork.encode), (self.encoder.forward, LRUEncoder.forward)
        return all(getattr(way, "__func__", None) is ours for way, ours in ways)

    def _predicted_states(self, parameters: Parameters, vectors: Tensor, batch, generator, plain: bool) -> Tensor:
        states = self.encode(parameters, vectors, batch.drawing(generator), plain)
        return states.flatten(0, 1).index_select(0, batch.predicted()[0])

    def _call(self, part: str, parameters: Parameters, *arguments):
        """Calls one of the network's modules under trial weights."""
        weights = {name[len(part) + 1 :]: value for name, value in parameters.items() if name.startswith(f"{part}.")}
        return functional_call(getattr(self, part), weights, arguments, tie_weights=False)

    def item_table(self, parameters: Parameters, generator: torch.Generator | None = None) -> Tensor:
        """Vectors of the target's items under trial weights: [n_items, d]. With a generator texts are dropped out."""
        table = parameters["item_embedding.weight"]
        if self.text_map is None:
            return table
        return self.text_map.added(table, parameters["text_map.weight"], self.text_map.texts, generator)

    def prepared(self, batch: SequenceBatch) -> SequenceBatch:
        """A batch of the target on the network's device, with the facts that its loss reads.

        They are computed on the batch's device, usually the CPU: a GPU would have to be waited for.
        """
        if batch.facts is not None:
            return batch
        memory = None if self.memory is None else self.memory.batch_of(batch)
        return self._with(batch, memory=memory)

    def _with(self, batch: SequenceBatch, **facts) -> SequenceBatch:
        positions, answers = batch.predicted()
        seen = None if self.seen is None else seen_places(batch.inputs, positions, answers)
        layout = Layout(batch.lengths.cpu().numpy(), batch.inputs.shape[1], positions.cpu().numpy())
        known = Facts(layout, seen, **facts)
        return replace(batch, positions=positions, facts=known).to(self.item_bias.device)

    def target_loss(
        self,
        parameters: Parameters,
        batch: SequenceBatch,
        generator: torch.Generator | None = None,
        plain: bool = False,
        rows_only: bool = False,
    ) -> Tensor:
        """Next-item loss of the target under trial weights, mean over the predicted positions: a scalar.

        parameters: as ``named_parameters``. generator: draws dropout masks and negatives; with None nothing is dropped.
        plain: whether to use operations that can be differentiated twice. rows_only: whether the gradient of the item
        table is a sparse tensor of the rows that were read; needs a sampled softmax, and no text map.
        """
        return self._target_losses([parameters], [batch], [generator], plain, rows_only)[0]

    def target_losses(
        self,
        parameters: Sequence[Parameters],
        batches: Sequence[SequenceBatch],
        generators: Sequence[torch.Generator | None],
        plain: bool = False,
    ) -> list[Tensor]:
        """:meth:`target_loss` of each of several batches under weights of its own, in one pass of the encoder."""
        if getattr(self.target_loss, "__func__", None) is not LRUNetwork.target_loss:  # somebody's own
            return [self.target_loss(*each, plain) for each in zip(parameters, batches, generators, strict=True)]
        return self._target_losses(parameters, batches, generators, plain)

    def _target_losses(self, parameters, batches, generators, plain: bool, rows_only: bool = False) -> list[Tensor]:
        batches = [self.prepared(batch) for batch in batches]
        tables = [self.item_table(*each) for each in zip(parameters, generators, strict=True)]
        vectors = [
            F.embedding(batch.inputs, table, padding_idx=0, sparse=rows_only)
            for batch, table in zip(batches, tables, strict=True)
        ]
        states = self.predicted_states(parameters, vectors, batches, generators, plain)
        losses = []
        for weights, batch, generator, table, read in zip(parameters, batches, generators, tables, states, strict=True):
            items = table, weights["item_bias"], self.popularity
            draws = self.target_negatives, generator
            loss = batch.part_of(self.item_loss(weights, read, batch, items, *draws, plain, rows_only))
            if self.memory is not None:
                loss = loss + self._call("memory", weights, batch.facts.memory, None, plain)
            losses.append(loss)
        return losses

    def item_loss(self, parameters, states, batch, items, negatives, generator, plain, rows_only=False) -> Tensor:
        """Loss of states [P, d] at the predicted positions of a prepared batch against items: their table [n, d], bias
        [n] and distribution of negatives [n]."""
        answers = batch.predicted()[1]
        table, bias, popularity = items
        seen = None if self.seen is None else self._call("seen", parameters, batch.facts.seen)
        if negatives:
            return sampled_softmax_loss(states, table, bias, answers, popularity, negatives, generator, rows_only, seen)
        return (softmax_loss_reference if plain else softmax_loss)(states, table, bias, answers, seen)

    # -- serving -----------------------------------------------------------------------------------------------

    @property
    def table(self) -> Tensor:
        """Vectors of the items as they are served: [n_items, d]."""
        if self.text_map is None:
            return self.item_embedding.weight
        return self.kept(lambda: self.item_table(dict(self.named_parameters())))

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor | Reading:
        """What scores are computed from, after each user's last event: int64 [B, L] padded on the right, int64 [B]."""
        item_seq = item_seq[:, : int(item_seq_len.max())]
        state = self.encoder.last(F.embedding(item_seq, self.table, padding_idx=0), item_seq_len)
        return Reading(state, item_seq) if self.reads_history else state

    def score(self, states: Tensor | Reading) -> Tensor:
        """Score of every item for what :meth:`forward` returns: [B, n_items]."""
        return self._mixed(states) if self.reads_history else F.linear(states, self.table, self.item_bias)

    def _mixed(self, reading: Reading) -> Tensor:
        memory, encoder = self.expert_scores(reading)
        return encoder if memory is None else torch.lerp(memory, encoder, self.lru_share)

    def expert_scores(self, reading: Reading) -> tuple[Tensor | None, Tensor]:
        """Scores of the memory (None without one) and of the encoder: [B, n_items] each."""
        state, history = reading
        scores = F.linear(state, self.table, self.item_bias)
        if self.seen is not None:
            last = torch.arange(len(history), device=history.device) * history.shape[1] + (history > 0).sum(dim=1) - 1
            scores = self.seen(seen_places(history, last)).added_to(scores)
        return None if self.memory is None else self.memory.scores(history), scores

    def score_of(self, states: Tensor | Reading, items: Tensor) -> Tensor:
        """Score of one item, int64 [B], for each row of what :meth:`forward` returns: [B]."""
        if self.reads_history:
            return self._mixed(states).gather(1, items[:, None])[:, 0]
        return (states * self.table[items]).sum(dim=1) + self.item_bias[items]

    def first_memory(self) -> Memory:
        """What is remembered of a user without events: a state per layer, complex [1, n], and, if scores read them,
        the latest items, int64 [1, 0]."""
        layers = tuple(self.encoder.initial_state(1))
        return (*layers, self._latest([])) if self.reads_history else layers

    def _latest(self, items: list[int]) -> Tensor:
        """The latest ``longest`` items as int64 [1, L]."""
        return torch.tensor([items[-self.longest :]], dtype=torch.int64, device=self.item_bias.device)

    def next_memory(self, memory: Memory, item: int) -> tuple[Tensor | Reading, Memory]:
        """One more event, at a cost that does not grow with the history: (as forward, what is remembered now)."""
        layers, history = (memory[:-1], memory[-1]) if self.reads_history else (memory, None)
        output, layers = self.encoder.step(self.table[[item]], list(layers))
        if history is None:
            return output, tuple(layers)
        history = torch.cat([history, history.new_tensor([[item]])], dim=1)[:, -self.longest :]
        return Reading(output, history), (*layers, history)

    def memory_of(self, history: list[int]) -> tuple[Tensor | Reading, Memory]:
        """Reads a whole history of item numbers, not empty, in one pass: (as forward, what is remembered of it)."""
        output, layers = self.encoder.remember(self.table[history][None])
        if not self.reads_history:
            return output, tuple(layers)
        latest = self._latest(history)
        return Reading(output, latest), (*layers, latest)

    # -- what is saved -----------------------------------------------------------------------------------------

    def deployed_sizes(self) -> dict[str, int | bool]:
        """Sizes of the network without texts; serving needs nothing that is only read in training."""
        width, n_layers = self.encoder.width, len(self.encoder.blocks)
        sizes = {"n_items": self.n_items, "width": width, "n_layers": n_layers, "longest": self.longest}
        if self.seen is not None:
            sizes["seen_offset"] = True
        if self.memory is not None:
            sizes["memory_pairs"] = len(self.memory.pairs.neighbours)
            if self.memory.head.network is not None:
                sizes["memory_hidden"] = len(self.memory.head.network.bias)
            if self.memory.texts is not None:
                sizes["memory_text_width"] = self.memory.text_vectors.shape[1]
        return sizes

    def deployed_weights(self) -> dict[str, Tensor]:
        """The weights of a network without texts that gives the same scores."""
        weights = {name: value for name, value in self.state_dict().items() if not name.startswith("text_map.")}
        with torch.no_grad():
            weights["item_embedding.weight"] = self.item_table(dict(self.named_parameters())).detach()
        return weights

    def completed(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Weights for this network from :meth:`deployed_weights`, which already contain the texts: the map is zero."""
        if self.memory is not None:
            weights = without_lift(weights)
        if self.text_map is None or "text_map.weight" in weights:
            return weights
        return {**weights, "text_map.weight": torch.zeros_like(self.text_map.weight)}
