"""A separated text file with a typed header, held as bytes with the place of every field.

Ragged rows, quoted fields and a wrong header or encoding are refused with their line; blank lines are skipped, as
RecBole's reader does.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from recbole_metarec.errors import DataError

TYPES = ("token", "float", "token_seq", "float_seq")
_SEPARATOR_NAMES = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "a vertical bar", " ": "a space"}


@dataclass(frozen=True)
class Table:
    """A separated file as bytes (UTF-8, line ends ``\\n``) with the place of every field.

    names, types: of the k columns. starts, ends int64 [rows, k] into data; lines int64 [rows], counted from 1.
    """

    path: Path
    data: bytes
    names: list[str]
    types: list[str]
    starts: np.ndarray
    ends: np.ndarray
    lines: np.ndarray

    def column(self, name: str) -> list[bytes]:
        """The column's fields, one for each row."""
        at = self.names.index(name)
        data = self.data
        return [data[s:e] for s, e in zip(self.starts[:, at].tolist(), self.ends[:, at].tolist())]


def read_header(path: Path, separator: str, encoding: str) -> list[str]:
    """The names of the columns. Raises DataError ("PATH:LINE: what; what to do") for what is no such file."""
    check_separator(separator)
    header, _, _ = as_lines(path, _read_bytes(path), encoding).partition(b"\n")
    return parse_header(path, header.decode("utf-8"), separator)[0]


def read_table(path: Path, separator: str, encoding: str, unquoted: Sequence[str] | None = None) -> Table:
    """Read a file whose first line is a header of name:type. Raises DataError ("PATH:LINE: what; what to do").

    unquoted: columns whose fields may not start with a quotation mark; None for all, as RecBole needs it.
    """
    check_separator(separator)
    data = as_lines(path, _read_bytes(path), encoding)
    end = data.index(b"\n")
    names, types = parse_header(path, data[:end].decode("utf-8"), separator)
    return split_rows(path, data[end + 1 :], names, types, separator, 2, unquoted)


def split_rows(
    path: Path,
    data: bytes,
    names: list[str],
    types: list[str],
    separator: str,
    first_line: int,
    unquoted: Sequence[str] | None = None,
) -> Table:
    """The rows in ``data``, whole lines as :func:`as_lines` gives them of which the first is the file's ``first_line``.

    unquoted: as in :func:`read_table`. Raises DataError for a ragged row or a quoted field.
    """
    codes = np.frombuffer(data, dtype=np.uint8)
    line_ends = np.flatnonzero(codes == 10)
    line_starts = np.concatenate((np.zeros(1, np.int64), line_ends[:-1] + 1))[: len(line_ends)]
    marks = np.flatnonzero(codes == ord(separator))
    n_marks = np.diff(np.searchsorted(marks, line_ends), prepend=0)
    rows = np.flatnonzero(line_ends > line_starts)  # RecBole skips blank lines
    ragged = rows[n_marks[rows] != len(names) - 1]
    if len(ragged):
        bad = int(ragged[0])
        row = data[line_starts[bad] : line_ends[bad]].decode("utf-8")
        _fail_ragged(path, bad + first_line, row, separator, len(names))
    inner = marks.reshape(len(rows), len(names) - 1)
    starts = np.hstack((line_starts[rows, None], inner + 1))
    ends = np.hstack((inner, line_ends[rows, None]))
    checked = [at for at, name in enumerate(names) if unquoted is None or name in unquoted]
    quoted = np.flatnonzero((codes[starts[:, checked]] == ord('"')).any(axis=1))
    if len(quoted):
        fail(
            path,
            int(rows[quoted[0]]) + first_line,
            "a field starts with a quotation mark, which RecBole takes for quoting",
            "write the fields without quotation marks",
        )
    return Table(path, data, names, types, starts, ends, rows + first_line)


def check_separator(separator: str) -> None:
    """Raises DataError for what no file of ours is separated by."""
    if len(separator) != 1 or not separator.isascii() or separator in '\n\r"':
        raise DataError(f"field_separator is {separator!r}; use one plain character, such as a tab")


def _read_bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        fail_unreadable(path, error)
    check_not_empty(path, raw)
    return raw


def fail_unreadable(path: Path, error: OSError) -> NoReturn:
    """Raise the DataError of a file that the system does not give."""
    raise DataError(f"{path}: cannot be read ({error.strerror}); check the name and data_path") from None


def check_not_empty(path: Path, raw: bytes) -> None:
    """Raises DataError for a file without anything in it."""
    if not raw.strip():
        fail(
            path,
            1,
            "the file is empty",
            "write a header such as user_id:token, item_id:token, timestamp:float "
            "(separated by tabs) and one event on each line",
        )


def as_lines(path: Path, raw: bytes, encoding: str, first_line: int = 1, offset: int = 0) -> bytes:
    """A file, or whole lines of one, as UTF-8 with ``\\n`` line ends and a final newline.

    first_line, offset: line and byte of the file at which ``raw`` starts. Raises DataError for what is no such text.
    """
    try:
        text = "" if raw.isascii() and _is_utf8(encoding) else raw.decode(encoding)
    except LookupError:
        raise DataError(f"encoding is {encoding!r}, which Python does not know; use utf-8") from None
    except UnicodeDecodeError as error:
        fail(
            path,
            _line_at(raw, error.start) + first_line - 1,
            f"byte {error.start + offset} of the file is not {encoding} ({error.reason})",
            "save the file as UTF-8, or name its encoding with the config key encoding",
        )
    if not offset and text.startswith("\ufeff"):
        fail(
            path,
            1,
            "the file starts with a byte order mark",
            "save it as UTF-8 without one, or set the config key encoding to utf-8-sig",
        )
    data = raw if _is_utf8(encoding) else text.encode("utf-8")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\0" in data:
        line = _line_at(data, data.index(b"\0")) + first_line - 1
        fail(path, line, "a zero byte, so this is not a text file", "write plain text")
    return data if data.endswith(b"\n") else data + b"\n"


def _is_utf8(encoding: str) -> bool:
    return encoding.lower() in ("utf-8", "utf8")


def parse_header(path: Path, header: str, separator: str) -> tuple[list[str], list[str]]:
    """Names and types of the columns. Raises DataError for a first line that is no header."""
    wanted = "write name:type for each column, such as user_id:token"
    if not header:
        fail(path, 1, "the first line is blank", "put the header there: " + wanted)
    if separator not in header:
        _fail_unsplit(path, header, separator)
    names, types = [], []
    for field in header.split(separator):
        name, colon, kind = field.partition(":")
        if not colon:
            fail(path, 1, f"header field {show(field)} has no type", wanted)
        if kind not in TYPES:
            near = difflib.get_close_matches(kind.strip(), TYPES, 1, 0.5)
            fail(
                path,
                1,
                f"header field {show(field)} has the unknown type {show(kind)}",
                (f"did you mean {near[0]}? " if near else "") + "The types are " + ", ".join(TYPES),
            )
        if name in names:
            fail(path, 1, f"column {show(name)} stands twice in the header", "rename or remove one of them")
        names.append(name)
        types.append(kind)
    return names, types


def _fail_unsplit(path: Path, header: str, separator: str) -> NoReturn:
    for other, called in _SEPARATOR_NAMES.items():
        if other in header and other != separator:
            fail(
                path,
                1,
                f"columns are separated by {called}, not by {_separator_name(separator)}",
                f"separate them by {_separator_name(separator)}, or set the config key field_separator",
            )
    fail(
        path,
        1,
        f"the header has the single column {show(header)}",
        f"write user, item and time, separated by {_separator_name(separator)}",
    )


def _fail_ragged(path: Path, line: int, row: str, separator: str, n_columns: int) -> NoReturn:
    found = row.count(separator) + 1
    other = next((s for s in _SEPARATOR_NAMES if s != separator and row.count(s) == n_columns - 1), None)
    wanted = _separator_name(separator)
    todo = (
        f"this line is separated by {_SEPARATOR_NAMES[other]}; use {wanted}"
        if found == 1 and other
        else f"write every column, separated by {wanted}, on every line"
    )
    fail(path, line, f"{found} field{'s' * (found != 1)} where the header has {n_columns}", todo)


def _separator_name(separator: str) -> str:
    return _SEPARATOR_NAMES.get(separator, repr(separator))


def _line_at(raw: bytes, offset: int) -> int:
    head = raw[:offset].replace(b"\r\n", b"\n")
    return head.count(b"\n") + head.count(b"\r") + 1


def show(text: str) -> str:
    """A value as it may stand in a message: quoted and not too long."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def fail(path, line: int, what: str, todo: str) -> NoReturn:
    """Raise the DataError of one line of one file."""
    raise DataError(f"{path}:{line}: {what}; {todo}")
