"""Student-t intervals for one model's mean over test users, and for the mean of a paired difference.

Differences on a leaderboard have bootstrap intervals instead, from the same draws as their p-values: significance.py.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Whether the mean may be zero."""
        return self.low <= 0.0 <= self.high


def mean_interval(values: np.ndarray) -> Interval:
    """Mean of per-user values, float [R], with its Student-t interval, which is infinite for a single user."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, -np.inf, np.inf)
    half = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    return Interval(mean, mean - half, mean + half)


def level_interval(values: np.ndarray) -> Interval:
    """Mean of a metric between 0 and 1 over users, float [R], with its interval, cut to 0 and 1.

    If all values are equal, say a few zeros, they tell nothing about other users: the interval is infinite.
    """
    if (values == values[0]).all():
        return Interval(float(values[0]), -np.inf, np.inf)
    whole = mean_interval(values)
    return Interval(whole.mean, max(whole.low, 0.0), min(whole.high, 1.0))


def paired_difference(ours: np.ndarray, theirs: np.ndarray) -> Interval:
    """Mean of ours - theirs over the same users, float [R] each, with its interval."""
    return mean_interval(ours - theirs)
