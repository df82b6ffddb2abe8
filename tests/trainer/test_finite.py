"""Numbers stay finite: extreme rates, temperatures and lengths, and sources that do not keep to it."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.tiny import no_streams, step_on, two_sides
from support.worlds import run

from recbole_metarec.errors import TrainingError
from recbole_metarec.model.lru import LinearRecurrence, LRUEncoder, scan, scan_reference
from recbole_metarec.trainer import meta_step as meta
from recbole_metarec.trainer.step import joint_step
from recbole_metarec.trainer.trainer import TransferTrainer

# -- the recurrence ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_scan", [scan, scan_reference])
@pytest.mark.parametrize("radius", [0.5, 0.99, 1 - 1e-5])
def test_ten_thousand_events_in_float32_against_a_loop_in_float64(run_scan, radius):
    length, n = 10_000, 6
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(length, n)) + 1j * rng.normal(size=(length, n))
    ring = radius * np.exp(1j * np.linspace(0.0, 6.0, n))
    narrow, eigenvalues = torch.from_numpy(wide).to(torch.complex64), torch.from_numpy(ring).to(torch.complex64)
    ring = eigenvalues.numpy().astype(np.complex128)  # the very numbers that the scan has
    inputs, weights = narrow.numpy().astype(np.complex128), rng.normal(size=(length, n))
    states, back = np.zeros((length, n), complex), np.zeros((length, n), complex)
    for k in range(length):
        states[k] = ring * (states[k - 1] if k else 0) + inputs[k]
    for k in range(length - 1, -1, -1):
        back[k] = ring.conj() * (back[k + 1] if k + 1 < length else 0) + weights[k]
    into_ring = (back[1:] * states[:-1].conj()).sum(axis=0)

    narrow, eigenvalues = narrow[None].requires_grad_(), eigenvalues.requires_grad_()
    found = run_scan(narrow, eigenvalues)
    (found.real * torch.from_numpy(weights)).sum().backward()
    for ours, exact in ((found, states), (narrow.grad, back), (eigenvalues.grad, into_ring)):
        ours = ours.detach().numpy().reshape(exact.shape)
        assert np.isfinite(ours).all() and np.abs(ours - exact).max() < 2e-4 * np.abs(exact).max()


@pytest.mark.parametrize("learner", ["Adam", "SGD"])
@pytest.mark.parametrize("rate", [1e-3, 1.0, 1e3, 1e6])
def test_the_modulus_stays_below_one_after_training_with_any_rate(learner, rate):
    """As the trainer does, a gradient that is not finite ends the training and moves nothing."""
    encoder = LRUEncoder(8, 2, 0.0, 0.8, 0.99)
    optimizer = getattr(torch.optim, learner)(encoder.parameters(), lr=rate)
    inputs, wanted = torch.randn(4, 12, 8), torch.randn(4, 12, 8)
    for _ in range(40):
        optimizer.zero_grad()
        (encoder(inputs) - wanted).square().mean().backward()
        if not all(bool(parameter.grad.isfinite().all()) for parameter in encoder.parameters()):
            break
        optimizer.step()
        for block in encoder.blocks:
            modulus = block.recurrence.eigenvalues().detach().abs()
            assert bool(modulus.isfinite().all()) and float(modulus.max()) < 1.0


@pytest.mark.parametrize("nu", [-1e4, -30.0, 0.0, 30.0, 1e4])
@pytest.mark.parametrize("omega", [-1e4, 0.0, 90.0, 1e4])
def test_eigenvalues_and_their_gradient_are_finite_wherever_the_parameters_are(nu, omega):
    layer = LinearRecurrence(4, 0.8, 0.99)
    with torch.no_grad():
        layer.nu.fill_(nu), layer.omega.fill_(omega)
    eigenvalues = layer.eigenvalues()
    torch.view_as_real(eigenvalues).sum().backward()
    assert float(eigenvalues.detach().abs().max()) < 1.0
    assert bool(layer.nu.grad.isfinite().all()) and bool(layer.omega.grad.isfinite().all())


# -- temperature and alpha ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1e-320, 1e-45, 1e-30, 1e-8, 1.0, 1e8, 1e38, 1e300])
def test_weights_sum_to_one_at_every_temperature(temperature):
    scores, usable = torch.tensor([0.3, -0.9, 0.3, 0.5]), torch.tensor([True, True, True, False])
    weights = meta.source_weights(scores, usable, temperature)
    assert float(weights.sum()) == pytest.approx(1.0) and weights[3] == 0
    if temperature < 1e-6:
        assert weights.tolist() == [0.5, 0.0, 0.5, 0.0]
    if temperature > 1e6:
        assert weights[:3].tolist() == pytest.approx([1 / 3] * 3)
    assert meta.source_weights(-scores, usable, temperature).isfinite().all()
    assert not meta.source_weights(scores, ~usable & ~usable.flip(0), temperature)[:3].any()


def narrow_sides():
    model, same, other, batch = two_sides()
    for side in (same, other):
        table, bias = (value.detach().float().requires_grad_() for value in side.tensors)
        side.items = SimpleNamespace(table=table, bias=bias, popularity=None)
    return model.float(), same, other, batch


@pytest.mark.parametrize("alpha", [1e-35, 1e-20, 1e-6])
def test_a_tiny_alpha_ranks_sources_as_a_small_one_does(alpha):
    """A trial that is too short to be seen in theta still has a direction."""
    scores = []
    for rate in (alpha, 1e-4):
        torch.manual_seed(0)
        model, same, other, batch = narrow_sides()
        step, parameters, state = step_on(model, [same, other], alpha=rate)
        step(parameters, batch, no_streams)
        scores.append(state.smoothed)
    torch.testing.assert_close(*scores, rtol=1e-3, atol=1e-4)
    assert scores[0][0] > scores[0][1]


@pytest.mark.parametrize("alpha", [1e3, 1e10, 1e25, 1e37])
@pytest.mark.parametrize("given", [{}, {"similarity_at": "phi"}, {"second_order": True}, {"inner_steps": 3}])
def test_a_huge_alpha_leaves_a_finite_gradient_or_says_that_the_source_was_left_out(alpha, given):
    model, same, other, batch = narrow_sides()
    step, parameters, state = step_on(model, [same, other], alpha=alpha, **given)
    result = step(parameters, batch, no_streams)
    skipped = result.measured["skipped"].tolist()
    assert all(bool(value.isfinite().all()) for value in result.gradient.values())
    assert bool(state.smoothed.isfinite().all())
    assert float(result.measured["weight"].sum()) == pytest.approx(0.0 if all(skipped) else 1.0)
    assert [gradients is None for gradients in result.source_gradients] == skipped
    if all(skipped):
        assert not any(bool(value.any()) for value in result.gradient.values())


# -- a source that is not finite ---------------------------------------------------------------------------------------


class NoGradient(torch.autograd.Function):
    """A loss that is finite where its gradient is not."""

    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * math.nan


def spoil_gradient(model, items):
    original = model.source_loss

    def source_loss(parameters, own, *rest, **given):
        loss = original(parameters, own, *rest, **given)
        return NoGradient.apply(loss) if own is items else loss

    model.source_loss = source_loss


def test_a_gradient_that_is_not_finite_never_reaches_theta_in_the_meta_step():
    model, same, other, batch = two_sides()
    spoil_gradient(model, other.items)
    step, parameters, _ = step_on(model, [same, other])
    result = step(parameters, batch, no_streams)
    alone, parameters, _ = step_on(model, [same])
    expected = alone(parameters, batch, no_streams)
    assert result.measured["skipped"].tolist() == [False, True] and result.source_gradients[1] is None
    for name, value in result.gradient.items():
        torch.testing.assert_close(value, expected.gradient[name])


def test_a_gradient_that_is_not_finite_never_reaches_theta_in_joint_training():
    model, same, other, batch = two_sides()
    parameters = dict(model.named_parameters())
    expected = joint_step(model, parameters, batch, [same], no_streams, 0.7)
    spoil_gradient(model, other.items)
    result = joint_step(model, parameters, batch, [same, other], no_streams, 0.7)
    assert result.measured["skipped"].tolist() == [False, True] and result.source_gradients[1] is None
    torch.testing.assert_close(result.loss, expected.loss)
    for name, value in result.gradient.items():
        torch.testing.assert_close(value, expected.gradient[name])
    for ours, theirs in zip(result.source_gradients[0], expected.source_gradients[0], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_rate_that_would_become_nan_leaves_its_source_out():
    good, bad = torch.ones(2), torch.tensor(math.inf)
    assert bool(meta.finite_outer(meta.Outer({"a": good}, good[0], {"a": good[0]})))
    assert not bool(meta.finite_outer(meta.Outer({"a": good}, good[0], {"a": bad})))


@pytest.fixture()
def far_is_nan(monkeypatch):
    """The table of the source Far holds a NaN from the start."""
    original = TransferTrainer._set_up

    def set_up(self, train_data):
        original(self, train_data)
        for side in self.sources:
            if side.name == "Far":
                with torch.no_grad():
                    side.items.table[1] = math.nan

    monkeypatch.setattr(TransferTrainer, "_set_up", set_up)


@pytest.mark.parametrize("transfer", ["meta", "joint"])
def test_a_lost_source_is_counted_and_said_and_then_stops_the_run_by_its_name(transfer, shop, far_is_nan, caplog):
    keys = {"meta_transfer": transfer, "transfer_guard": False}
    made = run(shop, epochs=2, **keys)
    rows = made.source_rows("Far")
    assert [row["skipped"] for row in rows] == [row["steps"] for row in rows] and len(rows) == 2
    assert not any(row["skipped"] for row in made.source_rows("Near"))
    assert all(bool(value.isfinite().all()) for value in made.weights().values())
    steps = rows[0]["steps"]
    assert f"steps of Far ({steps} of {steps}) were left out: not finite; " in caplog.text
    with pytest.raises(
        TrainingError, match=r"^epoch 2: Far gave no finite step in 3 epochs; lower inner_learning_rate"
    ):
        run(shop, epochs=5, saved=True, **keys)


def test_a_source_that_is_lost_in_pre_training_is_said(shop, far_is_nan, caplog):
    made = run(shop, epochs=1, meta_transfer="pretrain", pretrain_epochs=1, transfer_guard=False)
    assert "steps of Far (" in caplog.text
    assert all(bool(value.isfinite().all()) for value in made.weights().values())


def test_a_source_that_stays_lost_in_pre_training_stops_the_run_by_its_name(shop, far_is_nan):
    keys = {"meta_transfer": "pretrain", "transfer_guard": False, "saved": True}
    rows = run(shop, epochs=1, pretrain_epochs=2, **keys).source_rows("Far")
    assert [row["epoch"] for row in rows] == [-2, -1] and all(row["skipped"] == row["steps"] for row in rows)
    with pytest.raises(TrainingError, match=r"^epoch -2: Far gave no finite step in 3 epochs; "):
        run(shop, epochs=1, pretrain_epochs=4, **keys)


@pytest.mark.parametrize("row_wise", [False, True])
def test_a_gradient_whose_square_overflows_is_not_finite(row_wise):
    """It is a number, but an optimiser's second moment would be infinite, and its parameter would never move again."""

    def gradient(size: float) -> torch.Tensor:
        dense = torch.zeros(5, 2)
        dense[3] = torch.tensor([size, -size])  # whose sum is 0
        return dense.to_sparse(1) if row_wise else dense

    assert bool(meta.finite((torch.ones(3), gradient(1e18))))
    for size in (1e20, math.inf, math.nan):
        assert not bool(meta.finite((torch.ones(3), gradient(size))))
