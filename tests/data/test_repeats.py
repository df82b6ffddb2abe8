"""How soon people come back to an item, against a loop over every event."""

import math

import numpy as np
import pytest

from recbole_metarec.data.repeats import LAG_STARTS, repeat_lift
from recbole_metarec.data.sequences import SequenceStore


def random_store(seed: int, users: int = 20, n_items: int = 9) -> tuple[SequenceStore, np.ndarray]:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 40, users)
    owners = np.repeat(np.arange(users), lengths)
    store = SequenceStore.from_events(owners, random.integers(1, n_items, lengths.sum()), n_items)
    return store, random.integers(0, lengths + 1)


def slow_lift(store: SequenceStore, kept: np.ndarray) -> list[float]:
    chances, repeats = [0] * len(LAG_STARTS), [0] * len(LAG_STARTS)
    for user, most in enumerate(kept):
        history = store.items[store.offsets[user] :][:most].tolist()
        for end in range(1, most):
            for item in set(history[:end]):
                lag = history[:end][::-1].index(item)
                group = max(g for g, start in enumerate(LAG_STARTS) if start <= lag)
                chances[group] += 1
                repeats[group] += history[end] == item
    expected = [count / (store.n_items - 1) for count in chances]
    return [math.log((r + 0.5) / (e + 0.5)) for r, e in zip(repeats, expected, strict=True)]


@pytest.mark.parametrize("seed", range(4))
def test_it_is_that_of_a_loop_over_the_kept_events(seed):
    store, kept = random_store(seed)
    np.testing.assert_allclose(repeat_lift(store, kept), slow_lift(store, kept), rtol=1e-6)


def test_no_event_says_nothing():
    store, kept = random_store(0)
    assert not repeat_lift(store, 0 * kept).any()


def test_items_that_come_back_at_once_and_items_that_never_do():
    again = SequenceStore.from_events(np.repeat([0, 1], 30), np.repeat([1, 2, 3, 4], 15), 50)
    never = SequenceStore.from_events(np.repeat([0, 1], 30), np.tile(np.arange(1, 31), 2), 50)
    assert repeat_lift(again, again.lengths)[0] > 3
    assert (repeat_lift(never, never.lengths)[:-1] < -0.5).all()
