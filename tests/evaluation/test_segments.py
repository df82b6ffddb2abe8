"""Segments of users, against planted histories and popularities."""

import numpy as np
import pytest

import recbole_metarec  # noqa: F401

# isort: split
from recbole_metarec.data.sequences import HistorySplit, SequenceStore
from recbole_metarec.evaluation.segments import (
    by_history,
    by_item,
    segments,
    target_segments,
)


def masks(found) -> dict[str, list[int]]:
    return {segment.name: np.flatnonzero(segment.mask).tolist() for segment in found}


def test_histories_by_a_fixed_cut_and_by_thirds():
    found = by_history(np.array([2, 30, 3, 4, 12, 5, 40, 11, 6]))
    assert masks(found) == {
        "Cold users": [0, 2],
        "Short histories": [0, 2, 3],
        "Medium histories": [5, 7, 8],
        "Long histories": [1, 4, 6],
    }
    assert [segment.rule for segment in found] == [
        "at most 3 training events",
        "shortest third: at most 4 training events",
        "middle third: 5 to 11 training events",
        "longest third: more than 11 training events",
    ]


@pytest.mark.parametrize("seed", range(5))
def test_every_user_is_in_one_third_and_equal_lengths_are_not_parted(seed):
    lengths = np.random.default_rng(seed).geometric(0.4, 200) + 3 * (seed % 2)
    found = masks(by_history(lengths))
    thirds = [found.get("Short histories", found["Cold users"]), found["Medium histories"], found["Long histories"]]
    assert sorted(np.concatenate(thirds).astype(int).tolist()) == list(range(200))
    for one, two in ((0, 1), (1, 2)):
        if thirds[one] and thirds[two]:
            assert lengths[thirds[one]].max() < lengths[thirds[two]].min()


def test_short_histories_that_are_the_cold_users_are_told_once():
    assert [segment.name for segment in by_history(np.array([3, 3, 3, 4, 5, 6]))][:2] == [
        "Cold users",
        "Medium histories",
    ]


def test_items_by_their_training_events_and_padding_is_no_item():
    counts = np.array([10**9, *range(20)])  # item i was seen i - 1 times
    found = by_item(counts, np.array([1, 5, 6, 18, 19, 20, 1]))
    assert masks(found) == {"Cold items": [0, 1, 6], "Other items": [2, 3], "Popular items": [4, 5]}
    assert "2 of them none" in found[0].rule and "18 training events or more" in found[2].rule
    assert found[1].rule == "held-out item with 5 to 17 training events"


def test_a_cold_item_is_never_popular():
    counts = np.array([0, 1, 1, 1, 2])
    found = masks(by_item(counts, np.array([1, 4])))
    assert found["Cold items"] == [0, 1] and not found["Popular items"]


def test_every_user_has_one_item_segment_and_empty_ones_are_left_out():
    rng = np.random.default_rng(0)
    counts, held_out = np.r_[0, rng.integers(0, 60, 300)], rng.integers(1, 301, 500)
    assert np.sum([segment.mask for segment in by_item(counts, held_out)], axis=0).tolist() == [1] * 500
    found = segments(np.full(500, 30), counts, held_out)
    assert "Cold users" not in masks(found) and all(segment.users for segment in found)
    assert segments(np.array([]), np.array([0]), np.array([], dtype=int)) == ()


def test_a_targets_segments_are_of_its_training_part():
    """Users 7, 8 and 9: five events (three trained), two (no test row), three (all but the last trained)."""
    histories = {7: [1, 2, 3, 4, 5], 8: [6, 6], 9: [4, 2, 6]}
    users = np.repeat(list(histories), [len(items) for items in histories.values()])
    store = SequenceStore.from_events(users, np.concatenate(list(histories.values())), 7)
    ids, found = target_segments(store, HistorySplit.leave_one_out(store.lengths))
    assert ids.tolist() == [7, 9]
    assert masks(found) == {"Cold users": [0, 1], "Short histories": [1], "Medium histories": [0], "Cold items": [0, 1]}
    # item 5 is only ever held out; item 6 was trained on twice by user 8
    assert next(segment for segment in found if segment.name == "Cold items").rule.endswith("1 of them none")
