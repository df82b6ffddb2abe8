"""RecBole's intervals of numbers, such as ``[5,inf)`` or ``(0,1];[3,4)``."""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # --help can do without
    import numpy as np

_FORM = re.compile(r"\s*([\[(])([^,;]+),([^,;]+)([\])])\s*")


@dataclass(frozen=True)
class Bounds:
    """Numbers from ``low`` to ``high``; ``with_low`` and ``with_high`` tell whether the ends belong to them."""

    low: float
    high: float
    with_low: bool
    with_high: bool

    def holds(self, numbers: np.ndarray) -> np.ndarray:
        """bool [n], which of the numbers are in it."""
        above = numbers >= self.low if self.with_low else numbers > self.low
        return above & (numbers <= self.high if self.with_high else numbers < self.high)


@dataclass(frozen=True)
class Intervals:
    """One or more intervals, of which any must hold a number."""

    parts: tuple[Bounds, ...]

    @classmethod
    def parse(cls, text) -> Intervals | None:
        """None for what RecBole would complain about or read in its own way."""
        parts = []
        for part in str(text).split(";"):
            match = _FORM.fullmatch(part)
            try:
                low, high = (float(match[2]), float(match[3])) if match else (1.0, 0.0)
            except ValueError:
                return None
            if not low <= high:
                return None
            parts.append(Bounds(low, high, match[1] == "[", match[4] == "]"))
        return cls(tuple(parts))

    @classmethod
    def at_least(cls, low: float) -> Intervals:
        """All numbers from ``low``."""
        return cls((Bounds(low, math.inf, True, False),))

    def hold(self, numbers: np.ndarray) -> np.ndarray:
        """bool [n], which of the numbers are in any of the intervals."""
        return reduce(operator.or_, (part.holds(numbers) for part in self.parts))
