"""Names of users and items in columns of text, and their numbers."""

import numpy as np
import pandas as pd
import polars as pl

from recbole_metarec.data.faults import show
from recbole_metarec.data.text_file import TextColumns

# What pandas, and so RecBole, reads as "no value"; an event of such a user or item would vanish.
READ_AS_MISSING = tuple(
    "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null".split("|")  # noqa: SIM905
)

_SPACE = r"[\s\x{200b}\x{2060}\x{feff}]"  # also one of no width, and a byte order mark
SPACED = f"^{_SPACE}|{_SPACE}$"  # what looks like another id and is not


def is_missing(texts: pl.Series) -> pl.Series:
    """Which of the texts RecBole reads as "no value"."""
    return texts.is_in(["", *READ_AS_MISSING])


def factorize(texts: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """Numbers int32 [n] of texts, from 0 in the order of their first appearance, and the text of each number."""
    codes, hashes = pd.factorize(texts.hash().to_numpy())
    first = np.empty(len(hashes), np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # the last write stays
    names = texts.gather(first)
    if not (names.gather(codes) == texts).all():  # two texts of one hash
        codes, unique = pd.factorize(texts.to_numpy())
        names = pl.Series(unique, dtype=pl.String)
    return codes.astype(np.int32), names


def twins(names: pl.Series) -> tuple[str, str] | None:
    """Two of different names that are one text in Unicode, such as a composed and a decomposed é; None without any."""
    odd = names.filter(names.str.contains(r"[^\x00-\x7f]"))
    composed = odd.str.normalize("NFC")
    repeated = ~composed.is_first_distinct()
    if not repeated.any():
        return None
    row = _first(repeated)
    return odd[_first(composed == composed[row])], odd[row]


def without_their_zeros(names: pl.Series, others: pl.Series) -> tuple[str, str] | None:
    """A name and one of ``others`` that differ only by leading zeros, which one side has lost."""
    one, other = (
        texts.filter(texts.str.contains("^[0-9]+$"))
        .to_frame("id")
        .with_columns(bare=pl.col("id").str.strip_chars_start("0"))
        for texts in (names, others)
    )
    pairs = one.join(other, on="bare").select("id", "id_right")
    return pairs.row(0) if len(pairs) else None


def check_ids(columns: TextColumns, field: str, ids: pl.Series, of_event: bool) -> None:
    """Raises DataError, with its line, unless all of ``ids``, the different ones in a column, can be names.

    of_event: whether RecBole's filters would take away what it reads as missing.
    """
    if (ids == "").any():
        todo = "give every event a user and an item" if of_event else "name it, or remove the line"
        columns.fail(_first(columns[field] == ""), f"{field} is empty", todo)
    if of_event and ids.is_in(READ_AS_MISSING).any():
        row = _first(columns[field].is_in(READ_AS_MISSING))
        what = f"{field} {show(columns[field][row])} would be read as missing by RecBole and its events dropped"
        columns.fail(row, what, "rename it, for example with a letter in front")
    if ids.str.contains(SPACED).any():
        row = _first(columns[field].str.contains(SPACED))
        what = f"{field} {show(columns[field][row])} has a space around it, which would make it another one"
        columns.fail(row, what, "take the spaces away; recbole-metarec prepare --raw FILE does that, too")
    if ids.str.starts_with('"').any():
        row = _first(columns[field].str.starts_with('"'))
        what = f"{field} {show(columns[field][row])} starts with a quotation mark, which would be part of the name"
        columns.fail(row, what, "write the fields without quotation marks")


def _first(rows: pl.Series) -> int:
    return int(rows.arg_true()[0])
