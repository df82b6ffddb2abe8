"""Where the marks of the page's charts stand: shares of the width in percent, heights in pixels, no markup.

Widths are percentages so that a chart fits any screen while its text keeps its size.
"""

import math
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from recbole_metarec.compare.leaderboard import Comparison, Entry
from recbole_metarec.evaluation.intervals import Interval
from recbole_metarec.evaluation.significance import METRIC
from recbole_metarec.reports import display

SCATTER_HEIGHT = 340
CURVE_HEIGHT = 116
# Of the narrowest screen on which labels must not collide; on wider ones they only shrink towards their marks.
_SCATTER_WIDTH = 228
_LETTER_WIDTH = 9
_LONGEST = 14  # letters of a label
_DURATIONS = ((0.1, "0.1 s"), (1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (3600, "1 h"),
              (36000, "10 h"), (360000, "100 h"), (3600000, "1000 h"))  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """A scale from ``low`` to ``high``, logarithmic if asked for. ticks: (percent, text)."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...] = ()
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Place of a value in percent of the length, cut at the ends."""
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return round(100 * (value - low) / (high - low), 3) if high > low else 50.0


def linear_axis(values: list[float], write=display.score, bins: int = 5) -> Axis:
    """An axis with round ends and ticks around finite ``values``."""
    found = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    ends = (min(found), max(found)) if max(found) > min(found) else (found[0] - 0.001, found[0] + 0.001)
    places = [float(place) for place in MaxNLocator(nbins=bins, min_n_ticks=3).tick_values(*ends)]
    axis = Axis(places[0], places[-1])
    return Axis(axis.low, axis.high, tuple((axis.at(place), write(place)) for place in places))


def time_axis(seconds: list[float]) -> Axis:
    """A logarithmic axis around the times, from one of the durations that people think in to another."""
    places = [place for place, _ in _DURATIONS]
    first = max((k for k, place in enumerate(places) if place <= min(seconds)), default=0)
    last = min((k for k, place in enumerate(places) if place >= max(seconds)), default=len(places) - 1)
    last = max(last, first + 1) if first + 1 < len(places) else last
    axis = Axis(places[first], places[last], logarithmic=True)
    return Axis(axis.low, axis.high, tuple((axis.at(p), text) for p, text in _DURATIONS[first : last + 1]), True)


@dataclass(frozen=True)
class Bar:
    """An interval on an axis: percent of the width."""

    low: float
    mean: float
    high: float


def bar(found: Interval, axis: Axis) -> Bar:
    """The interval on the axis, ends cut where they reach beyond it; one that is not known has no length."""
    low, high = (end if math.isfinite(end) else found.mean for end in (found.low, found.high))
    return Bar(axis.at(low), axis.at(found.mean), axis.at(high))


@dataclass(frozen=True)
class ForestRow:
    """One model against the best baseline. seeds: percent, one per seed."""

    entry: Entry
    bar: Bar | None
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class Forest:
    """Differences to the best baseline, whose own row has no bar. zero: percent."""

    axis: Axis
    zero: float
    rows: tuple[ForestRow, ...]


def forest(comparison: Comparison) -> Forest | None:
    """None without a baseline, or with nothing to hold against it."""
    differences = [entry.difference for entry in comparison.entries if entry.difference]
    if not differences:
        return None
    values = [0.0]
    for entry in comparison.entries:
        values += entry.seed_differences
        values += [entry.difference.interval.low, entry.difference.interval.high] if entry.difference else []
    axis = linear_axis(values, lambda value: f"{value:+.3g}".replace("-", "−") if value else "0", bins=4)
    rows = tuple(
        ForestRow(
            entry,
            bar(entry.difference.interval, axis) if entry.difference else None,
            tuple(axis.at(value) for value in entry.seed_differences),
        )
        for entry in comparison.entries
    )
    return Forest(axis, axis.at(0.0), rows)


@dataclass(frozen=True)
class Box:
    """What a label or a mark covers: percent from left to right on the narrowest screen, pixels from top to bottom."""

    left: float
    right: float
    top: float
    bottom: float

    @classmethod
    def of_mark(cls, x: float, y: float) -> "Box":
        """A mark at (x percent, y pixels)."""
        return cls(x - 2.5, x + 2.5, y - 7, y + 7)

    def meets(self, other: "Box") -> bool:
        """Whether they cover something both."""
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)


@dataclass(frozen=True)
class Point:
    """A model at (x percent, y pixels), its interval in pixels, and its label: pixels above or below, left or right."""

    entry: Entry
    x: float
    y: float
    y_low: float
    y_high: float
    label: str
    label_shift: float
    left: bool


@dataclass(frozen=True)
class Scatter:
    """Accuracy against time. y_ticks: (pixels, text)."""

    time: Axis
    y_ticks: tuple[tuple[float, str], ...]
    points: tuple[Point, ...]


def scatter(comparison: Comparison) -> Scatter:
    """Every model, its label beside it where it lies on no other model and no other label."""
    entries = comparison.entries
    time = time_axis([entry.seconds for entry in entries])
    levels = [level for entry in entries for level in (entry.interval.low, entry.interval.mean, entry.interval.high)]
    accuracy = linear_axis(levels, lambda value: f"{value:.3g}")

    def height(level: float) -> float:
        return round(SCATTER_HEIGHT * (1 - accuracy.at(level) / 100), 1)

    places = [(time.at(entry.seconds), height(entry.test[METRIC].mean)) for entry in entries]
    points, taken = [], []
    for entry, (x, y) in zip(entries, places):
        label = entry.model if len(entry.model) <= _LONGEST else entry.model[: _LONGEST - 1] + "…"
        others = [Box.of_mark(*place) for place in places if place != (x, y)]
        shift, left, box = _label_place(x, y, len(label), [*taken, *others])
        taken.append(box)
        low, high = height(entry.interval.low), height(entry.interval.high)
        points.append(Point(entry, x, y, low, high, label, shift, left))
    ticks = tuple((round(SCATTER_HEIGHT * (1 - place / 100), 1), text) for place, text in accuracy.ticks)
    return Scatter(time, ticks, tuple(points))


def _label_place(x: float, y: float, letters: int, taken: list[Box]) -> tuple[float, bool, Box]:
    """(shift, left, box) of the label nearest to its mark that lies in the chart and on nothing ``taken``."""
    width = 100 * (_LETTER_WIDTH * letters + 12) / _SCATTER_WIDTH
    shifts = sorted((sign * step for step in range(0, SCATTER_HEIGHT // 2, 3) for sign in (1, -1)), key=abs)
    sides = (False, True) if x <= 60 else (True, False)
    for shift in shifts:
        for left in sides:
            box = Box(x - width if left else x + 1, x - 1 if left else x + width, y + shift - 8, y + shift + 8)
            inside = box.left >= 0 and box.right <= 104 and box.top >= 0 and box.bottom <= SCATTER_HEIGHT
            if inside and not any(box.meets(other) for other in taken):
                return shift, left, box
    return 0, sides[0], Box(x, x, y, y)


@dataclass(frozen=True)
class Panel:
    """The curves of one model, one per seed: polylines in a box of 100 by 100. best: (percent, percent) per curve."""

    entry: Entry
    curves: tuple[str, ...]
    best: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Curves:
    """Validation score over epochs, on the same axes for every model; models without epochs have no panel."""

    epochs: Axis
    scores: Axis
    panels: tuple[Panel, ...]


def curves(comparison: Comparison) -> Curves | None:
    """None if no run has two validation scores."""
    found = [(entry, [_measured(run.history) for run in entry.runs]) for entry in comparison.entries]
    found = [(entry, [points for points in runs if len(points) > 1]) for entry, runs in found]
    found = [(entry, runs) for entry, runs in found if runs]
    if not found:
        return None
    every = [point for _, runs in found for points in runs for point in points]
    scores = linear_axis([score for _, score in every], lambda value: f"{value:.3g}", bins=3)
    first, last = min(epoch for epoch, _ in every), max(epoch for epoch, _ in every)
    epochs = Axis(first, last, ((0.0, f"{first:.0f}"), (100.0, f"{last:.0f}")))
    panels = []
    for entry, runs in found:
        places = [[(epochs.at(epoch), round(100 - scores.at(score), 3)) for epoch, score in run] for run in runs]
        lines = tuple(" ".join(f"{x:g},{y:g}" for x, y in run) for run in places)
        panels.append(Panel(entry, lines, tuple(min(run, key=lambda place: place[1]) for run in places)))
    return Curves(epochs, scores, tuple(panels))


def _measured(history: list[dict]) -> list[tuple[float, float]]:
    """(epoch, validation score) where one was taken; passes before the first epoch have none."""
    rows = [(row.get("epoch"), row.get("valid_score")) for row in history]
    return [(epoch, score) for epoch, score in rows if epoch is not None and score is not None and math.isfinite(score)]
