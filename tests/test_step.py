"""One whole meta step on a tiny model: its weights, its gradient, and what it leaves as it was."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import F64, meta_gradient, random_batch, rates, tiny_metarec

from recbole_metarec.trainer import meta_step as meta
from recbole_metarec.trainer.step import MetaStep, TransferSettings, TransferState, plain_step

# -- the whole step ----------------------------------------------------------------------------------------------------

DEFAULTS = {
    "inner_steps": 1, "second_order": False, "target_batch": "shared", "gradient_rescaling": "similarity",
    "rescale_sign": "aligned", "similarity_at": "theta", "similarity_over": "encoder", "similarity_momentum": 0.9,
    "temperature": 0.05, "source_weight": 0.0, "diagnostics_every": 1,
}  # fmt: skip


class Side:
    """A source that gives prepared batches, as SourceSide does."""

    def __init__(self, name, items, batches):
        self.name, self.items, self.batches = name, items, list(batches)

    @property
    def own(self):
        return self.items.table, self.items.bias

    def next_batch(self):
        self.batches.append(self.batches.pop(0))
        return self.batches[-1]


def no_streams(*name):
    """Generators for shares; none for dropout, which the tiny model has not anyway."""
    return torch.Generator().manual_seed(hash(name) % 1000)


def step_on(model, sides, alpha=0.01, **given):
    parameters = dict(model.named_parameters())
    state = TransferState(rates(parameters, alpha), torch.zeros(len(sides), dtype=F64))
    return MetaStep(model, sides, TransferSettings(**(DEFAULTS | given)), state), parameters, state


def two_sides():
    """The tiny model, a source that is the target itself (its items raw), and one whose loss pulls elsewhere."""
    model, _, _, target_batch = tiny_metarec(vq_heads=0)
    table = model.item_embedding.weight.detach().clone().requires_grad_()
    bias = model.item_bias.detach().clone().requires_grad_()
    same = Side("same", SimpleNamespace(table=table, bias=bias, popularity=None), [target_batch])
    _, other_items, other_batch, _ = tiny_metarec(vq_heads=0)
    return model, same, Side("other", other_items, [other_batch]), target_batch


def test_the_similarity_of_the_target_with_itself_tends_to_one():
    model, same, _, batch = two_sides()
    for place in ("theta", "phi"):
        step, parameters, _ = step_on(model, [same], alpha=1e-7, similarity_at=place)
        measured = step(parameters, batch, no_streams).measured
        assert measured[f"similarity_{place}"].item() == pytest.approx(1.0, abs=1e-5)
    # and the trial update then helps the target
    assert measured["gain"].item() > 0


def test_the_similarity_of_a_negated_loss_tends_to_minus_one(monkeypatch):
    model, same, _, batch = two_sides()
    loss_of = model.source_loss
    monkeypatch.setattr(model, "source_loss", lambda *args: -loss_of(*args))
    step, parameters, _ = step_on(model, [same], alpha=1e-7)
    measured = step(parameters, batch, no_streams).measured
    assert measured["similarity_theta"].item() == pytest.approx(-1.0, abs=1e-5)
    assert measured["similarity_phi"].item() == pytest.approx(-1.0, abs=1e-5) and measured["gain"].item() < 0


@pytest.mark.parametrize("sign", ["aligned", "paper"])
def test_the_aligned_sign_favours_agreement_and_the_papers_the_opposite(sign):
    model, same, other, batch = two_sides()
    step, parameters, _ = step_on(model, [same, other], alpha=1e-4, rescale_sign=sign)
    weights = step(parameters, batch, no_streams).measured["weight"]
    assert weights.sum().item() == pytest.approx(1.0)
    assert (weights[0] > weights[1]) == (sign == "aligned")


@pytest.mark.parametrize("steps", [1, 2])
def test_the_steps_gradient_is_the_weighted_sum_of_the_sources(steps):
    """Each source walks K steps on fresh batches, each at its own place; all of it written out."""
    model, same, other, batch = two_sides()
    same.batches.append(random_batch(12))
    other.batches.append(random_batch(10))
    given = {"source_weight": 0.7, "temperature": 0.5, "inner_steps": steps}
    step, parameters, _ = step_on(model, [same, other], alpha=0.02, **given)
    walks = [list(side.batches) for side in (same, other)]
    result = step(parameters, batch, no_streams)
    expected = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for weight, side, walk in zip(result.measured["weight"], (same, other), walks, strict=True):
        phi, first = parameters, None
        for seen in walk[:steps]:
            source = meta.gradients(model.source_loss(phi, side.items, seen), phi)
            first = first or source
            phi = {name: (p - 0.02 * source[name]).detach().requires_grad_() for name, p in phi.items()}
        target = meta.gradients(model.target_loss(phi, batch), phi)
        for name in parameters:
            expected[name] += weight * (target[name] + 0.7 * first[name])
    for name in parameters:
        torch.testing.assert_close(result.gradient[name], expected[name])
    torch.testing.assert_close(result.loss, model.target_loss(parameters, batch).detach())


def test_smoothing_is_an_exponential_mean_that_starts_at_the_first_score():
    model, same, other, batch = two_sides()
    step, parameters, state = step_on(model, [same, other], similarity_momentum=0.6)
    other.batches.append(random_batch(10))
    expected = None
    for _ in range(3):
        score = step(parameters, batch, no_streams).measured["similarity_theta"]
        expected = score if expected is None else 0.6 * expected + 0.4 * score
        torch.testing.assert_close(state.smoothed, expected)
        torch.testing.assert_close(
            meta.source_weights(expected, torch.ones(2, dtype=torch.bool), 0.05),
            torch.softmax(state.smoothed / 0.05, dim=0),
        )


@pytest.mark.parametrize("given", [{}, {"second_order": True}, {"inner_steps": 2}, {"target_batch": "split"}])
def test_the_meta_step_leaves_model_and_sources_bit_identical(given):
    model, same, other, batch = two_sides()
    step, parameters, _ = step_on(model, [same, other], alpha=0.5, **given)
    everything = [*model.state_dict().values(), *same.own, *other.own]
    before = [value.detach().clone() for value in everything]
    result = step(parameters, batch, no_streams)
    assert all(torch.equal(a, b) for a, b in zip(before, everything, strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert sum(float(value.abs().sum()) for value in result.gradient.values()) > 0


@pytest.mark.parametrize(
    "given", [{}, {"similarity_at": "phi"}, {"gradient_rescaling": "uniform"}, {"source_weight": 1.0}]
)
@pytest.mark.parametrize("diagnosed", [True, False])
def test_a_source_that_is_not_finite_reaches_neither_gradient_nor_loss(given, diagnosed):
    model, same, other, batch = two_sides()
    with torch.no_grad():
        other.items.bias[3] = float("nan")
    every = 1 if diagnosed else 100
    step, parameters, state = step_on(model, [same, other], alpha=0.01, diagnostics_every=every, **given)
    state.steps = 1  # the first step is always diagnosed
    state.smoothed += 0.3
    result = step(parameters, batch, no_streams)
    assert state.smoothed[1] == 0.3  # what is known of it stays until it can be measured again
    assert result.measured["skipped"].tolist() == [False, True] and result.own[1] is None and result.own[0] is not None
    torch.testing.assert_close(result.measured["weight"], torch.tensor([1.0, 0.0], dtype=F64), check_dtype=False)
    assert bool(result.loss.isfinite()) and bool(state.smoothed.isfinite().all())
    alone, parameters, alone_state = step_on(model, [same], alpha=0.01, **given)
    alone_state.steps = 1
    alone_state.smoothed += 0.3
    expected = alone(parameters, batch, no_streams)
    for name, value in result.gradient.items():
        assert bool(value.isfinite().all())
        torch.testing.assert_close(value, expected.gradient[name])


def test_shares_are_disjoint_rows_of_the_target_batch_in_proportion_to_the_weights():
    model, same, other, _ = two_sides()
    batch = random_batch(12, lengths=(5, 4, 4, 3, 3, 2, 2, 1, 1))
    step, _, _ = step_on(model, [same, other], target_batch="split")
    generator = torch.Generator().manual_seed(0)

    def rows(part):
        return [tuple(x for x in row if x) for row in part.inputs.tolist()]

    for weight in (0.0, 0.3, 0.5, 0.9, 1.0):
        weights = torch.tensor([weight, 1.0 - weight])
        drawn = [step._shares(batch, weights, lambda *name: generator) for _ in range(400)]
        for shares, sizes in drawn:
            assert sizes.tolist() == [int((share.targets > 0).sum()) for share in shares]
            assert all(len(share) for share in shares)
            assert sorted(row for share in shares for row in rows(share)) == sorted(rows(batch))
        first = np.array([len(shares[0]) for shares, _ in drawn])
        assert first.max() - first.min() <= 1, "systematic sampling rounds up or down, no more"
        assert abs(first.mean() - (1 + weight * 7)) < 4 * 0.5 / np.sqrt(400)
        assert len({str(rows(shares[0])) for shares, _ in drawn}) > 1


def test_with_dealt_rows_every_target_event_counts_alike():
    """At alpha -> 0 the trial changes nothing: the step is the plain gradient of the batch, however it is dealt."""
    model, same, other, _ = two_sides()
    batch = random_batch(12, lengths=(5, 4, 4, 3, 3, 2, 2, 1, 1))
    step, parameters, state = step_on(model, [same, other], alpha=1e-300, target_batch="split")
    state.steps = 1
    state.smoothed += torch.tensor([0.2, 0.0])
    generator = torch.Generator().manual_seed(0)
    gradient = step(parameters, batch, lambda *name: generator).gradient
    plain = plain_step(model, parameters, batch, no_streams).gradient
    for name, value in plain.items():
        torch.testing.assert_close(gradient[name], value)


def test_learned_rates_follow_the_weighted_gradient():
    model, same, other, batch = two_sides()
    step, parameters, state = step_on(model, [same, other], alpha=0.02)
    state.log_rates = rates(parameters, 0.02, learned=True)
    state.rate_optimizer = torch.optim.SGD(state.log_rates.values(), lr=1.0)
    before = {name: value.item() for name, value in state.log_rates.items()}
    result = step(parameters, batch, no_streams)
    for name in ("item_embedding.weight", "encoder.blocks.0.widen.weight"):
        expected = 0.0
        for weight, side in zip(result.measured["weight"], (same, other), strict=True):
            trial, outer = meta_gradient(model, side.items, side.batches, batch, 0.02, False, parameters)
            expected -= weight * (outer.gradient[name] * trial.moved[name]).sum()
        assert before[name] - state.log_rates[name].item() == pytest.approx(expected.item(), rel=1e-6)
    # agreement of the target with itself asks for a larger step
    alone, parameters, state = step_on(model, [same], alpha=1e-4)
    state.log_rates = rates(parameters, 1e-4, learned=True)
    state.rate_optimizer = torch.optim.SGD(state.log_rates.values(), lr=1.0)
    alone(parameters, batch, no_streams)
    assert state.log_rates["encoder.blocks.0.widen.weight"].item() > math.log(1e-4)


def test_nothing_is_learned_from_a_trial_of_size_zero():
    model, same, other, batch = two_sides()
    parameters = dict(model.named_parameters())
    state = TransferState({name: torch.tensor(0.0, dtype=F64).log() for name in parameters}, torch.zeros(2, dtype=F64))
    step = MetaStep(model, [same, other], TransferSettings(**DEFAULTS), state)
    result = step(parameters, batch, no_streams)
    assert result.measured["similarity_theta"].tolist() == [0.0, 0.0]
    torch.testing.assert_close(result.measured["weight"], torch.tensor([0.5, 0.5]), check_dtype=False)
    expected = meta.gradients(model.target_loss(parameters, batch), parameters)
    for name in parameters:
        torch.testing.assert_close(result.gradient[name], expected[name])


@pytest.mark.parametrize("over, wanted", [
    ("encoder", {"encoder.x"}), ("encoder_and_codes", {"encoder.x", "item_embedding.weight"}),
    ("all", {"encoder.x", "item_embedding.weight", "item_bias"}),
])  # fmt: skip
def test_the_parameters_compared(over, wanted):
    settings = TransferSettings(**(DEFAULTS | {"similarity_over": over}))
    assert set(settings.compared(["encoder.x", "item_embedding.weight", "item_bias"])) == wanted
