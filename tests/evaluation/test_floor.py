"""The floor: popularity and item-kNN on rows that are worked out by hand, and against the fitted baselines."""

import numpy as np
import torch
from support.worlds import Run, write_shop

from recbole_metarec.evaluation.floor import floor_ranks
from recbole_metarec.evaluation.ranking import rank_both, ranks_of
from recbole_metarec.evaluation.seen import SeenItems, events_of, held_out_of


def test_ranks_on_three_users_by_hand():
    """Users 1 and 2 have items 1 and 2, user 3 items 1 and 3; 4 stays unknown. Whom are 2, 3 and 4 recommended to?"""
    users, items = np.array([1, 1, 2, 2, 3, 3]), np.array([1, 2, 1, 2, 1, 3])
    rows = np.array([3, 1, 2]), np.array([2, 3, 4])
    found = floor_ranks(users, items, rows, 5, SeenItems.of(users, items, rows[0]))
    kept, unseen = found["popularity"]  # 3, 2, 1 and 0 events
    assert kept.tolist() == [2, 3, 4] and unseen.tolist() == [1, 1, 2]
    kept, unseen = found["item-kNN"]
    # user 3 (1, 3): 3 and 1 are neighbours, so both are seen before 2, which 1 brings along
    assert kept.tolist()[0] == 1 and unseen.tolist() == [1, 1, 2]


def test_popularity_is_what_the_fitted_baseline_finds(tmp_path):
    run = Run(write_shop(tmp_path), model="SequentialPop")
    train, valid = run.train.dataset, run.valid.dataset
    seen = valid.seen
    found = floor_ranks(*events_of(train), held_out_of(valid), train.item_num, seen)["popularity"]
    for ours, theirs in zip(found, rank_both(run.model, run.valid, seen, "cpu"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_item_knn_is_the_sum_of_cosines_of_the_items_that_a_user_has():
    random = np.random.default_rng(1)
    users, items = random.integers(1, 21, 120), random.integers(1, 13, 120)
    rows = np.arange(1, 21), random.integers(1, 13, 20)
    has = np.zeros((21, 13))
    has[users, items] = 1
    scores = np.zeros((21, 13))
    for user in range(21):
        for item in range(1, 13):
            for other in set(range(1, 13)) - {item}:
                both, each = has[:, item] @ has[:, other], has[:, item].sum() * has[:, other].sum()
                scores[user, item] += has[user, other] * both / np.sqrt(max(each, 1))
    wanted = ranks_of(torch.tensor(scores[rows[0]]).round(decimals=5), torch.tensor(rows[1]))
    found = floor_ranks(users, items, rows, 13, SeenItems.of(users, items, rows[0]))["item-kNN"][0]
    assert np.mean(found == wanted.numpy()) >= 0.95  # equal sums in another order
