"""Pair counts against a loop over every pair of events."""

from collections import Counter

import numpy as np
import pytest

from recbole_metarec.data import pair_counts
from recbole_metarec.data.pair_counts import PairCounts
from recbole_metarec.data.pair_lags import GROUPS, LAGS
from recbole_metarec.data.sequences import SequenceStore


def random_store(seed: int, users: int = 30, n_items: int = 15) -> tuple[SequenceStore, np.ndarray]:
    """(histories of 0 to 24 events, how many of each are kept)."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 25, users)
    store = SequenceStore.from_events(
        np.repeat(np.arange(users), lengths), random.integers(1, n_items, lengths.sum()), n_items
    )
    return store, random.integers(0, lengths + 1)


def slow_counts(store: SequenceStore, kept: np.ndarray) -> dict[tuple[int, int], list[int]]:
    """(i, j) -> its counts, event by event."""
    counts = {}
    for user, most in enumerate(kept):
        history = store.items[store.offsets[user] :][:most].tolist()
        for here, first in enumerate(history):
            for there, second in enumerate(history):
                for group, (nearest, furthest) in enumerate(LAGS):
                    if nearest <= there - here <= furthest:
                        counts.setdefault((first, second), [0] * GROUPS)[group] += 1
                if 1 <= here - there <= LAGS[-1][1]:
                    counts.setdefault((first, second), [0] * GROUPS)[-1] += 1
    return counts


def as_dict(pairs: PairCounts) -> dict[tuple[int, int], list[int]]:
    return {
        (item, int(pairs.neighbours[at])): pairs.counts[at].tolist()
        for item in range(len(pairs.starts) - 1)
        for at in range(pairs.starts[item], pairs.starts[item + 1])
    }


@pytest.mark.parametrize("seed", range(4))
def test_every_pair_is_counted_by_its_lag_in_the_kept_events_alone(seed):
    store, kept = random_store(seed)
    pairs = PairCounts.of(store, kept, 1000)
    assert as_dict(pairs) == slow_counts(store, kept) and pairs.cut == 0
    kept_items = [item for user, most in enumerate(kept) for item in store.items[store.offsets[user] :][:most]]
    assert pairs.popularity.tolist() == [Counter(kept_items)[item] for item in range(store.n_items)]


def test_the_most_frequent_neighbours_stay_and_the_rest_is_told():
    store, kept = random_store(1)
    whole, cut = slow_counts(store, kept), PairCounts.of(store, kept, 4)
    for item in range(1, store.n_items):
        near = sorted((j for i, j in whole if i == item), key=lambda j: (-sum(whole[item, j]), j))
        assert sorted(near[:4]) == cut.neighbours[cut.starts[item] : cut.starts[item + 1]].tolist()
    assert cut.cut == len(whole) - len(cut.neighbours) > 0
    assert all(counts == whole[pair] for pair, counts in as_dict(cut).items())


@pytest.mark.parametrize("at_once", [1, 200, 3000])
def test_blocks_change_nothing(at_once, monkeypatch):
    for most in (1000, 4):
        whole = PairCounts.of(*random_store(5), most)
        with monkeypatch.context() as patched:
            patched.setattr(pair_counts, "_PAIRS_AT_ONCE", at_once)
            blocks = PairCounts.of(*random_store(5), most)
        assert as_dict(blocks) == as_dict(whole) and blocks.cut == whole.cut


def test_a_kept_pair_takes_twelve_bytes():
    pairs = PairCounts.of(*random_store(2), 1000)
    assert pairs.neighbours.nbytes + pairs.counts.nbytes == 12 * len(pairs.neighbours)


def test_counts_too_large_for_their_type_stay_at_its_largest_number():
    users, each = 40, 1000
    store = SequenceStore.from_events(np.repeat(np.arange(users), each), np.tile([1, 2], users * each // 2), 3)
    pairs = PairCounts.of(store, store.lengths, 10)
    assert as_dict(pairs)[1, 2][-1] == np.iinfo(np.int16).max


def test_the_histories_of_some_users_are_theirs():
    store, _ = random_store(3)
    part = store.of_users(np.array([2, 7, 20]))
    assert part.users.tolist() == store.users[[2, 7, 20]].tolist() and part.n_items == store.n_items
    for row, user in enumerate([2, 7, 20]):
        history = store.items[store.offsets[user] : store.offsets[user + 1]]
        assert np.array_equal(part.items[part.offsets[row] : part.offsets[row + 1]], history)
