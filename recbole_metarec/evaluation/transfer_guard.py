"""The rule of the transfer guard: the model with transfer is deployed if validation shows that it is better.

The sign of the difference is not enough. Of two equally good models it would deploy each in half of all cases, and in a
small shop one that is much worse in nearly as many. So the difference must be larger than chance explains.
"""

import numpy as np
from scipy import stats

from recbole_metarec.evaluation.metric import NDCG_10, Metric

# One in ten shops in which transfer is worth nothing gets it, and on average loses nothing. A stricter level would
# mostly hurt small shops, whose validation shows few of the real gains.
LEVEL = 0.1
RULE = (
    "the model with transfer where its metric on validation is higher by a paired sign-flip test over users "
    f"(one-sided p at most {LEVEL}), else the one without"
)
_DRAWS = 1999
_CHUNK = 1 << 20  # signs held at once


def p_of_gain(ours: np.ndarray, theirs: np.ndarray, metric: Metric = NDCG_10) -> float:
    """One-sided p-value for a higher mean of the metric. ours, theirs: ranks of the same users in one order, int [U].

    The paired sign-flip test (Fisher 1935): if only chance tells two models apart, a user's difference could as well
    have the other sign. It assumes nothing about the differences, most of which are zero, and holds its level for any
    number of users: exchangeable models have p <= LEVEL in at most LEVEL of all cases. If at most ten users differ, all
    signs are tried, otherwise 1999 draws, the same ones in every call.
    """
    gains = np.sort(metric.of(ours) - metric.of(theirs))  # sorted: the draws depend on the order
    gains = gains[gains != 0]
    if len(gains) < 2:  # SciPy needs two
        return 0.5 if gains.sum() > 0 else 1.0
    test = stats.permutation_test(
        (gains,),
        np.mean,
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
        n_resamples=_DRAWS,
        batch=max(1, _CHUNK // len(gains)),
        random_state=np.random.default_rng(0),
    )
    return float(test.pvalue)


def deploys_transfer(p: float) -> bool:
    """Whether the guard deploys the model with transfer."""
    return p <= LEVEL


def verdict(p: float) -> str:
    """Which model the guard deploys, and why, as a sentence for readers."""
    if deploys_transfer(p):
        return f"the model with transfer is deployed: it is better on validation (p = {p:.3f}, at most {LEVEL})"
    return f"the model without transfer is deployed: validation does not show the other to be better (p = {p:.3f})"
