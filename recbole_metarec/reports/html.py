"""A comparison as one page that needs nothing but itself: no script, style, font or picture from elsewhere.

What stands in the page as text is escaped by Jinja2; a content security policy lets the browser run the page's own
script and style (by their hashes) and load nothing, whatever a name in the data tries.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from recbole_metarec.compare.leaderboard import Comparison, Entry
from recbole_metarec.evaluation.significance import METRIC, Spread
from recbole_metarec.reports import charts, display

_FOLDER = Path(__file__).resolve().parent / "page"


@dataclass(frozen=True)
class Column:
    """A column head, the line below it, and what is read aloud and shown when it is pointed at."""

    title: str
    hint: str
    minor: str = ""


@dataclass(frozen=True)
class Cell:
    """text, a smaller line below, the value it is sorted by (None: always last), and its interval as a bar."""

    text: str
    minor: str = ""
    value: float | None = None
    bar: charts.Bar | None = None
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Columns after the model's name, and per entry one cell for each."""

    columns: list[Column]
    rows: list[list[Cell]]


def page(comparison: Comparison) -> str:
    """The page's whole text."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    entries = comparison.entries
    return environment.get_template("page.html").render(
        comparison=comparison,
        protocol=comparison.protocol,
        sentences=headline(comparison),
        models=_models(comparison) if entries else None,
        forest=charts.forest(comparison),
        scatter=charts.scatter(comparison) if entries else None,
        segments=_segments(comparison) if comparison.segments else None,
        curves=charts.curves(comparison),
        display=display,
        metric=METRIC,
        scatter_height=charts.SCATTER_HEIGHT,
        curve_height=charts.CURVE_HEIGHT,
        script=Markup(script),
        style=Markup(style),
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def headline(comparison: Comparison) -> list[str]:
    """The result in words: who leads, who cannot be told from the leader, and how far the best baseline is."""
    if not comparison.entries:
        return ["No run has finished yet."]
    leader, *others = comparison.entries
    found = leader.test[METRIC]
    seeds = f"± {display.score(found.std)} over {found.seeds} seeds" if found.std is not None else "one seed"
    sentences = [f"{leader.model} has the highest test NDCG@10: {display.score(found.mean)} ({seeds})."]
    alike = [entry.model for entry in others if entry.tier == leader.tier]
    if alike:
        sentences.append(f"Not distinguishable from it: {', '.join(alike)}.")
    elif others:
        sentences.append("Every other model is significantly worse.")
    best = comparison.best_baseline
    if best == leader.model:
        sentences.append("It is the best baseline on validation, too.")
    elif best is not None:
        found = leader.difference
        word = {"not distinguishable": "not distinguishable from", "better": "better than", "worse": "worse than"}
        sentences.append(
            f"{leader.model} is {word[found.verdict]} {best}, the best baseline on validation: "
            f"{display.signed(found.interval.mean)} {display.signed_interval(found.interval)}."
        )
    return sentences


def _models(comparison: Comparison) -> Table:
    entries = comparison.entries
    axis = charts.linear_axis([end for entry in entries for end in (entry.interval.low, entry.interval.high)])
    keys = display.metric_order(entries[0].test)[1:]
    guarded = any(METRIC in entry.guarded_test for entry in entries)
    columns = [
        Column("Tier", "Models that are not significantly worse than the tier's leader"),
        Column("NDCG@10", "Test, mean and standard deviation over seeds"),
        Column("95 % interval", "Of the mean test NDCG@10 over users"),
        Column("NDCG@10", "Validation, mean and standard deviation over seeds", "valid"),
    ]
    if guarded:
        columns.append(Column("NDCG@10", "Test, of the model that the transfer guard deploys", "guarded"))
    columns += [
        Column("Time", "Mean seconds of a run", "per run"),
        Column("Memory", "Peak resident memory of the largest run", "MiB"),
        Column("Size", "Parameters", "parameters"),
        Column("Trials", "Configurations tried on validation; 0 is the default one"),
        *(Column(display.metric_name(key), "Test, mean and standard deviation over seeds") for key in keys),
    ]
    return Table(columns, [_model_cells(entry, keys, guarded, axis) for entry in entries])


def _model_cells(entry: Entry, keys: list[str], guarded: bool, axis: charts.Axis) -> list[Cell]:
    cells = [Cell(str(entry.tier), value=entry.tier)]
    cells.append(_level(entry.test[METRIC]))
    cells.append(Cell(display.interval(entry.interval), value=entry.interval.low, bar=charts.bar(entry.interval, axis)))
    cells.append(_level(entry.valid.get(METRIC)))
    if guarded:
        cells.append(_level(entry.guarded_test.get(METRIC)))
    return [
        *cells,
        Cell(display.duration(entry.seconds), value=entry.seconds),
        Cell(f"{entry.peak_memory_mib:,.0f}", value=entry.peak_memory_mib),
        Cell(display.amount(entry.parameters), value=entry.parameters),
        Cell(str(entry.trials), "† fewer" if entry.fewer_trials else "", value=entry.trials),
        *(_level(entry.test.get(key)) for key in keys),
    ]


def _level(spread: Spread | None) -> Cell:
    if spread is None:
        return Cell(display.NOTHING)
    deviation = "n/a" if spread.std is None else display.score(spread.std)
    return Cell(display.score(spread.mean), f"± {deviation}", spread.mean)


def _segments(comparison: Comparison) -> Table:
    columns, by_segment = [], []
    for scores in comparison.segments:
        segment = scores.segment
        columns.append(Column(segment.name, segment.rule, f"{segment.users:,} users"))
        ends = [end for found in scores.intervals for end in (found.low, found.mean, found.high)]
        axis, highest = charts.linear_axis(ends), max(found.mean for found in scores.intervals)
        by_segment.append(
            [
                Cell(
                    display.score(found.mean),
                    display.interval(found),
                    found.mean,
                    charts.bar(found, axis),
                    found.mean == highest > 0,
                )
                for found in scores.intervals
            ]
        )
    return Table(columns, [list(row) for row in zip(*by_segment)])
