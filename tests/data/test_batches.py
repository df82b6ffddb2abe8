"""Batches hold every window once, within the budget, in an order that belongs to seed, domain and epoch alone."""

import numpy as np
import pytest
import torch

from recbole_metarec.data.batches import BatchStream, SequenceBatch, SequenceBatches
from recbole_metarec.data.sequences import SequenceStore, training_windows
from recbole_metarec.randomness import numpy_stream, stream_seed, torch_stream


def batches(seed=1, domain="Shop", budget=60, users=400, longest=12, shuffle=True) -> SequenceBatches:
    random = np.random.default_rng(5)
    lengths = random.integers(2, 30, size=users)
    store = SequenceStore.from_events(
        np.repeat(np.arange(1, users + 1), lengths), random.integers(1, 90, size=lengths.sum()), 90
    )
    return SequenceBatches(store, training_windows(store, store.lengths, longest), budget, seed, domain, shuffle)


@pytest.mark.parametrize("budget", [1, 5, 60, 1000, 10**6])
def test_an_epoch_holds_every_window_once(budget):
    made = batches(budget=budget)
    for epoch in range(3):
        plan = made.plan(epoch)
        assert sorted(np.concatenate(plan).tolist()) == list(range(len(made.windows)))
        assert all(len(rows) for rows in plan)


def test_the_budget_holds_to_within_a_row_and_no_batch_is_a_crumb():
    made = batches(users=4000)
    longest = int(made.windows.targets.max())
    for epoch in range(3):
        sizes = [int(made.windows.targets[rows].sum()) for rows in made.plan(epoch)]
        # whole pools are cut evenly, so a batch is off by a row and by its part of the pool's own row
        assert max(sizes) <= 60 * 1.05 + longest and min(sizes) >= 60 * 0.95 - longest
        assert abs(np.mean(sizes) / 60 - 1) < 0.02


def test_a_batch_is_its_windows_padded_on_the_right():
    made = batches()
    rows = made.plan(0)[3]
    batch = made.batch(rows)
    items, windows = made.store.items, made.windows
    assert batch.inputs.shape == batch.targets.shape == (len(rows), windows.length[rows].max())
    for r, row in enumerate(rows):
        start, length, context = windows.start[row], windows.length[row], windows.context[row]
        assert batch.inputs[r, :length].tolist() == items[start : start + length].tolist()
        assert batch.targets[r, context:length].tolist() == items[start + context + 1 : start + length + 1].tolist()
        assert not batch.inputs[r, length:].any() and not batch.targets[r, length:].any()
        assert not batch.targets[r, :context].any()
    assert batch.lengths.tolist() == windows.length[rows].tolist()
    positions, answers = batch.predicted()
    assert batch.targets.flatten()[positions].tolist() == answers.tolist()
    assert len(answers) == windows.targets[rows].sum()


def test_the_very_last_window_reads_nothing_beyond_the_store():
    made = batches()
    last = int(np.argmax(made.windows.start))
    batch = made.batch(np.array([last, 0]))
    end = made.windows.start[last] + made.windows.length[last]
    assert end == len(made.store.items) - 1 and batch.targets[0, made.windows.length[last] - 1] == made.store.items[-1]


def test_rows_of_like_length_stand_together():
    """Most of a batch is real: sorting within pools leaves little padding, and more without it."""
    made = batches(users=4000)
    real = sum(int(made.windows.length[rows].sum()) for rows in made.plan(0))
    padded = sum(len(rows) * int(made.windows.length[rows].max()) for rows in made.plan(0))
    assert real / padded > 0.85


def test_membership_and_order_change_from_epoch_to_epoch():
    made = batches()
    first, second = ([sorted(rows.tolist()) for rows in made.plan(epoch)] for epoch in (0, 1))
    assert first != second and len({map(tuple, first)} & {map(tuple, second)}) == 0
    shared = {tuple(rows) for rows in first} & {tuple(rows) for rows in second}
    assert len(shared) < len(first) / 4
    lengths = [made.windows.length[rows].mean() for rows in made.plan(0)]
    assert lengths != sorted(lengths)


def test_the_plan_belongs_to_seed_domain_and_epoch():
    def plan(**given):
        return [rows.tolist() for rows in batches(**given).plan(4)]

    assert plan() == plan() and plan() != plan(seed=2) and plan() != plan(domain="Mall")
    made = batches()
    made.plan(0)
    made.plan(9)
    assert [rows.tolist() for rows in made.plan(4)] == plan()  # whatever was asked for before
    assert plan(shuffle=False) == [rows.tolist() for rows in batches(shuffle=False).plan(0)]


def test_a_stream_of_batches_goes_on_where_its_state_was_taken():
    stream, other = BatchStream(batches()), BatchStream(batches())
    length = len(stream.batches.plan(0))
    for _ in range(length + 3):  # into the second pass
        next(stream)
    assert stream.state_dict() == {"passed": 1, "position": 3}
    other.load_state_dict(stream.state_dict())
    for _ in range(length):  # and into the third
        mine, its = next(stream), next(other)
        assert torch.equal(mine.inputs, its.inputs) and torch.equal(mine.targets, its.targets)
    whole = [next(BatchStream(batches())).inputs]
    assert torch.equal(whole[0], batches().batch(batches().plan(0)[0]).inputs)


def test_a_pass_of_a_stream_is_an_epoch():
    stream, made = BatchStream(batches()), batches()
    for epoch in range(2):
        for rows in made.plan(epoch):
            assert torch.equal(next(stream).inputs, made.batch(rows).inputs)


def test_rows_of_a_batch_are_trimmed_to_their_own_width():
    inputs = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [7, 0, 0, 0]])
    targets = torch.tensor([[0, 0, 4, 9], [6, 8, 0, 0], [9, 0, 0, 0]])
    part = SequenceBatch(inputs, targets).rows(torch.tensor([2, 1]))
    assert part.inputs.tolist() == [[7, 0], [5, 6]] and part.targets.tolist() == [[9, 0], [6, 8]]
    assert len(part) == 2 and part.lengths.tolist() == [1, 2]


def test_named_streams_are_independent_and_repeatable():
    assert stream_seed(1, "order", "Shop", 3) == stream_seed(1, "order", "Shop", 3) < 2**63
    names = [(1, "order", "Shop", 3), (2, "order", "Shop", 3), (1, "init", "Shop", 3), (1, "order", "Mall", 3),
             (1, "order", "Shop", 4), (1, "order", "Shop3")]  # fmt: skip
    assert len({stream_seed(*name) for name in names}) == len(names)
    assert numpy_stream(1, "a").random() == numpy_stream(1, "a").random()
    draws = [torch.rand(2, generator=torch_stream("cpu", 1, "a")).tolist() for _ in range(2)]
    assert draws[0] == draws[1]
