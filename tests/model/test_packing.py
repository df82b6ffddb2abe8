"""Several batches in one pass of the encoder against each of them alone."""

import pytest
import torch
from support.tiny import F64, random_batch, tiny_metarec

from recbole_metarec.model.lru import scan_reference
from recbole_metarec.model.metarec import MetaRec
from recbole_metarec.model.packing import Packing, packed_scan, packed_scan_reference
from recbole_metarec.randomness import torch_stream

BATCHES = ((5, 4, 2, 1), (7, 1), (3, 3, 3), (1, 1))


def packed_by(model, given=BATCHES):
    batches = [model.prepared(random_batch(10, lengths)) for lengths in given]
    return batches, Packing.of([batch.facts.layout for batch in batches], torch.device("cpu"))


@pytest.mark.parametrize("scan", [packed_scan, packed_scan_reference])
def test_the_scan_is_that_of_each_row_under_its_batch_s_eigenvalues(scan):
    batches, packing = packed_by(tiny_metarec()[0])
    padded = [torch.randn(*batch.inputs.shape, 4, dtype=torch.complex128, requires_grad=True) for batch in batches]
    eigenvalues = (torch.randn(len(batches), 4, dtype=torch.complex128) / 3).requires_grad_()
    states = packing.at_predicted(scan(packing.packed(padded), eigenvalues, packing))
    loss = expected = 0.0
    for inputs, row, batch, found in zip(padded, eigenvalues, batches, states, strict=True):
        alone = scan_reference(inputs, row).flatten(0, 1)[batch.predicted()[0]]
        torch.testing.assert_close(found, alone)
        weights = torch.randn_like(alone)
        loss, expected = loss + (weights * found).sum().real, expected + (weights * alone).sum().real
    wanted = (*padded, eigenvalues)
    for found, alone in zip(torch.autograd.grad(loss, wanted), torch.autograd.grad(expected, wanted), strict=True):
        torch.testing.assert_close(found, alone)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("drops", [False, True])
def test_states_and_gradients_are_those_of_each_batch_alone_with_its_own_weights_and_masks(plain, drops):
    model = tiny_metarec(n_layers=2, dropout_prob=0.4)[0]
    batches, _ = packed_by(model)
    parameters = [
        {name: (p + 0.1 * torch.randn_like(p)).detach().requires_grad_() for name, p in model.named_parameters()}
        for _ in batches
    ]
    vectors = [torch.randn(*batch.inputs.shape, 8, dtype=F64) for batch in batches]

    def generators():
        return [torch_stream("cpu", number) if drops else None for number in range(len(batches))]

    together = model.predicted_states(parameters, vectors, batches, generators(), plain)
    each = zip(parameters, vectors, batches, generators(), strict=True)
    alone = [model.predicted_states([p], [v], [b], [g], plain)[0] for p, v, b, g in each]
    leaves = [p for one in parameters for name, p in one.items() if name.startswith("encoder.")]
    weights = [torch.randn_like(states) for states in alone]
    gradients = []
    for states in (together, alone):
        loss = sum((w * s).sum() for w, s in zip(weights, states, strict=True))
        gradients.append(torch.autograd.grad(loss, leaves, materialize_grads=True))
    for found, expected in zip((*together, *gradients[0]), (*alone, *gradients[1]), strict=True):
        torch.testing.assert_close(found, expected)


def test_what_is_not_finite_stays_in_its_batch():
    model = tiny_metarec()[0]
    batches, _ = packed_by(model)
    parameters = [{name: p.detach().requires_grad_() for name, p in model.named_parameters()} for _ in batches]
    vectors = [torch.randn(*batch.inputs.shape, 8, dtype=F64) for batch in batches]
    vectors[0][:] = float("nan")
    states = model.predicted_states(parameters, vectors, batches, [None] * len(batches), False)
    found = torch.autograd.grad(sum(one.sum() for one in states), [one["encoder.norm.weight"] for one in parameters])
    assert [bool(one.isfinite().all()) for one in found] == [False, True, True, True]


class HalvedStates(MetaRec):
    def encode(self, parameters, vectors, generator, plain):
        return super().encode(parameters, vectors, generator, plain) / 2


class OwnEncoder(torch.nn.Module):
    """Reads one batch at a time."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0, dtype=F64))

    def forward(self, x, generator=None, plain=False):
        return self.scale * x


@pytest.mark.parametrize("own", ["encode", "encoder"])
def test_what_encodes_in_its_own_way_does_so_for_several_batches(own):
    model = tiny_metarec()[0]
    if own == "encode":
        model.__class__ = HalvedStates
    else:
        model.encoder = OwnEncoder()
    batches, _ = packed_by(model)
    parameters = [dict(model.named_parameters()) for _ in batches]
    vectors = [torch.randn(*batch.inputs.shape, 8, dtype=F64) for batch in batches]
    states = model.predicted_states(parameters, vectors, batches, [None] * len(batches), False)
    for weights, read, batch, found in zip(parameters, vectors, batches, states, strict=True):
        alone = model.encode(weights, read, None, False).flatten(0, 1)[batch.predicted()[0]]
        torch.testing.assert_close(found, alone)
