"""Checks of an interaction file before RecBole reads it, and the ranked copy that keeps the order of events exact.

RecBole's reader drops rows whose ids look like missing values, fills short rows up, unquotes fields and keeps
timestamps as float32, all without a word; the checks here refuse or count each of these.
"""

import difflib
import hashlib
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from recbole_metarec.data.table import Table, fail, read_table, show
from recbole_metarec.files import copy_atomically, make_dir, write_atomically

ORIGINAL_TIME = "original_timestamp"
# Ids that pandas, and so RecBole, reads as "no value": the row would vanish.
READ_AS_MISSING = frozenset(
    b"#N/A,#N/A N/A,#NA,-1.#IND,-1.#QNAN,-NaN,-nan,1.#IND,1.#QNAN,<NA>,N/A,NA,NULL,NaN,None,n/a,nan,null".split(b",")
)
_NUMBER = re.compile(rb" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *")
_INTEGER = re.compile(rb" *[+-]?\d+ *")


@dataclass(frozen=True)
class InterSummary:
    """What an interaction file holds, before any filter. All fields are counts.

    duplicates: rows that repeat an earlier (user, item, time).
    time_ties: neighbours in a user's history with the very same time; their order is the file's.
    moved_float32: positions of histories that hold another event when ordered by float32.
    last_moved_float32: users whose last event, the test item, is then another one.
    """

    events: int
    users: int
    items: int
    duplicates: int
    time_ties: int
    moved_float32: int
    last_moved_float32: int

    @property
    def lost_order(self) -> str:
        """What RecBole's float32 timestamps do to the order of events, as a sentence; empty if nothing."""
        if not self.moved_float32:
            return ""
        return (
            f"RecBole keeps time as float32, which moves {self.moved_float32} of {self.events} events and gives "
            f"{self.last_moved_float32} users another test item; exact_time: True keeps the order of the full times"
        )

    @property
    def repetitions(self) -> str:
        """Repeated rows and equal times, as a sentence; empty if there are none."""
        if not (self.duplicates or self.time_ties):
            return ""
        return (
            f"{self.events} events of {self.users} users on {self.items} items in the file; {self.duplicates} rows "
            f"repeat an earlier (user, item, time); {self.time_ties} neighbours in a history share one timestamp, "
            "their order is the file's"
        )


def check_inter_file(
    path, user_field="user_id", item_field="item_id", time_field="timestamp", separator="\t", encoding="utf-8"
) -> InterSummary:
    """Check every line of a RecBole ``.inter`` file and count what a user should know about it.

    Accepts what RecBole reads as it stands: CRLF line ends, blank lines, no final newline. Raises DataError
    ("PATH:LINE: what is wrong; what to do") at the first line that RecBole would refuse or silently misread.
    """
    table, (users, items, times) = _read_inter(path, user_field, item_field, time_field, separator, encoding)
    exact, stored = _parse_times(table, time_field, times)
    user_codes, _ = pd.factorize(np.array(users, dtype=object))
    item_codes, item_names = pd.factorize(np.array(items, dtype=object))
    order, stored_order = np.lexsort((exact, user_codes)), np.lexsort((stored, user_codes))
    return count_events(user_codes, item_codes, exact, (order, stored_order), len(item_names))


def count_events(
    users: np.ndarray, items: np.ndarray, times: np.ndarray, orders: tuple[np.ndarray, np.ndarray], n_items: int
) -> InterSummary:
    """What is to be said of n events: users int [n] with every value of 0 .. u - 1, items int [n], times int [n].

    orders: the events by (user, full time) and by (user, float32 time), equal times in the order of the arrays.
    """
    order, stored_order = orders
    in_order, times_in_order = users[order], times[order]
    ties = (in_order[1:] == in_order[:-1]) & (times_in_order[1:] == times_in_order[:-1])
    # only an event that shares user and time with a neighbour can be a repetition
    tied = order[np.append(ties, False) | np.append(False, ties)]
    repeated = pd.DataFrame({"user": users[tied], "item": items[tied], "time": times[tied]}).duplicated()
    lengths = np.bincount(users)
    moved = np.zeros(len(users), bool) if stored_order is order else order != stored_order
    return InterSummary(
        events=len(users),
        users=len(lengths),
        items=n_items,
        duplicates=int(repeated.sum()),
        time_ties=int(ties.sum()),
        moved_float32=int(moved.sum()),
        last_moved_float32=int(moved[np.cumsum(lengths) - 1].sum()),
    )


def write_ranked_copy(
    src_dir,
    name: str,
    dst_dir,
    user_field="user_id",
    item_field="item_id",
    time_field="timestamp",
    separator="\t",
    encoding="utf-8",
) -> Path:
    """Copy the files ``src_dir/name.*`` with ``timestamp`` = rank of the event in its user's history.

    Ranks count from 0 by (time at full precision, place in the file), which float32 holds exactly. The original
    time stays in column ``original_timestamp:float``; a copy of a copy keeps the first one. The other files of the
    domain (``name.item``, ``name.user``, ...) are copied as they are. Every file is written beside and renamed.
    Returns the folder with the copies, ``dst_dir/HASH/name``: the hash covers the content and the arguments, so two
    domains of one name never meet and an earlier copy is used again. Raises DataError as ``check_inter_file`` does.
    """
    source = Path(src_dir)
    table, (users, _, times) = _read_inter(
        source / f"{name}.inter", user_field, item_field, time_field, separator, encoding
    )
    exact, _ = _parse_times(table, time_field, times)
    user_codes, _ = pd.factorize(np.array(users, dtype=object))
    files = sorted(path for path in source.glob(f"{name}.*") if path.is_file())
    target = Path(dst_dir) / _digest(files, user_field, item_field, time_field, separator, encoding) / name
    if (target / f"{name}.inter").is_file():
        return target
    make_dir(target)
    for other in files:
        if other.name != f"{name}.inter":
            copy_atomically(other, target / other.name)
    content = b"".join(_ranked_lines(table, time_field, times, history_ranks(user_codes, exact), separator))
    # The interactions come last: whoever sees them sees a finished domain.
    write_atomically(target / f"{name}.inter", [content.decode("utf-8").encode(encoding)])
    return target


def _digest(files: list[Path], *arguments) -> str:
    digest = hashlib.sha256(repr((arguments, [path.name for path in files])).encode())
    for path in files:
        with open(path, "rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                digest.update(chunk)
    return digest.hexdigest()[:12]


def history_ranks(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Rank (from 0) of every event in its user's history, by time, then by place in the arrays.

    users int [n] with values 0 .. u - 1, times [n] of any sortable dtype. Returns int64 [n].
    """
    order = np.lexsort((times, users))
    lengths = np.bincount(users)
    ranks = np.empty(len(users), dtype=np.int64)
    ranks[order] = np.arange(len(users)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return ranks


def _ranked_lines(table: Table, time_field: str, times: list[bytes], ranks: np.ndarray, separator: str):
    keep_original = ORIGINAL_TIME not in table.names
    header = [f"{n}:{t}" for n, t in zip(table.names, table.types)]
    columns = [table.column(name) for name in table.names]
    columns[table.names.index(time_field)] = [b"%d" % rank for rank in ranks.tolist()]
    if keep_original:
        header.append(f"{ORIGINAL_TIME}:float")
        columns.append(times)
    glue = separator.encode()
    yield separator.join(header).encode() + b"\n"
    for row in zip(*columns):
        yield glue.join(row) + b"\n"


def _read_inter(path, user_field, item_field, time_field, separator, encoding):
    """The checked table and its user, item and time columns; times are not parsed yet."""
    table = read_table(Path(path), separator, encoding)
    fields = user_field, item_field, time_field
    check_columns(table, *fields)
    if not len(table.lines):
        fail_without_rows(path)
    users, items, times = (table.column(field) for field in fields)
    for field, values in ((user_field, users), (item_field, items)):
        _check_ids(table, field, values)
    return table, (users, items, times)


def check_columns(table: Table, user_field: str, item_field: str, time_field: str) -> None:
    """Raises DataError unless the header has the three columns in the types that RecBole needs."""
    _check_field(table, user_field, "token", "USER_ID_FIELD")
    _check_field(table, item_field, "token", "ITEM_ID_FIELD")
    _check_field(table, time_field, "float", "TIME_FIELD")


def fail_without_rows(path) -> NoReturn:
    """Raise the DataError of a file that ends after its header."""
    fail(path, 1, "no rows after the header", "write one event on each line")


def check_rows(table: Table, user_field: str, item_field: str, time_field: str) -> None:
    """Raises DataError for the first row without a plain user, item and finite time."""
    for field in (user_field, item_field):
        _check_ids(table, field, table.column(field))
    _parse_times(table, time_field, table.column(time_field))


def _check_field(table: Table, field: str, wanted: str, key: str) -> None:
    if field not in table.names:
        near = difflib.get_close_matches(field.lower(), [name.lower() for name in table.names], 1)
        hint = (
            next(f"rename {show(n)} to {field}" for n in table.names if n.lower() == near[0])
            if near
            else f"add the column {field}:{wanted}"
        )
        fail(
            table.path,
            1,
            f"no column {field}; the header has {', '.join(table.names)}",
            f"{hint}, or set the config key {key}",
        )
    found = table.types[table.names.index(field)]
    if found != wanted:
        fail(table.path, 1, f"column {field} has the type {found}", f"write {field}:{wanted}")


def _check_ids(table: Table, field: str, values: list[bytes]) -> None:
    at = table.names.index(field)
    empty = np.flatnonzero(table.starts[:, at] == table.ends[:, at])
    if len(empty):
        fail(table.path, int(table.lines[empty[0]]), f"{field} is empty", "give every event a user and an item")
    if READ_AS_MISSING.intersection(values):
        row = next(row for row, value in enumerate(values) if value in READ_AS_MISSING)
        fail(
            table.path,
            int(table.lines[row]),
            f"{field} {show(values[row].decode())} would be read as missing by RecBole and its events dropped",
            "rename it, for example with a letter in front",
        )


def time_codes(table: Table, field: str) -> np.ndarray:
    """int64 [n], equal for equal times and in their order at full precision. Raises DataError at what is no number."""
    return _parse_times(table, field, table.column(field))[0]


def _parse_times(table: Table, field: str, texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Times at full precision as int64 codes in time order [n], and as RecBole stores them, float32 [n]."""
    codes, unique = pd.factorize(np.array(texts, dtype=object))
    for text in unique:
        if not _NUMBER.fullmatch(text) or not np.isfinite(float(text)):
            _fail_time(table, field, texts, text)
    values = [int(t) for t in unique] if all(map(_INTEGER.fullmatch, unique)) else [Decimal(t.decode()) for t in unique]
    place = {value: at for at, value in enumerate(sorted(set(values)))}
    exact = np.array([place[value] for value in values], dtype=np.int64)
    with np.errstate(over="ignore"):
        stored = np.array([float(text) for text in unique]).astype(np.float32)
    return exact[codes], stored[codes]


def _fail_time(table: Table, field: str, texts: list[bytes], text: bytes) -> NoReturn:
    shown = text.decode()
    what = f"{field} is empty" if not shown.strip() else f"{field} {show(shown)} is not a finite number"
    fail(
        table.path,
        int(table.lines[texts.index(text)]),
        what,
        "write the time as a number, for example seconds since 1970",
    )
