"""Intervals against their formula, and pairing against what it is for."""

import numpy as np
from scipy import stats

from recbole_metarec.evaluation.intervals import mean_interval, paired_difference


def test_interval_is_students():
    values = np.array([1.0, 2.0, 4.0, 7.0])
    half = stats.t.ppf(0.975, 3) * np.sqrt(((values - 3.5) ** 2).sum() / 3 / 4)
    found = mean_interval(values)
    assert np.allclose([found.mean, found.low, found.high], [3.5, 3.5 - half, 3.5 + half])


def test_interval_covers_the_truth_nineteen_times_in_twenty():
    random = np.random.default_rng(1)
    draws = [mean_interval(random.normal(3.0, 2.0, size=15)) for _ in range(2000)]
    covered = np.mean([interval.low <= 3.0 <= interval.high for interval in draws])
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)


def test_one_user_proves_nothing():
    assert mean_interval(np.array([0.7])).holds_zero


def test_pairing_sees_a_small_gain_under_large_differences_between_users():
    random = np.random.default_rng(2)
    users = random.normal(0.0, 10.0, size=200)
    ours = users + 0.1 + random.normal(0.0, 0.1, size=200)
    assert not paired_difference(ours, users).holds_zero
    assert paired_difference(random.permutation(ours), users).holds_zero
    assert np.isclose(paired_difference(ours, users).mean, ours.mean() - users.mean())
