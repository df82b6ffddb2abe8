"""Rows of a raw file as frames of the wanted columns, whatever its form; a bad line is reported by its number.

A block is parsed as a whole. If that fails, it is halved again and again until the bad lines are isolated.
"""

import ast
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from recbole_metarec.data.faults import fail, show
from recbole_metarec.data.ids import READ_AS_MISSING
from recbole_metarec.errors import DataError
from recbole_metarec.prepare.forms import ITEM, RATING, TIME, USER, Form
from recbole_metarec.prepare.lines import Block, is_open, read_blocks, split_records
from recbole_metarec.prepare.times import are_dates, as_numbers

_PARQUET_ROWS = 1 << 20
_MISSING = sorted(READ_AS_MISSING)


@dataclass
class RowReader:
    """Reads a file of some form. skip_bad: count bad lines instead of stopping at the first. skipped: that count."""

    path: Path
    form: Form
    skip_bad: bool = False
    show_progress: bool = False
    skipped: int = 0
    # whether times are dates; None until one is a date or a number
    _dates: bool | None = field(default=None, init=False)

    def frames(self) -> Iterator[pl.DataFrame]:
        """Frames with one column per role of the form: numbers for time and rating, text for the rest; nothing missing.

        Raises DataError ("FILE:LINE: what; what to do") for the first bad line, unless ``skip_bad``.
        """
        if self.form.kind == "parquet":
            yield from self._parquet()
            return
        for block in read_blocks(self.path, self.form.member, self._quoted_by, self.show_progress):
            if block.line == 1 and self.form.header:
                block = Block(block.data[block.data.find(b"\n") + 1 :], 2)
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
                schema = {name: self._type(role) for role, name in form.columns.items()}
                frame = pl.read_ndjson(_as_json(data), schema=schema) if data.strip() else pl.DataFrame(schema=schema)
            elif form.quotes and b'"' in data:
                # the fast parser takes a mark in the middle of a field for the start of a quotation
                frame = _quoted(data, form)
            elif _is_even(data, form):
                frame = pl.read_csv(
                    data,
                    has_header=False,
                    separator=form.separator,
                    quote_char=None,
                    schema=dict.fromkeys(form.names, pl.String),
                    columns=[form.names.index(name) for name in names],
                )
            else:
                return None
        except (pl.exceptions.PolarsError, UnicodeDecodeError, csv.Error):
            return None
        return self._with_numbers(frame.select(pl.col(name).alias(role) for role, name in form.columns.items()))

    def _with_numbers(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Times and ratings as numbers, null where they are none."""
        casts = [pl.col(role).cast(pl.Float64, strict=False) for role in self.form.numbers if role in frame.columns]
        frame = frame.with_columns(casts)
        if TIME in frame.columns:
            if self._dates is None:
                self._dates = are_dates(frame[TIME])
            frame = frame.with_columns(as_numbers(frame[TIME], bool(self._dates)))
        return frame

    def _type(self, role: str):
        return pl.Int64 if role in self.form.whole else pl.Float64 if role in self.form.numbers else pl.String

    def _faults(self, frame: pl.DataFrame) -> pl.Series:
        """Which rows lack something that is needed, or have an id that RecBole would read as something else."""
        needed = [role for role in (USER, ITEM, TIME, RATING) if role in frame.columns]
        wrong = [pl.col(role).is_null() for role in needed]
        wrong += [_is_misread(pl.col(role)) for role in (USER, ITEM) if role in frame.columns]
        return frame.select(pl.any_horizontal(wrong).fill_null(True)).to_series()

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
        if not self.skip_bad:
            what = self._missing(row) if row else _explain(line, self.form)
            fail(self.path, number, what, "fix the line, or leave out such lines with --skip_bad_lines")

    def _missing(self, row: dict) -> str:
        for role, value in row.items():
            name = self.form.columns[role]
            if value is None and role in (TIME, RATING):
                expected = "a date as on the first lines" if role == TIME and self._dates else "a number"
                return f"{name} is missing or not {expected}"
            if role in (USER, ITEM) and not value:
                return f"{name} is missing"
            if role in (USER, ITEM) and (value in _MISSING or not value.isprintable() or value.startswith('"')):
                return f"{name} {show(value)} would be read by RecBole as a missing value or a quoted field"
        return "a field is missing"

    def _parquet(self) -> Iterator[pl.DataFrame]:
        columns = [pl.col(name).alias(role) for role, name in self.form.columns.items()]
        try:
            table = pl.scan_parquet(self.path, glob=False)
            known = table.collect_schema().names()
            for name in self.form.columns.values():
                if name not in known:
                    raise DataError(f"{self.path}: no column {name}; there are {', '.join(known)}; name one of them")
            rows = table.select(pl.len()).collect().item()
            for start in range(0, rows, _PARQUET_ROWS):
                part = table.select(columns).slice(start, _PARQUET_ROWS).collect()
                yield self._checked(part, start)
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{self.path}: cannot be read as Parquet ({reason}); write it anew") from None

    def _checked(self, part: pl.DataFrame, start: int) -> pl.DataFrame:
        """A part of a table whose columns have types already."""
        texts = [role for role in part.columns if role not in (TIME, RATING)]
        frame = self._with_numbers(part.with_columns(pl.col(texts).cast(pl.String, strict=False)))
        faults = self._faults(frame)
        for row in faults.arg_true().to_list():
            self.skipped += 1
            if not self.skip_bad:
                what = self._missing(frame.row(row, named=True))
                raise DataError(
                    f"{self.path}: row {start + row + 1}: {what}; fix it, or leave out such rows with --skip_bad_lines"
                )
        return frame.filter(~faults)


def _is_misread(ids: pl.Expr) -> pl.Expr:
    return (ids == "") | ids.is_in(_MISSING) | ids.str.contains(r'[\t\n\r\x00]|^"')


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


def _is_even(data: bytes, form: Form) -> bool:
    """Whether every row, none with a quoted field, has as many fields as the header."""
    # the parser refuses rows that are too long, so that the sum tells whether any is too short
    return data.count(form.separator.encode()) == (len(form.names) - 1) * _count(data)


def _quoted(data: bytes, form: Form) -> pl.DataFrame:
    """The wanted columns of rows with quoted fields. Raises csv.Error if a row is not as long as the header."""
    names = sorted(set(form.columns.values()))
    positions = [form.names.index(name) for name in names]
    columns: list[list] = [[] for _ in names]
    for row in _csv_rows(data.decode("utf-8"), form):
        if row and len(row) != len(form.names):
            raise csv.Error("a row has another length")
        if row:
            for column, position in zip(columns, positions):
                column.append(row[position] or None)
    return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String), orient="col")


def _csv_rows(text: str, form: Form) -> Iterator[list[str]]:
    # with any other newline a carriage return would end a row, though it ends no line
    return csv.reader(io.StringIO(text, newline="\n"), delimiter=form.separator, strict=True)


def _explain(line: bytes, form: Form) -> str:
    """Why a parser rejects a line."""
    try:
        text = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        return f"byte {error.start + 1} of the line is not UTF-8"
    if form.kind == "json":
        try:
            record = json.loads(text)
        except ValueError as error:
            return f"not JSON ({error})"
        if not isinstance(record, dict):
            return "not a JSON object"
        for role in sorted(form.whole | form.numbers):
            value = record.get(form.columns.get(role))
            if value is not None and not isinstance(value, int if role in form.whole else (int, float)):
                return f"{form.columns[role]} is {show(str(value))}, not a {'whole ' * (role in form.whole)}number"
        return "a field has another type than in the lines before"
    fields = text.split(form.separator)
    if form.quotes:
        if is_open(line, form.separator):
            return "a quotation mark is opened and not closed"
        try:
            fields = next(_csv_rows(text, form), [])
        except csv.Error:
            what = "line end" if "\r" in text else "quotation marks"
            return f"the fields cannot be told apart (check its {what})"
    count = len(fields)
    if count != len(form.names):
        return f"{count} field{'s' * (count != 1)} where there are {len(form.names)} columns"
    return "the fields cannot be told apart (check its quotation marks)"
