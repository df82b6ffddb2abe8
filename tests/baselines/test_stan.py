"""Session-based neighbours against loops over all pairs of a row and a training history."""

import math

import numpy as np
import pytest
from support.baseline_world import fitted, histories_of, rows_of, training_of, write_world

KEYS = {"history_decay": 0.6, "neighbour_decay": 0.7, "neighbours": 1000}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


def nearness_of(history: list[int], other: list[int], decay: float) -> float:
    """Sum over shared items of the weights of their events in the history, over the root of the other's size."""
    shared = sum(decay**age for age, item in enumerate(reversed(history)) if item in other)
    return shared / math.sqrt(len(set(other)))


def scores_by_loops(history, neighbours, n_items: int, neighbour_decay: float, recommend_shared: bool) -> np.ndarray:
    """neighbours: (nearness, training history)."""
    scores = np.zeros(n_items)
    for nearness, other in neighbours:
        recent = next(item for item in reversed(history) if item in other)
        anchor = max(place for place, item in enumerate(other) if item == recent)
        for place, item in enumerate(other):
            if recommend_shared or item not in history:
                scores[item] += nearness * neighbour_decay ** abs(place - anchor)
    return scores


@pytest.mark.parametrize("recommend_shared", [False, True])
@pytest.mark.parametrize("most", [1000, 3])
def test_by_loops_over_neighbours(recommend_shared, most, world):
    run = fitted(world, "STAN", **(KEYS | {"neighbours": most, "recommend_shared": recommend_shared}))
    rows, training = rows_of(run), training_of(run)
    found = run.model.full_sort_predict(rows).numpy()
    for user, history, scores in zip(rows["user_id"].tolist(), histories_of(rows), found, strict=True):
        near = [(nearness_of(history, other, 0.6), other) for v, other in enumerate(training) if other and v != user]
        near = sorted([pair for pair in near if pair[0] > 0], key=lambda pair: -pair[0])
        least = near[min(most, len(near)) - 1][0]
        kept = [pair for pair in near if pair[0] >= least * (1 - 1e-6)]  # ties stay together
        expected = scores_by_loops(history, kept, run.dataset.item_num, 0.7, recommend_shared)
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)


def test_a_user_s_own_training_history_gives_nothing(world, tmp_path):
    """Of two users without a common item neither has a neighbour."""
    write_world(tmp_path, [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])
    run = fitted(tmp_path, "STAN", **KEYS, recommend_shared=True)
    assert not run.model.full_sort_predict(rows_of(run)).any()
