"""A domain from the events in ``NAME.inter``: read by polars, checked, filtered, numbered and put in order.

This is the only reader of events. RecBole's datasets are filled from it (``plugin/dataset.py``); a domain that needs no
dataset becomes a store of histories here, with the numbers and in the order that RecBole gives, of files that RecBole
cannot hold. ``tests/data/test_reader.py`` compares the two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from logging import getLogger
from operator import attrgetter
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

from recbole_metarec.config.intervals import Intervals
from recbole_metarec.config.schema import keys_in
from recbole_metarec.data.faults import fail
from recbole_metarec.data.filters import ValueFilter, value_filters, within_counts
from recbole_metarec.data.ids import check_ids, factorize, twins
from recbole_metarec.data.numbers import Times, compare_times, join_times, numbers_of, read_numbers, read_times
from recbole_metarec.data.order import EventSummary, both_orders, in_time, summarise
from recbole_metarec.data.sequences import SequenceStore
from recbole_metarec.data.text_file import TextColumns, read_blocks, read_columns
from recbole_metarec.data.time_split import clock
from recbole_metarec.data.time_units import mixed_units, told_units
from recbole_metarec.data.writer import ORIGINAL_TIME
from recbole_metarec.errors import DataError

_FIELDS = {"USER_ID_FIELD": "token", "ITEM_ID_FIELD": "token", "TIME_FIELD": "float"}


class NeedsRecBole(Exception):
    """Only RecBole's Dataset does what these keys ask for."""


@dataclass(frozen=True)
class ReadSpec:
    """How ``NAME.inter`` is read, by RecBole's keys.

    fields: user, item, time. values: column -> intervals as text, or a list of allowed words. users, items: how many
    events one may have, counted again until nothing changes. exact_time: order by the full times, not by float32.
    also: a further column of times, which is looked at but orders nothing. timed: whether the times are to be kept
    that a split by time goes by.
    """

    fields: tuple[str, str, str] = ("user_id", "item_id", "timestamp")
    separator: str = "\t"
    encoding: str = "utf-8"
    values: Mapping | None = None
    users: Intervals | None = None
    items: Intervals | None = None
    exact_time: bool = False
    also: str = ""
    timed: bool = False

    @classmethod
    def unfiltered(cls, config) -> "ReadSpec":
        """How a RecBole Config says that the file is written, without its filters."""
        fields = tuple(config[key] for key in _FIELDS)
        return cls(
            fields, config["field_separator"], config["encoding"] or "utf-8", exact_time=bool(config["exact_time"])
        )

    @classmethod
    def of(cls, config) -> "ReadSpec":
        """What a RecBole Config asks for. Raises NeedsRecBole if that is more than this module does."""
        if any(config[key] for key in keys_in("recbole_reader")) or "inter" not in (config["load_col"] or ()):
            raise NeedsRecBole
        values = config["val_interval"] or {}
        if not set(values) <= set(config["load_col"]["inter"]):
            raise NeedsRecBole
        users, items = count_rules(config)
        return replace(cls.unfiltered(config), values=values, users=users, items=items)


def count_rules(config) -> tuple[Intervals | None, Intervals | None]:
    """How many events a user and an item may have by a RecBole Config; None for any number.

    Raises NeedsRecBole for an interval that RecBole alone reads.
    """
    counts = [config[f"{side}_inter_num_interval"] for side in ("user", "item")]
    rules = tuple(None if text is None else Intervals.parse(text) for text in counts)
    if any(rule is None and text is not None for rule, text in zip(rules, counts)):
        raise NeedsRecBole
    return rules


@dataclass(frozen=True)
class Events:
    """All events of a file, in its order. users, items: int32 [n], numbers from 0 in the order of first appearance.

    user_names, item_names: by number. times: exact. also: times of a further column, None unless all events have one.
    kept: bool [n], which events pass the filters by value; None for all. others: what was made of the others, by block.
    """

    users: np.ndarray
    items: np.ndarray
    user_names: pl.Series
    item_names: pl.Series
    times: Times
    also: Times | None
    kept: np.ndarray | None
    others: Sequence

    def summary(self) -> EventSummary:
        """What the file holds."""
        orders = both_orders(self.users, self.times)
        return summarise(self.users, self.items, self.times, orders, len(self.item_names))

    def counts(self, spec: ReadSpec) -> tuple[int, int, int]:
        """(events, users, items) that pass the filters of ``spec``, by which this was read."""
        rows = _passing(self.users, self.items, self.kept, spec)
        if rows is None:
            return len(self.users), len(self.user_names), len(self.item_names)
        return len(rows), len(pd.unique(self.users[rows])), len(pd.unique(self.items[rows]))


@dataclass(frozen=True)
class TimeColumn:
    """What a file holds by one of its columns of times, before any filter. span: the first and the last of them."""

    summary: EventSummary
    span: tuple[float, float]


@dataclass(frozen=True)
class Domain:
    """A domain as it was read. users, items: their names in the order of their ids, which count from 1.

    also: by the column of that name of :class:`ReadSpec`; None unless all events have a time there. event_times: when
    each event of the store was, [N], where that was asked for.
    """

    store: SequenceStore
    users: pl.Series
    items: pl.Series
    times: TimeColumn
    also: TimeColumn | None
    event_times: np.ndarray | None = None

    @property
    def summary(self) -> EventSummary:
        """What the file holds by the times that order the events."""
        return self.times.summary


@dataclass(frozen=True)
class _Part:
    """The events of a block: numbers of users and items with the names they stand for, times, and which to keep."""

    users: tuple[np.ndarray, pl.Series]
    items: tuple[np.ndarray, pl.Series]
    times: Times | None
    also: Times | None
    kept: np.ndarray | None
    others: object = None


def read_domain(path: Path, spec: ReadSpec, block_bytes: int | None = None) -> Domain:
    """Reads ``NAME.inter``; holds about 50 bytes per event meanwhile, and 4 (and 16 per user) afterwards.

    Raises DataError ("PATH:LINE: what is wrong; what to do") for a malformed file, and if no event passes the filters.
    """
    events = read_events(path, replace(spec, also=ORIGINAL_TIME) if spec.timed else spec, block_bytes=block_bytes)
    when = clock(path, events.users, events.times, events.also) if spec.timed else None
    users, items, times, kept = events.users, events.items, events.times, events.kept
    user_names, item_names = events.user_names, events.item_names
    also = (
        _time_column(users, items, events.also, both_orders(users, events.also), len(item_names))
        if events.also
        else None
    )
    del events
    orders = both_orders(users, times)
    by_time = _time_column(users, items, times, orders, len(item_names))
    order = orders[0 if spec.exact_time else 1]
    del orders
    rows = _passing(users, items, kept, spec)
    if rows is not None:
        if not len(rows):
            raise DataError(
                f"{path}: no event passes the filters; loosen user_inter_num_interval, item_inter_num_interval "
                "or val_interval"
            )
        users, numbers = pd.factorize(users[rows])
        user_names = user_names.gather(numbers)
        items, numbers = pd.factorize(items[rows])
        item_names = item_names.gather(numbers)
        order = in_time(users, (times.units if spec.exact_time else times.stored)[rows])
        when = None if when is None else when[rows]
    # ids count from 1: 0 is the padding
    store = SequenceStore.from_events(users[order] + 1, items[order] + 1, len(item_names) + 1)
    return Domain(store, user_names, item_names, by_time, also, None if when is None else when[order])


def read_events(
    path: Path,
    spec: ReadSpec,
    others: Sequence[str] = (),
    made: Callable[[TextColumns], object] = attrgetter("frame"),
    block_bytes: int | None = None,
) -> Events:
    """All events of a file; the filters by value are looked at, not applied.

    made: makes something of the columns ``others`` of a block, whose text is not kept.
    Raises DataError ("PATH:LINE: what is wrong; what to do") for a malformed file.
    """
    header, blocks = read_blocks(Path(path), spec.separator, spec.encoding, block_bytes)
    for field, (key, kind) in zip(spec.fields, _FIELDS.items(), strict=True):
        header.require(field, kind, key)
    filters = value_filters(header, spec.values or {})
    also = [spec.also] if spec.also in header.types else []
    names = list(dict.fromkeys([*spec.fields, *filters, *also, *others]))
    parts = []
    for lines in blocks:
        if len(columns := lines.columns(names)):
            chosen = TextColumns(columns.lines, columns.frame.select(others))
            parts.append(replace(_read_part(columns, spec, filters), others=made(chosen) if others else None))
    if not parts:
        fail(path, 1, "no rows after the header", "write one event on each line")
    times = join_times([part.times for part in parts]) or _compare_column(path, spec, spec.fields[2])
    more = join_times([part.also for part in parts]) or (_compare_column(path, spec, spec.also) if also else None)
    kept = np.concatenate([part.kept for part in parts]) if filters else None
    _check_units(path, spec, times)
    users, user_names = _joined([part.users for part in parts])
    items, item_names = _joined([part.items for part in parts])
    for field, names in zip(spec.fields, (user_names, item_names)):
        if pair := twins(names):
            told = f"{field}s {pair[0]!a} and {pair[1]!a} look the same and count as two"
            getLogger().warning(f"{path}: {told}; recbole-metarec prepare NAME --raw FILE makes them one")
    return Events(users, items, user_names, item_names, times, more, kept, [part.others for part in parts])


def _read_part(columns: TextColumns, spec: ReadSpec, filters: Mapping[str, ValueFilter]) -> _Part:
    ids = []
    for field in spec.fields[:2]:
        codes, names = factorize(columns[field])
        check_ids(columns, field, names, of_event=True)
        ids.append((codes, names))
    times = read_times(columns[spec.fields[2]])
    if times is None:
        numbers_of(columns, spec.fields[2], may_be_missing=False)  # says what is wrong, if anything is
    kept = np.ones(len(columns), bool) if filters else None
    for passes in filters.values():
        kept &= passes(columns)
    also = read_times(columns[spec.also]) if spec.also in columns.header.types else None
    return _Part(*ids, times, also, kept)


def _check_units(path: Path, spec: ReadSpec, times: Times) -> None:
    """Raises DataError, with the line, where some times are in seconds and some in milliseconds, or the like."""
    field = spec.fields[2]
    if found := mixed_units(times.values):
        columns = read_columns(path, spec.separator, spec.encoding, [field])
        told = ((columns[field][row], unit) for row, unit in found)
        columns.fail(found[1][0], *told_units(field, *told))


def _compare_column(path: Path, spec: ReadSpec, field: str) -> Times | None:
    """The times in a column in which one has an exponent or too many digits for an int64; None if one is missing."""
    _, blocks = read_blocks(Path(path), spec.separator, spec.encoding)
    texts = pl.concat([lines.columns([field])[field] for lines in blocks])
    return None if np.isnan(read_numbers(texts)[0]).any() else compare_times(texts)


def _joined(parts: Sequence[tuple[np.ndarray, pl.Series]]) -> tuple[np.ndarray, pl.Series]:
    """Parts that are numbered each by itself, numbered as one."""
    codes, names = factorize(pl.concat([names for _, names in parts]))
    starts = np.cumsum([0, *(len(names) for _, names in parts)])
    return np.concatenate([codes[start:][numbers] for (numbers, _), start in zip(parts, starts)]), names


def _passing(users: np.ndarray, items: np.ndarray, kept: np.ndarray | None, spec: ReadSpec) -> np.ndarray | None:
    """int [m], the events that pass all filters; None if all do."""
    if kept is None or kept.all():
        return within_counts(users, items, spec.users, spec.items)
    rows = np.flatnonzero(kept)
    left = within_counts(users[rows], items[rows], spec.users, spec.items)
    return rows if left is None else rows[left]


def _time_column(users: np.ndarray, items: np.ndarray, times: Times, orders: tuple, n_items: int) -> TimeColumn:
    return TimeColumn(summarise(users, items, times, orders, n_items), times.span)
