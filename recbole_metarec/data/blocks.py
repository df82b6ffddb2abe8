"""A separated text file with a typed header, read in blocks of whole lines, as columns of text.

A block in which nothing is unusual goes through polars. Any other goes through the exact reader of
:mod:`recbole_metarec.data.table`, which refuses it with the line at fault or cuts its fields as RecBole would.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recbole_metarec.data.table import (
    Table,
    as_lines,
    check_not_empty,
    check_separator,
    fail_unreadable,
    parse_header,
    split_rows,
)

BLOCK_BYTES = 1 << 25
_ENCODING = "utf-8"


@dataclass(frozen=True)
class Block:
    """Whole lines of a file without its header: UTF-8, line ends ``\\n``. first_line: counted from 1."""

    header: Table
    separator: str
    data: bytes
    first_line: int

    def table(self) -> Table:
        """The block as the exact reader cuts it. Raises DataError for a ragged row or a quoted field."""
        header = self.header
        return split_rows(header.path, self.data, header.names, header.types, self.separator, self.first_line)

    def columns(self, names: Sequence[str]) -> pl.DataFrame:
        """The named columns as text, one row for each line that is not blank. Raises DataError as :meth:`table`."""
        if not self._is_plain():
            table = self.table()
            columns = {name: [field.decode(_ENCODING) for field in table.column(name)] for name in names}
            return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))
        places = sorted(self.header.names.index(name) for name in names)  # the order in which polars gives them
        frame = pl.read_csv(
            self.data,
            has_header=False,
            columns=places,
            separator=self.separator,
            quote_char=None,
            infer_schema=False,
        )
        in_order = [self.header.names[place] for place in places]
        return frame.fill_null("").rename(dict(zip(frame.columns, in_order, strict=True)))

    def _is_plain(self) -> bool:
        """Whether every line has a field for each column and none could be taken for quoted or blank."""
        if b'"' in self.data or b"\n\n" in self.data or self.data.startswith(b"\n"):
            return False
        codes = np.frombuffer(self.data, dtype=np.uint8)
        ends, marks = np.flatnonzero(codes == 10), np.flatnonzero(codes == ord(self.separator))
        inner = len(self.header.names) - 1
        if len(marks) != len(ends) * inner:
            return False
        marks = marks.reshape(len(ends), inner)
        return bool((marks[:, -1] < ends).all() and (marks[1:, 0] > ends[:-1]).all())


def read_blocks(path: Path, separator: str, size: int | None = None) -> tuple[Table, Iterator[Block]]:
    """The header of a file, as a table without rows, and its blocks of about ``size`` bytes (``BLOCK_BYTES``).

    Raises DataError ("PATH:LINE: what is wrong; what to do") here for a file without a header, and while the blocks are
    drawn for the first line that is no plain text.
    """
    check_separator(separator)
    pieces = _whole_lines(path, size or BLOCK_BYTES)
    raw, _ = next(pieces, (b"", 0))
    check_not_empty(path, raw)
    data = as_lines(path, raw, _ENCODING)
    end = data.index(b"\n") + 1
    names, types = parse_header(path, data[: end - 1].decode(_ENCODING), separator)
    header = split_rows(path, b"", names, types, separator, first_line=2)
    return header, _blocks(header, separator, data[end:], pieces)


def _blocks(header: Table, separator: str, first: bytes, pieces: Iterator[tuple[bytes, int]]) -> Iterator[Block]:
    line = 2
    if first:
        yield Block(header, separator, first, line)
        line += first.count(b"\n")
        del first
    for raw, offset in pieces:
        data = as_lines(header.path, raw, _ENCODING, line, offset)
        yield Block(header, separator, data, line)
        line += data.count(b"\n")


def _whole_lines(path: Path, size: int) -> Iterator[tuple[bytes, int]]:
    """Pieces of a file that end with a line, and where each starts."""
    try:
        with open(path, "rb") as file:
            offset, waiting = 0, []
            while piece := file.read(size):
                end = piece.rfind(b"\n") + 1
                if end:
                    whole = b"".join([*waiting, piece[:end]])
                    yield whole, offset
                    offset, waiting = offset + len(whole), []
                waiting.append(piece[end:])
            rest = b"".join(waiting)
            if rest:
                yield rest, offset
    except OSError as error:
        fail_unreadable(path, error)
