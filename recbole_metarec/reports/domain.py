"""The statistics of a domain as text, with what is odd about it, and as a figure."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from recbole_metarec.data.statistics import Shared, Statistics, gini, histogram
from recbole_metarec.figures import label, name_axes, new_figure, png
from recbole_metarec.files import write_atomically
from recbole_metarec.tables import COUNT, Column, Format, Table

_BAR = 40


def text_report(found: Statistics, shared: Sequence[Shared], published: Mapping, about: Mapping) -> str:
    """All that was found, for a terminal. published: the domain's ``statistics`` where they are known; about: what
    ``NAME.json`` says of it."""
    title = f"{found.name}{' (simulated)' if about.get('simulated') else ''}: {found.file}"
    tables = [
        _sizes(found, published),
        _bars("events of a user", "users", histogram(found.lengths)),
        _bars("events of an item", "items", histogram(found.counts)),
    ]
    tables += [_shared(found, shared)] if shared else []
    parts = [title, *(table.grid() for table in tables)]
    notes = warnings(found, about)
    parts.append("\n".join(["what to know:", *(f"- {note}" for note in notes)]) if notes else "nothing odd was found")
    return "\n\n".join(parts)


def warnings(found: Statistics, about: Mapping | None = None) -> list[str]:
    """What is odd about the domain, one sentence each with what follows from it."""
    summary, notes = found.summary, []
    if (about or {}).get("simulated"):
        notes.append("this domain is simulated: what is found on it says nothing about people")
    if found.events < summary.events:
        notes.append(f"the filters leave {found.events} of the {summary.events} events in the file")
    times = found.original or summary
    if times.duplicates:
        notes.append(f"{times.duplicates} rows repeat an earlier (user, item, time); they count as events")
    if times.time_ties:
        notes.append(
            f"{times.time_ties} neighbours in a history share one time, so that their order is a convention, the file's"
        )
    if summary.lost_order:
        notes.append(summary.lost_order)
    once = int((found.counts == 1).sum())
    if once:
        notes.append(
            f"{once} items ({_percent(once, found.items)}) have a single event: where it is held out, no model has "
            "met the item in training"
        )
    short = int((found.lengths < 3).sum())
    if short:
        notes.append(f"{short} users ({_percent(short, found.users)}) have fewer than 3 events, so no test row")
    if not found.rows["valid"]:
        notes.append("no user has 4 events or more: the domain cannot be a target")
    if found.consecutive:
        notes.append(
            f"{found.consecutive} events ({_percent(found.consecutive, found.events)}) repeat the item right before: "
            "a model that recommends the last item again is right on them"
        )
    missing = [(column, found.items - count) for column, count in (found.texts or {}).items() if count < found.items]
    notes += [f"{count} items have no text in column {column}" for column, count in missing]
    return notes


def draw_domain(found: Statistics, simulated: bool, path: Path) -> None:
    """Lengths of histories, events of items, and items by popularity, as a PNG; whole or not at all."""
    figure = new_figure(12, 3.6)
    left, middle, right = figure.subplots(1, 3)
    _draw_bars(left, "events of a user", "users", histogram(found.lengths))
    _draw_bars(middle, "events of an item", "items", histogram(found.counts))
    ordered = np.sort(found.counts)[::-1]
    places = np.unique(np.geomspace(1, len(ordered), 2000).astype(np.int64))  # more points nobody sees
    right.loglog(places, ordered[places - 1], linewidth=1.6)
    name_axes(right, "popularity", x="item, most popular first", y="events")
    sizes = f"{found.users:,} users, {found.items:,} items, {found.events:,} events"
    figure.suptitle(f"{label(found.name)}{' (simulated)' if simulated else ''}: {sizes}")
    write_atomically(path, [png(figure)], "free some space, or choose another place with --picture")


def _draw_bars(axis: Axes, title: str, what: str, bins: list[tuple[int, int, int]]) -> None:
    axis.bar([_range(low, high) for low, high, _ in bins], [count for _, _, count in bins])
    name_axes(axis, title, x="events", y=what)
    axis.tick_params(axis="x", labelrotation=60, labelsize=8)


def _sizes(found: Statistics, published: Mapping) -> Table:
    known = {"users": "users", "items": "items", "events": "interactions", "mean history": "mean_length"}
    values = {
        "users": f"{found.users:,}",
        "items": f"{found.items:,}",
        "events": f"{found.events:,}",
        "mean history": f"{found.lengths.mean():.1f}",
        "median history": f"{np.median(found.lengths):g}",
        "longest history": f"{found.lengths.max():,}",
        "density": f"{100 * found.density:.3g} %",
        "leave-one-out rows": ", ".join(f"{part} {count:,}" for part, count in found.rows.items()),
        "Gini of popularity": f"{gini(found.counts):.3f}",
        "top 1 % of items": f"{100 * found.top_share():.1f} % of events",
    }
    if found.span:
        values["time"] = " to ".join(_moment(time) for time in found.span)
    values["item texts"] = _text_line(found)
    columns = (
        Column("", lambda row: row[0], left=True),
        Column("here", lambda row: row[1], left=True),
        Column("published", lambda row: published.get(known.get(row[0])), _PUBLISHED,
               minor=f"({published['edition']})" if "edition" in published else ""),
    )  # fmt: skip
    return Table(columns, tuple(values.items()))


_PUBLISHED = Format(lambda value: f"{value:,}" if isinstance(value, int) else f"{value:.1f}")


def _bars(title: str, what: str, bins: list[tuple[int, int, int]]) -> Table:
    most = max(count for _, _, count in bins)
    columns = (
        Column(title, lambda row: _range(*row[:2])),
        Column(what, lambda row: row[2], COUNT),
        Column("", lambda row: "#" * -(-row[2] * _BAR // most), left=True),
    )
    return Table(columns, tuple(bins))


def _shared(found: Statistics, shared: Sequence[Shared]) -> Table:
    columns = (
        Column("shared with", lambda row: row.name, left=True),
        Column("users", lambda row: _overlap(row.users, found.users)),
        Column("items", lambda row: _overlap(row.items, found.items)),
    )
    return Table(columns, tuple(shared))


def _text_line(found: Statistics) -> str:
    if found.texts is None:
        return f"none (no {found.name}.item)"
    shares = [f"{column}: {_percent(count, found.items)} of items" for column, count in found.texts.items()]
    return "; ".join(shares) or f"{found.name}.item has no column of the type token_seq"


def _overlap(count: int | None, of: int) -> str:
    return "numeric ids: overlap says nothing" if count is None else f"{count:,} ({_percent(count, of)})"


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


def _moment(time: float) -> str:
    """A Unix time in seconds or milliseconds as a day; any other number as it is."""
    for unit in (1, 1000):
        if 10**8 <= time / unit < 10**10:
            return datetime.fromtimestamp(time / unit, timezone.utc).strftime("%Y-%m-%d")
    return f"{time:g}"
