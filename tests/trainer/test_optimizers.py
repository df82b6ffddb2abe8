"""A step by rows against AdamW on the rows that were read, and what it leaves alone."""

import pytest
import torch
from support.worlds import distance, equal, run
from torch import nn

from recbole_metarec.trainer.checkpoint import read_checkpoint
from recbole_metarec.trainer.optimizers import RowwiseOptimizer, fused
from recbole_metarec.trainer.step import StepResult


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.03, weight_decay=0.2, betas=(0.7, 0.85), eps=1e-9)


def sparse_rows(rows, values, shape):
    return torch.sparse_coo_tensor(torch.tensor([rows]), values, shape)


def test_the_rows_read_in_every_step_move_as_under_adamw_and_the_others_not_at_all():
    start, bias = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    mine, other = (nn.ParameterList([nn.Parameter(start.clone()), nn.Parameter(bias.clone())]) for _ in range(2))
    by_rows, dense = RowwiseOptimizer(adamw(mine), [mine[0]]), adamw(other)
    assert by_rows.rows.defaults["eps"] == 1e-9  # which SparseAdam adds before the correction of the second moment
    for _ in range(4):
        values, into_bias = torch.randn(3, 3, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
        mine[0].grad = sparse_rows([5, 2, 5], values, (7, 3))  # a row twice: its gradients add up
        other[0].grad = mine[0].grad.to_dense()
        mine[1].grad, other[1].grad = into_bias.clone(), into_bias.clone()
        by_rows.step()
        dense.step()
    torch.testing.assert_close(mine[0][[2, 5]], other[0][[2, 5]])
    torch.testing.assert_close(mine[1], other[1])
    untouched = [0, 1, 3, 4, 6]
    assert torch.equal(mine[0][untouched], start[untouched]) and not torch.equal(mine[0][[2, 5]], start[[2, 5]])


def test_a_dense_gradient_still_steps_the_whole_table():
    start = torch.randn(5, 2, dtype=torch.float64)
    mine, other = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    mine.grad = torch.randn(5, 2, dtype=torch.float64)
    other.grad = mine.grad.clone()
    RowwiseOptimizer(adamw([mine]), [mine]).step()
    adamw([other]).step()
    assert torch.equal(mine, other)


def test_one_kernel_for_all_steps_alike():
    one, other = (nn.Parameter(torch.linspace(-1, 1, 40, dtype=torch.float64)) for _ in range(2))
    plain, quick = adamw([one]), fused(adamw([other]))
    for _ in range(3):
        one.grad = torch.randn(40, dtype=torch.float64)
        other.grad = one.grad.clone()
        plain.step()
        quick.step()
    torch.testing.assert_close(one, other)
    assert fused(torch.optim.RMSprop([one], lr=0.1)).step is not None  # has no such kernel, and needs none


def test_a_gradient_moves_its_parameter_whatever_its_strides(shop):
    """A pass of several batches gives gradients of weights that lie transposed in memory."""
    moved = []
    for transposed in (False, True):
        made = run(shop, "LRURec", fit=False)
        name, weight = "encoder.blocks.0.widen.weight", made.model.encoder.blocks[0].widen.weight
        gradient = torch.arange(float(weight.numel())).view_as(weight)
        gradient = gradient.t().contiguous().t() if transposed else gradient
        made.trainer._apply(StepResult(torch.tensor(1.0), {name: gradient}), 0)
        moved.append(weight.detach().clone())
    assert torch.equal(*moved)


@pytest.mark.parametrize("given", [{"model": "LRURec", "target_negatives": 6}, {"source_negatives": 6}])
def test_rows_that_a_sampled_step_has_not_read_stay_as_they_are(shop, given):
    """One step on a whole run: every row of the table that is neither input, answer nor negative is bit-identical."""
    made = run(shop, fit=False, **given)
    trainer = made.trainer
    trainer._set_up(made.train)
    table = trainer.sources.sides[0].table if len(trainer.sources) else made.model.item_embedding.weight
    before = table.detach().clone()
    batch = made.model.batch_of(next(iter(made.train))).rows(torch.arange(2))
    if len(trainer.sources):
        drawn = trainer.sources.sides[0].stream.batches.batch
        trainer.sources.sides[0].stream.batches.batch = lambda rows: drawn(rows[:2])
    trainer._apply(trainer._one_step(batch, torch_streams()), 0)
    moved = (table != before).any(dim=1)
    assert 0 < int(moved.sum()) < len(table) - 2


@pytest.mark.parametrize(
    "given",
    [
        {"model": "LRURec", "target_negatives": 6, "clip_grad_norm": {"max_norm": 1.0}},
        {"model": "LRURec", "target_negatives": 6, "learner": "sgd"},
        {"source_negatives": 6, "quantize_output": True},
        {"source_negatives": 6, "second_order": True},
        {"target_negatives": 6, "meta_transfer": "pretrain", "pretrain_epochs": 1},
    ],
)
def test_where_rows_cannot_be_stepped_alone_sampling_still_trains(shop, given):
    made = run(shop, **given)
    assert all(bool(value.isfinite().all()) for value in made.weights().values())
    assert distance(made.weights(), run(shop, fit=False, **given).weights()) > 1e-3
    trainer = made.trainer
    if not len(trainer.sources):
        assert not isinstance(trainer.optimizer, RowwiseOptimizer)
    elif not trainer.sources_by_rows:
        assert not isinstance(trainer.sources.optimizer, RowwiseOptimizer)


def test_the_guards_twin_moves_its_whole_table_as_the_transfer_does(shop):
    """With transfer every row of the target's table moves in every step; so it must in what it is compared with."""
    guarded = run(shop, saved=True, transfer_guard=True, target_negatives=6, epochs=1)
    twin = read_checkpoint(guarded.trainer.guard.no_transfer_file)["state_dict"]
    by_rows = run(shop, saved=True, meta_transfer="none", target_negatives=6, epochs=1)
    assert distance(twin, by_rows.weights()) > 1e-6
    assert not guarded.trainer.rows_only and by_rows.trainer.rows_only


def torch_streams():
    return lambda *name: torch.Generator().manual_seed(sum(map(len, name)))


@pytest.mark.parametrize(
    "given",
    [
        {"model": "LRURec", "target_negatives": 6},
        {"source_negatives": 6},
        {"meta_transfer": "joint", "target_negatives": 6, "source_negatives": 6},
    ],
)
def test_sampled_runs_repeat_and_learn(shop, given):
    one, two = run(shop, **given), run(shop, **given)
    assert equal(one.weights(), two.weights())
    assert distance(one.weights(), run(shop, fit=False, **given).weights()) > 1e-2
    losses = [row["train_loss"] for row in one.trainer.log.history]
    assert losses[-1] < losses[0]
