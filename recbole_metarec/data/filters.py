"""Which events stay: by the values of their columns, and by how many of them a user and an item have (k-core)."""

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

from recbole_metarec.config.intervals import Intervals
from recbole_metarec.data.faults import fail
from recbole_metarec.data.ids import is_missing
from recbole_metarec.data.numbers import numbers_of
from recbole_metarec.data.text_file import Header, TextColumns
from recbole_metarec.errors import DataError

ValueFilter = Callable[[TextColumns], np.ndarray]


def value_filters(header: Header, values: Mapping) -> dict[str, ValueFilter]:
    """Column -> what tells which rows of it pass, bool [n]. values: RecBole's ``val_interval``.

    Raises DataError for a column that is not there, or of which RecBole cannot take the values.
    """
    return {field: _value_filter(header, field, allowed) for field, allowed in values.items()}


def value_fault(field: str, kind: str, allowed) -> str:
    """What is wrong with the values that ``val_interval`` allows in a column of a type of RecBole, and what to do."""
    if kind == "float":
        told = "which is no interval; write one such as [3,5]"
        return "" if Intervals.parse(allowed) else f"val_interval has {allowed!r} for {field}, {told}"
    is_names = isinstance(allowed, (list, tuple)) and all(isinstance(name, str) for name in allowed)
    if kind == "token" and is_names:
        return ""
    todo = "give a list of names in quotation marks, of a column of the type token"
    return f"val_interval has {allowed!r} for {field}, a column of the type {kind}; {todo}"


def _value_filter(header: Header, field: str, allowed) -> ValueFilter:
    kind = header.types.get(field)
    if kind is None:
        fail(header.path, 1, f"no column {field}, which val_interval filters", "add it, or take it out of val_interval")
    if fault := value_fault(field, kind, allowed):
        raise DataError(f"{header.path}: {fault}")
    if kind == "float":
        intervals = Intervals.parse(allowed)
        return lambda columns: intervals.hold(numbers_of(columns, field))
    names = pl.Series(allowed, dtype=pl.String)
    names = names.filter(~is_missing(names))
    return lambda columns: columns[field].is_in(names.implode()).to_numpy()


def within_counts(
    users: np.ndarray, items: np.ndarray, user_counts: Intervals | None, item_counts: Intervals | None
) -> np.ndarray | None:
    """int [m], the events that are left when those of users and items with another number of events than
    ``user_counts`` and ``item_counts`` allow are removed, and the rest is counted again, until nothing changes.

    None where all n events stay. users, items: int [n] from 0. With lower bounds alone it is the largest such part,
    the k-core.
    """
    rows = None
    while True:
        keep = _allowed(users, user_counts) & _allowed(items, item_counts)
        if keep.all():
            return rows
        rows = np.flatnonzero(keep) if rows is None else rows[keep]
        users, items = users[keep], items[keep]


def core(users: np.ndarray, items: np.ndarray, user_least: int, item_least: int) -> np.ndarray | None:
    """:func:`within_counts` where each user has ``user_least`` events or more, and each item ``item_least``."""
    rules = (Intervals.at_least(least) if least > 1 else None for least in (user_least, item_least))
    return within_counts(users, items, *rules)


def _allowed(codes: np.ndarray, counts: Intervals | None) -> np.ndarray:
    return np.ones(len(codes), bool) if counts is None else counts.hold(np.bincount(codes))[codes]
