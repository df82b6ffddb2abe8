"""The first line of a separated file: the names of its columns, and whether it is a header at all."""

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from recbole_metarec.data.faults import fail, show
from recbole_metarec.prepare.times import fitting_formats, looks_like_time

NOT_UTF8 = "a file of Western Europe: iconv -f LATIN1 -t UTF-8 FILE > NEW"
_SEPARATORS = ("::", ",", "\t", ";", "|", " ")
_EXCEL_HINT = re.compile(r"\"?sep=.\"?\s*", re.IGNORECASE)
_SHORT = re.compile("[0-9]{1,8}")  # more likely an id or a count than a time


def csv_rows(text: str, separator: str) -> Iterator[list[str]]:
    """Rows of fields that may be quoted. Raises csv.Error."""
    # with any other newline a carriage return would end a row, though it ends no line
    return csv.reader(io.StringIO(text, newline="\n"), delimiter=separator, strict=True)


def read_header(path: Path, line: bytes, separator: str, wanted: Collection[str] = ()) -> tuple[tuple[str, ...], str]:
    """(names, separator): another separator is taken if only it makes a header with all the ``wanted`` columns."""
    text = _decoded(path, line)
    if not text.strip():
        fail(path, 1, "the first line is blank", "put the names of the columns there")
    if _EXCEL_HINT.fullmatch(text):
        fail(path, 1, f"{show(text)} names the separator for Excel", "leave the line out in a copy")
    for candidate in (separator, *_SEPARATORS):
        names = _names(_fields(text, candidate))
        if len(names) > 1 and set(wanted) <= set(names):
            return names, candidate
    likely = max((separator, *_SEPARATORS), key=text.count)
    fields = _fields(text, likely)
    if not fields:
        fail(path, 1, "the header cannot be cut into names", "check its quotation marks")
    return _names(fields), likely


def find_separator(path: Path, line: bytes, separator: str, columns: int) -> str:
    """The separator that cuts a line into ``columns`` fields. Raises DataError if none does."""
    text = _decoded(path, line)
    fitting = [sign for sign in (separator, *_SEPARATORS) if len(_fields(text, sign)) == columns]
    if not fitting:
        likely = max(_SEPARATORS, key=text.count)
        count = len(_fields(text, likely))
        told = f"{count} field{'s' * (count != 1)} between {show(likely)}"
        fail(
            path, 1, f"--columns names {columns} columns, but the line has {told}", "name each of them, in their order"
        )
    return fitting[0]


def check_header(path: Path, names: Collection[str], wanted: Collection[str], time: str | None, separator: str) -> None:
    """Raises DataError if the names look like the fields of an event. time: the column that holds times."""
    is_event = time is not None and looks_like_time(time)
    if not is_event and (set(wanted) <= set(names) or not any(map(_may_be_time, names))):
        return
    if time is None:
        told = f"{show(separator.join(names))} looks like an item, not a header"
        fail(path, 1, told, "put the names of the columns on top")
    told = f"{show(separator.join(names))} looks like an event, not a header"
    todo = "put the names of the columns on top, or say all of them in their order, such as --columns "
    fail(path, 1, told, todo + ",".join(_likely_names(names)))


def _likely_names(fields: Collection[str]) -> list[str]:
    """What the columns may be called: the time is the last one that can be one, the first two others user and item."""
    times = [place for place, text in enumerate(fields) if _may_be_time(text) and not _SHORT.fullmatch(text)]
    names = iter(("user", "item", *(f"x{number}" for number in range(3, len(fields) + 3))))
    time = times[-1] if times else len(fields) - 1
    return ["time" if place == time else next(names) for place in range(len(fields))]


def _may_be_time(text: str) -> bool:
    """Whether a text is a time in any form that is known, or a number."""
    return looks_like_time(text) or bool(fitting_formats(text))


def _decoded(path: Path, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        fail(path, 1, f"byte {error.start + 1} of the line is not UTF-8 ({NOT_UTF8})", "save the file as UTF-8")


def _fields(text: str, separator: str) -> list[str]:
    """What a separator makes of a line; nothing where its quotation marks do not fit."""
    if len(separator) > 1 or separator == "\t":
        return text.split(separator)
    try:
        return next(csv_rows(text, separator), [])
    except csv.Error:
        return []


def _names(fields: Sequence[str]) -> tuple[str, ...]:
    """The names in a header, without RecBole's types; a column without a name is called by its place."""
    bare = (re.sub(r":(token|float|token_seq|float_seq)$", "", field.strip()) for field in fields)
    return tuple(name or f"column {place}" for place, name in enumerate(bare, 1))
