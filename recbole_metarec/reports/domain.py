"""The statistics of a domain as text, with what a reader must know, and as a figure."""

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


def text_report(domain: Statistics, shared: Sequence[Shared], published: Mapping, about: Mapping) -> str:
    """All statistics, for a terminal.

    published: the domain's ``statistics`` where they are known. about: what ``NAME.json`` says of it.
    """
    title = f"{domain.name}{' (simulated)' if about.get('simulated') else ''}: {domain.file}"
    tables = [
        _sizes(domain, published),
        _bars("events of a user", "users", histogram(domain.lengths)),
        _bars("events of an item", "items", histogram(domain.counts)),
    ]
    tables += [_shared(domain, shared)] if shared else []
    parts = [title, *(table.grid() for table in tables)]
    notes = warnings(domain, about)
    parts.append("\n".join(["what to know:", *(f"- {note}" for note in notes)]) if notes else "nothing odd was found")
    return "\n\n".join(parts)


def warnings(domain: Statistics, about: Mapping | None = None) -> list[str]:
    """What is unusual about the domain, and what follows from it, one sentence each."""
    summary, notes = domain.summary, []
    if (about or {}).get("simulated"):
        notes.append("this domain is simulated: results on it say nothing about people")
    if domain.events < summary.events:
        notes.append(f"the filters leave {domain.events} of the {summary.events} events in the file")
    times = domain.original or summary
    if times.duplicates:
        notes.append(f"{times.duplicates} rows repeat an earlier (user, item, time); they count as events")
    if times.time_ties:
        notes.append(f"{times.time_ties} neighbours in a history share one time; their order is that of the file")
    if summary.lost_order:
        notes.append(summary.lost_order)
    once = int((domain.counts == 1).sum())
    if once:
        notes.append(
            f"{once} items ({_percent(once, domain.items)}) have a single event: where it is held out, no model has "
            "met the item in training"
        )
    short = int((domain.lengths < 3).sum())
    if short:
        notes.append(f"{short} users ({_percent(short, domain.users)}) have fewer than 3 events, so no test row")
    if not domain.rows["valid"]:
        notes.append("no user has 4 events or more: the domain cannot be a target")
    if domain.consecutive:
        notes.append(
            f"{domain.consecutive} events ({_percent(domain.consecutive, domain.events)}) repeat the item right before "
            "them: a model that recommends the last item again is right on them"
        )
    missing = [(column, domain.items - count) for column, count in (domain.texts or {}).items() if count < domain.items]
    notes += [f"{count} items have no text in column {column}" for column, count in missing]
    return notes


def draw_domain(domain: Statistics, simulated: bool, path: Path) -> None:
    """Lengths of histories, events of items, and items by popularity, as a PNG; whole or not at all."""
    figure = new_figure(12, 3.6)
    left, middle, right = figure.subplots(1, 3)
    _draw_bars(left, "events of a user", "users", histogram(domain.lengths))
    _draw_bars(middle, "events of an item", "items", histogram(domain.counts))
    ordered = np.sort(domain.counts)[::-1]
    places = np.unique(np.geomspace(1, len(ordered), 2000).astype(np.int64))  # more points nobody sees
    right.loglog(places, ordered[places - 1], linewidth=1.6)
    name_axes(right, "popularity", x="item, most popular first", y="events")
    sizes = f"{domain.users:,} users, {domain.items:,} items, {domain.events:,} events"
    figure.suptitle(f"{label(domain.name)}{' (simulated)' if simulated else ''}: {sizes}")
    write_atomically(path, [png(figure)], "free some space, or choose another place with --picture")


def _draw_bars(axis: Axes, title: str, what: str, bins: list[tuple[int, int, int]]) -> None:
    axis.bar([_range(low, high) for low, high, _ in bins], [count for _, _, count in bins])
    name_axes(axis, title, x="events", y=what)
    axis.tick_params(axis="x", labelrotation=60, labelsize=8)


def _sizes(domain: Statistics, published: Mapping) -> Table:
    known = {"users": "users", "items": "items", "events": "interactions", "mean history": "mean_length"}
    values = {
        "users": f"{domain.users:,}",
        "items": f"{domain.items:,}",
        "events": f"{domain.events:,}",
        "mean history": f"{domain.lengths.mean():.1f}",
        "median history": f"{np.median(domain.lengths):g}",
        "longest history": f"{domain.lengths.max():,}",
        "density": f"{100 * domain.density:.3g} %",
        "leave-one-out rows": ", ".join(f"{part} {count:,}" for part, count in domain.rows.items()),
        "repeats": f"{_percent(domain.repeats, domain.rows['test'])} of test events",
        "companion items": f"{_percent(domain.companions, domain.rows['test'])} of test events",
        "Gini of popularity": f"{gini(domain.counts):.3f}",
        "top 1 % of items": f"{100 * domain.top_share():.1f} % of events",
    }
    if domain.span:
        values["time"] = " to ".join(_moment(time) for time in domain.span)
    values["item texts"] = _text_line(domain)
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


def _shared(domain: Statistics, shared: Sequence[Shared]) -> Table:
    columns = (
        Column("shared with", lambda row: row.name, left=True),
        Column("users", lambda row: _overlap(row.users, domain.users)),
        Column("items", lambda row: _overlap(row.items, domain.items)),
    )
    return Table(columns, tuple(shared))


def _text_line(domain: Statistics) -> str:
    if domain.texts is None:
        return f"none (no {domain.name}.item)"
    shares = [f"{column}: {_percent(count, domain.items)} of items" for column, count in domain.texts.items()]
    return "; ".join(shares) or f"{domain.name}.item has no column of the type token_seq"


def _overlap(count: int | None, of: int) -> str:
    return "numeric ids: overlap says nothing" if count is None else f"{count:,} ({_percent(count, of)})"


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(1, whole):.1f} %"


def _moment(time: float) -> str:
    """A Unix time in seconds or milliseconds as a day; any other number as it is."""
    for unit in (1, 1000):
        if 10**8 <= time / unit < 10**10:
            return datetime.fromtimestamp(time / unit, timezone.utc).strftime("%Y-%m-%d")
    return f"{time:g}"
