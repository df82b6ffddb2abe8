"""The texts of a domain's items, from ``NAME.item``, in the order of its item ids.

The text of every item of the catalogue may be used, also of items that no training event names: it is known before
anybody has met the item, and says nothing about who will.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from recbole_metarec.data.features import read_features
from recbole_metarec.data.ids import without_their_zeros
from recbole_metarec.data.text_file import read_header
from recbole_metarec.errors import DataError


class NoTextError(DataError):
    """A domain has no item file, or none of the text columns that were asked for."""


def check_text_columns(path: Path, columns: Sequence[str], item_field: str, separator: str, encoding: str) -> None:
    """Raises NoTextError if there is no such file or its header lacks a column, DataError for a malformed header."""
    if not path.is_file():
        raise NoTextError(
            f"{path}: no such file, so {path.stem} has no item texts; write one with the columns {item_field}:token "
            f"and {columns[0]}:token_seq, or use a model that needs no text"
        )
    names = list(read_header(path, separator, encoding).types)
    for name in (item_field, *columns):
        if name not in names:
            raise NoTextError(
                f"{path}: there is no column {name}, only {', '.join(names)}; add it, or name the columns that "
                "hold text with text_columns"
            )


def attribute_columns(path: Path, item_field: str, separator: str, encoding: str) -> list[str]:
    """Columns of an ``.item`` file that hold several words, else those that hold one, the item's own name aside.

    Raises DataError if there is no such file or column, or for a malformed header.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file, so items have no text or attribute; write it")
    types = read_header(path, separator, encoding).types
    for kind in ("token_seq", "token"):
        names = [name for name, its_kind in types.items() if its_kind == kind and name != item_field]
        if names:
            return names
    raise DataError(f"{path}:1: no column of type token_seq or token beside {item_field}; add one")


def read_item_texts(
    path: Path, items: Sequence[str], columns: Sequence[str], item_field: str, separator: str, encoding: str
) -> list[str]:
    """The text of each of ``items`` (item names in the order of their ids, padding first), ``columns`` joined.

    Padding and items that the file does not name get an empty text; the latter are counted in a warning.
    Raises NoTextError if there is no such file or column, DataError, with its line, for a malformed one.
    """
    check_text_columns(path, columns, item_field, separator, encoding)
    file = read_features(path, item_field, columns, separator, encoding)
    parts = zip(*(file[name].str.strip_chars().to_list() for name in columns), strict=True)
    by_item = dict(zip(file[item_field].to_list(), (" ".join(filter(None, texts)) for texts in parts), strict=True))
    texts = ["", *(by_item.get(str(item), "") for item in items[1:])]
    missing = texts[1:].count("")
    if missing == len(texts) - 1:
        pair = without_their_zeros(file[item_field], pl.Series(map(str, items[1:]), dtype=pl.String))
        why = f"; {pair[0]} is {pair[1]} in the events, so one side has lost its leading zeros" if pair else ""
        raise NoTextError(f"{path}: none of the domain's items has a text in it{why}; check its {item_field} column")
    if missing:
        logging.getLogger().warning(f"{path.stem}: {missing} of {len(texts) - 1} items have no text")
    return texts
