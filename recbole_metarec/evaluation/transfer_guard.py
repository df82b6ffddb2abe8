"""The rule of the transfer guard: the model with transfer is deployed where validation tells it from the one without.

A difference of two means has a sign whatever the models are: of two that are worth the same, its sign deploys either in
half of all cases, and in a small shop one that is much worse in nearly as many. So the difference has to be larger than
chance makes it.
"""

import numpy as np
from scipy import stats

from recbole_metarec.evaluation.metric import NDCG_10, Metric

# Of ten shops in which transfer is worth nothing one gets it, and on average loses nothing by it. A stricter level
# would mostly take from small shops, whose validation shows few of the gains that there are.
LEVEL = 0.1
RULE = (
    "the model with transfer where its metric on validation is higher by a paired sign-flip test over users "
    f"(one-sided p at most {LEVEL}), else the one without"
)
_DRAWS = 1999
_CHUNK = 1 << 20  # signs held at once


def p_of_gain(ours: np.ndarray, theirs: np.ndarray, metric: Metric = NDCG_10) -> float:
    """One-sided p of a higher mean of the metric: ranks of the same users, int [U] each, in any common order.

    The paired sign-flip test (Fisher 1935): if only chance tells two models apart, a user's difference could as well
    have the other sign. It asks nothing of the differences, most of which are zero, and holds its level for any number
    of users: models that are exchangeable have p <= LEVEL in at most LEVEL of all cases. Up to ten users who differ
    all signs are tried, else 1999 draws, the same ones in every call.
    """
    gains = np.sort(metric.of(ours) - metric.of(theirs))  # in one order: the draws go by it
    gains = gains[gains != 0]
    if len(gains) < 2:  # of which SciPy wants two
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
    """Which model the guard deploys, and why, for readers."""
    if deploys_transfer(p):
        return f"the model with transfer is deployed: it is better on validation (p = {p:.3f}, at most {LEVEL})"
    return f"the model without transfer is deployed: validation does not show the other to be better (p = {p:.3f})"
