"""Rows of a raw file as frames of the wanted columns, whatever its form; a bad line is reported by its number.

A block is parsed as a whole. If that fails, it is halved again and again until the bad lines are isolated.
"""

import ast
import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from recbole_metarec.data.faults import fail
from recbole_metarec.errors import DataError
from recbole_metarec.prepare import ids
from recbole_metarec.prepare.explanations import Fault, of_line, of_row, raw_fields
from recbole_metarec.prepare.forms import ITEM, RATING, TIME, USER, Form
from recbole_metarec.prepare.headers import csv_rows
from recbole_metarec.prepare.lines import LONGEST_RECORD, Block, read_blocks, split_records
from recbole_metarec.prepare.tables import read_parts
from recbole_metarec.prepare.times import are_dates, as_numbers

_LOOKED_AT = 200  # lines, to tell whether all of a file fail for one reason
_NO_JSON_NUMBER = re.compile(rb"NaN|Infinity")
csv.field_size_limit(LONGEST_RECORD)  # of Python's own reader, which stops at 128 KB otherwise


@dataclass
class RowReader:
    """Reads a file of some form. skip_bad: count bad lines instead of stopping at the first. skipped: that count.

    changes: how many ids were made the same as others are written (see ``ids.notes``). first_fault: the first bad line
    and what is wrong with it.
    """

    path: Path
    form: Form
    skip_bad: bool = False
    show_progress: bool = False
    skipped: int = 0
    changes: Counter = field(default_factory=Counter)
    first_fault: tuple[int, Fault] | None = None
    # whether times are dates; None until one is a date or a number
    _dates: bool | None = field(default=None, init=False)
    _block: Block | None = field(default=None, init=False)
    _any_good: bool = field(default=False, init=False)

    def frames(self) -> Iterator[pl.DataFrame]:
        """Frames with one column per role of the form: numbers for time and rating, text for the rest; nothing missing.

        Raises DataError ("FILE:LINE: what; what to do") for the first bad line, unless ``skip_bad``.
        """
        frames = self._table() if self.form.is_table else self._lines()
        for frame in frames:
            self._any_good |= len(frame) > 0
            yield _picked(frame, self.form.picked) if self.form.picked else frame

    def _lines(self) -> Iterator[pl.DataFrame]:
        form = self.form
        read = read_blocks(self.path, form.member, self._quoted_by, self.show_progress, encoding=form.encoding)
        with closing(read) as blocks:  # its thread ends here, whatever happens
            for block in blocks:
                if block.line == 1 and form.header:
                    block = Block(block.data[block.data.find(b"\n") + 1 or len(block.data) :], 2)
                self._block = block
                frame = self._parsed(block.data)
                # a blank line is a row of nothing to one parser and no row to the other
                if frame is not None and len(frame) == _count(block.data) and not self._faults(frame).any():
                    yield frame
                else:
                    yield from self._mended(self._records(block))

    def _mended(self, records: list[tuple[int, bytes]]) -> Iterator[pl.DataFrame]:
        """The good ones of (line number, line), in order; stops at the first bad one or counts it."""
        if not records:
            return
        frame = self._parsed(b"".join(line for _, line in records))
        if frame is None or len(frame) != len(records):
            if len(records) == 1:
                self._bad(*records[0])
                return
            middle = len(records) // 2
            yield from self._mended(records[:middle])
            yield from self._mended(records[middle:])
            return
        faults = self._faults(frame)
        for row in faults.arg_true().to_list():
            self._bad(*records[row], frame.row(row, named=True))
        yield frame.filter(~faults)

    def _parsed(self, data: bytes) -> pl.DataFrame | None:
        """The columns of some lines; None if the parser rejects them."""
        form = self.form
        names = sorted(set(form.columns.values()))
        try:
            if form.kind == "json":
                frame = self._of_json(data)
            elif form.quotes and b'"' in data:
                # the fast parser takes a mark in the middle of a field for the start of a quotation
                frame = _quoted(data, form)
            else:
                data, separator = _with_one_sign(data, form.separator)
                if not _is_even(data, separator, len(form.names)):
                    return None
                frame = pl.read_csv(
                    data,
                    has_header=False,
                    separator=separator,
                    quote_char=None,
                    schema=dict.fromkeys(form.names, pl.String),
                    columns=[form.names.index(name) for name in names],
                )
        except (pl.exceptions.PolarsError, UnicodeDecodeError, csv.Error):
            return None
        return self._typed(frame.select(pl.col(name).alias(role) for role, name in form.columns.items()))

    def _of_json(self, data: bytes) -> pl.DataFrame:
        schema = {name: self._type(role) for role, name in self.form.columns.items()}
        if not data.strip():
            return pl.DataFrame(schema=schema)
        data = _as_json(data)
        try:
            frame = pl.read_ndjson(data, schema=schema)
        except pl.exceptions.PolarsError:
            if not _NO_JSON_NUMBER.search(data):
                raise
            frame = pl.read_ndjson(_without_nan(data), schema=schema)
        names = [self.form.columns[role] for role in (USER, ITEM) if role in self.form.columns]
        # polars writes a list and an object as the text that an id might be
        if frame.select(pl.any_horizontal(pl.col(names).str.contains(r"^[\[{]").any())).item():
            frame = _without_nested(frame, data, names)
        return frame

    def _typed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Ids as they are written everywhere; times and ratings as numbers, null where they are none."""
        if self.form.plain_quotes:
            frame = frame.with_columns(pl.col(ITEM).str.replace_all('"', "'", literal=True))
        cleaned = [ids.cleaned(frame[role], self.changes) for role in (USER, ITEM) if role in frame.columns]
        numbers = [role for role in self.form.numbers if role in frame.columns]
        frame = frame.with_columns(*cleaned, *(pl.col(role).cast(pl.Float64, strict=False) for role in numbers))
        frame = frame.with_columns(pl.when(pl.col(role).is_finite()).then(pl.col(role)) for role in numbers)
        if TIME in frame.columns:
            if self._dates is None:
                self._dates = are_dates(frame[TIME])
            frame = frame.with_columns(as_numbers(frame[TIME], bool(self._dates), self.form.time_format))
        return frame

    def _type(self, role: str):
        return pl.Int64 if role in self.form.whole else pl.Float64 if role in self.form.numbers else pl.String

    def _faults(self, frame: pl.DataFrame) -> pl.Series:
        """Which rows lack something that is needed."""
        needed = [role for role in (USER, ITEM, TIME, RATING) if role in frame.columns]
        return frame.select(pl.any_horizontal(pl.col(needed).is_null())).to_series()

    def _records(self, block: Block) -> list[tuple[int, bytes]]:
        """The lines that are not blank, with their numbers; a line continues where a quoted field is open."""
        records, number = [], block.line
        for record in split_records(block.data, self._quoted_by):
            if record.strip():
                records.append((number, record if record.endswith(b"\n") else record + b"\n"))
            number += record.count(b"\n")
        return records

    @property
    def _quoted_by(self) -> str:
        return self.form.separator if self.form.quotes else ""

    def _bad(self, number: int, line: bytes, row: dict | None = None) -> None:
        self.skipped += 1
        if self.skip_bad and self.first_fault:
            return
        fault = self._fault(line, row)
        self.first_fault = number, fault
        if self.skip_bad:
            return
        if not self._any_good and (every := self._every_line_has(fault)) is not None:
            told = fault.of_all or fault
            fail(self.path, number, told.what + every, told.todo)
        fail(self.path, number, fault.what, f"{fault.todo}, or leave out such lines with --skip_bad_lines")

    def _fault(self, line: bytes, row: dict | None) -> Fault:
        if row is None:
            return of_line(self.form, line)
        return of_row(self.form, row, raw_fields(self.form, line), bool(self._dates))

    def _every_line_has(self, fault: Fault) -> str | None:
        """How to say that all lines fail for one reason; None if they do not."""
        records = self._records(self._block)[:_LOOKED_AT]
        for _, line in records:
            frame = self._parsed(line)
            row = frame.row(0, named=True) if frame is not None and len(frame) == 1 else None
            if row is not None and not self._faults(frame).any():
                return None
            if _kind(self._fault(line, row)) != _kind(fault):
                return None
        return ", and so on in every line" if len(records) > 1 else ""

    def _table(self) -> Iterator[pl.DataFrame]:
        """Of a file whose columns have types already."""
        for part, start in read_parts(self.path, self.form):
            frame = self._typed(part)
            faults = self._faults(frame)
            self.skipped += int(faults.sum())
            if faults.any() and not self.first_fault:
                self._bad_row(part, frame, faults, start)
            yield frame.filter(~faults)

    def _bad_row(self, part: pl.DataFrame, frame: pl.DataFrame, faults: pl.Series, start: int) -> None:
        """Stops at the first bad row of a table, or notes it. part, frame: its rows as in the file, and as read."""
        row = faults.arg_true()[0]
        raw = {self.form.columns[role]: value for role, value in part.row(row, named=True).items()}
        fault = of_row(self.form, frame.row(row, named=True), raw, bool(self._dates))
        self.first_fault = start + row + 1, fault
        if self.skip_bad:
            return
        what, todo = fault.what, f"{fault.todo}, or leave out such rows with --skip_bad_lines"
        if not self._any_good and faults.all():
            what, todo = f"{fault.what}, and so on in every row", (fault.of_all or fault).todo
        raise DataError(f"{self.path}: row {start + row + 1}: {what}; {todo}")


def _kind(fault: Fault) -> str:
    """What is wrong, whatever the values."""
    return re.sub(r"'.*'|\".*\"|[0-9]+", "", fault.what)


def _picked(frame: pl.DataFrame, pattern: str) -> pl.DataFrame:
    """One row for each item that ``pattern`` finds among those of a row."""
    items = frame.with_columns(pl.col(ITEM).str.extract_all(pattern))
    return items.explode(ITEM).drop_nulls(ITEM).with_columns(pl.col(ITEM).str.extract(pattern, 1))


def _with_one_sign(data: bytes, separator: str) -> tuple[bytes, str]:
    """The parser knows separators of one sign only."""
    if len(separator) == 1:
        return data, separator
    return data.replace(separator.encode(), b"\x1f"), "\x1f"


def _without_nan(data: bytes) -> bytes:
    """Lines of JSON in which what Python writes for numbers that are none is null."""
    lines = (
        json.dumps(json.loads(line, parse_constant=lambda _: None)).encode() if _NO_JSON_NUMBER.search(line) else line
        for line in data.split(b"\n")
    )
    try:
        return b"\n".join(lines)
    except (ValueError, RecursionError):
        return data


def _without_nested(frame: pl.DataFrame, data: bytes, names: list[str]) -> pl.DataFrame:
    """The same with null for each list and object among some columns."""
    records = [json.loads(line, parse_constant=lambda _: None) for line in data.split(b"\n") if line.strip()]
    nested = {name: [isinstance(record.get(name), (list, dict)) for record in records] for name in names}
    return frame.with_columns(
        pl.when(pl.Series(nested[name])).then(None).otherwise(pl.col(name)).alias(name) for name in names
    )


def _as_json(data: bytes) -> bytes:
    """Lines of JSON; those of the oldest public files, which are Python dictionaries, are written anew."""
    if not data.startswith((b"{'", b"{ '", b'{u"', b"{u'")):
        return data
    lines = (line for line in data.decode("utf-8").split("\n") if line.strip())
    try:
        return "\n".join(json.dumps(ast.literal_eval(line)) for line in lines).encode()
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return data


def _count(data: bytes) -> int:
    """Lines, the last one with or without an end."""
    return data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


def _is_even(data: bytes, separator: str, columns: int) -> bool:
    """Whether every row, none with a quoted field, has as many fields as there are columns."""
    # the parser refuses rows that are too long, so that the sum tells whether any is too short
    return data.count(separator.encode()) == (columns - 1) * _count(data)


def _quoted(data: bytes, form: Form) -> pl.DataFrame:
    """The wanted columns of rows with quoted fields. Raises csv.Error if a row is not as long as the header."""
    names = sorted(set(form.columns.values()))
    positions = [form.names.index(name) for name in names]
    columns: list[list] = [[] for _ in names]
    for row in csv_rows(data.decode("utf-8"), form.separator):
        if row and len(row) != len(form.names):
            raise csv.Error("a row has another length")
        if row:
            for column, position in zip(columns, positions):
                column.append(row[position] or None)
    return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String), orient="col")
