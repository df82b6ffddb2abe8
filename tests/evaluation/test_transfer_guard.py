"""The rule of the transfer guard: p in closed form, its error rate for models that are worth the same, what it sees."""

from itertools import product

import numpy as np
import pytest
from scipy import stats
from support.ndcg import ndcg_at

from recbole_metarec.evaluation.transfer_guard import LEVEL, deploys_transfer, p_of_gain, verdict

MISS = 11  # a rank beyond the cut-off


@pytest.mark.parametrize("better", range(10))
def test_p_of_equal_differences_is_the_tail_of_a_binomial(better):
    """Nine users who differ by the same amount, and as many others who do not differ, on which nothing depends."""
    ours, theirs = np.full(18, 1), np.full(18, 1)
    theirs[:better], ours[better:9] = MISS, MISS
    assert p_of_gain(ours, theirs) == pytest.approx(stats.binom.sf(better - 1, 9, 0.5))


def test_p_of_drawn_signs_is_near_that_of_all_of_them():
    random = np.random.default_rng(3)
    ours, theirs = random.integers(1, 12, (2, 14))
    gains = ndcg_at(ours, 10) - ndcg_at(theirs, 10)
    of_all = [gains @ signs >= gains.sum() - 1e-12 for signs in product((-1, 1), repeat=14)]
    # for gains themselves have signs: those of all users are flipped, whatever they are
    assert p_of_gain(ours, theirs) == pytest.approx(np.mean(of_all), abs=0.03)
    order = random.permutation(14)
    assert p_of_gain(ours[order], theirs[order]) == p_of_gain(ours, theirs)


def test_models_that_do_not_differ_are_not_told_apart():
    ranks = np.arange(1, 30)
    assert p_of_gain(ranks, ranks) == p_of_gain(ranks[:0], ranks[:0]) == 1.0
    assert not deploys_transfer(1.0) and deploys_transfer(LEVEL)
    assert p_of_gain(np.full(3, 1), np.full(3, MISS)) == 1 / 8, "three users can show nothing at this level"


@pytest.mark.parametrize("users", [4, 7, 9])
def test_among_a_few_exchangeable_differences_at_most_the_level_is_deployed(users):
    """All signs that chance can give, so that the rate is exact."""
    ranks = np.random.default_rng(users).integers(1, 11, users)
    deployed = []
    for signs in product((True, False), repeat=users):
        ours, theirs = np.where(signs, ranks, MISS), np.where(signs, MISS, ranks)
        deployed.append(deploys_transfer(p_of_gain(ours, theirs)))
    assert np.mean(deployed) <= LEVEL and any(deployed)


def test_among_many_exchangeable_models_at_most_the_level_is_deployed():
    """Two models whose ranks follow the user alike, of 150 users with many misses; a mean's sign deploys half."""
    random, deployed, signs = np.random.default_rng(1), [], []
    for _ in range(300):
        hard = random.gumbel(3, 2, 150)
        ours, theirs = np.exp(hard + random.normal(0, 0.7, (2, 150))).astype(int) + 1
        deployed.append(deploys_transfer(p_of_gain(ours, theirs)))
        signs.append(ndcg_at(ours, 10).mean() > ndcg_at(theirs, 10).mean())
    most = stats.binom.ppf(0.999, len(deployed), LEVEL)
    assert 0.02 * len(deployed) < sum(deployed) <= most
    assert sum(signs) > 0.4 * len(signs)


def test_a_gain_that_users_share_is_deployed_and_a_loss_never():
    random = np.random.default_rng(2)
    theirs = random.integers(1, 40, 400)
    ours = np.maximum(theirs - random.integers(0, 4, 400), 1)
    assert p_of_gain(ours, theirs) < 0.01 and p_of_gain(theirs, ours) > 0.99
    assert verdict(p_of_gain(ours, theirs)).startswith("the model with transfer is deployed: it is better")
    assert verdict(0.4) == (
        "the model without transfer is deployed: validation does not show the other to be better (p = 0.400)"
    )


def test_one_user_who_differs_has_one_of_two_signs():
    same = np.array([3, 5, 9])
    assert p_of_gain(np.array([1, 5, 9]), same) == 0.5 and p_of_gain(same, np.array([1, 5, 9])) == 1.0
