"""Item memory: which items occur near the history's items in other histories, weighted by a head that knows no id.

With h_0 the last item of a history, c_g(i, j) the counts of a pair, n_i the events of an item and j a candidate:

    e(j)     = sum over p < 10 of  gamma^p a^[p = 0] (sum_g w_g c_g(h_p, j)) / (n_{h_p}^{alpha_1} n_j^{alpha_2} + s)
    logit(j) = beta log(1 + e(j) / epsilon) + omega log(1 + n_j) + rho_lag [j in h] + b_j (+ tau cos(h's text, j's))

A history's own pairs are first taken out of c, and its own events out of n_j: in training the answer would leak through
them, and in a small shop n_j is mostly the history's own event. No parameter of the head belongs to an item, so that it
can learn from one domain and serve another. How often people come back to an item differs most between domains; the
memory reads that from the domain's counts (:mod:`recbole_metarec.data.repeats`).

Letters: n catalogue size with padding in row 0, R rows that are scored, E entries of evidence, C cells
(:mod:`recbole_metarec.model.memory_cells`).
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.data.pair_lags import GROUPS, REACH
from recbole_metarec.model.losses import Offsets, softmax_loss, softmax_loss_reference
from recbole_metarec.model.memory_cells import Cells, Entries, PairTable, cells_of
from recbole_metarec.model.seen_offset import SeenOffset, up_to
from recbole_metarec.processes import Portion

POSITIONS = 256  # of a batch that train the scalars: so few numbers need no more, and evidence costs time
HIDDEN = 16  # width of a head's network
ENTRIES = 1 << 17  # of evidence at these positions, about: where items have many neighbours, fewer positions do
GOLDEN_RATIO = (5**0.5 - 1) / 2


class Evidence(NamedTuple):
    """What a domain knows of its items: pair counts, and text vectors [n, w] of length 1 where there are any."""

    pairs: PairTable
    texts: Tensor | None = None


class EvidenceHead(nn.Module):
    """What a pair's counts and an item's popularity are worth: a few numbers that are the same for all domains.

    They start near the values that training on nine domains gave: Instruments, Beauty, Tools, Instant_Video,
    Cell_Phones, Grocery14, Clothing, Sports and Yelp (docs/make_head_start.py), without Scientific, Office and Toys14.
    hidden: 0 for the scalars alone, else the width of a network that corrects each term of e(j). It is not the default:
    trained on ten sources it was 1 to 2 % behind the scalars on the validation of six targets.
    """

    def __init__(self, hidden: int = 0):
        super().__init__()
        self.log_weights = nn.Parameter(torch.tensor([0.7, 0.2, -0.15, -0.8]))
        self.log_shrinkage = nn.Parameter(torch.tensor(1.3))
        self.exponents = nn.Parameter(torch.tensor([0.3, 0.3]))
        self.decay = nn.Parameter(torch.tensor(1.75))  # gamma is its sigmoid
        self.log_last = nn.Parameter(torch.tensor(0.25))
        self.evidence_weight = nn.Parameter(torch.tensor(1.7))
        self.log_epsilon = nn.Parameter(torch.tensor(-2.85))
        self.popularity_weight = nn.Parameter(torch.tensor(0.4))
        self.network = EvidenceNetwork(hidden) if hidden else None

    def forward(self, entries: Entries, near: Tensor, cell: Tensor, events: Tensor) -> Tensor:
        """e(j) of each cell: [C]. near: int64 [R * REACH], events of the item at each lag of each row; cell: int64 [E],
        the cell of each entry; events: int64 [C], of each cell's item."""
        exponents, place = self.exponents, entries.place
        near, events = (numbers.clamp(min=1).to(exponents.dtype) for numbers in (near, events))
        counts = entries.counts.to(exponents.dtype)
        recency = torch.sigmoid(self.decay) ** torch.arange(REACH, device=near.device)
        recency = recency * torch.cat([self.log_last.exp()[None], torch.ones_like(recency[1:])])
        recency = recency.repeat(near.shape[0] // REACH).index_select(0, place)
        sizes = (near ** exponents[0]).index_select(0, place) * (events ** exponents[1]).index_select(0, cell)
        evidence = (counts @ self.log_weights.exp()) * recency / (sizes + self.log_shrinkage.exp())
        if self.network is not None:
            logs = near.log().index_select(0, place), events.log().index_select(0, cell)
            evidence = evidence * self.network(counts, *logs, place % REACH).exp()
        return torch.zeros_like(events).index_add(0, cell, evidence)

    def logit(self, evidence: Tensor) -> Tensor:
        """What evidence e(j) [C] adds to the logit of j: [C]."""
        return self.evidence_weight * torch.log1p(evidence * torch.exp(-self.log_epsilon))

    def base(self, popularity: Tensor) -> Tensor:
        """The logit of each item without evidence, from its events int64 [n]: float [n]."""
        return self.popularity_weight * torch.log1p(popularity.to(self.popularity_weight.dtype))


class EvidenceNetwork(nn.Module):
    """The logarithm of a factor for each entry. It is 0 at the start, so that a head starts as the scalars alone."""

    def __init__(self, hidden: int):
        super().__init__()
        self.inner = nn.Parameter(torch.empty(GROUPS + 7, hidden))
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.outer = nn.Parameter(torch.zeros(hidden))
        nn.init.trunc_normal_(self.inner, std=0.3)

    def forward(self, counts: Tensor, near: Tensor, item: Tensor, lag: Tensor) -> Tensor:
        """counts [E, 4]; near, item: logarithms of the events of both items, [E]; lag: int64 [E]. Returns [E]."""
        total, lag = counts.sum(dim=1), lag.to(counts.dtype)
        association = total.clamp(min=0.5).log() - (near + item) / 2
        others = total.log1p(), association, near, item, lag / REACH, 0.7**lag, (lag == 0).to(counts.dtype)
        features = torch.cat([counts.log1p(), torch.stack(others, dim=1)], dim=1)
        return F.gelu(features @ self.inner + self.bias) @ self.outer


class ItemMemory(nn.Module):
    """The memory of a domain: its pair counts, an item bias, and the head.

    n_pairs: kept pairs. text_width: of the text vectors that are compared with the history's, 0 without texts. hidden:
    of the head.
    """

    def __init__(self, n_items: int, n_pairs: int, text_width: int = 0, hidden: int = 0):
        super().__init__()
        self.head = EvidenceHead(hidden)
        self.seen = SeenOffset(-1.9, lift_weight=1.0)
        self.pairs = PairTable(n_items, n_pairs)
        self.item_bias = nn.Parameter(torch.zeros(n_items))
        self.texts = TextEvidence() if text_width else None
        self.register_buffer("text_vectors", torch.zeros(n_items, text_width) if text_width else None)

    def forward(
        self, batch: "SequenceBatch | MemoryBatch", source: Evidence | None = None, plain: bool = False
    ) -> Tensor:
        """The next-item loss of the memory alone, mean over some of the predicted positions of a batch: a scalar.

        source: another domain's evidence, read by the same head and offsets but without the item bias. plain: use
        operations that can be differentiated twice.
        """
        read = batch if isinstance(batch, MemoryBatch) else self.batch_of(batch, source)
        evidence = source or self.evidence
        offsets = self.offsets(read.cells, evidence.pairs.lift)
        base = self.head.base(evidence.pairs.popularity)
        base = base if source else base + self.item_bias
        if self.texts is None or evidence.texts is None:
            return read.portion.of(sparse_softmax_loss(base, read.answers, offsets))
        states = self.texts(read.cells.latest, evidence.texts)
        loss = softmax_loss_reference if plain else softmax_loss
        return read.portion.of(loss(states, evidence.texts, base, read.answers, offsets))

    def batch_of(self, batch: SequenceBatch, source: Evidence | None = None) -> "MemoryBatch":
        """What :meth:`forward` reads of a batch, computed on the batch's device."""
        pairs = (source or self.evidence).pairs.beside(batch.inputs)
        share, batch = batch, batch.whole
        positions, answers = batch.predicted()
        entries = pairs.lengths(up_to(batch.inputs, positions, REACH)).sum() / max(1, len(positions))
        most = POSITIONS if self.head.network is None else POSITIONS // 4  # a network costs more
        positions, answers = _some(positions, answers, int((ENTRIES / entries.clamp(min=1)).clamp(1, most)))
        portion = share.portion(len(positions))
        positions, answers = positions[portion.rows], answers[portion.rows]
        return MemoryBatch(answers, cells_of(pairs, batch.histories(), batch.inputs, positions, answers), portion)

    @property
    def evidence(self) -> Evidence:
        """The evidence of the memory's own domain."""
        return Evidence(self.pairs, self.text_vectors)

    def shared_weights(self) -> dict[str, Tensor]:
        """The parameters that belong to no item, by name: what one domain can teach another."""
        return {name: value for name, value in self.named_parameters() if name != "item_bias"}

    def set_texts(self, vectors: Tensor) -> None:
        """Text vectors [n, w] of any length, 0 where there is no text."""
        self.text_vectors.copy_(F.normalize(vectors, dim=1))

    def scores(self, histories: Tensor) -> Tensor:
        """Scores of every item after each history, int64 [B, L] padded on the right: [B, n]."""
        last = torch.arange(len(histories), device=histories.device) * histories.shape[1] - 1
        cells = cells_of(self.pairs, histories, histories, last + (histories > 0).sum(dim=1))
        base = self.head.base(self.pairs.popularity) + self.item_bias
        if self.texts is None:
            dense = base.repeat(len(histories), 1)
        else:
            dense = F.linear(self.texts(cells.latest, self.text_vectors), self.text_vectors, base)
        return self.offsets(cells, self.pairs.lift).added_to(dense)

    def offsets(self, cells: Cells, lift: Tensor) -> Offsets:
        """What is added to the logits of the cells. lift: of their domain, float [G]."""
        values = self.head.logit(self.head(cells.entries, cells.near, cells.cell, cells.left))
        values = values + self.head.base(cells.left) - self.head.base(cells.popularity)
        return Offsets(cells.places, values.index_add(0, cells.seen_cell, self.seen.values(cells.seen_group, lift)))


class MemoryBatch(NamedTuple):
    """Some of the predicted positions of a batch as the memory reads them. answers: int64 [R]; portion: which of the
    positions are this process's."""

    answers: Tensor
    cells: Cells
    portion: Portion


def without_lift(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A model's weights. Those of a memory from before the lift was read get a lift of 0, with weight 0."""
    if "memory.seen.by_lag" not in weights or "memory.seen.lift_weight" in weights:
        return weights
    lift = torch.zeros_like(weights["memory.seen.by_lag"])
    return {**weights, "memory.pairs.lift": lift, "memory.seen.lift_weight": lift[0].clone()}


class TextEvidence(nn.Module):
    """The decayed text vector of a history at length tau: its inner product with an item's is tau times the cosine."""

    def __init__(self):
        super().__init__()
        self.decay = nn.Parameter(torch.tensor(0.6))  # before the sigmoid: an event counts 0.65 times the one after it
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, latest: Tensor, vectors: Tensor) -> Tensor:
        """latest: int64 [R, REACH]; vectors [n, w] of length 1, or 0 where there is no text. Returns [R, w]."""
        weights = torch.sigmoid(self.decay) ** torch.arange(latest.shape[1], device=latest.device)
        summed = (vectors[latest] * weights[:, None]).sum(dim=1)
        # smoothed at 0, the sum for a history without texts, where the second derivative of a norm is infinite
        return self.scale * summed * (summed.square().sum(dim=1, keepdim=True) + 1e-12).rsqrt()


def _some(positions: Tensor, answers: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """At most ``most`` of them, ascending, spread evenly over rows of any length by multiples of the golden ratio."""
    if len(positions) <= most:
        return positions, answers
    order = (torch.arange(len(positions), dtype=torch.float64, device=positions.device) * GOLDEN_RATIO).frac().argsort()
    chosen = order[:most].sort().values
    return positions[chosen], answers[chosen]


def sparse_softmax_loss(base: Tensor, targets: Tensor, offsets: Offsets) -> Tensor:
    """Mean cross-entropy of logits ``base`` [n] plus offsets, without holding [R, n]. targets int64 [R]. A scalar.

    The partition function of each row is that of the base, corrected at the few places that have an offset.
    """
    total = torch.logsumexp(base[1:], dim=0)
    rows, items = offsets.places.rows, offsets.places.items
    share = torch.exp(base[items] - total)
    # the largest exponent of each row, so that nothing overflows
    top = base.new_zeros(len(targets)).scatter_reduce(0, rows, offsets.values.detach(), "amax")
    untouched = 1.0 - torch.zeros_like(top).index_add(0, rows, share)
    corrected = share * torch.exp(offsets.values - top[rows])
    partition = (untouched.clamp(min=1e-6) * torch.exp(-top)).index_add(0, rows, corrected)
    return (total + top + torch.log(partition) - base[targets] - offsets.at_targets(len(targets))).mean()
