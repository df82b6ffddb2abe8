"""A domain read column by column with polars: the store that RecBole's reader would give, of files it cannot hold.

Rows are checked, counted, filtered, numbered and ordered as :func:`check_inter_file` and RecBole's Dataset do;
``tests/test_reader.py`` compares the three. What a config may ask for beyond that is left to RecBole's reader.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

from recbole_metarec.config.intervals import Intervals
from recbole_metarec.config.schema import keys_in
from recbole_metarec.data.atomic import (
    READ_AS_MISSING,
    InterSummary,
    check_columns,
    check_rows,
    count_events,
    fail_without_rows,
)
from recbole_metarec.data.blocks import Block, read_blocks
from recbole_metarec.data.sequences import SequenceStore
from recbole_metarec.data.table import Table
from recbole_metarec.data.times import Times, join_times, read_numbers, read_times
from recbole_metarec.errors import DataError

_MISSING = ["", *(word.decode() for word in READ_AS_MISSING)]
_EXACT_DIGITS, _SMALL_EXPONENT = 15, "^[^eE]*([eE][+-]?0*[0-7])? *$"  # 10**22 is the largest exact power


class NeedsRecBole(Exception):
    """Only RecBole's own reader can tell what this file or config means."""


@dataclass(frozen=True)
class TimeColumn:
    """What a file holds by one of its columns of times, before any filter. span: the first and the last of them."""

    summary: InterSummary
    span: tuple[float, float]


@dataclass(frozen=True)
class Domain:
    """A domain as it was read. users, items: their names in the order of their ids, which count from 1.

    also: by the column of that name of :class:`ReadSpec`; None unless all events have a time there.
    """

    store: SequenceStore
    users: pl.Series
    items: pl.Series
    times: TimeColumn
    also: TimeColumn | None

    @property
    def summary(self) -> InterSummary:
        """What the file holds by the times that order the events."""
        return self.times.summary


@dataclass(frozen=True)
class ReadSpec:
    """What is read of a file, by RecBole's keys.

    fields: user, item, time. values: column -> intervals as text, or a list of allowed words. users, items: how many
    events one may have, counted again until nothing changes. exact_time: order by the full times, not by float32.
    also: a further column of times, which is looked at but orders nothing.
    """

    fields: tuple[str, str, str] = ("user_id", "item_id", "timestamp")
    separator: str = "\t"
    values: Mapping = None
    users: Intervals | None = None
    items: Intervals | None = None
    exact_time: bool = False
    also: str = ""

    @classmethod
    def of(cls, config) -> "ReadSpec":
        """What a RecBole Config asks for. Raises NeedsRecBole if that is more than this module does."""
        if any(config[key] for key in keys_in("recbole_reader")) or set(config["load_col"] or ()) != {"inter"}:
            raise NeedsRecBole
        if (config["encoding"] or "utf-8").lower() not in ("utf-8", "utf8"):
            raise NeedsRecBole
        fields = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"], config["TIME_FIELD"]
        values, loaded = config["val_interval"] or {}, config["load_col"]["inter"]
        # RecBole would filter the ranked copy, whose times are ranks
        if not set(values) <= set(loaded) or (config["exact_time"] and fields[2] in values):
            raise NeedsRecBole
        counts = [config[f"{side}_inter_num_interval"] for side in ("user", "item")]
        rules = [None if text is None else Intervals.parse(text) for text in counts]
        if any(rule is None and text is not None for rule, text in zip(rules, counts)):
            raise NeedsRecBole
        return cls(fields, config["field_separator"], values, *rules, bool(config["exact_time"]))


@dataclass(frozen=True)
class _Part:
    """The events of a block: numbers of users and items with the names they stand for, times, and which to keep."""

    users: tuple[np.ndarray, pl.Series]
    items: tuple[np.ndarray, pl.Series]
    times: Times
    also: Times | None
    kept: np.ndarray | None


def read_domain(path: Path, wanted: ReadSpec, block_bytes: int | None = None) -> Domain:
    """Reads ``NAME.inter``; holds about 50 bytes per event meanwhile, and 4 (and 16 per user) afterwards.

    Raises DataError ("PATH:LINE: what is wrong; what to do") for what :func:`check_inter_file` refuses and if no event
    passes the filters, NeedsRecBole for what only RecBole's reader can read.
    """
    header, blocks = read_blocks(Path(path), wanted.separator, block_bytes)
    check_columns(header, *wanted.fields)
    filters = _value_filters(header, wanted.values or {})
    also = wanted.also if wanted.also in header.names else ""
    parts = [part for block in blocks if (part := _read(block, wanted.fields, filters, also))]
    if not parts:
        fail_without_rows(path)
    times = join_times([part.times for part in parts])
    if times is None:
        raise NeedsRecBole
    more = join_times([part.also for part in parts]) if all(part.also for part in parts) else None
    kept = np.concatenate([part.kept for part in parts]) if filters else None
    users, user_names = _joined([part.users for part in parts])
    items, item_names = _joined([part.items for part in parts])
    del parts
    also = _time_column(users, items, more, _orders(users, more), len(item_names)) if more else None
    del more
    return _build(path, wanted, (users, items, times), (user_names, item_names), kept, also)


def _build(
    path,
    wanted: ReadSpec,
    events: tuple[np.ndarray, np.ndarray, Times],
    names: tuple[pl.Series, pl.Series],
    kept: np.ndarray | None,
    also: TimeColumn | None,
) -> Domain:
    users, items, times = events
    user_names, item_names = names
    orders = _orders(users, times)
    found = _time_column(users, items, times, orders, len(item_names))
    order = orders[0 if wanted.exact_time else 1]
    del orders
    if wanted.users or wanted.items:
        kept = _within_counts(users, items, kept, wanted)
    if kept is not None and not kept.all():
        if not kept.any():
            raise DataError(
                f"{path}: no event passes the filters; loosen user_inter_num_interval, item_inter_num_interval "
                "or val_interval"
            )
        users, numbers = pd.factorize(users[kept])
        user_names = user_names.gather(numbers)
        items, numbers = pd.factorize(items[kept])
        item_names = item_names.gather(numbers)
        order = _order(users, (times.units if wanted.exact_time else times.stored)[kept])
    # ids count from 1: 0 is the padding
    store = SequenceStore.from_events(users[order] + 1, items[order] + 1, len(item_names) + 1)
    return Domain(store, user_names, item_names, found, also)


def _time_column(users: np.ndarray, items: np.ndarray, times: Times, orders: tuple, n_items: int) -> TimeColumn:
    return TimeColumn(count_events(users, items, times.units, orders, n_items), times.span)


def _read(block: Block, fields: tuple[str, str, str], filters: Mapping, also: str) -> _Part | None:
    frame = block.columns(list(dict.fromkeys([*fields, *filters, *filter(None, [also])])))
    if frame.is_empty():
        return None
    users, items = (factorize(frame[field]) for field in fields[:2])
    times = read_times(frame[fields[2]])
    if times is None or any(names.is_in(_MISSING).any() for _, names in (users, items)):
        check_rows(block.table(), *fields)  # says what is wrong, and where
        raise NeedsRecBole
    kept = np.ones(len(frame), bool) if filters else None
    for field, passes in filters.items():
        kept &= passes(frame[field])
    return _Part(users, items, times, read_times(frame[also]) if also else None, kept)


def factorize(texts: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """Numbers int32 [n] of texts, from 0 in the order of their first appearance, and the text of each number."""
    codes, hashes = pd.factorize(texts.hash().to_numpy())
    first = np.empty(len(hashes), np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # the last write stays
    names = texts.gather(first)
    if not (names.gather(codes) == texts).all():  # two texts of one hash
        codes, found = pd.factorize(texts.to_numpy())
        names = pl.Series(found, dtype=pl.String)
    return codes.astype(np.int32), names


def _joined(parts: Sequence[tuple[np.ndarray, pl.Series]]) -> tuple[np.ndarray, pl.Series]:
    """Parts that are numbered each by itself, numbered as one."""
    codes, names = factorize(pl.concat([names for _, names in parts]))
    starts = np.cumsum([0, *(len(names) for _, names in parts)])
    return np.concatenate([codes[start:][own] for (own, _), start in zip(parts, starts)]), names


def _value_filters(header: Table, values: Mapping) -> dict:
    """Column -> which of its texts pass, for each column that is filtered by its values."""
    filters = {}
    for field, allowed in values.items():
        kind = header.types[header.names.index(field)] if field in header.names else None
        intervals = Intervals.parse(allowed) if kind == "float" else None
        words = kind == "token" and isinstance(allowed, list) and all(isinstance(word, str) for word in allowed)
        if intervals:
            filters[field] = lambda texts, intervals=intervals: _numbers_within(texts, intervals)
        elif words:
            named = [word for word in allowed if word not in _MISSING]
            filters[field] = lambda texts, named=named: texts.is_in(named).to_numpy()
        else:
            raise NeedsRecBole
    return filters


def _numbers_within(texts: pl.Series, intervals: Intervals) -> np.ndarray:
    """Which numbers lie in the intervals; a missing one does not."""
    missing = texts.is_in(_MISSING)
    texts = texts.set(missing, "0")
    numbers = read_numbers(texts)
    # pandas, which reads for RecBole, is out by a last digit in longer ones, which may lie on the edge of an interval
    if numbers is None or not (_few_digits(texts) & texts.str.contains(_SMALL_EXPONENT)).all():
        raise NeedsRecBole
    return intervals.hold(numbers) & ~missing.to_numpy()


def _few_digits(texts: pl.Series) -> pl.Series:
    """Which numbers have few enough digits to be exact in float64, as is every power of ten that goes with them."""
    return texts.str.replace_all(r"[eE].*$|[^0-9]", "").str.len_bytes() <= _EXACT_DIGITS


def _within_counts(users: np.ndarray, items: np.ndarray, kept: np.ndarray | None, wanted: ReadSpec) -> np.ndarray:
    """bool [n], the events whose user and item have as many of them as is wanted."""
    kept = np.ones(len(users), bool) if kept is None else kept
    while True:
        passes = kept
        for codes, rule in ((users, wanted.users), (items, wanted.items)):
            if rule:
                passes = passes & rule.hold(np.bincount(codes[kept], minlength=int(codes.max()) + 1))[codes]
        if np.array_equal(passes, kept):
            return kept
        kept = passes


def _orders(users: np.ndarray, times: Times) -> tuple[np.ndarray, np.ndarray]:
    """The events by user and time, exactly and as RecBole orders them."""
    order = _order(users, times.units)
    return order, order if times.is_kept else _order(users, times.stored)


def _order(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The events by (user, time), equal ones as they stand. Files that we write are in order already."""
    step = np.diff(users)
    if ((step > 0) | ((step == 0) & (times[1:] >= times[:-1]))).all():
        return np.arange(len(users))
    return np.lexsort((times, users))
