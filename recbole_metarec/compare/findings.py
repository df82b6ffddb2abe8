"""What a study has found: every arm's figures, and its difference to what it is held against."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from recbole_metarec.compare.execution import Found
from recbole_metarec.compare.leaderboard import Difference
from recbole_metarec.compare.rows import Ranks, Row
from recbole_metarec.compare.study import Arm, Study
from recbole_metarec.evaluation.intervals import Interval, level_interval, mean_interval
from recbole_metarec.evaluation.ranking import ndcg_at
from recbole_metarec.evaluation.significance import Spread, holm, pair_tests, spread

USERS, SEEDS = "users", "seeds"


@dataclass(frozen=True)
class Contrast:
    """An arm's mean test NDCG@10 minus that of the arm it is held against, over the users of the seeds that both have.

    difference: with its interval and its p, Holm-corrected over the column. relative: to the other arm's mean, None
    where that is 0. over: ``users`` (paired bootstrap) or, where ranks are wanting, ``seeds`` (paired t; a single seed
    has no interval and p = 1). seeds: how many both have. p_seeds: of the paired t-test over them, which asks whether
    other trainings, and other shops where each seed is another, would show the same; Holm-corrected, too, None for a
    single seed.
    """

    reference: str
    difference: Difference
    relative: float | None
    over: str
    seeds: int
    p_seeds: float | None


@dataclass(frozen=True)
class ArmFindings:
    """One line of the table. users: that have a test row, None where no ranks are there. contrasts: by column, None for
    the reference itself and where a run is wanting. fired: runs in which the guard would have, of those it speaks of.
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


@dataclass(frozen=True)
class Findings:
    """A whole study. codes: versions of the code that its rows are of."""

    study: Study
    arms: tuple[ArmFindings, ...]
    codes: tuple[str, ...]
    found: Found

    @property
    def over_seeds(self) -> bool:
        """Whether a difference could not be taken user by user."""
        return any(own and own.over == SEEDS for arm in self.arms for own in arm.contrasts)


def findings(study: Study, found: Found) -> Findings:
    """Works out the table. Arms without any finished run have no figures."""
    rows = [_rows(arm, found) for arm in study.arms]
    contrasts = [[None] * len(study.columns) for _ in study.arms]
    for column in range(len(study.columns)):
        pairs = [(n, row[column]) for n, row in enumerate(study.against) if row[column] is not None]
        pairs = [(ours, theirs) for ours, theirs in pairs if set(rows[ours]) & set(rows[theirs])]
        for (ours, _), own in zip(pairs, _contrasts(study, rows, found, pairs)):
            contrasts[ours][column] = own
    arms = tuple(
        _arm(arm, list(own.values()), found, tuple(held)) for arm, own, held in zip(study.arms, rows, contrasts)
    )
    codes = tuple(sorted({row.code for own in rows for row in own.values()}))
    return Findings(study, arms, codes, found)


def _rows(arm: Arm, found: Found) -> dict[int, Row]:
    """By seed."""
    return {run.seed: found.rows[run.recipe] for run in arm.runs if run.recipe in found.rows}


def _arm(arm: Arm, rows: list[Row], found: Found, contrasts: tuple[Contrast | None, ...]) -> ArmFindings:
    if not rows:
        return ArmFindings(arm, None, None, None, None, None, (0, 0), contrasts, ())
    ranks = [found.ranks.get(row.recipe) for row in rows]
    scores = None if None in ranks else by_user(ranks)
    spoken = [row.guard for row in rows if row.guard]
    return ArmFindings(
        arm=arm,
        valid=spread([row.valid for row in rows]),
        test=spread([row.test for row in rows]),
        users=None if scores is None else len(scores),
        level=None if scores is None else level_interval(scores),
        seconds=float(np.mean([row.seconds for row in rows])),
        fired=(spoken.count("fired"), len(spoken)),
        contrasts=contrasts,
        rows=tuple(rows),
    )


def by_user(runs: Sequence[Ranks]) -> np.ndarray:
    """NDCG@10 of every user, float [U]: the mean over the runs of the same users; other users follow."""
    scores: dict[str, list[np.ndarray]] = {}
    for run in runs:
        scores.setdefault(run.users, []).append(ndcg_at(run.ranks.astype(np.int64), 10))
    return np.concatenate([np.mean(own, axis=0) for own in scores.values()])


@dataclass(frozen=True)
class _Raw:
    """A difference before the correction. base: mean of the arm that the other is held against."""

    interval: Interval
    p: float
    certain: bool
    over: str
    base: float


def _contrasts(study: Study, rows: list[dict[int, Row]], found: Found, pairs) -> list[Contrast]:
    """One column's, in the order of ``pairs`` of numbers of arms."""
    if not pairs:
        return []
    common = [sorted(set(rows[ours]) & set(rows[theirs])) for ours, theirs in pairs]
    sides = [[[rows[arm][seed] for seed in seeds] for arm in pair] for pair, seeds in zip(pairs, common)]
    over_seeds = [_over_seeds(*side) for side in sides]
    raw = [own or other for own, other in zip(_over_users(sides, found.ranks), over_seeds)]
    corrected = holm([own.p for own in raw])
    several = [n for n, seeds in enumerate(common) if len(seeds) > 1]
    p_seeds = dict(zip(several, holm([over_seeds[n].p for n in several])))
    contrasts = []
    for n, ((_, theirs), seeds, own, p) in enumerate(zip(pairs, common, raw, corrected)):
        contrasts.append(
            Contrast(
                reference=study.arms[theirs].name,
                difference=Difference(own.interval, float(p), own.certain),
                relative=own.interval.mean / own.base if own.base > 0 else None,
                over=own.over,
                seeds=len(seeds),
                p_seeds=float(p_seeds[n]) if n in p_seeds else None,
            )
        )
    return contrasts


def _over_users(sides: list, ranks: dict) -> list[_Raw | None]:
    """Of the pairs whose runs' ranks are there and, seed by seed, of the same users; what is drawn is the same users
    for all pairs that can be."""
    scores: dict[tuple, list[np.ndarray]] = {}
    places: list[tuple[tuple, int, int] | None] = []
    for side in sides:
        own = [[ranks.get(row.recipe) for row in rows] for rows in side]
        users = [tuple(found.users if found else None for found in rows) for rows in own]
        if users[0] != users[1] or None in users[0]:
            places.append(None)
            continue
        drawn = tuple(dict.fromkeys(users[0]))
        kept = scores.setdefault(drawn, [])
        kept += map(by_user, own)
        places.append((drawn, len(kept) - 2, len(kept) - 1))
    found: list[_Raw | None] = [None] * len(sides)
    for users, own in scores.items():
        numbers = [n for n, place in enumerate(places) if place and place[0] == users]
        tested = pair_tests(np.stack(own), np.array([places[n][1:] for n in numbers]))
        for n, *values in zip(numbers, tested.mean, tested.low, tested.high, tested.p, tested.certain):
            mean, low, high, p = map(float, values[:4])
            base = float(own[places[n][2]].mean())
            found[n] = _Raw(Interval(mean, low, high), p, bool(values[4]), USERS, base)
    return found


def _over_seeds(ours: list[Row], theirs: list[Row]) -> _Raw:
    apart = np.array([own.test - other.test for own, other in zip(ours, theirs)])
    p = 1.0
    if len(apart) > 1:
        p = float(stats.ttest_1samp(apart, 0.0).pvalue) if np.ptp(apart) > 0 else float(apart[0] == 0)
    return _Raw(mean_interval(apart), p, False, SEEDS, float(np.mean([row.test for row in theirs])))
