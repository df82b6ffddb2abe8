"""The figures of a leaderboard's page and of a study; those of a single run are in runs/figures.py.

Every figure of the page is drawn twice: ``narrow`` is for a phone, with its panels below one another.
"""

import math
import textwrap
from contextlib import AbstractContextManager

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from recbole_metarec.compare.findings import ArmFindings, Contrast, Findings
from recbole_metarec.compare.leaderboard import Comparison, Entry, Protocol
from recbole_metarec.evaluation.intervals import Interval
from recbole_metarec.evaluation.significance import ALPHA
from recbole_metarec.figures import BLUE, GREY, colour, label, name_axes, new_figure, png

INK, SOFT, LINE = "#1b1d20", "#5a5f67", "#c9ccd0"  # of the page in light; page.css turns them round in the dark
_WIDE, _NARROW = 12.4, 3.7  # inches: the page's width on a desk and on a phone at the same size of letters
_LOGARITHMIC = 20.0  # largest over smallest value from which on an axis is logarithmic
_DURATIONS = {0.1: "0.1 s", 1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36000: "10 h",
              360000: "100 h", 3600000: "1000 h"}  # fmt: skip


def page_style() -> AbstractContextManager:
    """Colours and lines of the page, for what is drawn and written within."""
    colours = {"text.color": INK, "axes.labelcolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT}
    lines = {"axes.edgecolor": LINE, "grid.color": SOFT, "axes.spines.top": False, "axes.spines.right": False}
    return matplotlib.rc_context({**colours, **lines, "ytick.labelcolor": INK})


def levels(comparison: Comparison, narrow: bool) -> Figure:
    """Each model's test score with its tier, and its difference to the best baseline with every seed."""
    entries, best = comparison.entries, comparison.best_baseline
    compared = any(entry.difference for entry in entries)
    height = 1.1 + 0.32 * len(entries)
    figure, axes = _panels(narrow, 1 + compared, 1 if narrow else 2, height)
    for axis in axes:
        _name_rows(axis, entries, narrow)
    for row, entry in enumerate(entries):
        _interval(axes[0], row, entry.interval, **_mark(entry))
    name_axes(axes[0], x=f"test {comparison.protocol.measure.label}, 95 % interval over users")
    if compared:
        axes[1].axvline(0.0, color=SOFT, linewidth=1.2)
        for row, entry in enumerate(entries):
            if entry.difference:
                _interval(axes[1], row, entry.difference.interval, filled=entry.difference.real, **_mark(entry))
            seeds = entry.seed_differences
            axes[1].plot(seeds, [row + 0.28] * len(seeds), ".", color=_mark(entry)["color"], markersize=4)
        name_axes(axes[1], x=f"difference to {label(_short(best, narrow))}, 95 % interval")
        if not narrow:
            axes[1].tick_params(labelleft=False)
    _draw_tiers(axes, entries)
    return _titled(figure, comparison.protocol, f"test {comparison.protocol.measure.label}")


def accuracy_against_time(comparison: Comparison, narrow: bool) -> Figure:
    """Test score with its interval over the mean time of a run; the numbers in the marks are the models' places."""
    figure = new_figure(_NARROW, 5.4) if narrow else new_figure(_WIDE, 4.4)
    axis = figure.add_subplot()
    axis.set_xscale("log")
    for entry in comparison.entries:
        mark = _mark(entry)
        _interval(axis, entry.seconds, entry.interval, along_x=False, markersize=12, **mark)
        place = {"ha": "center", "va": "center", "fontsize": 8, "fontweight": "bold", "zorder": 5}
        axis.annotate(str(entry.place), (entry.seconds, entry.interval.mean), color="white", **place)
    ticks = _duration_ticks([entry.seconds for entry in comparison.entries])
    axis.set_xlim(ticks[0], ticks[-1])
    axis.set_xticks(ticks, [_DURATIONS[tick] for tick in ticks])
    axis.minorticks_off()
    name_axes(axis, x="mean time of a run", y=f"test {comparison.protocol.measure.label}, 95 % interval over users")
    marks = [_legend_mark(entry, f"{entry.place} {_short(entry.model, narrow)}") for entry in comparison.entries]
    place = "outside lower center" if narrow else "outside right center"
    figure.legend(handles=marks, loc=place, ncols=2 if narrow else 1, frameon=False)
    return _titled(figure, comparison.protocol, "accuracy against training time")


def segments(comparison: Comparison, narrow: bool) -> Figure:
    """A panel per part of the users: every model's test score with its interval."""
    columns = 1 if narrow else min(4, len(comparison.segments))
    figure, axes = _panels(narrow, len(comparison.segments), columns, 0.9 + 0.24 * len(comparison.entries))
    for number, (axis, scores) in enumerate(zip(axes, comparison.segments)):
        _name_rows(axis, comparison.entries, narrow)
        axis.tick_params(labelleft=number % columns == 0)
        for row, (entry, interval) in enumerate(zip(comparison.entries, scores.intervals)):
            _interval(axis, row, interval, **_mark(entry))
        axis.locator_params(axis="x", nbins=4)
        name_axes(axis, f"{scores.segment.name} ({scores.segment.users:,} users)")
    return _titled(figure, comparison.protocol, f"test {comparison.protocol.measure.label}, 95 % interval over users")


def measured_curves(comparison: Comparison) -> list[tuple[Entry, list[list[tuple[float, float]]]]]:
    """The models that have them with a curve of (epoch, validation score) per seed; a curve has two points or more.

    What was not measured, and pre-training's epochs, which have no score, are left out.
    """
    curves = [(entry, [_measured(run.history) for run in entry.runs]) for entry in comparison.entries]
    curves = [(entry, [points for points in runs if len(points) > 1]) for entry, runs in curves]
    return [(entry, runs) for entry, runs in curves if runs]


def _measured(history: list[dict]) -> list[tuple[float, float]]:
    points = [(row.get("epoch"), row.get("valid_score")) for row in history]
    return [
        (epoch, score) for epoch, score in points if epoch is not None and score is not None and math.isfinite(score)
    ]


def learning_curves(comparison: Comparison, narrow: bool) -> Figure:
    """A panel per model, a line per seed with its best epoch marked; the other models' first seeds behind them."""
    curves = measured_curves(comparison)
    columns = 2 if narrow else min(4, len(curves))
    figure, axes = _panels(narrow, len(curves), columns, 1.9, sharey=True)
    for axis, (entry, runs) in zip(axes, curves):
        for other, (points, *_) in curves:
            if other is not entry:
                axis.plot(*zip(*points), color=GREY, linewidth=0.7, alpha=0.35)
        for points in runs:
            axis.plot(*zip(*points), color=_mark(entry)["color"], linewidth=1.3)
            axis.plot(*max(points, key=lambda point: point[1]), "o", color=_mark(entry)["color"], markersize=4)
        axis.locator_params(nbins=4)
        name_axes(axis, label(_short(entry.model, narrow)), x="epoch")
    return _titled(figure, comparison.protocol, "validation score")


def study_figure(findings: Findings, protocol: Protocol) -> bytes:
    """A PNG: the differences of an ablation's variants, or the curves of a sweep's models."""
    figure = _variants(findings) if findings.study.kind == "ablate" else _sweep(findings)
    seeds = max(len(arm.rows) for arm in findings.arms)
    return png(_titled(figure, protocol, f"test {protocol.measure.label}, {seeds} seed{'s' * (seeds != 1)}"))


def _variants(findings: Findings) -> Figure:
    """A panel per reference: each variant's difference with its interval, filled where it is significant."""
    arms, columns = findings.arms, findings.study.columns
    figure = new_figure(4.2 + 3.2 * len(columns), 1.4 + 0.32 * len(arms))
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for column, (axis, name) in enumerate(zip(axes, columns)):
        axis.axvline(0.0, color=GREY, linewidth=0.9)
        for row, arm in enumerate(arms):
            _contrast(axis, row, arm.contrasts[column], "C0")
        name_axes(axis, x=f"difference to {label(name)}, 95 % interval")
        axis.tick_params(axis="x", labelrotation=30, labelsize=8)
    axes[0].set_yticks(range(len(arms)), [label(arm.arm.name) for arm in arms])
    axes[0].set_ylim(len(arms) - 0.5, -0.5)
    return figure


def _sweep(findings: Findings) -> Figure:
    """Left every model's level, each seed a dot; right its difference to the reference, filled where significant."""
    places, logarithmic = _places(findings)
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    right.axhline(0.0, color=GREY, linewidth=0.9)
    models = list(dict.fromkeys(arm.arm.model for arm in findings.arms))
    width = max(places.values(), default=1.0) - min(places.values(), default=0.0) or 1.0
    for number, model in enumerate(models):
        arms = [arm for arm in findings.arms if arm.arm.model == model and arm.test is not None]
        shade = GREY if number == 0 else colour(number - 1, len(models) - 1)
        _levels_of_sweep(left, arms, model, places, shade)
        for arm in arms:
            if arm.arm.value in places:  # beside one another, not on each other
                place = places[arm.arm.value] + (0.0 if logarithmic else 0.012 * width * (number - 1))
                _contrast(right, place, arm.contrasts[0], shade, along_x=False)
    texts = [label(value) for value in places]
    for axis, title in ((left, "mean and each seed"), (right, f"difference to {label(models[0])}, 95 % interval")):
        name_axes(axis, title, x=label(findings.study.key), y=f"test {findings.study.metric.label}")
        if logarithmic:
            axis.set_xscale("log")
        axis.set_xticks(list(places.values()), texts)
        axis.minorticks_off()
        axis.tick_params(axis="x", labelrotation=30 if max(map(len, texts), default=0) > 6 else 0)
    lines, names = left.get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=min(5, len(names)), frameon=False, fontsize=8)
    return figure


def _levels_of_sweep(axis: Axes, arms: list[ArmFindings], model: str, places: dict[str, float], shade) -> None:
    for arm in (arm for arm in arms if arm.arm.value not in places):  # the same at every value
        axis.axhline(arm.test.mean, color=shade, linewidth=1.4, label=label(model))
        for row in arm.rows:
            axis.axhline(row.test, color=shade, linewidth=0.5, alpha=0.6)
    arms = sorted((arm for arm in arms if arm.arm.value in places), key=lambda arm: places[arm.arm.value])
    if arms:
        x = [places[arm.arm.value] for arm in arms]
        axis.plot(x, [arm.test.mean for arm in arms], color=shade, linewidth=1.4, label=label(model))
        seeds = [(place, row.test) for place, arm in zip(x, arms) for row in arm.rows]
        axis.plot(*zip(*seeds), "o", color=shade, markersize=3.5, alpha=0.7)


def _places(findings: Findings) -> tuple[dict[str, float], bool]:
    """(position of each value on the axis, whether that is logarithmic); values that are no numbers are in order."""
    numbers = {arm.arm.value: arm.arm.x for arm in findings.arms if arm.arm.value}
    if None in numbers.values():
        return {value: float(number) for number, value in enumerate(numbers)}, False
    low, high = min(numbers.values(), default=1.0), max(numbers.values(), default=1.0)
    return {value: float(x) for value, x in numbers.items()}, low > 0 and high / low >= _LOGARITHMIC


def _panels(narrow: bool, count: int, columns: int, height: float, **shared) -> tuple[Figure, list[Axes]]:
    """A figure of the page with ``count`` panels of this height in rows of ``columns``."""
    rows = -(-count // columns)
    figure = new_figure(_NARROW if narrow else _WIDE, 0.3 + height * rows)
    axes = list(figure.subplots(rows, columns, squeeze=False, **shared).flat)
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def _name_rows(axis: Axes, entries: tuple[Entry, ...], narrow: bool) -> None:
    axis.set_yticks(range(len(entries)), [label(_short(entry.model, narrow)) for entry in entries])
    axis.set_ylim(len(entries) - 0.5, -0.5)


def _draw_tiers(axes: list[Axes], entries: tuple[Entry, ...]) -> None:
    """A line between tiers, and their numbers at the right end."""
    for tier in dict.fromkeys(entry.tier for entry in entries):
        rows = [row for row, entry in enumerate(entries) if entry.tier == tier]
        for axis in axes:
            axis.axhline(rows[-1] + 0.5, color=SOFT, linewidth=0.8, linestyle=":")
        place = {"transform": axes[-1].get_yaxis_transform(), "va": "center", "fontsize": 8}
        axes[-1].text(1.01, sum(rows) / len(rows), f"tier {tier}", **place)


def _mark(entry: Entry) -> dict[str, str]:
    """A square is a baseline, a circle what is compared with them."""
    return {"color": GREY, "marker": "s"} if entry.baseline else {"color": BLUE, "marker": "o"}


def _legend_mark(entry: Entry, text: str) -> Line2D:
    return Line2D([], [], linestyle="none", markersize=8, label=label(text), **_mark(entry))


def _contrast(axis: Axes, position: float, contrast: Contrast | None, shade, along_x: bool = True) -> None:
    if contrast is not None:
        difference = contrast.difference
        _interval(axis, position, difference.interval, filled=difference.p < ALPHA, along_x=along_x, color=shade)


def _interval(
    axis: Axes, position: float, interval: Interval, filled: bool = True, along_x: bool = True, **style
) -> None:
    """A mean with the reach of its interval, where that is known, in a row or above a position."""
    known = math.isfinite(interval.low) and math.isfinite(interval.high)
    reach = [[interval.mean - interval.low], [interval.high - interval.mean]] if known else None
    style = {"marker": "o", "markersize": 6, "linewidth": 1.5, "fillstyle": "full" if filled else "none", **style}
    if along_x:
        axis.errorbar(interval.mean, position, xerr=reach, **style)
    else:
        axis.errorbar(position, interval.mean, yerr=reach, **style)


def _duration_ticks(seconds: list[float]) -> list[float]:
    """The durations that people think in, from the last before all of these to the first after them."""
    ticks = list(_DURATIONS)
    first = max((n for n, tick in enumerate(ticks[:-1]) if tick <= min(seconds)), default=0)
    last = min((n for n, tick in enumerate(ticks) if tick > max(seconds)), default=len(ticks) - 1)
    return ticks[first : max(last, first + 1) + 1]


def _short(name: str, narrow: bool) -> str:
    """A name that leaves room for the figure."""
    longest = 14 if narrow else 24
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def _titled(figure: Figure, protocol: Protocol, what: str) -> Figure:
    """With the dataset, which says whether it is simulated, what is measured on it, and in which protocol."""
    letters = int(13 * figure.get_figwidth())
    figure.suptitle(textwrap.fill(f"{label(protocol.facts[0][1])}: {what}, {protocol.label}", letters), fontsize=10)
    return figure
