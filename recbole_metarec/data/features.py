"""``NAME.item`` and ``NAME.user``: what is known of a domain's items and users, one line for each."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from recbole_metarec.data.faults import show
from recbole_metarec.data.ids import check_ids
from recbole_metarec.data.text_file import TextColumns, read_columns, read_header

_ROW = "\trow"  # no column can be named so


def read_features(
    path: Path, id_field: str, names: Sequence[str] | None = None, separator: str = "\t", encoding: str = "utf-8"
) -> TextColumns:
    """The named columns, or all of them, and ``id_field``: a row for each item or user, in the order of the file.

    A line that says what an earlier one has said is left out. Raises DataError ("PATH:LINE: what is wrong; what to do")
    for a file that is malformed, lacks a column, or has two lines of one item that differ.
    """
    header = read_header(path, separator, encoding)
    header.require(id_field, "token")
    names = list(header.types) if names is None else list(dict.fromkeys([id_field, *names]))
    columns = read_columns(path, separator, encoding, names)
    check_ids(columns, id_field, columns[id_field], of_event=False)
    if not columns[id_field].is_duplicated().any():
        return columns
    frame = columns.frame.with_row_index(_ROW).unique(names, keep="first", maintain_order=True)
    others = frame.filter(~pl.col(id_field).is_first_distinct())
    if len(others):
        what = f"{id_field} {show(others[id_field][0])} appears twice"
        columns.fail(others[_ROW][0], what, "keep one of the lines, which differ")
    return TextColumns(columns.lines, frame.drop(_ROW), frame[_ROW])
