"""Next-item losses against cross-entropy, finite differences and the expectation that sampling promises."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recbole_metarec.model import losses
from recbole_metarec.model.losses import (
    negatives_distribution,
    sampled_softmax_loss,
    softmax_loss,
    softmax_loss_reference,
)


def problem(count=7, n=11, d=5, dtype=torch.float64):
    states, table, bias = (torch.randn(*shape, dtype=dtype) for shape in ((count, d), (n, d), (n,)))
    targets = torch.randint(1, n, (count,))
    targets[0], targets[1] = 1, n - 1  # both ends of the catalogue
    targets[2] = targets[-1]  # and one item twice
    return [x.requires_grad_() for x in (states, table, bias)], targets


def by_hand(states, table, bias, targets):
    """-mean log(exp(s_y) / sum over items 1 .. n - 1), one position at a time."""
    total = 0.0
    for state, target in zip(states, targets.tolist(), strict=True):
        masses = [torch.exp(state @ table[j] + bias[j]) for j in range(1, len(table))]
        total = total - torch.log(masses[target - 1] / sum(masses))
    return total / len(states)


@pytest.mark.parametrize("logits_per_chunk", [1, 11, 25, 33, 1 << 19])
def test_softmax_losses_equal_the_formula_whatever_the_chunks(monkeypatch, logits_per_chunk):
    monkeypatch.setattr(losses, "_LOGITS_PER_CHUNK", logits_per_chunk)
    monkeypatch.setattr(losses, "_FEWEST_ROWS", 1)
    inputs, targets = problem()
    expected = by_hand(*inputs, targets)
    gradients = torch.autograd.grad(expected, inputs)
    for loss_of in (softmax_loss, softmax_loss_reference):
        loss = loss_of(*inputs, targets)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
        # times 3: the incoming gradient counts
        found = torch.autograd.grad(3.0 * loss, inputs)
        torch.testing.assert_close(found, tuple(3.0 * g for g in gradients), rtol=1e-11, atol=1e-12)


def test_gradients_by_finite_differences():
    inputs, targets = problem(count=4, n=6, d=3)
    for loss_of in (softmax_loss, softmax_loss_reference):
        assert torch.autograd.gradcheck(lambda *x, of=loss_of: of(*x, targets), inputs)
    assert torch.autograd.gradgradcheck(lambda *x: softmax_loss_reference(*x, targets), inputs)


def test_the_padding_row_is_outside():
    (states, table, bias), targets = problem()
    for loss_of in (softmax_loss, softmax_loss_reference):
        loss = loss_of(states, table, bias, targets)
        into_table, into_bias = torch.autograd.grad(loss, (table, bias))
        assert not into_table[0].any() and not into_bias[0].any() and into_table[1:].abs().sum(dim=1).min() > 0
        changed, changed_bias = table.detach().clone(), bias.detach().clone()
        changed[0], changed_bias[0] = 100.0, 100.0
        assert torch.equal(loss_of(states, changed, changed_bias, targets), loss)


def test_huge_logits_neither_overflow_nor_lose_the_loss():
    (states, table, bias), targets = problem()
    with torch.no_grad():
        states *= 1e3
        expected = F.cross_entropy(states @ table[1:].T + bias[1:], targets - 1)
    loss = softmax_loss(states, table, bias, targets)
    torch.testing.assert_close(loss.detach(), expected)
    assert bool(torch.autograd.grad(loss, states)[0].isfinite().all())


@pytest.mark.parametrize("factor", [1.0, 30.0, 1e4])
def test_only_the_gradients_that_were_asked_for_are_made(factor):
    """Whichever are detached, the others are as before; logits below and above what exp can hold."""
    inputs, targets = problem()
    with torch.no_grad():
        inputs[0] *= factor
    expected = torch.autograd.grad(softmax_loss_reference(*inputs, targets), inputs)
    for kept in ([0], [1, 2], [1], [2], [0, 2]):
        given = [x if i in kept else x.detach() for i, x in enumerate(inputs)]
        loss = softmax_loss(*given, targets)
        found = torch.autograd.grad(loss, [inputs[i] for i in kept])
        torch.testing.assert_close(found, tuple(expected[i] for i in kept), rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        assert not softmax_loss(*inputs, targets).requires_grad


def test_a_bias_far_from_zero_is_weighed_exactly():
    """exp(b) multiplies items, not logits: large and very negative biases, in float32, against float64."""
    inputs, targets = problem(dtype=torch.float32)
    with torch.no_grad():
        inputs[2][:] = torch.linspace(-30, 30, len(inputs[2]))
    double = [x.detach().double().requires_grad_() for x in inputs]
    expected = softmax_loss_reference(*double, targets)
    loss = softmax_loss(*inputs, targets)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=1e-6)
    for mine, true in zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, double), strict=True):
        torch.testing.assert_close(mine.double(), true, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("largest", [30.0, 70.0, 79.0, 82.0, 88.0, 120.0, 300.0])
@pytest.mark.parametrize("by_bias", [True, False])
def test_float32_neither_overflows_nor_underflows_where_the_shift_sets_in(largest, by_bias):
    """Logits on both sides of what exp can hold in float32, from the states or from the bias, against float64."""
    inputs, targets = problem(count=40, n=500, dtype=torch.float32)
    with torch.no_grad():
        if by_bias:
            inputs[2][:] = torch.linspace(-largest, largest, 500)
        else:
            inputs[0][:] = F.normalize(inputs[0], dim=1) * largest
            inputs[1][:] = F.normalize(inputs[1], dim=1)
            inputs[1][7], inputs[1][8] = F.normalize(inputs[0][0], dim=0), -F.normalize(inputs[0][0], dim=0)
    double = [x.detach().double().requires_grad_() for x in inputs]
    expected = softmax_loss_reference(*double, targets)
    loss = softmax_loss(*inputs, targets)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    for mine, true in zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, double), strict=True):
        torch.testing.assert_close(mine.double(), true, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("count, n", [(2000, 3), (2, 20000)])
def test_many_rows_and_many_items_count_in_the_bound(count, n):
    """All logits at the limit: their sum over the catalogue overflows long before one of them does."""
    states = torch.full((count, 1), 79.0, requires_grad=True)
    table, bias = torch.ones(n, 1, requires_grad=True), torch.zeros(n, requires_grad=True)
    loss = softmax_loss(states, table, bias, torch.ones(count, dtype=torch.int64))
    assert loss.item() == pytest.approx(math.log(n - 1), rel=1e-5)
    into_bias = torch.autograd.grad(loss, bias)[0]
    expected = torch.full((n,), 1.0 / (n - 1))
    expected[0], expected[1] = 0.0, 1.0 / (n - 1) - 1.0
    torch.testing.assert_close(into_bias, expected, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("place", [1, 7, -1])
@pytest.mark.parametrize("by_bias", [True, False])
def test_one_item_anywhere_in_the_catalogue_may_have_the_logit_that_overflows(place, by_bias):
    """Logit 144 of one item, all others near 0: long vectors of small numbers, or a bias alone."""
    states = torch.full((3, 64), 0.01 if by_bias else 1.5, requires_grad=True)
    table, bias = torch.full((20, 64), 1e-3), torch.zeros(20)
    if by_bias:
        bias[place] = 144.0
    else:
        table[place] = 1.5
    inputs = states, table.requires_grad_(), bias.requires_grad_()
    targets = torch.tensor([1, 7, 19])
    expected = softmax_loss_reference(*inputs, targets)
    loss = softmax_loss(*inputs, targets)
    torch.testing.assert_close(loss, expected)
    for mine, true in zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(mine, true, rtol=1e-4, atol=1e-6)


def test_gradients_of_one_input_are_not_made_for_another():
    states, table, bias = problem()[0]
    loss = softmax_loss(states, table.detach(), bias.detach(), torch.tensor([1, 2, 3, 4, 5, 6, 7]))
    _, into_table, into_bias, _ = loss.grad_fn.saved_tensors
    assert into_table is None and into_bias is None


def test_the_fused_loss_refuses_to_be_differentiated_twice():
    inputs, targets = problem()
    with pytest.raises(
        RuntimeError, match="can be differentiated once"
    ):  # already when a graph of the gradient is wanted
        torch.autograd.grad(softmax_loss(*inputs, targets), inputs[0], create_graph=True)
    scaled = softmax_loss(inputs[0] ** 2, *inputs[1:], targets).square()  # and so behind and before other operations
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        torch.autograd.grad(scaled, inputs[0], create_graph=True)


def distribution(n=11) -> torch.Tensor:
    return negatives_distribution(np.r_[0, np.arange(1, n)], torch.device("cpu")).double()


def test_the_negatives_distribution_is_counts_to_the_three_quarters():
    counts = np.array([9, 16, 0, 81])  # the count of padding, were there one, is ignored
    torch.testing.assert_close(
        negatives_distribution(counts, torch.device("cpu")), torch.tensor([0.0, 8 / 35, 0.0, 27 / 35])
    )


@pytest.mark.parametrize("count", [4, 25])
def test_the_sampled_partition_is_unbiased(count):
    """E[Z-hat] = Z for every position: exp(loss + s_y) is Z-hat, and its mean over draws is the full partition."""
    (states, table, bias), targets = problem(count=4)
    states, table, bias = (x.detach() * 0.7 for x in (states, table, bias))
    probabilities, generator, draws = distribution(), torch.Generator().manual_seed(3), 5000
    scores = states @ table.T + bias
    for row, target in enumerate(targets[:3].tolist()):
        one = states[row : row + 1], table, bias, targets[row : row + 1]
        losses_found = torch.stack([sampled_softmax_loss(*one, probabilities, count, generator) for _ in range(draws)])
        estimates = torch.exp(losses_found + scores[row, target])
        missed = float(probabilities[target]) ** count  # every draw hit the target: only s_y is left
        rest = torch.exp(scores[row, 1:]).sum() - torch.exp(scores[row, target])
        expected = torch.exp(scores[row, target]) + (1 - missed) * rest
        assert abs(estimates.mean() - expected) < 4.5 * estimates.std() / math.sqrt(draws)
        assert estimates.std() > 0


def test_the_sampled_loss_and_its_gradient_tend_to_the_full_ones():
    inputs, targets = problem()
    full = softmax_loss_reference(*inputs, targets)
    gradients = torch.autograd.grad(full, inputs)
    distances = []
    for count in (10, 1000, 100000):
        loss = sampled_softmax_loss(*inputs, targets, distribution(), count, torch.Generator().manual_seed(0))
        found = torch.autograd.grad(loss, inputs)
        distances.append(max(float((a - b).abs().max()) for a, b in zip(found, gradients, strict=True)))
    assert abs((loss - full).item()) < 0.02 and distances[2] < 0.02 and distances[2] < distances[1] < distances[0]


@pytest.mark.parametrize("drawn", [(3, 7, 7, 10), (1, 1, 1, 3), (1, 1, 1, 1)])
def test_the_sampled_loss_is_its_formula(monkeypatch, drawn):
    """logsumexp(s_y, {s_j - log Q'_j - log m'}) - s_y over the draws that are not y, Q' without y, written out."""
    (states, table, bias), targets = problem()
    probabilities = distribution()
    negatives = torch.tensor([int(targets[0]), *drawn])  # the first target is 1
    monkeypatch.setattr(torch, "multinomial", lambda *args, **kwargs: negatives)
    total = 0.0
    for state, y in zip(states, targets.tolist(), strict=True):
        own = state @ table[y] + bias[y]
        others = [j for j in negatives.tolist() if j != y]
        masses = [
            torch.exp(state @ table[j] + bias[j]) / (len(others) * probabilities[j] / (1 - probabilities[y]))
            for j in others
        ]
        total = total + torch.log(torch.exp(own) + sum(masses)) - own
    loss = sampled_softmax_loss(states, table, bias, targets, probabilities, 5)
    torch.testing.assert_close(loss, total / len(states))


def test_only_sampled_rows_and_answers_get_a_gradient(monkeypatch):
    inputs, targets = problem(n=30)
    negatives = torch.tensor([2, 9, 9, 17])
    monkeypatch.setattr(torch, "multinomial", lambda *args, **kwargs: negatives)
    loss = sampled_softmax_loss(*inputs, targets, distribution(30), 4)
    into_table, into_bias = torch.autograd.grad(loss, inputs[1:])
    touched = set(negatives.tolist()) | set(targets.tolist())
    assert set(into_table.abs().sum(dim=1).nonzero().flatten().tolist()) == touched
    assert set(into_bias.nonzero().flatten().tolist()) == touched


def test_a_batch_whose_draws_are_all_the_answer_has_no_loss_and_no_nan(monkeypatch):
    inputs, _ = problem(count=4)
    monkeypatch.setattr(torch, "multinomial", lambda *args, **kwargs: torch.tensor([5, 5]))
    loss = sampled_softmax_loss(*inputs, torch.tensor([5, 5, 5, 5]), distribution(), 2)
    assert loss.item() == pytest.approx(0.0)
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(loss, inputs))


def test_the_same_generator_state_draws_the_same_negatives():
    inputs, targets = problem()
    first, second, other = (
        sampled_softmax_loss(*inputs, targets, distribution(), 4, torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_the_gradient_by_rows_is_the_dense_one():
    inputs, targets = problem(n=30)
    dense, sparse = (
        torch.autograd.grad(
            sampled_softmax_loss(
                *inputs, targets, distribution(30), 9, torch.Generator().manual_seed(4), rows_only=by_rows
            ),
            inputs,
        )
        for by_rows in (False, True)
    )
    assert sparse[1].is_sparse and sparse[1].coalesce().indices().numel() < 30
    torch.testing.assert_close(sparse[1].to_dense(), dense[1])
    torch.testing.assert_close(sparse[0], dense[0])
    torch.testing.assert_close(sparse[2], dense[2])
