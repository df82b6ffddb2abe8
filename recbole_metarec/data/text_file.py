"""A separated text file with a typed header, such as ``NAME.inter`` or ``NAME.item``, read as columns of text.

Fields are all that is between two separators: a quotation mark is a character like any other. Blank lines are skipped
and line ends of any system are read. polars cuts the lines; what it would cut in another way is looked for first.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import polars as pl

from recbole_metarec.data.faults import (
    fail,
    fail_column,
    fail_empty,
    fail_one_column,
    fail_ragged,
    fail_type,
    fail_undecodable,
    fail_unreadable,
    show,
)
from recbole_metarec.errors import DataError

TYPES = ("token", "float", "token_seq", "float_seq")
BLOCK_BYTES = 1 << 25
_UTF8 = ("utf-8", "utf8")


@dataclass(frozen=True)
class Header:
    """The first line of a file. types: name -> one of ``TYPES``, in the order of the columns."""

    path: Path
    separator: str
    types: dict[str, str]

    def require(self, field: str, kind: str, key: str = "") -> None:
        """Raises DataError unless there is a column ``field`` of the type ``kind``; ``key`` is what would rename it."""
        if self.types.get(field) != kind:
            fail_column(self.path, self.types, field, kind, key)


@dataclass(frozen=True)
class Lines:
    """Whole lines of a file below its header: UTF-8, line ends ``\\n``. first_line: counted from 1."""

    header: Header
    data: bytes
    first_line: int

    def columns(self, names: Sequence[str]) -> "TextColumns":
        """The named columns, one row for each line that is not blank. Raises DataError for a ragged line."""
        header, data = self.header, self.data
        if b"\n\n" in data or data.startswith(b"\n"):
            data = re.sub(rb"\n\n+", b"\n", data).removeprefix(b"\n")
        if not self._is_rectangular(data):
            fail_ragged(header.path, self.data, self.first_line, header.separator, len(header.types))
        if not data:
            return TextColumns(self, pl.DataFrame(schema=dict.fromkeys(names, pl.String)))
        columns = list(header.types)
        places = sorted(columns.index(name) for name in names)  # the order in which polars gives them
        frame = pl.read_csv(
            data, has_header=False, columns=places, separator=header.separator, quote_char=None, infer_schema=False
        )
        in_order = [columns[place] for place in places]
        return TextColumns(self, frame.fill_null("").rename(dict(zip(frame.columns, in_order, strict=True))))

    def _is_rectangular(self, data: bytes) -> bool:
        """Whether every line has a field for each column."""
        codes = np.frombuffer(data, dtype=np.uint8)
        ends, marks = np.flatnonzero(codes == 10), np.flatnonzero(codes == ord(self.header.separator))
        inner = len(self.header.types) - 1
        if len(marks) != len(ends) * inner:
            return False
        marks = marks.reshape(len(ends), inner)
        return bool((marks[:, -1] < ends).all() and (marks[1:, 0] > ends[:-1]).all())


@dataclass(frozen=True)
class TextColumns:
    """Columns of text. rows: which of the rows of ``lines`` stand in ``frame``; None for all of them, in order."""

    lines: Lines
    frame: pl.DataFrame
    rows: pl.Series | None = None

    @property
    def header(self) -> Header:
        """The header of the file."""
        return self.lines.header

    def __getitem__(self, name: str) -> pl.Series:
        return self.frame[name]

    def __len__(self) -> int:
        return len(self.frame)

    def fail(self, row: int, what: str, todo: str) -> NoReturn:
        """Raise the DataError of a row of ``frame``, counted from 0."""
        row = row if self.rows is None else self.rows[row]
        filled = (number for number, line in enumerate(self.lines.data.split(b"\n")) if line)
        number = next(number for at, number in enumerate(filled) if at == row)
        fail(self.header.path, self.lines.first_line + number, what, todo)


def read_header(path: Path, separator: str = "\t", encoding: str = "utf-8") -> Header:
    """The header of a file. Raises DataError ("PATH:LINE: what is wrong; what to do")."""
    return read_blocks(path, separator, encoding)[0]


def read_columns(
    path: Path, separator: str = "\t", encoding: str = "utf-8", names: Sequence[str] | None = None
) -> TextColumns:
    """The named columns of a whole file, or all of them. Raises DataError ("PATH:LINE: what is wrong; what to do")."""
    header, blocks = read_blocks(path, separator, encoding, whole=True)
    lines = next(blocks, Lines(header, b"", 2))
    return lines.columns(list(header.types) if names is None else names)


def read_blocks(
    path: Path, separator: str = "\t", encoding: str = "utf-8", size: int | None = None, whole: bool = False
) -> tuple[Header, Iterator[Lines]]:
    """The header of a file, and its lines in blocks of about ``size`` bytes (``BLOCK_BYTES``) or as a whole.

    A file that is not UTF-8 is always read as a whole. Raises DataError here for a file without a header, and while
    the blocks are drawn for the first line that is no plain text.
    """
    if len(separator) != 1 or not separator.isascii() or separator in '\n\r"':
        raise DataError(f"field_separator is {separator!r}; use one plain character, such as a tab")
    whole = whole or encoding.lower() not in _UTF8
    pieces = _whole_lines(path, -1 if whole else size or BLOCK_BYTES)
    raw, _ = next(pieces, (b"", 0))
    if not raw.strip():
        fail_empty(path)
    data = _as_utf8(path, raw, encoding)
    end = data.index(b"\n") + 1
    header = Header(path, separator, _parse_header(path, data[: end - 1].decode("utf-8"), separator))
    return header, _blocks(header, data[end:], pieces)


def _blocks(header: Header, first: bytes, pieces: Iterator[tuple[bytes, int]]) -> Iterator[Lines]:
    line = 2
    if first:
        yield Lines(header, first, line)
        line += first.count(b"\n")
        del first
    for raw, offset in pieces:
        data = _as_utf8(header.path, raw, _UTF8[0], line, offset)
        yield Lines(header, data, line)
        line += data.count(b"\n")


def _whole_lines(path: Path, size: int) -> Iterator[tuple[bytes, int]]:
    """Pieces of a file that end with a line, and where each starts."""
    try:
        with open(path, "rb") as file:
            offset, waiting = 0, []
            while piece := file.read(size):
                end = len(piece) if size < 0 else piece.rfind(b"\n") + 1
                if end:
                    lines = b"".join([*waiting, piece[:end]])
                    yield lines, offset
                    offset, waiting = offset + len(lines), []
                waiting.append(piece[end:])
            rest = b"".join(waiting)
            if rest:
                yield rest, offset
    except OSError as error:
        fail_unreadable(path, error)


def _as_utf8(path: Path, raw: bytes, encoding: str, first_line: int = 1, offset: int = 0) -> bytes:
    """A file, or whole lines of one, as UTF-8 with ``\\n`` line ends and a final newline.

    first_line, offset: line and byte of the file at which ``raw`` starts.
    """
    is_utf8 = encoding.lower() in _UTF8
    try:
        text = "" if raw.isascii() and is_utf8 else raw.decode(encoding)
    except LookupError:
        raise DataError(f"encoding is {encoding!r}, which Python does not know; use utf-8") from None
    except UnicodeDecodeError as error:
        line = _line_at(raw, error.start) + first_line - 1
        fail_undecodable(path, line, error.start + offset, encoding, error.reason)
    if not offset and text.startswith("\ufeff"):
        todo = "save it as UTF-8 without one, or set the config key encoding to utf-8-sig"
        fail(path, 1, "the file starts with a byte order mark", todo)
    data = raw if is_utf8 else text.encode("utf-8")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\0" in data:
        line = _line_at(data, data.index(b"\0")) + first_line - 1
        fail(path, line, "a zero byte, so this is not a text file", "write plain text")
    return data if data.endswith(b"\n") else data + b"\n"


def _line_at(raw: bytes, offset: int) -> int:
    head = raw[:offset].replace(b"\r\n", b"\n")
    return head.count(b"\n") + head.count(b"\r") + 1


def _parse_header(path: Path, header: str, separator: str) -> dict[str, str]:
    """Name -> type of the columns. Raises DataError for a first line that is no header."""
    todo = "write name:type for each column, such as user_id:token"
    if not header:
        fail(path, 1, "the first line is blank", "put the header there: " + todo)
    if separator not in header:
        fail_one_column(path, header, separator)
    types: dict[str, str] = {}
    for column in header.split(separator):
        name, colon, kind = column.partition(":")
        if not colon:
            fail(path, 1, f"header field {show(column)} has no type", todo)
        if kind not in TYPES:
            fail_type(path, column, kind, TYPES)
        if name in types:
            fail(path, 1, f"column {show(name)} appears twice in the header", "rename or remove one of them")
        types[name] = kind
    return types
