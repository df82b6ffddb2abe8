"""The meta step against closed forms, finite differences and the invariances of its similarity."""

import math
from types import SimpleNamespace

import pytest
import torch
from support.tiny import F64, meta_gradient, outer_gradient, random_batch, rates, tiny_metarec, trial_update

from recbole_metarec.compare.settings import weighs_sources
from recbole_metarec.config.schema import key_reference
from recbole_metarec.trainer import meta_step as meta
from recbole_metarec.trainer.transfer_state import TransferSettings, TransferState
from recbole_metarec.trainer.transfer_step import TransferStep

# -- a quadratic, whose every gradient is known ------------------------------------------------------------------------


def quadratic(d=5):
    """L(x) = x'Ax / 2 + b'x with A symmetric: (A, b, the loss as a function of {'x': x})."""
    half = torch.randn(d, d, dtype=F64)
    matrix, vector = half + half.T, torch.randn(d, dtype=F64)
    return matrix, vector, lambda phi: 0.5 * phi["x"] @ matrix @ phi["x"] + vector @ phi["x"]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_meta_gradient_of_a_quadratic_is_its_closed_form(steps):
    """Exact: g = (I - alpha A)^K grad L_tgt(phi); of first order the Hessian factor is dropped."""
    alpha, theta = 0.07, torch.randn(5, dtype=F64, requires_grad=True)
    (a_source, b_source, source), (a_target, b_target, target) = quadratic(), quadratic()
    phi = theta.detach()
    for _ in range(steps):
        phi = phi - alpha * (a_source @ phi + b_source)
    at_phi = a_target @ phi + b_target
    shrink = torch.linalg.matrix_power(torch.eye(5, dtype=F64) - alpha * a_source, steps)
    for second_order, expected in ((True, shrink @ at_phi), (False, at_phi)):
        parameters = {"x": theta}
        trial = trial_update(parameters, [source] * steps, (), rates(parameters, alpha), second_order)
        outer = outer_gradient(trial, target, second_order)
        torch.testing.assert_close(trial.phi["x"].detach(), phi)
        torch.testing.assert_close(trial.moved["x"], theta.detach() - phi)
        torch.testing.assert_close(trial.source_gradient["x"], (a_source @ theta + b_source).detach())
        torch.testing.assert_close(outer.gradient["x"], expected)
        torch.testing.assert_close(outer.loss, target({"x": phi}))
        torch.testing.assert_close(trial.loss, source(parameters).detach())
    assert not torch.allclose(shrink @ at_phi, at_phi, rtol=0.05)


def test_each_inner_step_takes_its_own_batch_at_its_own_place():
    parameters = {"x": torch.randn(5, dtype=F64, requires_grad=True)}
    (a, b, first), (c, d, second) = quadratic(), quadratic()
    trial = trial_update(parameters, [first, second], (), rates(parameters, 0.1), False)
    theta = parameters["x"].detach()
    middle = theta - 0.1 * (a @ theta + b)
    torch.testing.assert_close(trial.phi["x"].detach(), middle - 0.1 * (c @ middle + d))
    torch.testing.assert_close(trial.source_gradient["x"], a @ theta + b)


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("steps", [1, 2])
def test_the_gradient_of_learned_rates(second_order, steps):
    """Exact: finite differences. Of first order: dL / d log(alpha) = -<grad L_tgt(phi), theta - phi>."""
    parameters = {name: torch.randn(5, dtype=F64, requires_grad=True) for name in ("x", "y")}
    matrix = torch.randn(5, 5, dtype=F64)
    source, target = quadratic()[2], quadratic()[2]

    def of_both(loss):
        return lambda phi: loss(phi) + (phi["x"] @ matrix @ phi["y"]).sin() + phi["y"].pow(2).sum()

    def value(logs):
        trial = trial_update(parameters, [of_both(source)] * steps, (), logs, False)
        return of_both(target)(trial.phi).item(), trial

    logs = {name: torch.tensor(a, dtype=F64, requires_grad=True) for name, a in (("x", -2.0), ("y", -3.0))}
    trial = trial_update(parameters, [of_both(source)] * steps, (), logs, second_order)
    found = outer_gradient(trial, of_both(target), second_order).rates
    for name in logs:
        if second_order:
            shifted = [value({**logs, name: logs[name].detach() + h})[0] for h in (1e-5, -1e-5)]
            expected = (shifted[0] - shifted[1]) / 2e-5
        else:
            phi = {key: p.detach().requires_grad_() for key, p in trial.phi.items()}
            gradient = torch.autograd.grad(of_both(target)(phi), phi[name])[0]
            expected = -(gradient * (parameters[name] - phi[name])).sum().item()
        assert found[name].item() == pytest.approx(expected, rel=1e-6) and abs(expected) > 1e-3


# -- a tiny MetaRec ----------------------------------------------------------------------------------------------------


def codes_in(model, source, parameters):
    from recbole_metarec.model.quantizer import nearest_codes

    return nearest_codes(source.table.detach(), parameters["item_embedding.weight"].detach(), model.vq_heads)


@pytest.mark.parametrize("settings", [{"vq_heads": 0}, {"vq_heads": 4}, {"vq_heads": 2, "quantize_output": True}])
@pytest.mark.parametrize("steps", [1, 2])
def test_the_exact_meta_gradient_against_finite_differences(settings, steps):
    """With ``both`` a code's slice and the vector get the same gradient, which no function of theta alone has; but with
    the source's table fixed the surrogate in theta is a true function, whose codes must not change nearby.
    """
    model, source, _, target_batch = tiny_metarec(**settings)
    batches = [random_batch(10) for _ in range(steps)]
    parameters = dict(model.named_parameters())
    alpha, h = 0.05, 1e-5
    _, outer = meta_gradient(model, source, batches, target_batch, alpha, True, parameters)
    for _ in range(6):
        direction = {name: torch.randn_like(value) for name, value in parameters.items()}
        direction["item_embedding.weight"][0] = 0.0
        values, codes = [], []
        for sign in (1, -1):
            shifted = {n: (p + sign * h * direction[n]).detach().requires_grad_() for n, p in parameters.items()}
            trial, at_phi = meta_gradient(model, source, batches, target_batch, alpha, False, shifted)
            values.append(at_phi.loss.item())
            if model.vq_heads:
                codes += [codes_in(model, source, shifted), codes_in(model, source, trial.phi)]
        if model.vq_heads:
            assert torch.equal(codes[0], codes[2]) and torch.equal(codes[1], codes[3])
        expected = (values[0] - values[1]) / (2 * h)
        found = sum((outer.gradient[name] * direction[name]).sum() for name in parameters).item()
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-8) and abs(expected) > 1e-4


def test_the_exact_meta_gradient_of_loss_mode_against_the_surrogate_with_frozen_values():
    """``loss``: the encoder reads values that are constant in theta, and only the codebook loss moves the table."""
    model, source, batch, target_batch = tiny_metarec(vq_heads=4, codebook_gradient="loss")
    parameters = dict(model.named_parameters())
    alpha, h = 0.05, 1e-5
    _, outer = meta_gradient(model, source, [batch], target_batch, alpha, True, parameters)
    from recbole_metarec.model.quantizer import gather_codes

    codes = codes_in(model, source, parameters)
    frozen = gather_codes(parameters["item_embedding.weight"].detach(), codes)  # sg(q) at the unmoved theta
    seen, prepared = batch.inputs.unique()[1:], model.prepared_source(batch)

    def surrogate(theta):
        states = model.encode(theta, frozen[batch.inputs] * (batch.inputs > 0)[..., None], None, True)
        items = source.table.detach(), source.bias.detach(), None
        states = states.flatten(0, 1)[prepared.predicted()[0]]
        loss = model.item_loss(theta, states, prepared, items, 0, None, True)
        q = gather_codes(theta["item_embedding.weight"], codes[seen])
        return loss + model.codebook_weight * (q - source.table.detach()[seen]).square().mean()

    for _ in range(6):
        direction = {name: torch.randn_like(value) for name, value in parameters.items()}
        direction["item_embedding.weight"][0] = 0.0
        values = []
        for sign in (1, -1):
            theta = {n: (p + sign * h * direction[n]).detach().requires_grad_() for n, p in parameters.items()}
            phi = {n: theta[n] - alpha * g for n, g in meta.gradients(surrogate(theta), theta).items()}
            values.append(model.target_loss(phi, target_batch).item())
        expected = (values[0] - values[1]) / (2 * h)
        found = sum((outer.gradient[name] * direction[name]).sum() for name in parameters).item()
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-8) and abs(expected) > 1e-4


def test_first_order_is_the_target_gradient_at_phi_and_differs_from_the_exact_one():
    model, source, batch, target_batch = tiny_metarec()
    parameters = dict(model.named_parameters())
    trial, first = meta_gradient(model, source, [batch], target_batch, 0.3, False, parameters)
    _, exact = meta_gradient(model, source, [batch], target_batch, 0.3, True, parameters)
    phi = {name: value.detach().requires_grad_() for name, value in trial.phi.items()}
    at_phi = meta.gradients(model.target_loss(phi, target_batch), phi)
    for name in parameters:
        torch.testing.assert_close(first.gradient[name], at_phi[name])
    assert max((first.gradient[n] - exact.gradient[n]).abs().max() for n in parameters) > 1e-3
    torch.testing.assert_close(first.loss, exact.loss)


def test_own_gradients_and_the_shared_source_gradient_are_those_of_the_first_inner_step():
    model, source, batch, target_batch = tiny_metarec()
    parameters = dict(model.named_parameters())
    trial, _ = meta_gradient(model, source, [batch, random_batch(10)], target_batch, 0.3, False, parameters)
    loss = model.source_loss(parameters, source, batch)
    own = torch.autograd.grad(loss, (source.table, source.bias), retain_graph=True)
    torch.testing.assert_close(trial.table_gradients, own)
    shared = meta.gradients(loss, parameters)
    for name in parameters:
        torch.testing.assert_close(trial.source_gradient[name], shared[name])
    assert not trial.table_gradients[0][0].any() and trial.table_gradients[1].any()


# -- similarity and weights --------------------------------------------------------------------------------------------


def vectors():
    return {"a": torch.randn(3, 4), "b": torch.randn(5), "left out": torch.randn(100)}


def test_similarity_is_one_cosine_over_the_named_tensors():
    gradient, moved = vectors(), vectors()
    flat = [torch.cat([x["a"].flatten(), x["b"]]) for x in (gradient, moved)]
    expected = torch.nn.functional.cosine_similarity(*flat, dim=0)
    torch.testing.assert_close(meta.similarity(gradient, moved, ["a", "b"]), expected)
    by_tensor = [meta.similarity(gradient, moved, [name]) for name in "ab"]
    assert abs(sum(by_tensor) / 2 - expected) > 1e-3


@pytest.mark.parametrize("scale", [1e-6, 1e-17, 1e-25, 1e-36, 1e6, 1e12, 1e25, 1e36])
def test_a_positive_rescaling_changes_nothing_and_a_sign_changes_the_sign(scale):
    gradient, moved = vectors(), vectors()
    score = meta.similarity(gradient, moved, ["a", "b"])
    scaled = {name: scale * value for name, value in moved.items()}
    torch.testing.assert_close(meta.similarity(gradient, scaled, ["a", "b"]), score)
    torch.testing.assert_close(meta.similarity({n: -v for n, v in gradient.items()}, scaled, ["a", "b"]), -score)
    torch.testing.assert_close(meta.similarity(scaled, moved, ["a", "b"]), torch.tensor(1.0))


def test_a_zero_vector_has_similarity_zero():
    gradient, zero = vectors(), {name: torch.zeros_like(value) for name, value in vectors().items()}
    for pair in ((gradient, zero), (zero, gradient), (zero, zero)):
        assert meta.similarity(*pair, ["a", "b"]).item() == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_vector_that_is_not_finite_has_similarity_zero(bad):
    gradient, broken = vectors(), vectors()
    broken["b"][2] = bad
    for pair in ((gradient, broken), (broken, gradient), (broken, broken)):
        assert meta.similarity(*pair, ["a", "b"]).item() == 0.0


def test_the_similarity_of_single_numbers_is_their_sign():
    for other in (2.0, -3.0):
        found = meta.similarity({"a": torch.tensor([0.5])}, {"a": torch.tensor([other])}, ["a"])
        assert found.item() == math.copysign(1.0, other)


def test_weights_are_a_softmax():
    scores, usable = torch.tensor([0.3, -0.2, 0.05]), torch.ones(3, dtype=torch.bool)
    weights = meta.source_weights(scores, usable, 0.05)
    torch.testing.assert_close(weights, torch.exp(scores / 0.05) / torch.exp(scores / 0.05).sum())
    torch.testing.assert_close(meta.source_weights(scores, usable, 1e6), torch.full((3,), 1 / 3))
    torch.testing.assert_close(meta.source_weights(scores, usable, 1e-4), torch.tensor([1.0, 0.0, 0.0]))
    assert meta.source_weights(scores, usable, 1.0).sum().item() == pytest.approx(1.0)


def test_an_unusable_source_leaves_the_softmax_and_the_rest_sums_to_one():
    scores, usable = torch.tensor([0.3, float("nan"), 0.05]), torch.tensor([True, False, True])
    weights = meta.source_weights(scores, usable, 0.1)
    rest = torch.exp(scores[[0, 2]] / 0.1)
    torch.testing.assert_close(weights, torch.stack([rest[0], torch.zeros(()), rest[1]]) / rest.sum())
    assert not meta.source_weights(scores, torch.zeros(3, dtype=torch.bool), 0.1).any()


def test_the_entropy_of_weights_in_nats():
    assert meta.entropy(torch.full((4,), 0.25)).item() == pytest.approx(math.log(4))
    assert meta.entropy(torch.tensor([0.0, 1.0, 0.0])).item() == 0.0
    expected = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert meta.entropy(torch.tensor([0.9, 0.1])).item() == pytest.approx(expected)


def test_weights_of_the_usable_sources_are_scaled_to_one():
    weights = torch.tensor([2.0, float("nan"), 6.0])
    found = meta.renormalised(weights, torch.tensor([True, False, True]))
    torch.testing.assert_close(found, torch.tensor([0.25, 0.0, 0.75]))
    assert not meta.renormalised(weights, torch.zeros(3, dtype=torch.bool)).any()


def test_the_gradient_by_what_a_loss_does_not_touch_is_zero_and_a_kept_graph_can_be_asked_again():
    parameters = {name: torch.randn(3, dtype=F64, requires_grad=True) for name in ("x", "y")}
    loss = parameters["x"].pow(3).sum()
    for given in ({"keep_graph": True}, {}):
        found = meta.gradients(loss, parameters, **given)
        torch.testing.assert_close(found["x"], 3 * parameters["x"].detach() ** 2)
        assert torch.equal(found["y"], torch.zeros(3, dtype=F64)) and not found["x"].requires_grad
    with pytest.raises(RuntimeError, match="second time"):
        meta.gradients(loss, parameters)
    twice = meta.gradients(parameters["x"].pow(3).sum(), parameters, create_graph=True)
    torch.testing.assert_close(meta.gradients(twice["x"].sum(), parameters)["x"], 6 * parameters["x"].detach())


def test_whatever_is_not_finite_in_a_pass_makes_its_source_unusable():
    good = torch.ones(2)
    for bad in (math.inf, -math.inf, math.nan):
        bad = torch.tensor([1.0, bad])
        for moved, own, loss in ((bad, good, good[0]), (good, bad, good[0]), (good, good, bad[1])):
            trial = meta.TrialUpdate({}, {}, {"x": bad}, {"y": good, "x": moved}, {"x": good}, (good, own), loss)
            assert not bool(meta.finite_trial(trial))
        for gradient, loss in ((bad, good[0]), (good, bad[1])):
            assert not bool(meta.finite_outer(meta.Outer({"x": gradient}, loss, {})))
    assert bool(meta.finite_trial(meta.TrialUpdate({}, {}, {"x": bad}, {"x": good}, {"x": bad}, (good, good), good[0])))


def test_the_weighted_sum_leaves_out_what_is_not_finite():
    values = [1.0, 2.0], [float("nan"), float("inf")], [5.0, 0.0]
    total = meta.weighted_sum(torch.tensor([0.25, 0.0, 0.75]), [{"x": torch.tensor(value)} for value in values])
    torch.testing.assert_close(total["x"], torch.tensor([4.0, 0.5]))
    alone = meta.weighted_sum(torch.tensor([2.0]), [{"x": torch.ones(2), "y": torch.zeros(1)}])
    assert alone["x"].tolist() == [2.0, 2.0] and alone["y"].tolist() == [0.0]


WEIGHING = {
    "temperature": (0.05, 5.0),
    "gradient_rescaling": ("similarity", "uniform"),
    "rescale_sign": ("aligned", "paper"),
    "similarity_at": ("theta", "phi"),
    "similarity_over": ("encoder", "all"),
    "similarity_momentum": (0.9, 0.0),
}


def test_the_keys_that_weigh_sources_are_all_that_change_nothing_with_one_source():
    assert {key for key in key_reference("MetaRec") if weighs_sources(key)} == set(WEIGHING)
    usual = {key: values[0] for key, values in WEIGHING.items()}
    usual |= {"inner_steps": 1, "second_order": False, "target_batch": "shared", "source_weight": 0.0,
              "diagnostics_every": 1}  # fmt: skip

    def gradient(n_sources: int, **changed) -> list[torch.Tensor]:
        """Of the second step, so that smoothing has something to smooth."""
        torch.manual_seed(0)
        model, items, batch, target_batch = tiny_metarec(vq_heads=0)
        batches = [[batch, random_batch(10)], [random_batch(10), random_batch(10)]][:n_sources]
        sides = [
            SimpleNamespace(
                name=str(number),
                items=items,
                tensors=(items.table, items.bias),
                next_batch=iter(drawn).__next__,
                rows_only=False,
            )
            for number, drawn in enumerate(batches)
        ]
        parameters = dict(model.named_parameters())
        state = TransferState(rates(parameters, 0.01), torch.zeros(n_sources, dtype=F64))
        step = TransferStep(model, sides, TransferSettings(**(usual | changed)), state)
        for _ in range(2):
            found = step(parameters, target_batch, lambda *name: torch.Generator().manual_seed(0))
        return [found.gradient[name] for name in parameters]

    def same(one, other):
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    for key, (_, value) in WEIGHING.items():
        assert same(gradient(1), gradient(1, **{key: value})), key
        assert not same(gradient(2), gradient(2, **{key: value})), key
    assert not same(gradient(1), gradient(1, source_weight=0.5))
