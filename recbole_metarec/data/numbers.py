"""Numbers in columns of text: exactly, and as RecBole keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl

from recbole_metarec.data.faults import show
from recbole_metarec.data.ids import is_missing
from recbole_metarec.data.text_file import TextColumns

_PLAIN = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


@dataclass(frozen=True)
class Times:
    """n times. units int64 [n]: the times in units of 10 ** -decimals, or, where decimals is None, their places among
    the different times in order. stored float32 [n]: what RecBole makes of them."""

    units: np.ndarray
    decimals: int | None
    stored: np.ndarray

    @property
    def is_kept(self) -> bool:
        """Whether float32 tells apart all that differs."""
        return self.decimals == 0 and (not len(self.units) or np.abs(self.units).max() <= 2**24)

    @property
    def values(self) -> np.ndarray:
        """[n], the times themselves, about as exact as they are held."""
        if self.decimals is None:
            return self.stored
        return self.units / 10**self.decimals if self.decimals else self.units

    @property
    def span(self) -> tuple[float, float]:
        """The first time and the last one."""
        if self.decimals is None:
            return float(self.stored.min()), float(self.stored.max())
        return tuple(int(end) / 10**self.decimals for end in (self.units.min(), self.units.max()))


def read_times(texts: pl.Series) -> Times | None:
    """The times in a column of text; None unless each is a decimal of at most 18 digits without exponent."""
    whole = texts.cast(pl.Int64, strict=False)
    if not whole.null_count():
        units = whole.to_numpy()
        return Times(units, 0, units.astype(np.float64).astype(np.float32))
    bare = texts.str.strip_chars(" ")
    if not bare.str.contains(_PLAIN).all():
        return None
    parts = bare.str.split_exact(".", 1).struct.unnest()
    fraction = parts["field_1"].fill_null("")
    decimals = int(fraction.str.len_bytes().max() or 0)
    whole = (parts["field_0"] + fraction.str.pad_end(decimals, "0")).cast(pl.Int64, strict=False)
    values = bare.cast(pl.Float64, strict=False)
    if whole.null_count() or values.null_count():
        return None
    return Times(whole.to_numpy(), decimals, values.to_numpy().astype(np.float32))


def join_times(parts: Sequence[Times | None]) -> Times | None:
    """All of ``parts`` in one unit; None if int64 is too small for that, or one of them is None."""
    if any(part is None for part in parts):
        return None
    decimals = max(part.decimals for part in parts)
    for part in parts:
        largest = 0 if not len(part.units) else max(abs(int(part.units.min())), abs(int(part.units.max())))
        if largest * 10 ** (decimals - part.decimals) >= 2**63:
            return None
    units = np.concatenate([part.units * 10 ** (decimals - part.decimals) for part in parts])
    return Times(units, decimals, np.concatenate([part.stored for part in parts]))


def compare_times(texts: pl.Series) -> Times:
    """Finite numbers of any form as times. Slow: for what :func:`read_times` and :func:`join_times` cannot hold."""
    codes, unique = pd.factorize(texts.to_numpy())
    values = [Decimal(text.strip(" ")) for text in unique]
    places = {value: place for place, value in enumerate(sorted(set(values)))}
    with np.errstate(over="ignore"):
        stored = np.array([float(value) for value in values]).astype(np.float32)
    return Times(np.array([places[value] for value in values], np.int64)[codes], None, stored[codes])


def read_numbers(texts: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """(float64 [n], bool [n]): the numbers in a column of text, NaN where there is none, and where that is a fault.

    An empty field and the words that RecBole reads as missing are no fault.
    """
    bare = texts.str.strip_chars(" ")
    values = bare.cast(pl.Float64, strict=False)
    is_number = bare.str.contains(_NUMBER) & values.is_finite().fill_null(False)
    faults = ~is_number & ~is_missing(texts)
    return values.set(~is_number, None).cast(pl.Float64).fill_null(np.nan).to_numpy(), faults.to_numpy()


def numbers_of(columns: TextColumns, field: str, may_be_missing: bool = True) -> np.ndarray:
    """float64 [n], the numbers in a column. Raises DataError with the line of the first that is none.

    may_be_missing: whether a number may be left out; it is NaN then.
    """
    texts = columns[field]
    values, faults = read_numbers(texts)
    if not may_be_missing:
        faults = faults | np.isnan(values)
    if faults.any():
        row = int(faults.argmax())
        what = f"{show(texts[row])} is not a finite number" if texts[row].strip() else "is empty"
        todo = (
            "write it as a number" if may_be_missing else "write the time as a number, for example seconds since 1970"
        )
        columns.fail(row, f"{field} {what}", todo)
    return values
