"""Files whose columns have types: Parquet, Arrow and Excel, as the columns that are wanted, part by part."""

import subprocess
import sys
from collections.abc import Iterator
from logging import getLogger
from pathlib import Path

import numpy as np
import polars as pl

from recbole_metarec.config.suggestions import nearest
from recbole_metarec.errors import DataError
from recbole_metarec.prepare.containers import ARROW, PARQUET
from recbole_metarec.prepare.forms import ITEM, RATING, TIME, USER, Form

PART_ROWS = 1 << 20
_TRIAL = """
import sys
import polars as pl
kind, path, most, *columns = sys.argv[1:]
table = (pl.scan_parquet if kind == "parquet" else pl.scan_ipc)(path, glob=False)
columns = [name for name in columns if name in table.collect_schema()]
for start in range(0, table.select(pl.len()).collect().item(), int(most)):
    table.select(columns).slice(start, int(most)).collect()
"""
_EXACT = {pl.Float32: 2**24, pl.Float64: 2**53}  # whole numbers up to here are told apart


def read_parts(path: Path, form: Form) -> Iterator[tuple[pl.DataFrame, int]]:
    """(a part with one column per role, the number of its first row from 0): ids as text, times and ratings as typed.

    Raises DataError for a file that cannot be read, a column that is not there, or one whose type can be none of it.
    """
    if form.kind in (PARQUET, ARROW):
        check_readable(path, form)
    try:
        table = _opened(path, form.kind)
        types = table.collect_schema()
        for role, name in form.columns.items():
            _check_column(path, role, name, types)
        rows = table.select(pl.len()).collect().item()
        columns = [_as_role(role, name, types[name]) for role, name in form.columns.items()]
        for start in range(0, rows, PART_ROWS):
            part = table.select(columns).slice(start, PART_ROWS).collect()
            _check_exact(path, form, part)
            if not start:
                _tell_rounded_times(path, form, part)
            texts = [role for role in part.columns if role not in (TIME, RATING)]
            yield part.with_columns(pl.col(texts).cast(pl.String, strict=False)), start
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read as {form.kind.title()} ({reason}); write it anew") from None


def check_readable(path: Path, form: Form) -> None:
    """Raises DataError for a file that another process cannot read: some damage ends the process that meets it."""
    columns = dict.fromkeys(form.columns.values())
    words = [sys.executable, "-c", _TRIAL, form.kind, path, str(PART_ROWS), *columns]
    trial = subprocess.run(words, capture_output=True, text=True)
    if trial.returncode:
        lines = trial.stderr.strip().splitlines() if trial.returncode > 0 else []
        reason = lines[-1] if lines else "reading it ends the process"
        raise DataError(f"{path}: cannot be read as {form.kind.title()} ({reason}); write it anew")


def _opened(path: Path, kind: str) -> pl.LazyFrame:
    if kind == PARQUET:
        return pl.scan_parquet(path, glob=False)
    if kind == ARROW:
        return pl.scan_ipc(path, glob=False)
    try:
        return pl.read_excel(path).lazy()
    except ImportError:  # polars' own ModuleUpgradeRequiredError is one, too
        raise DataError(
            f"{path}: is an Excel workbook; pip install 'recbole-metarec[excel]' to read it, or save it as CSV UTF-8"
        ) from None


def _check_column(path: Path, role: str, name: str, types: pl.Schema) -> None:
    if name not in types:
        near = nearest(name, list(types))
        todo = f"did you mean {near}?" if near else "name one of them"
        raise DataError(f"{path}: no column {name}; there are {', '.join(types)}; {todo}")
    kind = types[name]
    no_time = role == TIME and kind in (pl.Time, pl.Duration, pl.Boolean)
    if (kind.is_nested() and role in (USER, ITEM, TIME, RATING)) or no_time:
        wanted = "a time should be" if role == TIME else "one value should be"
        raise DataError(f"{path}: column {name} is of the type {kind}, where {wanted}; write a plain column")


def _as_role(role: str, name: str, kind: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if kind in (pl.Categorical, pl.Enum, pl.Binary):
        column = column.cast(pl.String, strict=False)
    if kind.is_nested():
        column = column.struct.json_encode() if kind == pl.Struct else column.cast(pl.List(pl.String)).list.join(" ")
    return column.alias(role)


def _check_exact(path: Path, form: Form, part: pl.DataFrame) -> None:
    """Floats that round ids would make one id of several. Raises DataError."""
    for role in (USER, ITEM):
        limit = _EXACT.get(part[role].dtype) if role in part.columns else None
        largest = part[role].abs().max() if limit else None
        if largest is not None and largest >= limit:
            name = form.columns[role]
            raise DataError(
                f"{path}: column {name} holds floats up to {largest:.0f}, which have lost digits; write it as integers "
                "or text"
            )


def _tell_rounded_times(path: Path, form: Form, part: pl.DataFrame) -> None:
    """Warns of times whose last digits are lost, in a short float or below a microsecond: two may become one."""
    if TIME not in part.columns:
        return
    kind = part[TIME].dtype
    if isinstance(kind, pl.Datetime) and kind.time_unit == "ns" and (part[TIME].dt.nanosecond() % 1000 != 0).any():
        told = f"column {form.columns[TIME]} holds nanoseconds, which are read to the microsecond"
        getLogger().warning(f"{path}: {told}; write it as integers to keep them")
    if kind != pl.Float32:
        return
    largest = part[TIME].abs().max()
    if largest is not None and largest >= _EXACT[pl.Float32]:
        told = f"column {form.columns[TIME]} holds 32-bit floats, which round times such as {largest:.0f}"
        getLogger().warning(f"{path}: {told} to {np.spacing(np.float32(largest)):.0f}; write it as integers")
