"""The figures of a study: every arm's scores, and its difference to the reference arms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from recbole_metarec.compare.execution import StudyResults
from recbole_metarec.compare.leaderboard import Difference
from recbole_metarec.compare.rows import Ranks, Row
from recbole_metarec.compare.study import Arm, Study
from recbole_metarec.evaluation.intervals import Interval, level_interval, mean_interval
from recbole_metarec.evaluation.metric import Metric
from recbole_metarec.evaluation.significance import Spread, holm, pair_tests, spread
from recbole_metarec.runs.code_version import without_own_files

USERS, SEEDS = "users", "seeds"


@dataclass(frozen=True)
class Contrast:
    """An arm's mean on test minus that of a reference arm, over the users of the seeds that both have.

    difference: with its interval and its p, Holm-corrected over the column. relative: to the reference's mean, None
    where that is 0. over: ``users`` (paired bootstrap) or, where ranks are missing, ``seeds`` (paired t; a single seed
    has no interval and p = 1). seeds: how many both have. p_seeds: of the paired t-test over them, which asks whether
    other seeds, and other subsamples where seeds differ in theirs, would show the same; Holm-corrected, too, None for
    a single seed.
    """

    reference: str
    difference: Difference
    relative: float | None
    over: str
    seeds: int
    p_seeds: float | None


@dataclass(frozen=True)
class ArmFindings:
    """One line of the table.

    users: with a test row, None where ranks are missing. contrasts: by column, None for the reference itself and where
    a run is missing. fired: runs in which the guard would have fired, and runs for which that is known. unseen: the
    same with seen items removed from the ranking; None there itself.
    """

    arm: Arm
    valid: Spread | None
    test: Spread | None
    users: int | None
    level: Interval | None
    seconds: float | None
    fired: tuple[int, int]
    contrasts: tuple[Contrast | None, ...]
    rows: tuple[Row, ...]
    unseen: "ArmFindings | None" = None


@dataclass(frozen=True)
class Findings:
    """A whole study. codes: versions of the code that its rows are of."""

    study: Study
    arms: tuple[ArmFindings, ...]
    codes: tuple[str, ...]
    results: StudyResults

    @property
    def over_seeds(self) -> bool:
        """Whether a difference could not be taken user by user."""
        return any(contrast and contrast.over == SEEDS for arm in self.arms for contrast in arm.contrasts)


def findings(study: Study, results: StudyResults) -> Findings:
    """Computes the table. Arms without any finished run have no figures."""
    both = zip(_arms(study, results), _arms(study, results.among_unseen()))
    arms = tuple(replace(arm, unseen=unseen) for arm, unseen in both)
    return Findings(
        study, arms, tuple(sorted({without_own_files(row.code) for arm in arms for row in arm.rows})), results
    )


def _arms(study: Study, results: StudyResults) -> list[ArmFindings]:
    rows = [_rows(arm, results) for arm in study.arms]
    contrasts: list[list[Contrast | None]] = [[None] * len(study.columns) for _ in study.arms]
    for column in range(len(study.columns)):
        pairs = [(n, row[column]) for n, row in enumerate(study.against) if row[column] is not None]
        pairs = [(ours, theirs) for ours, theirs in pairs if set(rows[ours]) & set(rows[theirs])]
        for (ours, _), contrast in zip(pairs, _contrasts(study, rows, results.ranks, pairs)):
            contrasts[ours][column] = contrast
    return [
        _arm(arm, tuple(by_seed.values()), results, tuple(line), study.metric)
        for arm, by_seed, line in zip(study.arms, rows, contrasts)
    ]


def _rows(arm: Arm, results: StudyResults) -> dict[int, Row]:
    """By seed."""
    return {run.seed: results.rows[run.recipe] for run in arm.runs if run.recipe in results.rows}


def _arm(
    arm: Arm, rows: tuple[Row, ...], results: StudyResults, contrasts: tuple[Contrast | None, ...], metric: Metric
) -> ArmFindings:
    if not rows:
        return ArmFindings(arm, None, None, None, None, None, (0, 0), contrasts, ())
    ranks = [results.ranks.get(row.recipe) for row in rows]
    scores = None if None in ranks else by_user(ranks, metric)
    guards = [row.guard for row in rows if row.guard]
    return ArmFindings(
        arm=arm,
        valid=spread([row.valid for row in rows]),
        test=spread([row.test for row in rows]),
        users=None if scores is None else len(scores),
        level=None if scores is None else level_interval(scores),
        seconds=float(np.mean([row.seconds for row in rows])),
        fired=(guards.count("fired"), len(guards)),
        contrasts=contrasts,
        rows=rows,
    )


def by_user(runs: Sequence[Ranks], metric: Metric) -> np.ndarray:
    """The metric of every user, float [U]: the mean over the runs of the same users; other users follow."""
    scores: dict[str, list[np.ndarray]] = {}
    for run in runs:
        scores.setdefault(run.users, []).append(metric.of(run.ranks.astype(np.int64)))
    return np.concatenate([np.mean(of_these_users, axis=0) for of_these_users in scores.values()])


@dataclass(frozen=True)
class _Raw:
    """A difference before the correction. base: mean of the reference arm."""

    interval: Interval
    p: float
    certain: bool
    over: str
    base: float


def _contrasts(study: Study, rows: list[dict[int, Row]], ranks: dict, pairs: list[tuple[int, int]]) -> list[Contrast]:
    """One column's, in the order of ``pairs`` of numbers of arms."""
    if not pairs:
        return []
    common = [sorted(set(rows[ours]) & set(rows[theirs])) for ours, theirs in pairs]
    sides = [[[rows[arm][seed] for seed in seeds] for arm in pair] for pair, seeds in zip(pairs, common)]
    over_seeds = [_over_seeds(*side) for side in sides]
    raw = [by_users or by_seeds for by_users, by_seeds in zip(_over_users(sides, ranks, study.metric), over_seeds)]
    corrected = holm([difference.p for difference in raw])
    several = [n for n, seeds in enumerate(common) if len(seeds) > 1]
    p_seeds = dict(zip(several, holm([over_seeds[n].p for n in several])))
    return [
        Contrast(
            reference=study.arms[pairs[n][1]].name,
            difference=Difference(difference.interval, float(corrected[n]), difference.certain),
            relative=difference.interval.mean / difference.base if difference.base > 0 else None,
            over=difference.over,
            seeds=len(common[n]),
            p_seeds=float(p_seeds[n]) if n in p_seeds else None,
        )
        for n, difference in enumerate(raw)
    ]


def _over_users(sides: list, ranks: dict, metric: Metric) -> list[_Raw | None]:
    """For each pair whose runs have ranks and, seed by seed, the same users: its difference; None for the others.

    Pairs of the same users are tested together, on the same draws of them.
    """
    scores: dict[tuple, list[np.ndarray]] = {}  # of each set of users: ours and theirs of one pair after the other
    numbers: dict[tuple, list[int]] = {}  # of each set of users: its pairs
    for number, side in enumerate(sides):
        runs = [[ranks.get(row.recipe) for row in rows] for rows in side]
        users = [tuple(run.users if run else None for run in arm) for arm in runs]
        if users[0] == users[1] and None not in users[0]:
            drawn = tuple(dict.fromkeys(users[0]))
            scores.setdefault(drawn, []).extend(by_user(run, metric) for run in runs)
            numbers.setdefault(drawn, []).append(number)
    differences: list[_Raw | None] = [None] * len(sides)
    for users, arms in scores.items():
        tests = pair_tests(np.stack(arms), np.arange(len(arms)).reshape(-1, 2))
        for n, number in enumerate(numbers[users]):
            interval = Interval(float(tests.mean[n]), float(tests.low[n]), float(tests.high[n]))
            base = float(arms[2 * n + 1].mean())
            differences[number] = _Raw(interval, float(tests.p[n]), bool(tests.certain[n]), USERS, base)
    return differences


def _over_seeds(ours: list[Row], theirs: list[Row]) -> _Raw:
    differences = np.array([mine.test - other.test for mine, other in zip(ours, theirs)])
    p = 1.0
    if len(differences) > 1:
        varies = np.ptp(differences) > 0
        p = float(stats.ttest_1samp(differences, 0.0).pvalue) if varies else float(differences[0] == 0)
    return _Raw(mean_interval(differences), p, False, SEEDS, float(np.mean([row.test for row in theirs])))
