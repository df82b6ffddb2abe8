"""One table for every report: in a terminal, as Markdown, as CSV and on a page.

A report lists its columns once, beside what it reports on; this module writes tables and each kind of value.
"""

import csv
import io
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from tabulate import tabulate

NOTHING = "–"
_WIDTH = 120  # letters of text in a terminal


def score(value: float) -> str:
    """Four decimals, as the field prints them."""
    return f"{value:.4f}"


def signed(value: float) -> str:
    """A difference: with its sign, and a real minus."""
    text = f"{value:+.4f}"
    return "0.0000" if text in ("+0.0000", "-0.0000") else text.replace("-", "−")


def deviation(value: float | None) -> str:
    """A standard deviation over seeds; one seed has none, which is said."""
    return f"± {'n/a' if value is None else score(value)}"


def interval(low: float, high: float) -> str:
    """The interval of a level; a single user has none."""
    return f"{score(low)}–{score(high)}" if math.isfinite(low) and math.isfinite(high) else "n/a"


def signed_interval(low: float, high: float) -> str:
    """The interval of a difference; a single seed has none."""
    return f"[{signed(low)}, {signed(high)}]" if math.isfinite(low) and math.isfinite(high) else "[n/a]"


def percent(share: float) -> str:
    """A relative difference: with its sign, and a real minus."""
    return f"{100 * share:+.1f} %".replace("-", "−")


def probability(p: float) -> str:
    """Two or three digits."""
    if p >= 0.1:
        return f"{p:.2f}"
    if p < 0.0001:
        return "< 0.0001"
    return f"{p:.4f}" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """In the unit that a reader would choose."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class Format:
    """How one kind of value is written.

    text: for people. detail: what follows it; on a page it is below, in smaller letters. values: endings of the
    names of its CSV columns -> what they hold of it, unrounded; without them one column holds the value itself. sort:
    what a page sorts by, None: the first of these values.
    """

    text: Callable[[Any], str] = str
    detail: Callable[[Any], str] = lambda value: ""
    values: Mapping[str, Callable[[Any], Any]] | None = None
    sort: Callable[[Any], Any] | None = None

    def parts(self, value) -> dict[str, Any]:
        """Ending -> plain value; None of what is not known."""
        takes = self.values or {"": lambda whole: whole}
        return {ending: None if value is None else take(value) for ending, take in takes.items()}

    def order(self, value) -> float | str | None:
        """What a page sorts a value by; None, which stays last, of what is not known."""
        if value is None:
            return None
        key = self.sort(value) if self.sort else next(iter(self.parts(value).values()))
        return None if isinstance(key, float) and not math.isfinite(key) else key


PLAIN = Format()
COUNT = Format("{:,}".format)
WHOLE = Format("{:,.0f}".format)
SCORE = Format(score)
PERCENT = Format(percent)
PROBABILITY = Format(probability)
SECONDS = Format(duration)
# of a Spread over seeds
MEAN_STD = Format(
    text=lambda spread: score(spread.mean),
    detail=lambda spread: deviation(spread.std),
    values={"_mean": attrgetter("mean"), "_std": attrgetter("std")},
)
# of an Interval: its ends alone, a level, a difference
_ENDS = {"_low": attrgetter("low"), "_high": attrgetter("high")}
_MEAN_AND_ENDS = {"": attrgetter("mean"), **_ENDS}
INTERVAL = Format(lambda whole: interval(whole.low, whole.high), values=_ENDS)
LEVEL = Format(lambda whole: score(whole.mean), lambda whole: f"({INTERVAL.text(whole)})", _MEAN_AND_ENDS)
DIFFERENCE = Format(
    lambda whole: signed(whole.mean), lambda whole: signed_interval(whole.low, whole.high), _MEAN_AND_ENDS
)


@dataclass(frozen=True)
class Column:
    """What a table shows of each of its rows.

    title, minor: the heading, and a smaller line below it; None: the column is in the CSV alone. value: of a row, None
    where there is none. name: how the names of its CSV columns begin, "" for none. hint: one sentence for who asks what
    it is. left: text, not figures. terminal: ``all`` of it, its ``text`` without the detail, or ``none``: width is
    scarce there. best: the highest value stands out on a page.
    """

    title: str | None
    value: Callable[[Any], Any]
    format: Format = PLAIN
    name: str = ""
    minor: str = ""
    hint: str = ""
    left: bool = False
    terminal: str = "all"
    best: bool = False

    @property
    def heading(self) -> str:
        """In one line."""
        return f"{self.title} {self.minor}".strip()

    def brief(self) -> "Column":
        """The same without the smaller parts."""
        return replace(self, minor="", format=replace(self.format, detail=PLAIN.detail))


@dataclass(frozen=True)
class Cell:
    """One value as it is shown. sort: what it is sorted by; None stays last."""

    text: str
    detail: str = ""
    sort: float | str | None = None
    best: bool = False

    @property
    def line(self) -> str:
        """In one line."""
        return f"{self.text} {self.detail}".strip()


@dataclass(frozen=True)
class Table:
    """Columns, and the rows that they are asked of. caption: what all rows have in common. notes: how to read it."""

    columns: tuple[Column, ...]
    rows: tuple
    title: str = ""
    caption: str = ""
    notes: tuple[str, ...] = ()

    def shown(self) -> "Table":
        """Without the columns that are for the CSV alone, or in which no row has a value."""
        kept = [column for column in self.columns if column.title is not None]
        return replace(self, columns=tuple(c for c in kept if any(c.value(row) is not None for row in self.rows)))

    def cells(self) -> list[list[Cell]]:
        """By row, one for each column."""
        columns = [_cells(column, [column.value(row) for row in self.rows]) for column in self.columns]
        return [list(row) for row in zip(*columns)]

    def grid(self) -> str:
        """The table alone, for a terminal."""
        columns = [column for column in self.shown().columns if column.terminal != "none"]
        table = replace(self, columns=tuple(c.brief() if c.terminal == "brief" else c for c in columns))
        return _laid_out(table, [[cell.line for cell in row] for row in table.cells()], "simple")

    def terminal(self) -> str:
        """The caption, the table and its notes."""
        parts = [wrapped(self.caption)] if self.caption else []
        parts += [self.grid()] if self.rows else []
        return "\n\n".join([*parts, "\n".join(map(wrapped, self.notes))]).rstrip()

    def markdown(self) -> str:
        """The same as a section of GitHub's Markdown."""
        table = self.shown()
        parts = [f"## {escaped(self.title)}"] if self.title else []
        parts += [f"_{escaped(self.caption)}_"] if self.caption else []
        if self.rows:
            parts.append(_laid_out(table, [[escaped(cell.line) for cell in row] for row in table.cells()], "pipe"))
        parts += ["\n".join(f"- {escaped(note)}" for note in self.notes)] if self.notes else []
        return "\n\n".join(parts)

    def records(self) -> list[dict[str, Any]]:
        """By row, all columns that have a name, unrounded: for :func:`csv_text`."""
        return [
            {
                column.name + ending: value
                for column in self.columns
                if column.name
                for ending, value in column.format.parts(column.value(row)).items()
            }
            for row in self.rows
        ]


def _cells(column: Column, values: list) -> list[Cell]:
    sorts = [column.format.order(value) for value in values]
    highest = max((sort for sort in sorts if sort is not None), default=None) if column.best else None
    cells = []
    for value, sort in zip(values, sorts):
        if value is None:
            cells.append(Cell(NOTHING))
        else:
            best = sort == highest and bool(highest)  # where all are 0, none is
            cells.append(Cell(column.format.text(value), column.format.detail(value), sort, best))
    return cells


def _laid_out(table: Table, lines: list[list[str]], kind: str) -> str:
    heads = [escaped(c.heading) if kind == "pipe" else c.heading for c in table.columns]
    sides = ["left" if column.left else "right" for column in table.columns]
    return tabulate(lines, heads, tablefmt=kind, disable_numparse=True, colalign=sides)


def wrapped(text: str) -> str:
    """Text for a terminal, in lines that can be read."""
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False)


def escaped(text: str) -> str:
    """Text that stays what it is in Markdown: no column of its own, no HTML, no link, no emphasis."""
    for sign in "\\`*_|<>":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.replace("](", "]\\(").split())


def code_block(lines: Iterable[str]) -> str:
    """Commands in Markdown: four spaces make a block that no command can end."""
    return "\n".join(f"    {' '.join(line.split())}" for line in lines)


def csv_text(records: list[dict[str, Any]]) -> str:
    """One line for each record under the names of all of them; what a record does not have, or is None, is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in records for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
