"""Item memory: which items stood near those of the history in others' histories, weighed by a head that knows no id.

With h_0 the last item of a history, c_g(i, j) the counts of a pair, n_i the events of an item and j a candidate:

    e(j)     = sum over p < 10 of  gamma^p a^[p = 0] (sum_g w_g c_g(h_p, j)) / (n_{h_p}^{alpha_1} n_j^{alpha_2} + s)
    logit(j) = beta log(1 + e(j) / epsilon) + omega log(1 + n_j) + rho_lag [j in h] + b_j (+ tau cos(h's text, j's))

A history's own pairs are taken out of c and its own events out of n_j first: in training the answer would leak through
them, and in a small shop most of what n_j says is its own event. Nothing in the head knows an item, so that it may
be taught by one domain and serve another; how often people come back to an item, which differs most between domains, it
reads from the domain's counts (:mod:`recbole_metarec.data.repeats`).

Letters: n catalogue size with padding in row 0, P kept pairs, R rows that are scored, E entries of evidence.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.data.pair_lags import GROUPS, LAGS, REACH
from recbole_metarec.data.repeats import LAG_STARTS
from recbole_metarec.model.losses import Offsets, softmax_loss, softmax_loss_reference
from recbole_metarec.model.seen_offset import SeenOffset, up_to

POSITIONS = 256  # that teach the scalars in a batch: so few numbers do not need all, and evidence costs time
HIDDEN = 16  # width of a head's network
ENTRIES = 1 << 17  # of evidence at these, about: where all items are neighbours, fewer positions say as much
GOLDEN_RATIO = (5**0.5 - 1) / 2


class Entries(NamedTuple):
    """The neighbours of the latest items of each row. place: int64 [E], row * REACH + the lag of the item that they are
    near; item: int64 [E]; counts: int [E, 4]."""

    place: Tensor
    item: Tensor
    counts: Tensor


class OwnCounts(NamedTuple):
    """What rows have themselves added to the counts: ascending keys (row * n + i) * n + j of their pairs, int64 [K],
    with counts int [K, 4]; ascending keys row * n + i of their events, int64 [I], with counts int64 [I]."""

    pairs: Tensor
    pair_counts: Tensor
    events: Tensor
    event_counts: Tensor

    @classmethod
    def of(cls, histories: Tensor, n_items: int) -> "OwnCounts":
        """Of each row of int64 [B, L], padded on the right."""
        row, column = histories.nonzero(as_tuple=True)
        events = torch.unique(row * n_items + histories[row, column], return_counts=True)
        return cls(*own_pairs(histories, n_items), *events)

    def events_of(self, owner: Tensor, n_items: int) -> tuple[Tensor, Tensor, Tensor]:
        """The events of the owner int64 [R] of each scored row, one by one: row, item and count."""
        starts, ends = (torch.searchsorted(self.events, (owner + shift) * n_items) for shift in (0, 1))
        row, at = _ranges(starts, ends - starts)
        return row, self.events[at] % n_items, self.event_counts[at]


class PairTable(nn.Module):
    """A domain's pair counts as tensors, of the shapes of :class:`~recbole_metarec.data.pair_counts.PairCounts`."""

    def __init__(self, n_items: int, n_pairs: int):
        super().__init__()
        self.n_items = n_items
        self.register_buffer("starts", torch.zeros(n_items + 1, dtype=torch.int64))
        self.register_buffer("neighbours", torch.zeros(n_pairs, dtype=torch.int32))
        self.register_buffer("counts", torch.zeros(n_pairs, GROUPS, dtype=torch.int16))
        self.register_buffer("popularity", torch.zeros(n_items, dtype=torch.int64))
        self.register_buffer("lift", torch.zeros(len(LAG_STARTS)))

    def lengths(self, items: Tensor) -> Tensor:
        """How many neighbours each of these items has."""
        return self.starts[items + 1] - self.starts[items]

    def fill(self, pairs) -> None:
        """With a domain's PairCounts of the same sizes."""
        for name in ("starts", "neighbours", "counts", "popularity", "lift"):
            getattr(self, name).copy_(torch.from_numpy(getattr(pairs, name)))

    def entries(self, latest: Tensor, owner: Tensor, own: OwnCounts) -> Entries:
        """latest: int64 [R, REACH], 0 where there is none. owner: int64 [R], whose own pairs are out."""
        near = latest.flatten()
        start = self.starts[near]
        place, pair = _ranges(start, self.starts[near + 1] - start)
        item = self.neighbours.index_select(0, pair).long()
        counts = self.counts.index_select(0, pair).int()
        if len(own.pairs):
            of_owner = (owner.repeat_interleave(REACH) * self.n_items + near) * self.n_items
            key = of_owner.index_select(0, place) + item
            at = torch.searchsorted(own.pairs, key).clamp(max=len(own.pairs) - 1)
            hit = (own.pairs.index_select(0, at) == key).nonzero()[:, 0]
            counts[hit] = (counts[hit] - own.pair_counts[at[hit]]).clamp(min=0)
        return Entries(place, item, counts)


def _ranges(starts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Which range each element stands in, and the element: of starts[k] .. starts[k] + lengths[k] - 1 in turn."""
    which = torch.repeat_interleave(torch.arange(len(starts), device=starts.device), lengths)
    shift = starts - lengths.cumsum(0) + lengths
    return which, torch.arange(len(which), device=starts.device) + shift[which]


def own_pairs(histories: Tensor, n_items: int) -> tuple[Tensor, Tensor]:
    """The pairs inside each row of int64 [B, L], padded on the right.

    Returns ascending keys (row * n + i) * n + j, int64 [K], and their counts, int [K, 4].
    """
    keys, groups = [histories.new_zeros(0)], [histories.new_zeros(0)]
    row = torch.arange(len(histories), device=histories.device)[:, None] * n_items
    for group, (nearest, furthest) in enumerate(LAGS):
        for lag in range(nearest, min(furthest, histories.shape[1] - 1) + 1):
            first, second = histories[:, :-lag], histories[:, lag:]
            real = second > 0
            ways = (row + first) * n_items + second, (row + second) * n_items + first
            keys += [way[real] for way in ways]
            groups += [torch.full_like(keys[-2], group), torch.full_like(keys[-1], GROUPS - 1)]
    unique, inverse = torch.unique(torch.cat(keys), return_inverse=True)
    places = inverse * GROUPS + torch.cat(groups)
    return unique, torch.bincount(places, minlength=len(unique) * GROUPS).view(-1, GROUPS).int()


class Evidence(NamedTuple):
    """What a domain knows of its items: pair counts, and text vectors [n, w] of length 1 where there are any."""

    pairs: PairTable
    texts: Tensor | None = None


class EvidenceHead(nn.Module):
    """What a pair's counts are worth, and the popularity beside them: numbers that are the same for all domains.

    They start near where lessons of nine domains led them: Instruments, Beauty, Tools, Instant_Video, Cell_Phones,
    Grocery14, Clothing, Sports and Yelp (docs/make_head_start.py); Scientific, Office and Toys14 took no part.
    hidden: 0 for the scalars alone, else the width of a network that corrects what the fraction says of an entry. It
    is not the default: taught by ten sources it was 1 to 2 % behind the scalars on validation of six targets.
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
        """e(j) of each cell, a row and an item: [C]. near: int64 [R * REACH], events of the item at each place; cell:
        int64 [E], where an entry counts; events: int64 [C], of each cell's item."""
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
        """What evidence e(j) [E] adds to the logit of j."""
        return self.evidence_weight * torch.log1p(evidence * torch.exp(-self.log_epsilon))

    def base(self, popularity: Tensor) -> Tensor:
        """The logit of each item without evidence, [n]."""
        return self.popularity_weight * torch.log1p(popularity.to(self.popularity_weight.dtype))


class EvidenceNetwork(nn.Module):
    """Logarithm of a factor for each entry; 0 at the start, so that a head starts as the scalars alone."""

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

    text_width: of the text vectors that are compared with the history's, 0 without texts. hidden: of the head.
    """

    def __init__(self, n_items: int, n_pairs: int, text_width: int = 0, hidden: int = 0):
        super().__init__()
        self.head = EvidenceHead(hidden)
        self.seen = SeenOffset(-1.9, lift_weight=1.0)
        self.pairs = PairTable(n_items, n_pairs)
        self.item_bias = nn.Parameter(torch.zeros(n_items))
        self.texts = TextEvidence() if text_width else None
        self.register_buffer("text_vectors", torch.zeros(n_items, text_width) if text_width else None)

    def forward(self, batch: SequenceBatch, source: Evidence | None = None, plain: bool = False) -> Tensor:
        """The next-item loss of the memory alone, mean over some of the predicted positions of a batch.

        source: another domain's evidence, read by the same head and offsets; such a domain has no item bias.
        """
        evidence = source or Evidence(self.pairs, self.text_vectors)
        share, batch = batch, batch.whole
        positions, answers = batch.predicted()
        entries = evidence.pairs.lengths(up_to(batch.inputs, positions, REACH)).sum() / max(1, len(positions))
        most = POSITIONS if self.head.network is None else POSITIONS // 4  # a network costs more
        positions, answers = _some(positions, answers, int((ENTRIES / entries.clamp(min=1)).clamp(1, most)))
        portion = share.portion(len(positions))
        positions, answers = positions[portion.rows], answers[portion.rows]
        owner = positions // batch.inputs.shape[1]
        own = OwnCounts.of(batch.histories(), evidence.pairs.n_items)
        offsets = self.offsets(evidence.pairs, batch.inputs, positions, owner, own)
        base = self.head.base(evidence.pairs.popularity)
        base = base if source else base + self.item_bias
        if self.texts is None or evidence.texts is None:
            return portion.of(sparse_softmax_loss(base, answers, offsets))
        states = self.texts(up_to(batch.inputs, positions, REACH), evidence.texts)
        loss = softmax_loss_reference if plain else softmax_loss
        return portion.of(loss(states, evidence.texts, base, answers, offsets))

    def shared_weights(self) -> dict[str, Tensor]:
        """Those that know no item, by their names: what one domain can teach another."""
        return {name: value for name, value in self.named_parameters() if name != "item_bias"}

    def set_texts(self, vectors: Tensor) -> None:
        """Text vectors [n, w] of any length, 0 where there is no text."""
        self.text_vectors.copy_(F.normalize(vectors, dim=1))

    def scores(self, histories: Tensor) -> Tensor:
        """Of every item after each history int64 [B, L], padded on the right: [B, n]."""
        rows = torch.arange(len(histories), device=histories.device)
        last = rows * histories.shape[1] + (histories > 0).sum(dim=1) - 1
        offsets = self.offsets(self.pairs, histories, last, rows, OwnCounts.of(histories, self.pairs.n_items))
        base = self.head.base(self.pairs.popularity) + self.item_bias
        if self.texts is None:
            dense = base.repeat(len(histories), 1)
        else:
            states = self.texts(up_to(histories, last, REACH), self.text_vectors)
            dense = F.linear(states, self.text_vectors, base)
        return offsets.added_to(dense)

    def offsets(self, pairs: PairTable, inputs: Tensor, positions: Tensor, owner: Tensor, own: OwnCounts) -> Offsets:
        """What the history up to each flat position of ``inputs`` adds to the logits; owner, own: of ``entries``."""
        n = pairs.n_items
        latest = up_to(inputs, positions, REACH)
        entries = pairs.entries(latest, owner, own)
        rows, items, counts = own.events_of(owner, n)
        place = torch.arange(latest.numel(), device=latest.device) // REACH * n
        keys = torch.cat([place.index_select(0, entries.place) + entries.item, rows * n + items])
        keys, inverse = torch.unique(keys, return_inverse=True)
        cell, of_owner = inverse.split([len(entries.item), len(rows)])
        places = keys % n
        popularity = pairs.popularity[places]
        left = popularity.index_add(0, of_owner, counts, alpha=-1).clamp(min=0)
        values = self.head.logit(self.head(entries, pairs.popularity[latest.flatten()], cell, left))
        values = values + self.head.base(left) - self.head.base(popularity)
        seen = self.seen(inputs, positions, n, pairs.lift)  # of the owner's own events
        values = values.index_add(0, torch.searchsorted(keys, seen.rows * n + seen.items), seen.values)
        return Offsets(keys // n, places, values)


def without_lift(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A model's weights; those of a memory that did not read the lift yet are completed by one that counts nothing."""
    if "memory.seen.by_lag" not in weights or "memory.seen.lift_weight" in weights:
        return weights
    lift = torch.zeros_like(weights["memory.seen.by_lag"])
    return {**weights, "memory.pairs.lift": lift, "memory.seen.lift_weight": lift[0].clone()}


class TextEvidence(nn.Module):
    """The decayed text vector of a history, times tau: its inner product with an item's is tau times their cosine."""

    def __init__(self):
        super().__init__()
        self.decay = nn.Parameter(torch.tensor(0.6))  # of the sigmoid: an event counts 0.65 times the one after it
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, latest: Tensor, vectors: Tensor) -> Tensor:
        """latest: int64 [R, REACH]; vectors [n, w] of length 1, or 0 where there is no text. Returns [R, w]."""
        weights = torch.sigmoid(self.decay) ** torch.arange(latest.shape[1], device=latest.device)
        summed = (vectors[latest] * weights[:, None]).sum(dim=1)
        # smooth at 0, the sum of a history without texts: the second derivative of a length is infinite there
        return self.scale * summed * (summed.square().sum(dim=1, keepdim=True) + 1e-12).rsqrt()


def _some(positions: Tensor, answers: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """At most so many of them, ascending: multiples of the golden ratio fall everywhere, however long rows are."""
    if len(positions) <= most:
        return positions, answers
    order = (torch.arange(len(positions), dtype=torch.float64, device=positions.device) * GOLDEN_RATIO).frac().argsort()
    chosen = order[:most].sort().values
    return positions[chosen], answers[chosen]


def sparse_softmax_loss(base: Tensor, targets: Tensor, offsets: Offsets) -> Tensor:
    """Mean cross-entropy of logits that are ``base`` [n] for every row, but for the offsets; no [R, n] is ever held.

    The partition of all rows is that of the base, corrected at the few places that have an offset.
    """
    total = torch.logsumexp(base[1:], dim=0)
    share = torch.exp(base[offsets.items] - total)
    # the largest exponent of each row, so that nothing overflows
    top = base.new_zeros(len(targets)).scatter_reduce(0, offsets.rows, offsets.values.detach(), "amax")
    untouched = 1.0 - torch.zeros_like(top).index_add(0, offsets.rows, share)
    corrected = share * torch.exp(offsets.values - top[offsets.rows])
    partition = (untouched.clamp(min=1e-6) * torch.exp(-top)).index_add(0, offsets.rows, corrected)
    return (total + top + torch.log(partition) - base[targets] - offsets.at(targets)).mean()
