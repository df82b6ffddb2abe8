"""``eval_args: {split: {TS: ...}}``: a split by two points in time that are the same for all users."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

_FORMS = "shares of the events, [0.8, 0.1, 0.1], or when validation and test begin, [2018-01-01, 2018-07-01]"


@dataclass(frozen=True)
class TimePoints:
    """When the validation period and the test period begin.

    values: two shares of the events, in time, that are before; or two times in the unit of the file. are_shares: which
    of them. are_dates: times that are seconds since 1970, whatever the unit of the file.
    """

    values: tuple[float, float]
    are_shares: bool = False
    are_dates: bool = False

    @classmethod
    def of(cls, eval_args: Mapping) -> "TimePoints | None":
        """None where histories are split leave-one-out. Raises ValueError, saying what is allowed there."""
        values = eval_args["split"].get("TS") if isinstance(eval_args.get("split"), Mapping) else None
        if values is None:
            return None
        values = list(values) if isinstance(values, (list, tuple)) else [values]
        if len(values) == 3 and all(map(_is_number, values)) and min(values) > 0:
            return cls((values[0] / sum(values), 1 - values[2] / sum(values)), are_shares=True)
        are_dates = not all(map(_is_number, values))
        try:
            points = tuple(map(_seconds, values)) if are_dates else tuple(map(float, values))
        except (ValueError, TypeError):
            points = ()
        if len(points) != 2 or not points[0] < points[1]:
            raise ValueError(f"use {_FORMS}")
        return cls(points, are_dates=are_dates)


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _seconds(date) -> float:
    """Of ISO 8601, in UTC where no zone is named."""
    moment = datetime.fromisoformat(str(date).replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
