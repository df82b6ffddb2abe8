"""Linear models against closed forms and against what they minimise."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from support.baseline_world import fitted, histories_of, rows_of, training_of, write_world

# isort: split
from recbole_metarec.baselines.linear import linear_weights


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


def test_ease_with_decay_one_is_ease_and_else_recent_events_count_more(world):
    plain, same, decayed = (
        fitted(world, model, reg_weight=3.0, **keys)
        for model, keys in (("SequentialEASE", {}), ("EASEDecay", {"history_decay": 1.0}),
                            ("EASEDecay", {"history_decay": 0.6}))
    )  # fmt: skip
    rows = rows_of(plain)
    assert torch.equal(same.model.full_sort_predict(rows), plain.model.full_sort_predict(rows))
    for history, scores in zip(histories_of(rows), decayed.model.full_sort_predict(rows), strict=True):
        expected = sum(0.6**age * plain.model.weights[item] for age, item in enumerate(reversed(history)))
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)


def test_slist_that_only_reconstructs_is_ease(world):
    """Steck's closed form I - P / diag(P), of the items that each user has."""
    run = fitted(world, "SLIST", slis_share=1.0, reg_weight=3.0, diagonal_limit=0.0, history_decay=1.0)
    n_items = run.dataset.item_num
    users = np.zeros((run.dataset.user_num, n_items))
    for user, history in enumerate(training_of(run)):
        users[user, history] = 1.0
    inverse = np.linalg.inv(users.T @ users + 3.0 * np.eye(n_items))
    np.testing.assert_allclose(run.model.weights, np.eye(n_items) - inverse / np.diag(inverse), atol=1e-6)


def slist_by_loops(training, n_items: int, alpha: float, window: int, decay: float, reg: float):
    """(X^T X + reg, X^T Y) of SLIST, one cut of one history at a time."""
    left, right = reg * np.eye(n_items), np.zeros((n_items, n_items))
    for history in training:
        whole = np.zeros(n_items)
        whole[history] = 1.0
        left += alpha * np.outer(whole, whole)
        right += alpha * np.outer(whole, whole)
        for cut in range(1, len(history)):
            past, future = np.zeros(n_items), np.zeros(n_items)
            for steps, item in enumerate(history[:cut][::-1][:window]):
                past[item] += decay**steps
            for steps, item in enumerate(history[cut:][:window]):
                future[item] += decay**steps
            left += (1 - alpha) * np.outer(past, past)
            right += (1 - alpha) * np.outer(past, future)
    return left, right


@pytest.mark.parametrize("alpha, window, decay", [(0.3, 3, 0.7), (0.0, 20, 1.0)])
def test_slist_by_loops_over_cuts(alpha, window, decay, world):
    keys = {"slis_share": alpha, "pair_window": window, "pair_decay": decay, "reg_weight": 2.0, "diagonal_limit": 9.0}
    run = fitted(world, "SLIST", history_decay=0.5, **keys)
    left, right = slist_by_loops(training_of(run), run.dataset.item_num, alpha, window, decay, 2.0)
    weights = np.linalg.solve(left, right)
    assert weights.max() < 9.0
    np.testing.assert_allclose(run.model.weights, weights, atol=1e-6)
    rows = rows_of(run)
    for history, scores in zip(histories_of(rows), run.model.full_sort_predict(rows), strict=True):
        expected = sum(0.5**age * weights[item] for age, item in enumerate(reversed(history)))
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)


def test_the_diagonal_keeps_its_limit_and_nothing_within_it_is_better():
    """The minimum: no small change that keeps the limit has a smaller loss, and the limit binds in some columns."""
    random = np.random.default_rng(0)
    inputs, targets = random.random((40, 6)), random.random((40, 6))
    targets[:, :3] += 2 * inputs[:, :3]
    sparse = csr_matrix(inputs.T @ inputs), csr_matrix(inputs.T @ targets)
    weights = linear_weights(*sparse, 0.5, 0.4).astype(np.float64)
    assert np.diag(weights)[:3] == pytest.approx(0.4) and np.diag(weights)[3:].max() < 0.4

    def loss(b):
        return ((targets - inputs @ b) ** 2).sum() + 0.5 * (b**2).sum()

    for _ in range(200):
        change = 1e-3 * random.standard_normal((6, 6))
        np.fill_diagonal(change, np.minimum(np.diag(change), 0.4 - np.diag(weights)))
        assert loss(weights + change) >= loss(weights) - 1e-9
