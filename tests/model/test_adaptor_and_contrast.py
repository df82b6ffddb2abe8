"""UniSRec's formulas against loops that are written down from them, entry by entry."""

import math

import pytest
import torch
from torch.nn import functional as F

from recbole_metarec.model.adaptor import WhiteningAdaptor
from recbole_metarec.model.contrast import directions, drop_items, sequence_item_loss, sequence_sequence_loss

F64 = torch.float64


def random_adaptor(text_width=5, width=3, experts=4, dropout_prob=0.3) -> WhiteningAdaptor:
    adaptor = WhiteningAdaptor(text_width, width, experts, dropout_prob).double()
    with torch.no_grad():
        for parameter in adaptor.parameters():
            parameter.normal_()
    return adaptor


def mixed_by_hand(adaptor, texts, gates) -> torch.Tensor:
    """sum_k g_k (x - b_k) W_k, one number at a time."""
    experts, text_width, width = adaptor.whitening.shape
    found = torch.zeros(len(texts), width, dtype=F64)
    for n in range(len(texts)):
        for k in range(experts):
            for out in range(width):
                for w in range(text_width):
                    centred = texts[n, w] - adaptor.shift[k, w]
                    found[n, out] += gates[n, k] * centred * adaptor.whitening[k, w, out]
    return found


def test_the_adaptor_is_the_formula():
    adaptor, texts = random_adaptor().eval(), torch.randn(6, 5, dtype=F64)
    gates = torch.zeros(6, 4, dtype=F64)
    for n in range(6):
        logits = [float(sum(texts[n, w] * adaptor.gate.detach()[w, k] for w in range(5))) for k in range(4)]
        gates[n] = torch.tensor([math.exp(own) / sum(map(math.exp, logits)) for own in logits], dtype=F64)
    assert adaptor(texts).shape == (6, 3)
    torch.testing.assert_close(adaptor(texts), mixed_by_hand(adaptor, texts, gates))


def test_while_training_the_gates_are_noisy_by_softplus_of_their_own_map():
    adaptor, texts = random_adaptor(dropout_prob=0.0).train(), torch.randn(6, 5, dtype=F64)
    torch.manual_seed(3)
    found = adaptor(texts)
    torch.manual_seed(3)
    noise = torch.randn(6, 4, dtype=F64)
    spread = torch.log1p(torch.exp(texts @ adaptor.noise))
    gates = torch.softmax(texts @ adaptor.gate + noise * spread, dim=1)
    torch.testing.assert_close(found, mixed_by_hand(adaptor, texts, gates))
    assert not torch.equal(adaptor(texts), found)
    adaptor.eval()
    assert torch.equal(adaptor(texts), adaptor(texts))


def cosine(one, other) -> float:
    return float((one * other).sum() / one.norm() / other.norm())


@pytest.mark.parametrize("length", [1e-150, 1e-9, 1.0, 1e150])
def test_directions_have_length_1_but_nothing_has_none(length):
    vectors = torch.randn(3, 5, dtype=F64)
    expected = vectors / vectors.norm(dim=1)[:, None]
    given = (vectors * length).requires_grad_()
    with_nothing = torch.cat([given, torch.zeros(1, 5, dtype=F64)])
    found = directions(with_nothing)
    torch.testing.assert_close(found[:3], expected)
    assert not found[3].any()
    zero = torch.zeros(2, 5, dtype=F64, requires_grad=True)
    assert not torch.autograd.grad((directions(zero) * vectors[:2]).sum(), zero)[0].any()
    # moved along itself, a vector keeps its direction
    slope = torch.autograd.grad((found[:3] * vectors.flip(0)).sum(), given)[0]
    assert slope.any() and (slope * given).sum(dim=1).abs().max() < 1e-12


def test_the_sequence_item_loss_by_a_double_loop():
    """Position 2 has the item of position 0: neither is a negative of the other, and both are negatives of 1 and 3."""
    states, table, tau = torch.randn(4, 5, dtype=F64), torch.randn(9, 5, dtype=F64), 0.2
    items = [7, 2, 7, 5]
    losses = []
    for j, own in enumerate(items):
        positive = math.exp(cosine(states[j], table[own]) / tau)
        others = sum(math.exp(cosine(states[j], table[item]) / tau) for item in items if item != own)
        losses.append(-math.log(positive / (positive + others)))
    distinct, answers, counts = torch.unique(torch.tensor(items), return_inverse=True, return_counts=True)
    found = sequence_item_loss(states, table[distinct], answers, counts, tau)
    assert float(found) == pytest.approx(sum(losses) / len(losses))


def test_the_sequence_sequence_loss_by_a_double_loop():
    states, views, tau = torch.randn(3, 5, dtype=F64), torch.randn(3, 5, dtype=F64), 0.2
    ends = [4, 9, 4]
    losses = []
    for j in range(3):
        positive = math.exp(cosine(states[j], views[j]) / tau)
        others = sum(math.exp(cosine(states[j], views[k]) / tau) for k in range(3) if ends[k] != ends[j])
        losses.append(-math.log(positive / (positive + others)))
    found = sequence_sequence_loss(states, views, torch.tensor(ends), tau)
    assert float(found) == pytest.approx(sum(losses) / 3)


def test_a_removed_negative_gets_no_gradient_and_a_lone_positive_costs_nothing():
    states, views = torch.randn(3, 5, dtype=F64), torch.randn(3, 5, dtype=F64, requires_grad=True)
    loss = sequence_sequence_loss(states, views, torch.tensor([4, 4, 4]), 0.1)
    assert float(loss.detach()) == 0.0
    assert not torch.autograd.grad(loss, views)[0].any()
    vectors = torch.randn(1, 5, dtype=F64)
    same = torch.zeros(3, dtype=torch.int64)
    assert float(sequence_item_loss(states, vectors, same, torch.tensor([3]), 0.1)) == 0.0


def is_subsequence(short: list, long: list) -> bool:
    rest = iter(long)
    return all(item in rest for item in short)


def test_dropping_items_keeps_the_order_the_last_one_and_the_padding_on_the_right():
    lengths = [1, 2, 5, 8] * 500
    inputs = torch.zeros(len(lengths), 8, dtype=torch.int64)
    for row, length in enumerate(lengths):
        inputs[row, :length] = torch.randint(1, 50, (length,))
    found = drop_items(inputs, 0.3)
    assert found.shape == inputs.shape
    for before, after, length in zip(inputs.tolist(), found.tolist(), lengths, strict=True):
        kept = [item for item in after if item]
        assert after == kept + [0] * (8 - len(kept))
        assert is_subsequence(kept, before[:length]) and kept[-1] == before[length - 1]
    could = sum(length - 1 for length in lengths)
    dropped = sum(lengths) - int((found > 0).sum())
    assert dropped / could == pytest.approx(0.3, abs=5 * math.sqrt(0.3 * 0.7 / could))
    assert torch.equal(drop_items(inputs, 0.0), inputs)
    assert torch.equal(F.pad(inputs, (0, 3)), F.pad(drop_items(inputs, 0.0), (0, 3)))
