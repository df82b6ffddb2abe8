"""Neighbourhood methods against loops over events and against RecBole's own predictions."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from support.baseline_world import fitted, histories_of, rows_of, training_of, write_world

# isort: split
from recbole.data.interaction import Interaction
from recbole.model.general_recommender import EASE, ItemKNN

NEAR = {"rel": 1e-4, "abs": 1e-6}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("model, theirs, keys", [("SequentialItemKNN", ItemKNN, {"k": 5, "shrink": 1.5}),
                                                ("SequentialEASE", EASE, {"reg_weight": 3.0})])  # fmt: skip
def test_where_histories_are_the_training_rows_predictions_are_recbole_s(model, theirs, keys, world):
    run = fitted(world, model, **keys)
    run.config["knn_method"] = "item"
    training = training_of(run)[1:]
    width = max(map(len, training))
    rows = Interaction({
        "user_id": torch.arange(1, len(training) + 1),
        "item_id_list": torch.tensor([history + [0] * (width - len(history)) for history in training]),
        "item_length": torch.tensor(list(map(len, training))),
    })  # fmt: skip
    expected = theirs(run.config, run.train.dataset).full_sort_predict(rows).view(len(training), -1)
    torch.testing.assert_close(run.model.full_sort_predict(rows), expected, rtol=1e-4, atol=1e-5)


def test_popularity_is_the_count_of_training_events(world):
    run = fitted(world, "SequentialPop")
    counts = Counter(item for history in training_of(run) for item in history)
    scores = run.model.full_sort_predict(rows_of(run))
    assert (scores == torch.tensor([float(counts[item]) for item in range(scores.shape[1])])).all()


KEYS = {"history_decay": 0.6, "pair_window": 3, "pair_decay": 0.7, "backward_weight": 0.4, "shrink": 1.5,
        "popularity_weight": 0.05}  # fmt: skip


@pytest.mark.parametrize("part", ["valid", "test"])
@pytest.mark.parametrize("keys", [KEYS, KEYS | {"history_decay": 1.0, "pair_decay": 1.0, "backward_weight": 1.0}])
def test_decayed_neighbours_by_loops_over_events(part, keys, world):
    run = fitted(world, "ItemKNNDecay", **keys)
    training = training_of(run)
    n_items = run.dataset.item_num
    counts = Counter(item for history in training for item in history)
    pairs = np.zeros((n_items, n_items))
    for history in training:
        for first, i in enumerate(history):
            for second, j in enumerate(history):
                if 0 < second - first <= keys["pair_window"]:
                    pairs[i, j] += keys["pair_decay"] ** (second - first - 1)
                    pairs[j, i] += keys["backward_weight"] * keys["pair_decay"] ** (second - first - 1)
    most = math.log1p(max(counts.values()))
    rows = rows_of(run, part)
    for history, scores in zip(histories_of(rows), run.model.full_sort_predict(rows).tolist(), strict=True):
        for j in range(1, n_items):
            expected = keys["popularity_weight"] * math.log1p(counts[j]) / most
            for age, i in enumerate(reversed(history)):
                if pairs[i, j]:
                    similarity = pairs[i, j] / (math.sqrt(counts[i] * counts[j]) + keys["shrink"])
                    expected += keys["history_decay"] ** age * similarity
            assert scores[j] == pytest.approx(expected, **NEAR)


def test_a_history_ends_where_the_row_ends(world):
    """The validation event is the last of a test row's history, and the events before the most recent L are not."""
    run = fitted(world, "ItemKNNDecay")
    validated = dict(zip(rows_of(run, "valid")["user_id"].tolist(), rows_of(run, "valid")["item_id"].tolist()))
    training = training_of(run)
    for user, history in zip(rows_of(run)["user_id"].tolist(), histories_of(rows_of(run)), strict=True):
        whole = training[user] + ([validated[user]] if user in validated else [])
        assert history == whole[-6:]
