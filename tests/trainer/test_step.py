"""One whole meta step on a tiny model: its weights, its gradient, and what it leaves as it was."""

import math

import numpy as np
import pytest
import torch
from support.tiny import (
    F64,
    STEP_DEFAULTS,
    Side,
    meta_gradient,
    no_streams,
    random_batch,
    rates,
    step_on,
    tiny_metarec,
    two_sides,
)

from recbole_metarec.config.schema import key_reference
from recbole_metarec.model.losses import negatives_distribution
from recbole_metarec.model.metarec_network import SourceItems
from recbole_metarec.randomness import Streams
from recbole_metarec.trainer import meta_step as meta
from recbole_metarec.trainer.forms import Mismatch, checked
from recbole_metarec.trainer.step import joint_step, plain_step
from recbole_metarec.trainer.transfer_state import TransferSettings, TransferState
from recbole_metarec.trainer.transfer_step import TransferStep
from recbole_metarec.trainer.weighting import WEIGHTINGS


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
    monkeypatch.setattr(model, "source_loss", lambda *args, **given: -loss_of(*args, **given))
    step, parameters, _ = step_on(model, [same], alpha=1e-7)
    measured = step(parameters, batch, no_streams).measured
    assert measured["similarity_theta"].item() == pytest.approx(-1.0, abs=1e-5)
    assert measured["similarity_phi"].item() == pytest.approx(-1.0, abs=1e-5) and measured["gain"].item() < 0


@pytest.mark.parametrize("sign", ["aligned", "paper"])
def test_the_aligned_sign_favours_agreement_and_the_papers_the_opposite(sign):
    model, same, other, batch = two_sides()
    step, parameters, _ = step_on(model, [same, other], alpha=1e-4, rescale_sign=sign, temperature=0.7)
    measured = step(parameters, batch, no_streams).measured
    weights, scores = measured["weight"], measured["similarity_theta"]
    assert (weights[0] > weights[1]) == (sign == "aligned")
    torch.testing.assert_close(weights, torch.softmax((scores if sign == "aligned" else -scores) / 0.7, dim=0))


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
        measured = step(parameters, batch, no_streams).measured
        score = measured["similarity_theta"]
        expected = score if expected is None else 0.6 * expected + 0.4 * score
        torch.testing.assert_close(state.smoothed, expected)
        torch.testing.assert_close(measured["weight"], torch.softmax(expected / 0.05, dim=0))
    assert state.steps == 3


@pytest.mark.parametrize("given", [{}, {"second_order": True}, {"inner_steps": 2}, {"target_batch": "split"}])
def test_the_meta_step_leaves_model_and_sources_bit_identical(given):
    model, same, other, batch = two_sides()
    step, parameters, _ = step_on(model, [same, other], alpha=0.5, **given)
    everything = [*model.state_dict().values(), *same.tensors, *other.tensors]
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
    assert result.measured["skipped"].tolist() == [False, True]
    assert [gradients is None for gradients in result.source_gradients] == [False, True]
    torch.testing.assert_close(result.measured["weight"], torch.tensor([1.0, 0.0], dtype=F64), check_dtype=False)
    assert bool(result.loss.isfinite()) and bool(state.smoothed.isfinite().all())
    alone, parameters, alone_state = step_on(model, [same], alpha=0.01, **given)
    alone_state.steps = 1
    alone_state.smoothed += 0.3
    expected = alone(parameters, batch, no_streams)
    for name, value in result.gradient.items():
        assert bool(value.isfinite().all())
        torch.testing.assert_close(value, expected.gradient[name])


@pytest.mark.parametrize("given", [{"similarity_at": "phi"}, {"gradient_rescaling": "uniform"}])
def test_without_a_pass_at_theta_the_loss_is_the_weighted_mean_at_phi(given):
    model, same, other, batch = two_sides()
    step, parameters, state = step_on(
        model, [same, other], alpha=0.02, diagnostics_every=5, similarity_momentum=0.0, **given
    )
    state.steps = 1  # the first step is always diagnosed
    result = step(parameters, batch, no_streams)
    passes = [meta_gradient(model, s.items, s.batches, batch, 0.02, False, parameters) for s in (same, other)]
    measured, weights = result.measured, torch.tensor([0.5, 0.5], dtype=F64)
    if "similarity_at" in given:
        scores = [meta.similarity(outer.gradient, trial.moved, step.settings.compared(list(parameters)))
                  for trial, outer in passes]  # fmt: skip
        torch.testing.assert_close(measured["similarity_phi"], torch.stack(scores))
        weights = torch.softmax(torch.stack(scores) / 0.05, dim=0)
    torch.testing.assert_close(measured["weight"], weights, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(measured["share"], measured["weight"])
    torch.testing.assert_close(result.loss, weights @ torch.stack([outer.loss for _, outer in passes]))
    torch.testing.assert_close(measured["loss"], torch.stack([trial.loss for trial, _ in passes]))
    entropy = -(weights * weights.log()).sum()
    torch.testing.assert_close(measured["entropy"], entropy.expand(2))
    assert measured.keys().isdisjoint({"gain", "similarity_theta"})


def test_the_exact_step_takes_the_exact_meta_gradient():
    model, same, _, batch = two_sides()
    step, parameters, _ = step_on(model, [same], alpha=0.3, second_order=True)
    found = step(parameters, batch, no_streams).gradient
    exact = meta_gradient(model, same.items, same.batches, batch, 0.3, True, parameters)[1].gradient
    for name, value in exact.items():
        torch.testing.assert_close(found[name], value)


def test_diagnostics_are_taken_every_so_many_steps_and_the_gain_is_what_the_trial_gained():
    model, same, other, batch = two_sides()
    step, parameters, _ = step_on(model, [same, other], alpha=0.02, diagnostics_every=3, similarity_at="phi")
    rows = [step(parameters, batch, no_streams).measured for _ in range(7)]
    assert ["gain" in row and "similarity_theta" in row for row in rows] == [True, False, False] * 2 + [True]
    for place, side in enumerate((same, other)):
        outer = meta_gradient(model, side.items, side.batches, batch, 0.02, False, parameters)[1]
        gain = model.target_loss(parameters, batch).detach() - outer.loss
        torch.testing.assert_close(rows[0]["gain"][place], gain)


def test_the_gain_is_measured_under_the_same_masks():
    """A trial of no size gains nothing, whatever is dropped; and each source has masks of its own."""
    model, items, source_batch, batch = tiny_metarec(vq_heads=0, dropout_prob=0.5)
    streams = Streams("cpu", 1)
    step, parameters, _ = step_on(model, [Side("one", items, [source_batch])], alpha=1e-300)
    assert step(parameters, batch, streams).measured["gain"].item() == 0.0


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
    step = TransferStep(model, [same, other], TransferSettings(**STEP_DEFAULTS), state)
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
    settings = TransferSettings(**(STEP_DEFAULTS | {"similarity_over": over}))
    assert set(settings.compared(["encoder.x", "item_embedding.weight", "item_bias"])) == wanted


def test_every_weighting_can_be_chosen_by_the_key():
    assert key_reference("MetaRec")["gradient_rescaling"].kind == " or ".join([*WEIGHTINGS, "class"])


@pytest.mark.parametrize("weighting", WEIGHTINGS.values())
def test_a_weighting_that_is_watched_makes_scores_and_says_from_which_gradients(weighting):
    settings = TransferSettings(**STEP_DEFAULTS)
    assert weighting.is_watched == (weighting(settings).scores_at is not None)


# -- joint training, and what is carried from step to step -------------------------------------------------------------


@pytest.mark.parametrize("with_target", [True, False])
def test_the_joint_step_is_the_gradient_of_its_formula(with_target):
    """L_tgt + w mean_i L_src(S_i), or the second term alone; each source's own table gets its part of it."""
    model, same, other, batch = two_sides()
    parameters = dict(model.named_parameters())
    losses = [model.source_loss(parameters, side.items, side.batches[0]) for side in (same, other)]
    total = 0.7 * (losses[0] + losses[1]) / 2 + (model.target_loss(parameters, batch) if with_target else 0.0)
    wanted = (*parameters.values(), *same.tensors, *other.tensors)
    expected = torch.autograd.grad(total, wanted, materialize_grads=True)
    result = joint_step(model, parameters, batch if with_target else None, [same, other], no_streams, 0.7)
    assert list(result.gradient) == list(parameters)
    torch.testing.assert_close(
        (*result.gradient.values(), *result.source_gradients[0], *result.source_gradients[1]), expected
    )
    torch.testing.assert_close(result.loss, total.detach())
    torch.testing.assert_close(result.measured["loss"], torch.stack(losses).detach())
    assert result.measured["skipped"].tolist() == [False, False]


def test_a_joint_step_gives_the_rows_alone_of_a_source_that_is_stepped_by_rows():
    model, same, other, batch = two_sides()
    model.source_negatives, same.rows_only = 3, True
    for side in (same, other):
        drawn = negatives_distribution(np.arange(len(side.items.table)), torch.device("cpu")).double()
        side.items = SourceItems(*side.tensors, drawn)
    result = joint_step(model, dict(model.named_parameters()), batch, [same, other], no_streams, 0.7)
    assert [tables[0].is_sparse for tables in result.source_gradients] == [True, False]


def test_a_joint_step_without_a_usable_source_has_no_gradient():
    model, same, other, batch = two_sides()
    with torch.no_grad():
        same.items.bias[3] = other.items.bias[3] = math.nan
    result = joint_step(model, dict(model.named_parameters()), batch, [same, other], no_streams, 0.7)
    assert result.gradient == {} and result.source_gradients == [None, None] and math.isnan(result.loss)
    assert result.measured["skipped"].tolist() == [True, True]


def test_the_plain_step_is_the_targets_gradient_by_rows_where_that_is_asked_for():
    model, _, _, batch = tiny_metarec(target_negatives=3)
    model.popularity = torch.ones(12, dtype=F64).index_fill(0, torch.tensor(0), 0.0) / 11
    parameters = dict(model.named_parameters())
    dense, by_rows = (plain_step(model, parameters, batch, Streams("cpu", 1), **given) for given in
                      ({}, {"rows_only": True}))  # fmt: skip
    name = "item_embedding.weight"
    assert by_rows.gradient[name].is_sparse and not dense.gradient[name].is_sparse
    torch.testing.assert_close(by_rows.gradient[name].to_dense(), dense.gradient[name])
    assert by_rows.loss == dense.loss and not dense.loss.requires_grad


def moved(state):
    """A step of the rates along a gradient that depends on where they are."""
    for rate in state.log_rates.values():
        rate.grad = 0.3 + rate.detach()
    state.rate_optimizer.step()


def test_rates_start_at_the_logarithm_of_alpha_and_move_only_with_a_learning_rate():
    alphas = {"x": 0.5, "y": 2}
    fixed, learned = (TransferState.initial(alphas, rate, 3, "cpu") for rate in (0.0, 0.1))
    assert fixed.rate_optimizer is None and not any(rate.requires_grad for rate in fixed.log_rates.values())
    assert all(rate.requires_grad for rate in learned.log_rates.values())
    assert fixed.smoothed.tolist() == [0.0] * 3 and fixed.steps == 0
    moved(learned)
    for name, sign in (("x", -1), ("y", 1)):  # Adam's first step is the learning rate, against the sign
        assert fixed.log_rates[name].item() == pytest.approx(math.log(alphas[name]))
        assert learned.log_rates[name].item() == pytest.approx(math.log(alphas[name]) - 0.1 * sign, abs=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_a_restored_state_goes_on_as_the_one_that_was_saved(rate):
    state, other = (TransferState.initial({"x": 0.5, "y": 2.0}, rate, 2, "cpu") for _ in range(2))
    state.steps, state.smoothed = 4, torch.tensor([0.1, -0.2])
    other.log_rates["x"].data.fill_(-9.0)
    for _ in range(3) if rate else ():
        moved(state)
    saved = state.state_dict()
    other.load_state_dict(checked(saved, other.form(4)))
    with pytest.raises(Mismatch, match="^steps is 4"):
        checked(saved, other.form(3))
    for name, spoilt in (("log_rates", {"x": torch.zeros(2)}), ("smoothed", torch.zeros(3)), ("rate_optimizer", {})):
        with pytest.raises(Mismatch, match=f"^{name}"):
            checked(saved | {name: spoilt}, other.form(4))
    if rate:  # every rate moves in every step
        del saved["rate_optimizer"]["state"][1]
        with pytest.raises(Mismatch, match=r"^rate_optimizer\.state\.1 is missing"):
            checked(saved, other.form(4))
    for one in (state, other):
        if rate:
            moved(one)
        one.smoothed += 1.0  # in place: neither what was saved nor the other may change with it
        assert one.steps == 4
        torch.testing.assert_close(one.smoothed, torch.tensor([1.1, 0.8]))
    for name, value in state.log_rates.items():
        assert torch.equal(value, other.log_rates[name])
        assert (saved["log_rates"][name] != value).item() == (rate > 0)
    assert saved["smoothed"].tolist() == pytest.approx([0.1, -0.2])
