"""The unit of a time, as far as its size shows: seconds, milli-, micro- or nanoseconds since 1970."""

import numpy as np

UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds")
# 1973 to 2096; of smaller and larger numbers, which may count anything, nobody can tell
_FIRST, _LAST = 10**8, 4 * 10**9


def mixed_units(times: np.ndarray) -> tuple[tuple[int, str], tuple[int, str]] | None:
    """(row, unit) of two times that are dates in different units, the earliest such rows; None where there are none.

    times: [n] of any numeric dtype.
    """
    if not len(times) or times.max() < _FIRST * 1000:  # none can be in anything but seconds
        return None
    found = []
    for power, unit in enumerate(UNITS):
        rows = (times >= _FIRST * 1000**power) & (times <= _LAST * 1000**power)
        if rows.any():
            found.append((int(rows.argmax()), unit))
    return tuple(sorted(found)[:2]) if len(found) > 1 else None


def told_units(field: str, one: tuple[object, str], other: tuple[object, str]) -> tuple[str, str]:
    """What is wrong with two times, each with its unit, and what to do."""
    what = f"{field} {other[0]} would be a time in {other[1]}, but {one[0]} in a line before in {one[1]}"
    return what, "write all times in one unit"


def unit_of(times: np.ndarray) -> int | None:
    """Which of UNITS times are in, by the largest one, and so how often a second is to be multiplied by 1000; None
    where it cannot be known. times: [n], mixed units aside."""
    largest = float(times.max()) if len(times) else 0.0
    fitting = (n for n in range(len(UNITS)) if _FIRST * 1000**n <= largest <= _LAST * 1000**n)
    return next(fitting, None)
