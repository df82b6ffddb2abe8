"""A split by points in time: nothing from the future trains, of whatever user or domain it is."""

from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recbole_metarec.config.time_points import TimePoints
from recbole_metarec.data.numbers import Times
from recbole_metarec.data.order import history_ranks
from recbole_metarec.data.sequences import HistorySplit, SequenceStore
from recbole_metarec.data.time_units import unit_of
from recbole_metarec.errors import DataError


def clock(path: Path, users: np.ndarray, times: Times, original: Times | None) -> np.ndarray:
    """When each event of a file was, [n] of any numeric dtype: by its original times, where it has them.

    Raises DataError where all that it has are places in the users' histories: such times say nothing of two users.
    """
    if original is not None:
        return original.values
    offsets = times.units - history_ranks(users, times.units)
    if len(users) and (offsets == offsets[0]).all() and not times.decimals:
        raise DataError(
            f"{path}: its timestamps only number each user's events, so users cannot be compared in time; leave the "
            "split by time (TS) out, or prepare the domain from a log with real times"
        )
    return times.values


def starts(points: TimePoints, times: np.ndarray, path: Path) -> tuple[float, float]:
    """When validation and test begin, in the unit of ``times``: of the target's events, [n], in any order.

    An event of just that time is in the later period. Raises DataError for dates where times are in no known unit.
    """
    if points.are_shares:
        ordered = np.sort(times)
        return tuple(float(ordered[int(share * len(ordered))]) for share in points.values)
    if not points.are_dates:
        return points.values
    thousands = unit_of(times)
    if thousands is None:
        raise DataError(
            f"{path}: its times reach {times.max():g}, which is not a date; give TS times in the unit of the file, or "
            "shares"
        )
    return tuple(date * 1000**thousands for date in points.values)


def split_by_time(store: SequenceStore, times: np.ndarray, points: TimePoints, path: Path) -> tuple[HistorySplit, str]:
    """The split of a target, and what it is in words. times [N]: when each event of the store was."""
    first, second = starts(points, times, path)
    before = (events_before(store, times, start) for start in (first, second))
    split = HistorySplit.by_time(store.lengths, *before)
    words = (
        f"by time: training before {_told(first, times)}, then validation ({len(split.valid)} rows), from "
        f"{_told(second, times)} on the test ({len(split.test)} rows), in each period a user's first event"
    )
    return split, words


class TrainingEnd(NamedTuple):
    """When a target's training ends: in which of the units of :func:`unit_of`, None where it cannot be known."""

    time: float
    unit: int | None

    @classmethod
    def of(cls, points: TimePoints, times: np.ndarray, path: Path) -> "TrainingEnd":
        """times: of the target's events, [n], in any order."""
        return cls(starts(points, times, path)[0], unit_of(times))

    def past_of(self, store: SequenceStore, times: np.ndarray, path: Path) -> SequenceStore:
        """What of a source had happened by then. times [N]: when each event of its store was, in a file at ``path``.

        Raises DataError where its times are in another unit.
        """
        if unit_of(times) != self.unit:
            raise DataError(
                f"{path}: its times are not in the unit of the target's, so that nobody knows what came before; write "
                f"both in one unit, or leave {path.stem} out of sources"
            )
        return store.first(events_before(store, times, self.time))


def events_before(store: SequenceStore, times: np.ndarray, start: float) -> np.ndarray:
    """How many events of each user come before the first one at ``start`` or later: int64 [U]. times [N]."""
    user, place = store.places()
    late = times >= start
    before = store.lengths.copy()
    np.minimum.at(before, user[late], place[late])
    return before


def _told(start: float, times: np.ndarray) -> str:
    thousands = unit_of(times)
    if thousands is None:
        return f"{start:g}"
    return f"{datetime.fromtimestamp(start / 1000**thousands, timezone.utc):%Y-%m-%d %H:%M} UTC"
