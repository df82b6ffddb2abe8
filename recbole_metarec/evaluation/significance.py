"""Which differences between models are real: paired tests over users, corrected for their number, and tiers.

The tests compare the mean of a metric over the test users, after each user's value is averaged over a model's seeds.
Users are drawn with replacement, the same ones for every model (paired bootstrap, Efron & Tibshirani 1993, chapters 13
and 16). Interval and p-value of a difference come from the same draws, so they cannot contradict each other. Such a
test speaks about other users, not about other seeds: a model's spread over seeds has to be shown beside it.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from recbole_metarec.errors import DataError
from recbole_metarec.evaluation.metric import NDCG_10, Metric
from recbole_metarec.evaluation.results import RunResult

ALPHA = 0.05  # after the correction
_RESAMPLES = 9999
_CHUNK = 1 << 20  # drawn users held at once


@dataclass(frozen=True)
class Spread:
    """Mean over seeds and their standard deviation (n - 1), None for a single seed."""

    mean: float
    std: float | None
    seeds: int


@dataclass(frozen=True)
class UserScores:
    """A metric of every model for the same test users.

    models: names, sorted. users: str [U], sorted tokens. by_seed: per model float64 [S, U], rows by ascending seed.
    """

    models: tuple[str, ...]
    users: np.ndarray
    by_seed: dict[str, np.ndarray]

    @property
    def means(self) -> np.ndarray:
        """float64 [M, U], averaged over each model's seeds."""
        return np.stack([self.by_seed[model].mean(axis=0) for model in self.models])


@dataclass(frozen=True)
class Differences:
    """All pairs of M models; entry [a, b] is of model a minus model b.

    mean, low, high: float64 [M, M]; low and high bound the 95 % interval, not corrected. p: float64 [M, M], two-sided,
    Holm-corrected over the M (M - 1) / 2 pairs, 1 on the diagonal. certain: bool [M, M], True if no draw contradicted
    the sign of the difference, so that p is only an upper bound.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    certain: np.ndarray


def spread(values) -> Spread:
    """Mean and deviation of one value per seed."""
    values = np.asarray(values, dtype=np.float64)
    return Spread(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None, len(values))


def align(results: list[RunResult], metric: Metric = NDCG_10) -> UserScores:
    """The metric of every run's users, in one order: sorted by token.

    Raises DataError if a run has a user twice or other users than the first run, or if a model has a seed twice.
    """
    scores: dict[str, dict[int, np.ndarray]] = {}
    users = None
    for run in results:
        order = np.argsort(run.test_users, kind="stable")
        tokens = np.asarray(run.test_users)[order]
        users = tokens if users is None else users
        _check_users(run, tokens, results[0], users)
        seeds = scores.setdefault(run.model, {})
        if run.seed in seeds:
            raise DataError(f"{run.model}, seed {run.seed}: two results of one run; keep one of them")
        seeds[run.seed] = metric.of(np.asarray(run.test_ranks)[order])
    models = tuple(sorted(scores))
    by_seed = {model: np.stack([scores[model][seed] for seed in sorted(scores[model])]) for model in models}
    return UserScores(models, users if users is not None else np.empty(0, dtype=str), by_seed)


def _check_users(run: RunResult, tokens: np.ndarray, first: RunResult, users: np.ndarray) -> None:
    name = f"{run.model}, seed {run.seed}"
    if len(run.test_ranks) != len(tokens):
        raise DataError(f"{name}: {len(run.test_ranks)} ranks for {len(tokens)} test users; run it again")
    twice = tokens[1:][tokens[1:] == tokens[:-1]]
    if len(twice):
        raise DataError(f"{name}: test user {twice[0]} has two rows; compare on a split with one test row per user")
    other = np.setxor1d(tokens, users, assume_unique=True)
    if len(other):
        raise DataError(
            f"{name}: its test users are not those of {first.model}, seed {first.seed} ({len(other)} differ, such as "
            f"{other[0]}); compare runs on the same data and split"
        )


def differences(scores: np.ndarray) -> Differences:
    """Tests every pair of models: scores float64 [M, U], one user per column. The draws are the same in every call.

    p = 2 (1 + smaller tail) / (1 + draws) before the correction. The tails are the draws with a difference of at most
    0, and of at least 0, so models that agree for every user get p = 1.
    """
    n_models = len(scores)
    if n_models < 2:
        nothing = np.zeros((n_models, n_models))
        return Differences(nothing, nothing, nothing, nothing + 1, nothing > 0)
    tests = pair_tests(scores, np.transpose(np.triu_indices(n_models, k=1)))
    p = holm(tests.p)
    means = scores.mean(axis=1)
    return Differences(
        means[:, None] - means[None, :],
        _square(n_models, tests.low, -tests.high),
        _square(n_models, tests.high, -tests.low),
        _square(n_models, p, p, 1.0),
        _square(n_models, tests.certain, tests.certain, False),
    )


@dataclass(frozen=True)
class PairTests:
    """The fields of :class:`Differences` for n pairs of models in order, with p not corrected: [n] each."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    certain: np.ndarray


def pair_tests(scores: np.ndarray, pairs: np.ndarray) -> PairTests:
    """Tests model ``pairs[n, 0]`` against model ``pairs[n, 1]``: scores float64 [M, U], pairs int [n, 2], n > 0."""
    # enough draws that the smallest possible p stays below ALPHA after Holm's factor, the number of pairs
    drawn = _drawn_means(scores, max(_RESAMPLES, 100 * len(pairs) - 1))
    tail, low, high = np.array([_tail_and_ends(drawn[a] - drawn[b]) for a, b in pairs]).T
    p = np.minimum(1.0, 2.0 * (1.0 + tail) / (1.0 + drawn.shape[1]))
    means = scores.mean(axis=1)
    return PairTests(means[pairs[:, 0]] - means[pairs[:, 1]], low, high, p, tail == 0)


def _tail_and_ends(apart: np.ndarray) -> tuple[float, float, float]:
    """(draws in the smaller tail, low and high end of the 95 % interval) of drawn differences of two models."""
    apart = np.where(np.abs(apart) < 1e-12, 0.0, apart)  # equal means may differ by rounding
    low, high = np.quantile(apart, (0.025, 0.975))
    return min((apart <= 0).sum(), (apart >= 0).sum()), low, high


def _square(n_models: int, above: np.ndarray, below: np.ndarray, diagonal=0.0) -> np.ndarray:
    """[M, M] from the values of the pairs above the diagonal, row by row, and of the same pairs reversed."""
    square = np.full((n_models, n_models), diagonal)
    first, second = np.triu_indices(n_models, k=1)
    square[first, second], square[second, first] = above, below
    return square


def _drawn_means(scores: np.ndarray, resamples: int) -> np.ndarray:
    """float64 [M, resamples]: the models' means over the same drawn users."""
    n_models, n_users = scores.shape

    def means_of(users: np.ndarray, axis: int) -> np.ndarray:
        draws = users.reshape(-1, n_users)
        # how often each user was drawn, times the scores: far less memory traffic than the drawn users' scores
        bins = draws + n_users * np.arange(len(draws))[:, None]
        times = np.bincount(bins.ravel(), minlength=bins.size).reshape(bins.shape)
        return (scores @ times.T / n_users).reshape(n_models, *users.shape[:-1])

    drawn = stats.bootstrap(
        (np.arange(n_users),),
        means_of,
        n_resamples=resamples,
        batch=max(1, _CHUNK // n_users),
        method="percentile",
        random_state=np.random.default_rng(0),
    )
    return drawn.bootstrap_distribution


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p-values (Holm 1979): float [m], in the order of ``p_values``.

    The k-th smallest (from 0) is multiplied by m - k, is at least the one before it and at most 1.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1)))
    return adjusted


def tiers(means: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Tier of each model, from 1, instead of a strict order: int [M]. means [M]; p [M, M], corrected.

    The best model leads tier 1, and every model that is not significantly worse than this leader (p >= 0.05) is in
    it. The best of the others leads tier 2, and so on. Two models of one tier may still differ significantly: each is
    only not told apart from the leader. Of equal means the first leads.
    """
    tier = np.zeros(len(means), dtype=np.int64)
    while not tier.all():
        open_ = np.flatnonzero(tier == 0)
        leader = open_[np.argmax(means[open_])]
        alike = open_[p[leader, open_] >= ALPHA]
        tier[alike] = tier[leader] = tier.max() + 1
    return tier


def best_baseline(results: list[RunResult], baselines: tuple[str, ...], metric: Metric = NDCG_10) -> str | None:
    """The one of ``baselines`` with the best mean on validation, of equals the first by name; None if none has a run.

    Not by test scores: choosing by them would make the luckiest baseline the one to beat. Raises DataError if the
    validation of a baseline lacks the metric.
    """
    by_model: dict[str, list[float]] = {}
    for run in results:
        if run.model in baselines:
            if metric.key not in run.valid:
                raise DataError(
                    f"{run.model}, seed {run.seed}: no {metric.key} on validation; add it to metrics and topk"
                )
            by_model.setdefault(run.model, []).append(run.valid[metric.key])
    return min(by_model, key=lambda model: (-np.mean(by_model[model]), model), default=None)
