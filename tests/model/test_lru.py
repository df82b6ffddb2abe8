"""The recurrence against its definition: a plain Python loop, finite differences, and what must not matter."""

import math

import pytest
import torch

from recbole_metarec.model import lru
from recbole_metarec.model.lru import LinearRecurrence, LRUEncoder, dropout, scan, scan_reference

LENGTHS = [1, 2, 3, 7, 8, 9, 33]


def random_scan(length: int, batch: int = 3, n: int = 4, dtype=torch.complex128):
    inputs = torch.randn(batch, length, n, dtype=dtype)
    radius, phase = torch.rand(n, dtype=torch.float64) * 0.5 + 0.45, torch.rand(n, dtype=torch.float64) * 2 * math.pi
    return inputs.requires_grad_(), torch.polar(radius, phase).to(dtype).detach().requires_grad_()


def by_loop(inputs, eigenvalues):
    """h_k = lambda h_(k-1) + u_k, number by number."""
    rows = []
    for b in range(inputs.shape[0]):
        state, states = [0.0] * inputs.shape[2], []
        for k in range(inputs.shape[1]):
            state = [eigenvalues[j] * state[j] + inputs[b, k, j] for j in range(inputs.shape[2])]
            states.append(torch.stack(state))
        rows.append(torch.stack(states))
    return torch.stack(rows)


def encoder(width=6, n_layers=2, dropout_prob=0.3, dtype=torch.float64) -> LRUEncoder:
    made = LRUEncoder(width, n_layers, dropout_prob, 0.8, 0.99).to(dtype)
    with torch.no_grad():  # the small initial weights would hide a wrong layer behind its residual
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.4)
            elif parameter.abs().max() == 0:
                parameter.normal_(std=0.2)
    return made


@pytest.mark.parametrize("length", LENGTHS)
def test_both_scans_equal_the_plain_loop(length):
    inputs, eigenvalues = random_scan(length)
    expected = by_loop(inputs, eigenvalues)
    for run in (scan, scan_reference):
        torch.testing.assert_close(run(inputs, eigenvalues), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("length", LENGTHS)
def test_gradients_of_both_scans_equal_those_of_the_plain_loop(length):
    inputs, eigenvalues = random_scan(length)
    weights = torch.randn(3, length, 4, dtype=torch.complex128)

    def gradients(run):
        value = (run(inputs, eigenvalues) * weights).real.sum() + run(inputs, eigenvalues).abs().square().sum()
        return torch.autograd.grad(value, (inputs, eigenvalues), allow_unused=True, materialize_grads=True)

    expected = gradients(by_loop)
    assert expected[0].abs().max() > 0 and (length == 1 or expected[1].abs().max() > 0)
    for run in (scan, scan_reference):
        torch.testing.assert_close(gradients(run), expected, rtol=1e-10, atol=1e-10)


def test_gradients_of_the_scans_against_finite_differences():
    inputs, eigenvalues = random_scan(5, batch=2, n=2)
    assert torch.autograd.gradcheck(scan, (inputs, eigenvalues))
    assert torch.autograd.gradcheck(scan_reference, (inputs, eigenvalues))
    assert torch.autograd.gradgradcheck(scan_reference, (inputs, eigenvalues))


def test_the_fast_scan_refuses_to_be_differentiated_twice():
    inputs, eigenvalues = random_scan(4)
    first = torch.autograd.grad(scan(inputs, eigenvalues).abs().square().sum(), inputs, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.abs().sum().backward()


def test_the_scans_leave_their_inputs_alone():
    inputs, eigenvalues = random_scan(6)
    before = inputs.detach().clone()
    scan(inputs, eigenvalues)
    assert torch.equal(inputs, before)


def test_the_doubling_that_a_gpu_uses_equals_the_loop(monkeypatch):
    """The same in-place routine, by its other branch: a tensor that says it is on a GPU."""

    class Claims(torch.Tensor):
        is_cuda = True

    for reverse in (False, True):
        for length in LENGTHS:
            inputs, eigenvalues = (x.detach() for x in random_scan(length))
            looped = lru._scan_in_place(inputs.clone(), eigenvalues, reverse)
            doubled = lru._scan_in_place(inputs.clone().as_subclass(Claims), eigenvalues, reverse)
            torch.testing.assert_close(doubled.as_subclass(torch.Tensor), looped, rtol=1e-12, atol=1e-12)


def test_a_long_sequence_at_the_outer_edge_of_the_ring_stays_exact():
    length, n = 2000, 8
    wide = torch.randn(2, length, n, dtype=torch.complex128)
    phase = torch.linspace(0.1, 6.2, n, dtype=torch.float64)
    eigenvalues = torch.polar(torch.full_like(phase, 0.999), phase)
    expected = scan_reference(wide, eigenvalues)
    state = torch.zeros(2, n, dtype=torch.complex128)
    for k in range(length):
        state = eigenvalues * state + wide[:, k]
    torch.testing.assert_close(expected[:, -1], state, rtol=1e-10, atol=1e-10)
    for run in (scan, scan_reference):
        narrow = run(wide.to(torch.complex64), eigenvalues.to(torch.complex64))
        assert (narrow - expected).abs().max() / expected.abs().max() < 1e-4


@pytest.mark.parametrize("nu", [-30.0, -3.0, 0.0, 3.0, 30.0])
def test_the_recurrence_is_stable_whatever_the_optimiser_does(nu):
    layer = LinearRecurrence(4, 0.8, 0.99).double()
    with torch.no_grad():
        layer.nu.fill_(nu)
    assert bool((layer.eigenvalues().abs() < 1.0).all())
    states = scan(torch.ones(1, 500, 8, dtype=torch.complex128), layer.eigenvalues())
    assert bool(torch.view_as_real(states).isfinite().all()) and states.abs().max() <= 500


@pytest.mark.parametrize("r_min, r_max", [(0.8, 0.99), (0.0, 0.5), (0.9, 0.999)])
def test_initial_eigenvalues_lie_on_the_ring_and_gamma_normalises(r_min, r_max):
    layer = LinearRecurrence(2000, r_min, r_max)
    eigenvalues = layer.eigenvalues().detach()
    modulus, phase = eigenvalues.abs().double(), eigenvalues.angle() % (2 * math.pi)
    assert r_min - 1e-4 <= modulus.min() and modulus.max() <= r_max + 1e-4
    # uniform on the ring: |lambda|^2 is uniform between the squares, so its mean and spread are known
    squared = modulus.square()
    spread = (r_max**2 - r_min**2) / math.sqrt(12)
    assert abs(squared.mean() - (r_min**2 + r_max**2) / 2) < 5 * spread / math.sqrt(4000)
    assert abs(squared.std() - spread) < 0.1 * spread
    assert abs(phase.mean() - math.pi) < 5 * (2 * math.pi / math.sqrt(12)) / math.sqrt(4000)
    torch.testing.assert_close(layer.log_gamma.exp().double(), (1 - squared).sqrt(), rtol=1e-3, atol=1e-3)


def test_one_layer_is_the_formula():
    """y_k = Re(C h_k + c) with complex B, b, C, c written out."""
    layer = LinearRecurrence(3, 0.8, 0.99).double()
    torch.nn.init.normal_(layer.into_state.bias)
    torch.nn.init.normal_(layer.out_of_state.bias)
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    weight, bias = layer.into_state.weight, layer.into_state.bias
    into = torch.complex(weight[0::2], weight[1::2])  # [n, d]
    offset = torch.complex(bias[0::2], bias[1::2])
    back = layer.out_of_state.weight
    out = torch.complex(back[:, 0::2], -back[:, 1::2])  # Re(C h) = Re C Re h - Im C Im h
    eigenvalues = torch.exp(torch.complex(-layer.nu.exp(), layer.omega.exp()))
    state = torch.zeros(2, 6, dtype=torch.complex128)
    for k in range(5):
        drive = layer.log_gamma.exp() * (x[:, k].to(torch.complex128) @ into.T + offset)
        state = eigenvalues * state + drive
        expected = (state @ out.T).real + layer.out_of_state.bias
        torch.testing.assert_close(layer(x)[:, k], expected)


def by_hand(x, norm):
    """LayerNorm, eps 1e-5, written out."""
    centred = x - x.mean(dim=-1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    return scaled * norm.weight + norm.bias


@pytest.mark.parametrize("dropped", [False, True])
def test_the_encoder_is_the_published_order_of_layers(dropped, monkeypatch):
    """Dropout, LayerNorm; per block recurrence, dropout, residual, LayerNorm; feed-forward with GELU likewise."""
    model, x = encoder(n_layers=2), torch.randn(3, 5, 6, dtype=torch.float64)
    masks, generator = [], torch.Generator().manual_seed(1)

    def recorded(value, probability, _):
        masks.append((torch.rand(value.shape, generator=generator) > 0.3).double() * 1.5 if dropped else 1.0)
        return value * masks[-1]

    monkeypatch.setattr(lru, "dropout", recorded)
    found = model(x)
    assert len(masks) == 1 + 3 * 2
    masks = iter(masks)
    expected = by_hand(x * next(masks), model.norm)
    for block in model.blocks:
        expected = by_hand(block.recurrence(expected) * next(masks) + expected, block.recurrence_norm)
        inner = expected @ block.widen.weight.T + block.widen.bias
        inner = 0.5 * inner * (1 + torch.erf(inner / math.sqrt(2))) * next(masks)
        outer = inner @ block.narrow.weight.T + block.narrow.bias
        expected = by_hand(outer * next(masks) + expected, block.feed_forward_norm)
    torch.testing.assert_close(found, expected)
    assert block.widen.out_features == 4 * 6 and block.recurrence.nu.shape == (2 * 6,)


def test_matrices_start_small_and_biases_at_zero():
    for name, value in LRUEncoder(64, 1, 0.0, 0.8, 0.99).named_parameters():
        if value.dim() > 1:  # normal of deviation 0.02, cut off at two deviations
            assert value.abs().max() <= 0.04 and abs(value.std() - 0.88 * 0.02) < 0.001
        elif name.endswith("bias"):
            assert not value.any()


@pytest.mark.parametrize("plain", [False, True])
def test_the_encoder_event_by_event_equals_the_whole_sequence(plain):
    model, x = encoder(), torch.randn(4, 11, 6, dtype=torch.float64)
    whole, state = model(x, plain=plain), model.initial_state(4)
    for k in range(11):
        now, state = model.step(x[:, k], state)
        torch.testing.assert_close(now, whole[:, k], rtol=1e-11, atol=1e-11)
    assert whole.std() > 0.1


@pytest.mark.parametrize("length", [1, 2, 5])
def test_what_is_remembered_at_once_is_what_every_event_in_turn_leaves(length):
    model, x = encoder(n_layers=3), torch.randn(4, length, 6, dtype=torch.float64)
    state = model.initial_state(4)
    for k in range(length):
        output, state = model.step(x[:, k], state)
    at_once, remembered = model.remember(x)
    torch.testing.assert_close(at_once, output, atol=1e-12, rtol=0)
    assert len(remembered) == len(state) == 3
    for own, wanted in zip(remembered, state):
        torch.testing.assert_close(own, wanted, atol=1e-12, rtol=0)
        assert own.untyped_storage().nbytes() == own.nbytes, "the states of the whole history are kept"


def test_gradients_of_the_whole_encoder_by_finite_differences():
    model, x = encoder(width=2, n_layers=1), torch.randn(2, 4, 2, dtype=torch.float64)
    names = [name for name, _ in model.named_parameters()]
    values = tuple(parameter.detach().clone().requires_grad_() for parameter in model.parameters())

    def output(*changed):
        return torch.func.functional_call(model, dict(zip(names, changed, strict=True)), (x,))

    assert torch.autograd.gradcheck(output, values)


def test_right_padding_and_later_events_change_nothing_before_them():
    model, x = encoder(), torch.randn(3, 9, 6, dtype=torch.float64)
    alone = model(x[:, :5])
    padded = torch.cat([x[:, :5], torch.zeros(3, 20, 6, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(model(padded)[:, :5], alone, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model(x)[:, :5], alone, rtol=1e-12, atol=1e-12)
    earlier = x.clone()
    earlier[:, 0] *= -1.0
    assert ((model(earlier) - model(x))[:, -1]).abs().max() > 1e-4  # but what came first is remembered


def test_batch_order_and_batch_mates_change_nothing():
    model, x = encoder(), torch.randn(5, 7, 6, dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(model(x[order]), model(x)[order], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model(x[2:3]), model(x)[2:3], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_right_share_and_the_expectation(probability):
    x = torch.full((400, 501), 3.0)
    dropped = dropout(x, probability, torch.Generator().manual_seed(1))
    kept = (dropped != 0).double()
    bound = 5 * math.sqrt(probability * (1 - probability) / x.numel())
    assert abs(kept.mean() - (1 - probability)) < bound
    assert abs(dropped.double().mean() - 3.0) < 3.0 * bound / (1 - probability)
    scaled = torch.tensor([3.0 / (1 - probability)])
    torch.testing.assert_close(dropped[dropped != 0].unique(), scaled, rtol=1e-4, atol=0)
    # neighbours in a row, which share random words, are independent
    both = (kept[:, 1:] * kept[:, :-1]).mean()
    assert abs(both - (1 - probability) ** 2) < 3 * bound


def test_dropout_is_the_generators_and_nothing_elses():
    x = torch.randn(13, 7, dtype=torch.float64)
    generator = torch.Generator().manual_seed(5)
    state = generator.get_state()
    first, second = dropout(x, 0.5, generator), dropout(x, 0.5, generator)
    assert not torch.equal(first, second)
    generator.set_state(state)
    torch.manual_seed(99)
    assert torch.equal(dropout(x, 0.5, generator), first)
    assert dropout(x, 0.5, None) is x and dropout(x, 0.0, generator) is x
    x.requires_grad_()
    generator.set_state(state)
    gradient = torch.autograd.grad(dropout(x, 0.5, generator).sum(), x)[0]
    assert torch.equal(gradient != 0, first != 0)


@pytest.mark.parametrize("probability", [1e-6, 1.0 - 1e-6])
def test_dropout_at_its_extremes_is_still_dropout(probability):
    x = torch.ones(1000)
    dropped = dropout(x, probability, torch.Generator().manual_seed(0))
    assert bool(dropped.isfinite().all())
    assert ((dropped != 0).double().mean() > 0.9) == (probability < 0.5)


def test_the_scale_of_dropout_is_the_share_that_is_kept():
    """A probability of whole 2^-16 is exact; at the ends one pattern of 2^16 is kept, or dropped."""
    x = torch.ones(5, 3, 4_000_001 // 15, dtype=torch.float32)
    for probability, kept in ((0.25, 49152), (0.75, 16384), (1 - 1e-9, 1), (1e-9, 65535)):
        found = dropout(x, probability, torch.Generator().manual_seed(3))
        numbers, counts = found.unique(return_counts=True)
        assert numbers[0] == 0.0 and len(numbers) == 2
        assert numbers[1].item() == pytest.approx(65536 / kept, rel=2e-7)
        share = kept / 65536
        assert abs(int(counts[1]) - x.numel() * share) < 4 * math.sqrt(x.numel() * share * (1 - share))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8])
def test_dropout_draws_for_every_element_whatever_their_number(count):
    kept = sum(dropout(torch.ones(count), 0.5, torch.Generator().manual_seed(seed)) for seed in range(200))
    assert kept.shape == (count,) and bool(((kept - 200).abs() < 5 * math.sqrt(200)).all())


@pytest.mark.parametrize("dtype, wanted", [(torch.float32, torch.complex64), (torch.float64, torch.complex128)])
def test_the_first_state_is_zeros_in_the_precision_of_the_weights(dtype, wanted):
    states = encoder(width=6, n_layers=2, dtype=dtype).initial_state(3)
    assert [state.shape for state in states] == [(3, 12)] * 2
    assert all(state.dtype == wanted and not state.any() for state in states)


def test_the_eigenvalues_are_their_formula_within_what_float32_can_hold():
    layer = LinearRecurrence(2, 0.8, 0.99).double()
    with torch.no_grad():
        layer.nu[:], layer.omega[:] = torch.tensor([-13.9, -5.0, 0.0, 3.0]), torch.tensor([-20.0, 0.0, 1.5, 9.0])
        expected = torch.exp(torch.complex(-layer.nu.exp(), layer.omega.exp()))
        torch.testing.assert_close(layer.eigenvalues(), expected, rtol=0, atol=1e-9)
        layer.nu.fill_(-1e4)
        assert bool((layer.eigenvalues().to(torch.complex64).abs() < 1.0).all())


@pytest.mark.parametrize("n_layers", [1, 3])
def test_the_last_output_alone_is_the_one_among_all(n_layers):
    net, lengths = encoder(n_layers=n_layers), torch.tensor([5, 1, 3, 2])
    x = torch.randn(4, 5, 6, dtype=torch.float64)
    everywhere = net(x)
    torch.testing.assert_close(net.last(x, lengths), everywhere[torch.arange(4), lengths - 1])
