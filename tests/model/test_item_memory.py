"""The item memory and the offsets of seen items against the formula, written as loops."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.data.pair_counts import PairCounts
from recbole_metarec.data.pair_lags import GROUPS, LAGS
from recbole_metarec.data.sequences import SequenceStore
from recbole_metarec.model import item_memory
from recbole_metarec.model.item_memory import Evidence, ItemMemory, sparse_softmax_loss
from recbole_metarec.model.losses import (
    Offsets,
    Places,
    negatives_distribution,
    sampled_softmax_loss,
    softmax_loss,
    softmax_loss_reference,
)
from recbole_metarec.model.memory_cells import own_pairs
from recbole_metarec.model.seen_offset import LAG_STARTS, SeenOffset, seen_places

N, USERS = 14, 25
NEAR = {"rtol": 1e-9, "atol": 1e-9}


def histories(seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(1, N, random.integers(2, 14)).tolist() for _ in range(USERS)]


def store_of(of_users: list[list[int]]) -> SequenceStore:
    users = np.repeat(np.arange(len(of_users)), [len(history) for history in of_users])
    return SequenceStore.from_events(users, np.concatenate(of_users), N)


def memory_of(of_users: list[list[int]], text_width: int = 0, hidden: int = 0) -> ItemMemory:
    """In float64, its numbers drawn."""
    store = store_of(of_users)
    pairs = PairCounts.of(store, store.lengths, 1000)
    memory = ItemMemory(N, len(pairs.neighbours), text_width, hidden).double()
    memory.pairs.fill(pairs)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        if text_width:
            memory.set_texts(F.pad(torch.randn(N - 1, text_width), (0, 0, 1, 0)))
    return memory


def padded(rows: list[list[int]]) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])


def slow_pairs(history: list[int], counts: dict, sign: int = 1) -> dict:
    """Adds a history's pairs to the counts of (i, j), or takes them away."""
    for here, first in enumerate(history):
        for there, second in enumerate(history):
            group = next((g for g, (low, high) in enumerate(LAGS) if low <= there - here <= high), None)
            group = GROUPS - 1 if 1 <= here - there <= LAGS[-1][1] else group
            if group is not None:
                counts.setdefault((first, second), [0] * GROUPS)[group] += sign
    return counts


def slow_scores(memory: ItemMemory, of_users: list[list[int]], history: list[int], own: list[int]) -> list[float]:
    """The logits of the formula after a history, item by item; own: the events that are taken out of the counts."""
    counts, popularity = {}, popularity_of(of_users)
    for other in of_users:
        slow_pairs(other, counts)
    slow_pairs(own, counts, -1)
    left = [max(events - own.count(item), 0) for item, events in enumerate(popularity)]
    head, seen = memory.head, memory.seen
    weights, (one, two) = head.log_weights.exp().tolist(), head.exponents.tolist()
    scores = [0.0] * N
    for item in range(N):
        evidence = 0.0
        for lag, near in enumerate(history[::-1][:10]):
            weighted = sum(w * max(c, 0) for w, c in zip(weights, counts.get((near, item), [0] * GROUPS), strict=True))
            sold = popularity[near], left[item]
            size = max(sold[0], 1) ** one * max(sold[1], 1) ** two + math.exp(head.log_shrinkage)
            recency = float(torch.sigmoid(head.decay)) ** lag * (math.exp(head.log_last) if lag == 0 else 1.0)
            factor = 1.0 if head.network is None else slow_factor(head.network, counts, (near, item), sold, lag)
            evidence += recency * weighted / size * factor
        scores[item] = float(head.evidence_weight) * math.log1p(evidence * math.exp(-head.log_epsilon))
        scores[item] += float(head.popularity_weight) * math.log1p(left[item]) + float(memory.item_bias[item])
        if item in history:
            lag = history[::-1].index(item)
            group = max(g for g, start in enumerate(LAG_STARTS) if start <= lag)
            scores[item] += float(seen.by_lag[group] + seen.lift_weight * memory.pairs.lift[group])
        if memory.texts is not None:
            decay = float(torch.sigmoid(memory.texts.decay))
            text = sum(decay**lag * memory.text_vectors[near] for lag, near in enumerate(history[::-1][:10]))
            cosine = F.cosine_similarity(text, memory.text_vectors[item], dim=0)
            scores[item] += float(memory.texts.scale * cosine)
    return scores


def slow_factor(network, counts: dict, pair: tuple[int, int], events: tuple[int, int], lag: int) -> float:
    """What the network makes of an entry; 1 where it makes none."""
    of_pair = [max(c, 0) for c in counts.get(pair, [0] * GROUPS)]
    near, item = (math.log(max(count, 1)) for count in events)
    total = sum(of_pair)
    features = [math.log1p(c) for c in of_pair] + [math.log1p(total), math.log(max(total, 0.5)) - (near + item) / 2]
    features += [near, item, lag / 10, 0.7**lag, float(lag == 0)]
    hidden = F.gelu(torch.tensor(features).double() @ network.inner + network.bias)
    return float((hidden @ network.outer).exp())


def popularity_of(of_users: list[list[int]]) -> list[int]:
    return np.bincount(np.concatenate(of_users), minlength=N).tolist()


SHAPES = {"ids": {}, "texts": {"text_width": 5}, "network": {"hidden": 6}}


@pytest.fixture(params=SHAPES)
def shape(request):
    return SHAPES[request.param]


@pytest.fixture
def memory(shape):
    return memory_of(histories(), **shape)


class TestScores:
    def test_they_are_those_of_the_formula_without_the_historys_own_pairs(self, memory):
        others = histories()
        shown = [history[: 1 + number % len(history)] for number, history in enumerate(others)]
        scores = memory.scores(padded(shown)).detach()
        for history, row in zip(shown, scores, strict=True):
            expected = torch.tensor(slow_scores(memory, others, history, history), dtype=row.dtype)
            torch.testing.assert_close(row[1:], expected[1:], rtol=1e-6, atol=1e-6)

    def test_a_pair_that_only_this_user_has_is_no_evidence_to_this_user(self):
        of_users = [[1, 2], [1, 3], [3, 4]]
        memory = memory_of(of_users)
        with torch.no_grad():
            memory.item_bias.zero_()
        alone, shared = memory.scores(torch.tensor([[1, 2], [4, 0]]))[0], memory.scores(torch.tensor([[4, 0]]))[0]
        unknown = memory.head.base(memory.pairs.popularity)
        # 1, 2 is this user's pair, and the only 2
        own = memory.seen.by_lag[0] + memory.seen.lift_weight * memory.pairs.lift[0] - unknown[2]
        torch.testing.assert_close(alone[2] - unknown[2], own, **NEAR)
        assert shared[3] > unknown[3]  # 3, 4 is somebody else's
        assert alone[3] > unknown[3] and torch.allclose(alone[4], unknown[4])

    def test_renumbering_the_items_renumbers_the_scores(self, memory, shape):
        new = np.r_[0, 1 + np.random.default_rng(3).permutation(N - 1)]
        other = memory_of([new[history].tolist() for history in histories()], **shape)
        other.load_state_dict(
            {name: value for name, value in memory.state_dict().items() if not name.startswith("pairs.")}, strict=False
        )
        with torch.no_grad():
            other.item_bias[new] = memory.item_bias.clone()
            if memory.texts is not None:
                other.text_vectors[new] = memory.text_vectors.clone()
        shown = padded([history[:4] for history in histories()])
        scores, renumbered = memory.scores(shown), other.scores(torch.from_numpy(new)[shown])
        torch.testing.assert_close(renumbered[:, new[1:]], scores[:, 1:], **NEAR)


def rows_of(of_users: list[list[int]]) -> SequenceBatch:
    return SequenceBatch(padded([history[:-1] for history in of_users]), padded([history[1:] for history in of_users]))


class TestLoss:
    def test_it_is_the_cross_entropy_of_the_formula_without_the_own_pairs_of_the_whole_row(self, memory):
        others, batch = histories(), rows_of(histories()[:6])
        losses = []
        for history in others[:6]:
            for end in range(1, len(history)):
                scores = slow_scores(memory, others, history[:end], history)
                losses.append(torch.logsumexp(torch.tensor(scores[1:]), 0) - scores[history[end]])
        torch.testing.assert_close(float(memory(batch)), float(torch.stack(losses).mean()), rtol=1e-5, atol=1e-5)

    def test_gradients_are_those_of_finite_differences(self, memory):
        batch = rows_of(histories()[:6])
        for name, parameter in memory.named_parameters():
            gradient = torch.autograd.grad(memory(batch), parameter)[0].flatten()
            flat = parameter.detach().view(-1)
            at = int(gradient.abs().argmax())
            values = []
            for step in (1e-5, -2e-5, 1e-5):
                flat[at] += step
                values.append(float(memory(batch)))
            assert (values[0] - values[1]) / 2e-5 == pytest.approx(float(gradient[at]), rel=1e-5), name

    def test_the_order_of_rows_and_padding_change_nothing(self, memory):
        of_users = histories()[:8]
        loss = memory(rows_of(of_users))
        torch.testing.assert_close(memory(rows_of(of_users[::-1])), loss, **NEAR)
        batch = rows_of(of_users)
        torch.testing.assert_close(
            memory(SequenceBatch(F.pad(batch.inputs, (0, 3)), F.pad(batch.targets, (0, 3)))), loss
        )

    def test_the_head_reads_another_domain_as_a_memory_of_that_domain_without_a_bias_does(self, memory, shape):
        other = memory_of(histories(5), **shape)
        other.load_state_dict(
            {k: v for k, v in memory.state_dict().items() if "head" in k or "seen" in k}, strict=False
        )
        with torch.no_grad():
            other.item_bias.zero_()
            if memory.texts is not None:
                other.texts.load_state_dict(memory.texts.state_dict())
        batch = rows_of(histories(5)[:6])
        torch.testing.assert_close(memory(batch, Evidence(other.pairs, other.text_vectors)), other(batch), **NEAR)

    def test_some_of_the_positions_teach_where_there_are_many(self, memory, monkeypatch):
        """Their mean loss is an estimate of that of all: positions of every place in a row are among them."""
        positions = torch.arange(4000)
        chosen, _ = item_memory._some(positions, positions, 256)
        assert len(chosen) == 256 and torch.equal(chosen, chosen.sort().values)
        for length in (2, 3, 4, 5, 8, 13):
            share = torch.bincount(chosen % length, minlength=length) / len(chosen)
            assert (share * length - 1).abs().max() < 0.25, length


def test_the_network_starts_at_one():
    of_users = histories()
    pairs = PairCounts.of(store_of(of_users), store_of(of_users).lengths, 1000)
    scalars, network = (ItemMemory(N, len(pairs.neighbours), hidden=hidden) for hidden in (0, 6))
    for memory in (scalars, network):
        memory.pairs.fill(pairs)
    assert torch.equal(scalars.scores(padded(of_users)), network.scores(padded(of_users)))


def test_own_pairs_are_those_inside_each_row():
    rows = [history for history in histories() if len(history) > 1]
    keys, counts = own_pairs(padded(rows), N)
    assert torch.equal(keys, keys.unique())
    found = {(int(k) // N // N, int(k) // N % N, int(k) % N): c.tolist() for k, c in zip(keys, counts, strict=True)}
    expected = {
        (number, *pair): count for number, row in enumerate(rows) for pair, count in slow_pairs(row, {}).items()
    }
    assert found == expected


class TestOffsets:
    """Losses with offsets at a few places against the dense logits."""

    @pytest.fixture(params=[1.0, 30.0], ids=["small", "large"])
    def problem(self, request):
        torch.manual_seed(0)
        rows, width, n = 90, 6, 40
        inputs = [
            torch.randn(*size, dtype=torch.float64) * request.param**0.5 for size in ((rows, width), (n, width), (n,))
        ]
        targets = torch.randint(1, n, (rows,))
        keys = torch.cat(
            [torch.randint(0, rows, (400,)) * n + torch.randint(1, n, (400,)), torch.arange(50) * n + targets[:50]]
        )
        keys = keys.unique()
        values = torch.randn(len(keys), dtype=torch.float64) * request.param
        return [tensor.requires_grad_() for tensor in (*inputs, values)], targets, keys // n, keys % n

    @staticmethod
    def offsets(rows, items, targets, values):
        return Offsets(Places.of(rows * 40 + items, 40, len(targets), targets), values)

    @staticmethod
    def dense_loss(logits, targets):
        return (torch.logsumexp(logits[:, 1:], 1) - logits.gather(1, targets[:, None])[:, 0]).mean()

    @pytest.mark.parametrize("loss", [softmax_loss, softmax_loss_reference])
    def test_of_the_full_softmax(self, problem, loss, monkeypatch):
        monkeypatch.setattr("recbole_metarec.model.losses._LOGITS_PER_CHUNK", 1500)  # several chunks
        (states, table, bias, values), targets, rows, items = problem
        logits = (states @ table.T + bias).index_put((rows, items), values, accumulate=True)
        expected = torch.autograd.grad(self.dense_loss(logits, targets), (states, table, bias, values))
        ours = loss(states, table, bias, targets, self.offsets(rows, items, targets, values))
        torch.testing.assert_close(ours, self.dense_loss(logits, targets))
        for one, other in zip(torch.autograd.grad(ours, (states, table, bias, values)), expected, strict=True):
            torch.testing.assert_close(one, other)

    def test_of_a_base_that_is_the_same_for_every_row(self, problem):
        (_, _, base, values), targets, rows, items = problem
        logits = base.repeat(len(targets), 1).index_put((rows, items), values, accumulate=True)
        expected = torch.autograd.grad(self.dense_loss(logits, targets), (base, values))
        ours = sparse_softmax_loss(base, targets, self.offsets(rows, items, targets, values))
        torch.testing.assert_close(ours, self.dense_loss(logits, targets))
        for one, other in zip(torch.autograd.grad(ours, (base, values)), expected, strict=True):
            torch.testing.assert_close(one, other)

    def test_a_sampled_softmax_tends_to_the_full_one(self):
        torch.manual_seed(2)
        states, table, bias = (torch.randn(*size, dtype=torch.float64) for size in ((7, 4), (9, 4), (9,)))
        targets, keys = (
            torch.randint(1, 9, (7,)),
            (torch.randint(0, 7, (20,)) * 9 + torch.randint(1, 9, (20,))).unique(),
        )
        offsets = Offsets(Places.of(keys, 9, 7, targets), torch.randn(len(keys), dtype=torch.float64))
        drawn = negatives_distribution(np.r_[0, np.arange(1, 9)], torch.device("cpu")).double()
        generator = torch.Generator().manual_seed(0)
        sampled = sampled_softmax_loss(states, table, bias, targets, drawn, 200_000, generator, offsets=offsets)
        full = softmax_loss_reference(states, table, bias, targets, offsets)
        torch.testing.assert_close(sampled, full, rtol=0.02, atol=0.02)


def test_an_item_seen_several_times_has_the_offset_of_its_latest_lag_alone():
    seen = SeenOffset()
    with torch.no_grad():
        seen.by_lag.copy_(torch.arange(1.0, 1.0 + len(LAG_STARTS)))
    inputs = torch.tensor([[5, 6, 5, 7], [8, 0, 0, 0]])
    places, values = seen(seen_places(inputs, torch.tensor([3, 4]), torch.tensor([6, 9])))
    assert places.starts.tolist() == [0, 3, 4] and places.answered.tolist() == [1]
    assert list(zip(places.rows.tolist(), places.items.tolist(), values.tolist(), strict=True)) == [
        (0, 5, 2.0),
        (0, 6, 3.0),
        (0, 7, 1.0),
        (1, 8, 1.0),
    ]


def test_where_items_have_many_neighbours_fewer_positions_teach(monkeypatch):
    """Their number is what the evidence of all positions allows, whatever a position has."""
    memory, batch, chosen = memory_of(histories()), rows_of(histories()), []
    positions = len(batch.predicted()[0])
    some = item_memory._some
    monkeypatch.setattr(item_memory, "_some", lambda *given: chosen.append(given[-1]) or some(*given))
    lengths = (memory.pairs.starts[1:] - memory.pairs.starts[:-1]).tolist()
    of_all = sum(
        lengths[item]
        for row, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True)
        for end, target in enumerate(targets)
        if target
        for item in row[max(0, end - 9) : end + 1]
    )
    for share in (10, 2, 0.5, 0.001):
        monkeypatch.setattr(item_memory, "ENTRIES", share * of_all)
        assert bool(memory(batch).isfinite())
    assert chosen == [min(item_memory.POSITIONS, int(share * positions)) or 1 for share in (10, 2, 0.5, 0.001)]
