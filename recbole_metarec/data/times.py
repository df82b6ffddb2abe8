"""Numbers in columns of text: exactly, and as RecBole keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

_PLAIN = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


@dataclass(frozen=True)
class Times:
    """n times, exactly: units int64 [n] of 10 ** -decimals; and stored float32 [n], what RecBole makes of them."""

    units: np.ndarray
    decimals: int
    stored: np.ndarray

    @property
    def is_kept(self) -> bool:
        """Whether float32 tells apart all that differs."""
        return self.decimals == 0 and (not len(self.units) or np.abs(self.units).max() <= 2**24)

    @property
    def span(self) -> tuple[float, float]:
        """The first time and the last one."""
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


def join_times(parts: Sequence[Times]) -> Times | None:
    """All of ``parts`` in one unit; None if int64 is too small for that."""
    decimals = max(part.decimals for part in parts)
    for part in parts:
        largest = 0 if not len(part.units) else max(abs(int(part.units.min())), abs(int(part.units.max())))
        if largest * 10 ** (decimals - part.decimals) >= 2**63:
            return None
    units = np.concatenate([part.units * 10 ** (decimals - part.decimals) for part in parts])
    return Times(units, decimals, np.concatenate([part.stored for part in parts]))


def read_numbers(texts: pl.Series) -> np.ndarray | None:
    """float64 [n], the numbers in a column of text; None unless each is a finite one."""
    bare = texts.str.strip_chars(" ")
    if not bare.str.contains(_NUMBER).all():
        return None
    values = bare.cast(pl.Float64, strict=False)
    return values.to_numpy() if not values.null_count() and values.is_finite().all() else None
