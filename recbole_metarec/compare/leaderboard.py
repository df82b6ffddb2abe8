"""Everything that a leaderboard shows, computed once; the reports only format it."""

from dataclasses import dataclass, replace

import numpy as np

from recbole_metarec.errors import DataError
from recbole_metarec.evaluation.intervals import Interval, level_interval
from recbole_metarec.evaluation.metric import NDCG_10, Metric
from recbole_metarec.evaluation.results import FailedRun, RunResult
from recbole_metarec.evaluation.segments import Segment
from recbole_metarec.evaluation.significance import (
    ALPHA,
    Differences,
    Spread,
    UserScores,
    align,
    best_baseline,
    differences,
    spread,
    tiers,
)
from recbole_metarec.jobs.competitors import COMPETITORS

KEPT, REMOVED = "kept", "removed"


@dataclass(frozen=True)
class Protocol:
    """What was the same for every model, as every table shows it in its caption.

    users, items, interactions: of the target after filtering. split, metric, early_stopping: in words. measure: by what
    models are compared. max_length: L,
    the most recent events that a model sees. width: d, of its vectors. seen_items: whether those of the user are kept
    in the ranking, as RecBole does, or removed from it. validated: which of the two validation has read.
    """

    dataset: str
    users: int
    items: int
    interactions: int
    split: str
    metric: str
    max_length: int
    width: int
    early_stopping: str
    seen_items: str = KEPT
    validated: str = KEPT
    measure: Metric = NDCG_10

    @property
    def simulated(self) -> bool:
        """Whether the dataset is simulated, by its name."""
        return self.dataset.lower().startswith(("sim-", "simulat"))

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """(name, value) in the order in which they are read."""
        return (
            ("Data", f"{self.dataset} (SIMULATED DATA)" if self.simulated else self.dataset),
            ("Statistics", f"{self.users:,} users, {self.items:,} items, {self.interactions:,} interactions"),
            ("Split", self.split),
            ("Metric", self.metric),
            ("L and d", f"{self.max_length} events of a history, {self.width} numbers per vector"),
            ("Early stopping", self.early_stopping),
        )

    @property
    def line(self) -> str:
        """All facts in one line."""
        data, statistics, split, metric = (value for _, value in self.facts[:4])
        sizes = f"L = {self.max_length}", f"d = {self.width}"
        values = data, statistics, split, self.label, metric, *sizes, f"early stopping: {self.early_stopping}"
        return " · ".join(values)

    @property
    def label(self) -> str:
        """What distinguishes the two protocols."""
        return "seen items kept (RecBole's protocol)" if self.seen_items == KEPT else "seen items removed"


@dataclass(frozen=True)
class Difference:
    """Mean difference of the metric to another model, its 95 % interval for itself, and the Holm-corrected p.

    certain: no draw of users contradicted it, so that p is an upper bound.
    """

    interval: Interval
    p: float
    certain: bool

    @property
    def real(self) -> bool:
        """Whether it is significant."""
        return self.p < ALPHA

    @property
    def verdict(self) -> str:
        """In one word for every reader."""
        return "not distinguishable" if not self.real else "better" if self.interval.mean > 0 else "worse"


@dataclass(frozen=True)
class Entry:
    """One model's line.

    place: 1 = highest mean on test. valid, test, guarded_test: per metric over seeds. interval: of the protocol's
    measure on test, over users. difference: to the best baseline, None for that one itself and where there is none.
    seed_differences: each seed's test figure minus the best baseline's mean over its seeds. seconds: mean per run.
    peak_memory_mib: of the largest run. trials: of the run with fewest.
    fewer_trials: others were tuned with more, and it has something to tune. runs: by ascending seed.
    """

    model: str
    baseline: bool
    place: int
    tier: int
    valid: dict[str, Spread]
    test: dict[str, Spread]
    guarded_test: dict[str, Spread]
    interval: Interval
    difference: Difference | None
    seed_differences: tuple[float, ...]
    seconds: float
    peak_memory_mib: float
    parameters: int
    trials: int
    fewer_trials: bool
    runs: tuple[RunResult, ...]


@dataclass(frozen=True)
class SegmentScores:
    """The metric of every model, in the order of the entries, over one segment's users."""

    segment: Segment
    intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class Comparison:
    """A leaderboard. entries: best first. failed: runs without a result."""

    protocol: Protocol
    entries: tuple[Entry, ...]
    best_baseline: str | None
    segments: tuple[SegmentScores, ...] = ()
    failed: tuple[FailedRun, ...] = ()


def compare_both(results: list[RunResult], protocol: Protocol, *others) -> tuple[Comparison, Comparison]:
    """:func:`compare` with seen items kept in the ranking, and with seen items removed from it.

    Each has its own best baseline, and its p-values are corrected over its own pairs of models.
    """
    without = [run.among_unseen() for run in results]
    return (
        compare(results, replace(protocol, seen_items=KEPT), *others),
        compare(without, replace(protocol, seen_items=REMOVED), *others),
    )


def compare(
    results: list[RunResult],
    protocol: Protocol,
    baselines: tuple[str, ...],
    failed: list[FailedRun] = (),
    segments: tuple[Segment, ...] = (),
    segment_users: np.ndarray | None = None,
) -> Comparison:
    """Computes a leaderboard from runs under one protocol.

    baselines: names; all models are compared with the best of them on validation.
    segments: with masks over ``segment_users``, str [U], the tokens of the test users in any order.
    Raises DataError if runs or segments are not of the same test users.
    """
    if not results:
        return Comparison(protocol, (), None, (), tuple(failed))
    measure = protocol.measure
    scores = align(results, measure)
    tested = differences(scores.means)
    means = scores.means.mean(axis=1)
    tier = tiers(means, tested.p)
    best = best_baseline(results, baselines, measure)
    most_trials = max(run.trials for run in results)
    order = sorted(range(len(means)), key=lambda m: (-means[m], scores.models[m]))
    entries = []
    for place, m in enumerate(order, start=1):
        runs = _runs_of(scores.models[m], results)
        fewer = _is_tunable(scores.models[m]) and min(run.trials for run in runs) < most_trials
        standing = {"place": place, "tier": int(tier[m]), "fewer_trials": fewer}
        is_baseline = scores.models[m] in baselines
        entries.append(_entry(measure, scores, tested, m, best, runs, baseline=is_baseline, **standing))
    by_segment = _segment_scores(scores, order, segments, segment_users)
    return Comparison(protocol, tuple(entries), best, by_segment, tuple(failed))


def _is_tunable(model: str) -> bool:
    return model not in COMPETITORS or COMPETITORS[model].is_tunable


def _runs_of(model: str, results: list[RunResult]) -> tuple[RunResult, ...]:
    return tuple(sorted((run for run in results if run.model == model), key=lambda run: run.seed))


def _entry(
    measure: Metric,
    scores: UserScores,
    tested: Differences,
    m: int,
    best: str | None,
    runs: tuple[RunResult, ...],
    **standing,
) -> Entry:
    """The Entry of model m; ``standing`` is what follows from the other models too."""
    model = scores.models[m]
    difference, seed_differences = None, ()
    if best is not None:
        b = scores.models.index(best)
        if m != b:
            interval = Interval(*(float(square[m, b]) for square in (tested.mean, tested.low, tested.high)))
            difference = Difference(interval, float(tested.p[m, b]), bool(tested.certain[m, b]))
        seed_differences = tuple(scores.by_seed[model].mean(axis=1) - scores.by_seed[best].mean())
    # from the ranks: RecBole's own value is rounded
    per_seed = spread(scores.by_seed[model].mean(axis=1))
    return Entry(
        model=model,
        valid=_spreads([run.valid for run in runs]),
        test={measure.key: per_seed} | _spreads([run.test for run in runs], but=measure.key),
        guarded_test=_spreads([run.guarded_test for run in runs] if all(run.guarded_test for run in runs) else []),
        interval=level_interval(scores.means[m]),
        difference=difference,
        seed_differences=seed_differences,
        seconds=float(np.mean([run.seconds for run in runs])),
        peak_memory_mib=max(run.peak_memory_mib for run in runs),
        parameters=max(run.parameters for run in runs),
        trials=min(run.trials for run in runs),
        runs=runs,
        **standing,
    )


def _spreads(metrics: list[dict[str, float]], but: str = "") -> dict[str, Spread]:
    """Per metric that every run has, over the runs."""
    if not metrics:
        return {}
    names = [name for name in metrics[0] if name != but and all(name in of_run for of_run in metrics)]
    return {name: spread([of_run[name] for of_run in metrics]) for name in names}


def _segment_scores(
    scores: UserScores, order: list[int], segments: tuple[Segment, ...], users: np.ndarray | None
) -> tuple[SegmentScores, ...]:
    if not segments:
        return ()
    row = np.argsort(users, kind="stable")
    if not np.array_equal(np.asarray(users)[row], scores.users):
        raise DataError("the segments are not of the runs' test users; take both from the same data and split")
    means = scores.means[order]
    return tuple(
        SegmentScores(segment, tuple(map(level_interval, means[:, segment.mask[row]]))) for segment in segments
    )
