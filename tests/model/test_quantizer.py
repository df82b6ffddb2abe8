"""Vector quantization against brute force and the definition of its gradients; the source loss against a slow one."""

import math

import pytest
import torch
from support.tiny import tiny_metarec
from torch.nn import functional as F

from recbole_metarec.model import quantizer
from recbole_metarec.model.quantizer import codebook_use, gather_codes, nearest_codes, quantize


def tables(n_source=9, n_target=13, d=12, dtype=torch.float64):
    table = torch.randn(n_target, d, dtype=dtype)
    table[0] = 0.0
    return torch.randn(n_source, d, dtype=dtype), table


def brute_force(vectors, table, n_heads, candidates=None):
    """Every head of every vector against every slice; the first smallest squared distance wins."""
    size = vectors.shape[1] // n_heads
    codes = torch.empty(len(vectors), n_heads, dtype=torch.int64)
    for row, vector in enumerate(vectors.tolist()):
        for head in range(n_heads):
            part = slice(head * size, (head + 1) * size)
            best, nearest = math.inf, None
            for item in range(1, len(table)) if candidates is None else candidates.tolist():
                distance = sum((a - b) ** 2 for a, b in zip(vector[part], table[item, part].tolist(), strict=True))
                if distance < best:
                    best, nearest = distance, item
            codes[row, head] = nearest
    return codes


@pytest.mark.parametrize("n_heads", [1, 2, 3, 4, 6, 12])
def test_codes_are_those_of_a_double_loop(n_heads):
    vectors, table = tables()
    codes = nearest_codes(vectors, table, n_heads)
    assert torch.equal(codes, brute_force(vectors, table, n_heads))
    assert codes.dtype == torch.int64 and codes.shape == (9, n_heads) and codes.unique().numel() > 1
    candidates = torch.tensor([2, 5, 6, 11])
    found = nearest_codes(vectors, table, n_heads, candidates)
    assert torch.equal(found, brute_force(vectors, table, n_heads, candidates))


@pytest.mark.parametrize("n_target", [64, 128, 129, 130, 257, 300])
def test_codes_beyond_a_block_of_codes(monkeypatch, n_target):
    """Around the edges of the blocks that the search works in, and with several chunks of vectors."""
    monkeypatch.setattr(quantizer, "_DISTANCES_PER_CHUNK", 5 * n_target)
    vectors, table = tables(n_source=23, n_target=n_target)
    vectors[:3] = table[[1, -1, n_target // 2]]
    codes = nearest_codes(vectors, table, 4)
    assert torch.equal(codes, brute_force(vectors, table, 4))
    assert codes[:3, 0].tolist() == [1, n_target - 1, n_target // 2]


def test_vectors_that_are_not_finite_still_get_a_code_of_the_table():
    """Whatever it is: the loss that follows is not finite, and says so."""
    vectors, table = tables(n_target=50)
    vectors[0], vectors[1], vectors[2, 3] = math.inf, -math.inf, math.nan
    codes = nearest_codes(vectors, table, 4)
    assert codes.min() >= 1 and codes.max() <= 49
    # where all signs agree no distance to an entry is NaN, but that to what fills up the last block is
    one_sign = nearest_codes(vectors, table.abs(), 4)
    assert one_sign.min() >= 1 and one_sign.max() <= 49
    candidates = torch.tensor([3, 8, 21])
    assert set(nearest_codes(vectors, table.abs(), 4, candidates).unique().tolist()) <= {3, 8, 21}


def test_a_tie_goes_to_the_smaller_item():
    vectors, table = tables()
    vectors, table = vectors.round(), table.round()  # small whole numbers: distances are exact, ties are ties
    table[9] = table[4]
    table[7] = table[4]
    codes = nearest_codes(torch.cat([vectors, table[4:5]]), table, 2)
    assert torch.equal(codes, brute_force(torch.cat([vectors, table[4:5]]), table, 2))
    assert codes[-1].tolist() == [4, 4] and not {7, 9} & set(codes.unique().tolist())
    far = torch.cat([table, table[4:5] + torch.arange(1.0, 300.0)[:, None], table[4:5]])  # a twin some blocks away
    assert nearest_codes(table[4:5], far, 2).tolist() == [[4, 4]]


@pytest.mark.parametrize("n_heads", [1, 4])
def test_every_row_of_a_table_without_twins_finds_itself(n_heads):
    _, table = tables(n_target=40)
    codes = nearest_codes(table[1:], table, n_heads)
    assert torch.equal(codes, torch.arange(1, 40)[:, None].expand(-1, n_heads))
    result = quantize(table[1:], table, n_heads, "both")
    assert torch.equal(result.vectors, table[1:])
    assert result.codebook_loss == 0 and result.commitment_loss == 0


def test_permuting_the_items_permutes_the_codes():
    vectors, table = tables()
    order = torch.cat([torch.tensor([0]), 1 + torch.randperm(12)])
    permuted = nearest_codes(vectors, table[order], 3)
    assert torch.equal(order[permuted], nearest_codes(vectors, table, 3))
    rows = torch.randperm(9)
    assert torch.equal(nearest_codes(vectors[rows], table, 3), nearest_codes(vectors, table, 3)[rows])


def test_one_offset_for_all_changes_nothing():
    vectors, table = tables()
    offset = torch.randn(12, dtype=torch.float64)
    assert torch.equal(nearest_codes(vectors + offset, table + offset, 4), nearest_codes(vectors, table, 4))


def test_padding_is_never_a_code():
    vectors, table = tables()
    assert bool((nearest_codes(torch.zeros_like(vectors), table, 4) >= 1).all())
    assert bool((nearest_codes(1e-3 * vectors, table, 4) >= 1).all())


def test_one_head_is_plain_vector_quantization():
    vectors, table = tables()
    nearest = 1 + torch.cdist(vectors, table[1:]).argmin(dim=1)
    result = quantize(vectors, table, 1, "both")
    assert torch.equal(result.codes[:, 0], nearest) and torch.equal(result.vectors, table[nearest])


def test_gathering_takes_each_heads_slice_of_its_own_item():
    _, table = tables()
    codes = torch.tensor([[1, 7, 3], [12, 12, 2]])
    first, second = torch.cat([table[1, :4], table[7, 4:8], table[3, 8:]]), torch.cat([table[12, :8], table[2, 8:]])
    expected = torch.stack([first, second])
    assert torch.equal(gather_codes(table, codes), expected)


def test_the_size_of_the_chunks_does_not_matter(monkeypatch):
    vectors, table = tables(n_source=50)
    whole = nearest_codes(vectors, table, 4)
    for size in (1, 12, 40, 100):
        monkeypatch.setattr(quantizer, "_DISTANCES_PER_CHUNK", size)
        assert torch.equal(nearest_codes(vectors, table, 4), whole)


def test_heads_that_do_not_divide_the_width_are_refused():
    vectors, table = tables()
    with pytest.raises(ValueError, match="5 heads do not divide the width 12"):
        nearest_codes(vectors, table, 5)


@pytest.mark.parametrize("n_heads", [1, 3])
@pytest.mark.parametrize("mode", ["both", "loss"])
def test_the_straight_through_gradient_is_its_definition(mode, n_heads):
    """d task / d z is d task / d q; the chosen slices get the same with ``both`` and nothing with ``loss``."""
    vectors, table = (x.requires_grad_() for x in tables())
    weights = torch.randn(9, 12, dtype=torch.float64)
    result = quantize(vectors, table, n_heads, mode)
    into_vectors, into_table = torch.autograd.grad(
        (result.vectors.sin() * weights).sum(), (vectors, table), materialize_grads=True
    )
    into_chosen = (gather_codes(table, result.codes).cos() * weights).detach()
    torch.testing.assert_close(into_vectors, into_chosen)
    expected, size = torch.zeros_like(table), 12 // n_heads
    if mode == "both":
        for row in range(9):
            for head in range(n_heads):
                part = slice(head * size, (head + 1) * size)
                expected[int(result.codes[row, head]), part] += into_chosen[row, part]
    torch.testing.assert_close(into_table, expected)


def test_codebook_and_commitment_losses_move_one_side_each():
    vectors, table = (x.requires_grad_() for x in tables())
    result = quantize(vectors, table, 3, "both")
    chosen = gather_codes(table, result.codes).detach()
    pairs = zip(chosen.flatten().tolist(), vectors.flatten().tolist(), strict=True)
    expected = torch.tensor(sum((a - b) ** 2 for a, b in pairs) / chosen.numel(), dtype=torch.float64)
    torch.testing.assert_close(result.codebook_loss.detach(), expected)
    torch.testing.assert_close(result.commitment_loss.detach(), expected)
    sides = [
        torch.autograd.grad(loss, (vectors, table), materialize_grads=True, retain_graph=True)
        for loss in (result.codebook_loss, result.commitment_loss)
    ]
    difference = 2 * (chosen - vectors.detach()) / chosen.numel()
    assert not sides[0][0].any() and not sides[1][1].any()
    torch.testing.assert_close(sides[1][0], -difference)
    scattered = torch.zeros_like(table)
    for row in range(9):
        for head in range(3):
            part = slice(head * 4, head * 4 + 4)
            scattered[int(result.codes[row, head]), part] += difference[row, part]
    torch.testing.assert_close(sides[0][1], scattered)


def test_codebook_use_of_a_source_that_can_be_counted_by_hand():
    table = torch.zeros(6, 2)
    table[1:, 0] = torch.tensor([10.0, 20.0, 30.0, 40.0, 50.0])
    table[1:, 1] = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    vectors = torch.tensor([[11.0, 1.0], [10.0, 1.0], [20.0, 1.0], [50.0, 2.0]])
    use = codebook_use(vectors, table, 2)
    # head 0 uses 1, 1, 2, 5; head 1 uses 1, 1, 1, 2; at most min(5, 4) = 4 codes
    assert use.usage == pytest.approx((3 / 4 + 2 / 4) / 2)
    first, second = 2 ** (0.5 + 2 * 0.25 * 2), 2 ** (0.75 * math.log2(4 / 3) + 0.25 * 2)
    assert use.perplexity == pytest.approx((first + second) / 2)
    assert use.error == pytest.approx(1.0 / 8)
    assert use.collisions == pytest.approx(2 / 4)


@pytest.mark.parametrize("candidates", [None, torch.tensor([2, 4])])
def test_codebook_use_of_more_items_than_codes_is_counted_by_a_loop(candidates):
    vectors, table = tables(n_source=30, n_target=5)
    codes = brute_force(vectors, table, 3, candidates)
    use = codebook_use(vectors, table, 3, candidates)
    possible = 4 if candidates is None else 2
    assert use.usage == pytest.approx(sum(len(set(head)) for head in codes.T.tolist()) / (3 * possible))
    rows = [tuple(row) for row in codes.tolist()]
    assert use.collisions == pytest.approx(sum(rows.count(row) > 1 for row in rows) / 30)


# -- the source loss ---------------------------------------------------------------------------------------------------


def slow_source_loss(model, parameters, source, batch):
    """L_src = CE(g(q(E_i x)) . E_i^T + b_i) + c mean |q - sg z|^2 + beta mean |z - sg q|^2, position by position."""
    codebook = parameters["item_embedding.weight"]
    n_heads, d = model.vq_heads, source.table.shape[1]

    def quantized(item):
        z = source.table[item]
        if n_heads == 0:
            return z, z
        codes = brute_force(z.detach()[None], codebook.detach(), n_heads, model.candidate_codes)[0].tolist()
        size = d // n_heads
        q = torch.cat([codebook[code, h * size : (h + 1) * size] for h, code in enumerate(codes)])
        task = q if model.codebook_gradient == "both" else q.detach()
        return task + z - z.detach(), q

    table = source.table
    if model.quantize_output and n_heads:
        table = torch.stack([source.table[0], *(quantized(i)[0] for i in range(1, len(source.table)))])
    total, count, seen = 0.0, 0, set()
    for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        real = [item for item in inputs if item]
        seen |= set(real)
        states = model.encode(parameters, torch.stack([quantized(item)[0] for item in real])[None], None, True)[0]
        for state, target in zip(states, targets, strict=False):
            if target:
                scores = torch.stack([state @ table[j] + source.bias[j] for j in range(1, len(table))])
                total, count = total + F.cross_entropy(scores, torch.tensor(target - 1)), count + 1
    penalty = 0.0
    if n_heads:
        for item in seen:
            z, q = source.table[item], quantized(item)[1]
            penalty = penalty + model.codebook_weight * (q - z.detach()).square().mean() / len(seen)
            penalty = penalty + model.commitment_weight * (z - q.detach()).square().mean() / len(seen)
    return total / count + penalty


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {"vq_heads": 0},
        {"vq_heads": 1},
        {"vq_heads": 4},
        {"vq_heads": 4, "codebook_gradient": "loss"},
        {"vq_heads": 2, "quantize_output": True},
        {"vq_heads": 2, "candidates": torch.tensor([2, 3, 7])},
        {"vq_heads": 4, "codebook_weight": 0.3, "commitment_weight": 2.0},
    ],
)
def test_the_source_loss_equals_a_slow_one(settings, padded):
    settings = dict(settings)
    candidates = settings.pop("candidates", None)
    model, source, batch, _ = tiny_metarec(**settings)
    model.candidate_codes = candidates
    if not padded:
        batch = batch.rows(torch.tensor([0]))
        assert bool((batch.inputs > 0).all())
    parameters = dict(model.named_parameters())
    wanted = (*parameters.values(), source.table, source.bias)
    slow = slow_source_loss(model, parameters, source, batch)
    expected = torch.autograd.grad(slow, wanted, materialize_grads=True)
    for plain in (False, True):
        loss = model.source_loss(parameters, source, batch, None, plain)
        torch.testing.assert_close(loss, slow, rtol=1e-10, atol=1e-10)
        found = torch.autograd.grad(loss, wanted, materialize_grads=True)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    assert expected[-2][1:].abs().max() > 0 and not expected[-2][0].any()
    codebook = dict(zip(parameters, expected, strict=False))["item_embedding.weight"]
    assert not codebook[0].any() and bool(codebook.any()) == (model.vq_heads > 0)
