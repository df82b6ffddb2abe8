"""A target batch dealt out to the sources: whose rows are whose, and what a step makes of them."""

import math

import numpy as np
import pytest
import torch
from support.tiny import (
    no_streams,
    random_batch,
    step_on,
    two_sides,
)

from recbole_metarec.trainer.shares import deal
from recbole_metarec.trainer.step import plain_step


def test_shares_are_disjoint_rows_of_the_target_batch_in_proportion_to_the_weights():
    batch = random_batch(12, lengths=(5, 4, 4, 3, 3, 2, 2, 1, 1))
    generator = torch.Generator().manual_seed(0)

    def rows(part):
        return [tuple(x for x in row if x) for row in part.inputs.tolist()]

    for weight in (0.0, 0.3, 0.5, 0.9, 1.0):
        weights = torch.tensor([weight, 1.0 - weight])
        drawn = [deal(batch, weights, generator) for _ in range(400)]
        for shares in drawn:
            assert shares.events.tolist() == [int((share.targets > 0).sum()) for share in shares.batches]
            assert all(len(share) for share in shares.batches)
            assert sorted(row for share in shares.batches for row in rows(share)) == sorted(rows(batch))
        first = np.array([len(shares.batches[0]) for shares in drawn])
        assert first.max() - first.min() <= 1, "systematic sampling rounds up or down, no more"
        assert abs(first.mean() - (1 + weight * 7)) < 4 * 0.5 / np.sqrt(400)
        assert len({str(rows(shares.batches[0])) for shares in drawn}) > 1


def test_the_same_streams_deal_the_same_rows():
    batch = random_batch(12, lengths=(5, 4, 4, 3, 3, 2, 2, 1, 1, 1, 1))
    dealt = [deal(batch, torch.tensor([0.55, 0.45]), no_streams("share")).batches for _ in range(30)]
    for shares in dealt[1:]:
        assert all(torch.equal(one.inputs, other.inputs) for one, other in zip(dealt[0], shares, strict=True))


def test_the_rows_of_three_sources_are_dealt_out_whole_and_in_proportion():
    batch = random_batch(12, lengths=(5, 4, 4, 3, 3, 2, 2, 1, 1, 1, 1))
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor([0.5, 0.125, 0.375])
    drawn = [deal(batch, weights, generator).batches for _ in range(200)]
    sizes = np.array([[len(share) for share in shares] for shares in drawn])
    assert (sizes.sum(axis=1) == 11).all() and (np.abs(sizes - (1 + 8 * weights.numpy())) <= 1).all()
    assert np.abs(sizes.mean(axis=0) - (1 + 8 * weights.numpy())).max() < 4 * 0.5 / np.sqrt(200)


@pytest.mark.parametrize("given", [{"similarity_at": "phi"}, {"gradient_rescaling": "uniform"}])
def test_a_source_whose_trial_the_target_cannot_be_measured_after_is_left_out(given, monkeypatch):
    """Its own passes are finite; the target's loss at its phi is not."""
    model, same, other, batch = two_sides()
    expected = []
    for sides in ([same], [same, other]):
        step, parameters, state = step_on(model, sides, diagnostics_every=100, **given)
        state.steps = 1  # the first step is always diagnosed
        expected.append(step(parameters, batch, no_streams))
        loss_of, calls = model.target_loss, []

        def target_loss(*args, loss_of=loss_of, calls=calls):
            calls.append(args)
            return loss_of(*args) * (math.nan if len(calls) == 2 else 1.0)

        monkeypatch.setattr(model, "target_loss", target_loss)
    alone, both = expected
    assert both.measured["skipped"].tolist() == [False, True] and both.source_gradients[1] is None
    torch.testing.assert_close(both.loss, alone.loss)
    for name, value in both.gradient.items():
        torch.testing.assert_close(value, alone.gradient[name])


@pytest.mark.parametrize("rows, dealt", [(3, False), (4, True), (5, True)])
def test_a_batch_of_too_few_rows_is_not_dealt_out(rows, dealt):
    batch = random_batch(12, lengths=(5, 4, 3, 2, 1)[:rows])
    shares = deal(batch, torch.tensor([1.0, 0.0]), no_streams("share"))
    assert [len(share) for share in shares.batches] == ([rows - 1, 1] if dealt else [rows, rows])
    assert (shares.events is not None) == dealt


def test_where_no_source_is_usable_rows_are_dealt_evenly():
    batch = random_batch(12, lengths=(5, 4, 4, 3, 3, 2, 2, 1))
    assert [len(share) for share in deal(batch, torch.zeros(2), no_streams("share")).batches] == [4, 4]


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
