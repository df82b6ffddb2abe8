"""Which test events are companions or repeats, against going through the histories by hand."""

import numpy as np
import pytest

from recbole_metarec.data.companions import companion_rows, near_counts, repeat_rows
from recbole_metarec.data.sequences import HistorySplit, SequenceStore


def random_store(seed: int, n: int) -> SequenceStore:
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(30), rng.integers(1, 40, 30))
    return SequenceStore.from_events(users, rng.integers(1, n, len(users)), n)


def near_by_hand(store, kept, first, second) -> int:
    count = 0
    for start, end in zip(store.offsets[:-1], store.offsets[:-1] + kept, strict=True):
        history = store.items[start:end]
        places = np.arange(len(history))
        close = np.abs(places[:, None] - places) <= 10
        np.fill_diagonal(close, False)
        count += int((close & (history == first)[:, None] & (history == second)).sum())
    return count


@pytest.mark.parametrize("seed", range(3))
def test_pairs_near_each_other_are_counted(seed):
    store, rng = random_store(seed, 12), np.random.default_rng(seed)
    kept = rng.integers(0, store.lengths + 1)
    first, second = rng.integers(1, 12, 50), rng.integers(1, 12, 50)
    expected = [near_by_hand(store, kept, *pair) for pair in zip(first, second, strict=True)]
    assert near_counts(store, kept, first, second).tolist() == expected


@pytest.mark.parametrize("seed", range(3))
def test_companions_and_repeats_of_each_test_row(seed):
    store = random_store(seed, 60)
    split = HistorySplit.leave_one_out(store.lengths)
    companions, repeats = companion_rows(store, split), repeat_rows(store, split)
    counts = store.item_counts(split.trained)
    for row, user in enumerate(split.test):
        *history, last, held_out = store.items[store.offsets[user] : store.offsets[user + 1]].tolist()
        assert repeats[row] == (held_out in [*history, last])
        near = near_by_hand(store, split.trained, last, held_out)
        assert companions[row] == (counts[last] > 1 and near >= counts[last] / 2)
    assert companions.any() and not companions.all() and repeats.any() and not repeats.all()
