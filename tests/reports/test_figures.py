"""What stands in a figure is what was measured: read back from its axes, and from the SVG that a page carries."""

import math
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.made_up import PROTOCOL, made_up_comparison, made_up_run

import recbole_metarec  # noqa: F401

# isort: split
from recbole_metarec.compare.leaderboard import compare
from recbole_metarec.evaluation.intervals import Interval
from recbole_metarec.figures import label, new_figure, svg
from recbole_metarec.reports import figures

TEXT = "{http://www.w3.org/2000/svg}text"


@pytest.fixture(scope="module")
def comparison():
    return made_up_comparison(users=200)


def drawn_intervals(axis) -> list[tuple[tuple[float, float], float, float]]:
    """((x, y) of the mark, low, high) of each interval; ends are NaN where there is none."""
    found = []
    for container in axis.containers:
        mark, _, bars = container.lines
        ends = bars[0].get_segments()[0] if bars else np.full((2, 2), np.nan)
        along = 0 if container.has_xerr else 1
        found.append(((float(mark.get_xdata()[0]), float(mark.get_ydata()[0])), *map(float, ends[:, along])))
    return found


@pytest.mark.parametrize("narrow", [False, True])
def test_levels_differences_and_tiers_are_the_entries(comparison, narrow):
    levels, apart = figures.levels(comparison, narrow).axes
    entries = comparison.entries
    expected = [((e.interval.mean, row), e.interval.low, e.interval.high) for row, e in enumerate(entries)]
    np.testing.assert_allclose([(*place, low, high) for place, low, high in drawn_intervals(levels)],
                               [(*place, low, high) for place, low, high in expected])  # fmt: skip
    compared = [(row, entry.difference) for row, entry in enumerate(entries) if entry.difference]
    assert len(drawn_intervals(apart)) == len(compared) == len(entries) - 1
    for ((mean, y), low, high), (row, difference) in zip(drawn_intervals(apart), compared):
        interval = difference.interval
        assert y == row and np.allclose([mean, low, high], [interval.mean, interval.low, interval.high])
    filled = [container.lines[0].get_fillstyle() == "full" for container in apart.containers]
    assert filled == [difference.real for _, difference in compared] and True in filled and False in filled
    dots = {round(line.get_ydata()[0]): sorted(line.get_xdata()) for line in apart.lines if line.get_marker() == "."}
    assert dots == {row: sorted(entry.seed_differences) for row, entry in enumerate(entries)}
    assert [text.get_text() for text in levels.get_yticklabels()] == [entry.model for entry in entries]
    low, high = levels.get_ylim()
    assert low > high, "the best is on top"
    tiers = [text for text in apart.texts if text.get_text().startswith("tier")]
    assert [text.get_text() for text in tiers] == [f"tier {tier}" for tier in sorted({e.tier for e in entries})]
    for text in tiers:
        assert text.get_position()[1] == np.mean(
            [n for n, e in enumerate(entries) if text.get_text() == f"tier {e.tier}"]
        )


def test_accuracy_stands_over_time_and_numbers_name_the_models(comparison):
    (axis,) = (figure := figures.accuracy_against_time(comparison, False)).axes
    assert axis.get_xscale() == "log"
    entries = comparison.entries
    assert [place for place, *_ in drawn_intervals(axis)] == [(e.seconds, e.interval.mean) for e in entries]
    assert [(text.get_text(), *text.xy) for text in axis.texts] == [
        (str(e.place), e.seconds, e.interval.mean) for e in entries
    ]
    assert [text.get_text() for text in figure.legends[0].texts] == [f"{e.place} {e.model}" for e in entries]
    low, high = axis.get_xlim()
    assert low <= min(e.seconds for e in entries) and max(e.seconds for e in entries) <= high
    assert [text.get_text() for text in axis.get_xticklabels()] == ["1 s", "10 s", "1 min", "10 min", "1 h"]


def test_every_segment_has_a_panel_of_its_own_levels(comparison):
    axes = figures.segments(comparison, True).axes
    assert len(axes) == len(comparison.segments)
    for axis, scores in zip(axes, comparison.segments):
        assert scores.segment.name in axis.get_title()
        assert [place for place, *_ in drawn_intervals(axis)] == [(i.mean, n) for n, i in enumerate(scores.intervals)]


def test_curves_hold_what_was_measured_and_mark_the_best_epoch():
    history = [{"epoch": -1, "train_loss": 1.0}, {"epoch": 0, "valid_score": 0.1}, {"epoch": 1, "train_loss": 1.0},
               {"epoch": 2, "valid_score": 0.3}, {"epoch": 3, "valid_score": float("nan")},
               {"epoch": 4, "valid_score": 0.2}]  # fmt: skip
    runs = [replace(made_up_run("SASRec", 1, 30), history=history), made_up_run("LRURec", 1, 30),
            replace(made_up_run("GRU4Rec", 1, 30), history=history[:2])]  # fmt: skip
    comparison = compare(runs, PROTOCOL, ())
    curves = {entry.model: points for entry, points in figures.measured_curves(comparison)}
    assert curves["SASRec"] == [[(0, 0.1), (2, 0.3), (4, 0.2)]] and set(curves) == {"SASRec", "LRURec"}
    panels = {axis.get_title(): axis for axis in figures.learning_curves(comparison, False).axes}
    behind, line, best = panels["SASRec"].lines
    assert list(zip(*line.get_data())) == curves["SASRec"][0] and list(zip(*best.get_data())) == [(2, 0.3)]
    assert list(zip(*behind.get_data())) == curves["LRURec"][0]


def test_an_interval_that_is_not_known_is_a_mark_alone():
    axis = new_figure(3, 3).add_subplot()
    figures._interval(axis, 0, Interval(0.5, -math.inf, math.inf))
    (((mean, _), low, high),) = drawn_intervals(axis)
    assert mean == 0.5 and math.isnan(low) and math.isnan(high) and axis.get_xlim()[0] > 0


@pytest.mark.parametrize("seconds", [[0.01, 0.02], [7, 700], [10.0], [60, 60], [1e7]])
def test_times_lie_between_ticks_that_people_think_in(seconds):
    ticks = figures._duration_ticks(seconds)
    assert ticks == sorted(set(ticks)) and len(ticks) >= 2
    assert all(ticks[0] <= time < ticks[-1] for time in seconds if 0.1 <= time < 3.6e6)


@pytest.mark.parametrize(
    "draw", [figures.levels, figures.accuracy_against_time, figures.segments, figures.learning_curves]
)
def test_every_figure_names_its_dataset_and_axes(comparison, draw):
    figure = draw(comparison, False)
    assert PROTOCOL.dataset in figure.get_suptitle() and "SIMULATED" in figure.get_suptitle()
    assert "NDCG@10" in figure.get_suptitle() + "".join(a.get_xlabel() + a.get_ylabel() for a in figure.axes) or (
        "validation score" in figure.get_suptitle()
    )
    assert all(axis.get_xlabel() or axis.get_title() for axis in figure.axes)


def test_svg_keeps_names_as_text_whatever_they_are_and_is_the_same_again():
    name = "<script>$x^{_1$&\\"

    def drawing() -> str:
        figure: Figure = new_figure(3, 2)
        axis = figure.add_subplot()
        axis.plot([0, 1], [0.123456, 1.0])
        axis.set_title(label(name))
        return svg(figure)

    root = ElementTree.fromstring(drawing())
    assert name in [text.text for text in root.iter(TEXT)]
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert drawing() == drawing() and "0.2" in [text.text for text in root.iter(TEXT)]


def test_small_comparisons_have_figures_too():
    alone = compare([made_up_run("Pop", 1, 30)], PROTOCOL, ("Pop",))
    assert len(figures.levels(alone, True).axes) == 1 and figures.measured_curves(alone) == []
    svg(figures.accuracy_against_time(alone, True))
