"""The picture of a study: differences of an ablation's variants, curves of a sweep's models.

Drawn without pyplot, whose backend and open figures belong to whoever runs this, for example to a notebook.
"""

import io
import math

from matplotlib import colormaps
from matplotlib.figure import Figure

from recbole_metarec.compare.findings import ArmFindings, Contrast, Findings
from recbole_metarec.compare.leaderboard import Protocol
from recbole_metarec.evaluation.significance import ALPHA

_GREY = "0.55"
_WIDE = 20.0  # largest over smallest value from which on an axis is logarithmic


def picture(findings: Findings, protocol: Protocol) -> bytes:
    """A PNG of the whole table."""
    study = findings.study
    figure = _forest(findings) if study.kind == "ablate" else _curves(findings)
    target = f"{study.dataset} (SIMULATED DATA)" if protocol.simulated else study.dataset
    seeds = max(len(arm.rows) for arm in findings.arms)
    figure.suptitle(f"{target}: test NDCG@10, {seeds} seed{'s' * (seeds != 1)}", fontsize=10)
    content = io.BytesIO()
    figure.savefig(content, dpi=110, format="png")
    return content.getvalue()


def _forest(findings: Findings) -> Figure:
    """A panel per reference: each variant's difference with its interval, filled where it is told apart from none."""
    arms, columns = findings.arms, findings.study.columns
    figure = Figure(figsize=(4.2 + 3.2 * len(columns), 1.4 + 0.32 * len(arms)), layout="constrained")
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for column, (axis, name) in enumerate(zip(panels, columns)):
        axis.axvline(0.0, color=_GREY, linewidth=0.9)
        for place, arm in enumerate(arms):
            if arm.contrasts[column] is not None:
                _difference(axis, arm.contrasts[column], place, "C0", along_x=True)
        axis.set_xlabel(f"difference to {name}, 95 % interval")
        axis.tick_params(axis="x", labelrotation=30, labelsize=8)
        axis.grid(axis="x", alpha=0.25)
    panels[0].set_yticks(range(len(arms)), [arm.arm.name for arm in arms])
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    return figure


def _difference(axis, contrast: Contrast, place: float, colour, along_x: bool) -> None:
    interval = contrast.difference.interval
    known = math.isfinite(interval.low) and math.isfinite(interval.high)
    reach = [[interval.mean - interval.low], [interval.high - interval.mean]] if known else None
    filled = "full" if contrast.difference.p < ALPHA else "none"
    style = {"fmt": "o", "color": colour, "fillstyle": filled, "markersize": 5, "linewidth": 1.3, "capsize": 2.5}
    if along_x:
        axis.errorbar(interval.mean, place, xerr=reach, **style)
    else:
        axis.errorbar(place, interval.mean, yerr=reach, **style)


def _curves(findings: Findings) -> Figure:
    """Left every model's level, each seed a dot; right its difference to the reference, filled where it is real."""
    places, ticks, wide = _places(findings)
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    right.axhline(0.0, color=_GREY, linewidth=0.9)
    models = list(dict.fromkeys(arm.arm.model for arm in findings.arms))
    shift = 0.0 if wide else 0.012 * (max(places.values(), default=1.0) - min(places.values(), default=0.0) or 1.0)
    for number, model in enumerate(models):
        own = [arm for arm in findings.arms if arm.arm.model == model and arm.test is not None]
        colour = _GREY if number == 0 else colormaps["tab10"].colors[(number - 1) % 10]
        _levels(left, own, model, places, colour)
        for arm in own:
            if arm.contrasts[0] is not None and arm.arm.value in places:
                place = places[arm.arm.value] + shift * (number - 1)
                _difference(right, arm.contrasts[0], place, colour, along_x=False)
    for axis, title in ((left, "level: mean and each seed"), (right, f"difference to {models[0]}, 95 % interval")):
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(findings.study.key)
        axis.grid(alpha=0.25)
        if wide:
            axis.set_xscale("log")
        axis.set_xticks(list(ticks), list(ticks.values()), minor=False)
        axis.minorticks_off()
        axis.tick_params(axis="x", labelrotation=30 if max(map(len, ticks.values()), default=0) > 6 else 0)
    left.legend(frameon=False, fontsize=8)
    return figure


def _levels(axis, arms: list[ArmFindings], model: str, places: dict[str, float], colour) -> None:
    single = [arm for arm in arms if arm.arm.value not in places]
    for arm in single:  # the same at every value
        axis.axhline(arm.test.mean, color=colour, linewidth=1.4, label=model)
        for row in arm.rows:
            axis.axhline(row.test, color=colour, linewidth=0.5, alpha=0.6)
    arms = sorted((arm for arm in arms if arm.arm.value in places), key=lambda arm: places[arm.arm.value])
    if arms:
        x = [places[arm.arm.value] for arm in arms]
        axis.plot(x, [arm.test.mean for arm in arms], "-", color=colour, linewidth=1.4, label=model)
        points = [(place, row.test) for place, arm in zip(x, arms) for row in arm.rows]
        axis.plot([a for a, _ in points], [b for _, b in points], "o", color=colour, markersize=3.5, alpha=0.7)


def _places(findings: Findings) -> tuple[dict[str, float], dict[float, str], bool]:
    """(place of each value on the axis, text at each place, whether the axis is logarithmic)."""
    values = dict.fromkeys(arm.arm.value for arm in findings.arms if arm.arm.value)
    numbers = {arm.arm.value: arm.arm.x for arm in findings.arms if arm.arm.value}
    if any(numbers[value] is None for value in values):
        places = {value: float(number) for number, value in enumerate(values)}
        return places, {place: value for value, place in places.items()}, False
    places = {value: float(numbers[value]) for value in values}
    ends = min(places.values(), default=1.0), max(places.values(), default=1.0)
    return places, {place: value for value, place in places.items()}, ends[0] > 0 and ends[1] / ends[0] >= _WIDE
