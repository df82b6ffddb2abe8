"""How files spell events: which fields of which public set, or of a user's log, are user, item, time and rating.

Public files are recognised by their content, not by their names:

==================================  =================================================================================
Amazon 2014, 2018 (``.json.gz``)    an object a line: reviewerID, asin, unixReviewTime (seconds), overall
Amazon 2023 (``.jsonl.gz``)         an object a line: user_id, parent_asin, timestamp (milliseconds), rating
Amazon 2014 (``ratings_*.csv``)     user, item, rating, time, without a header
Amazon 2018 (``*.csv``)             item, user, rating, time, without a header
Amazon 2023 (``*.csv.gz``)          user_id, parent_asin, rating, timestamp, with a header
Yelp (reviews)                      an object a line: user_id, business_id, date, stars
RecBole (``.inter``, also zipped)   tab-separated, a header of name:type
==================================  =================================================================================

To add a public form, add its fields below and a branch in :func:`public_form`, or, if its files do not tell what they
are, a line in :mod:`.public_sets`; a user's log is :func:`own_form`'s. A new kind of file, beside JSON, separated text
and tables with types, is also read in :mod:`.rows`. An ``edition`` asks for the 5-core of Amazon's files; leave it
empty elsewhere.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recbole_metarec.data.faults import fail
from recbole_metarec.data.writer import ORIGINAL_TIME
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.prepare.containers import ARROW, EXCEL, PARQUET, members, table_kind
from recbole_metarec.prepare.headers import check_header, find_separator, read_header
from recbole_metarec.prepare.lines import first_lines

USER, ITEM, TIME, RATING = "user", "item", "time", "rating"
_JSON_NAMES, _PARQUET_NAMES = (".json", ".jsonl", ".ndjson"), (".parquet", ".pq")
_SEPARATORS = {".tsv": "\t", ".inter": "\t", ".item": "\t"}
# An Amazon item has ten letters and digits, a user more.
_AMAZON_ITEM, _AMAZON_USER = re.compile(rb"[0-9A-Z]{10}"), re.compile(rb"A[0-9A-Z]{10,}")

_HEADER_2023 = b"user_id,parent_asin,rating,timestamp"


@dataclass(frozen=True)
class Form:
    """The spelling of a file. kind: json (an object a line), separated, or parquet, arrow or excel (tables with types).

    columns: role (user, item, time, rating, or any other name) -> its name in the file.
    whole: roles that are whole numbers in the file, numbers: roles that are numbers; all others are read as text.
    names, separator, header, quotes, member: of separated files; all columns in order, whether the first line names
    them, whether fields may be quoted, and how the name ends of the file inside a zip archive.
    edition: of a public set, where the file tells (Yelp's is called latest). atomic: whether it is RecBole's, so that
    somebody has chosen its events already. encoding: "" for UTF-8. time_format: of times that are text, "" for numbers
    and ISO 8601. picked: a pattern for fields that hold several items: one event for each that it finds.
    plain_quotes: whether ids are names in which a quotation mark is a sign like any other; it is written as an
    apostrophe, since RecBole takes a field that begins with it for a quoted one.
    """

    kind: str
    columns: Mapping[str, str]
    whole: frozenset = frozenset()
    numbers: frozenset = frozenset({RATING})
    names: tuple[str, ...] = ()
    separator: str = ","
    header: bool = False
    quotes: bool = False
    member: str = ""
    edition: str = ""
    atomic: bool = False
    encoding: str = ""
    time_format: str = ""
    picked: str = ""
    plain_quotes: bool = False

    @property
    def is_table(self) -> bool:
        """Whether its columns have types."""
        return self.kind in (PARQUET, ARROW, EXCEL)


_REVIEWS = {USER: "reviewerID", ITEM: "asin", TIME: "unixReviewTime", RATING: "overall"}
_REVIEWS_2023 = {USER: "user_id", ITEM: "parent_asin", TIME: "timestamp", RATING: "rating"}
_YELP = {USER: "user_id", ITEM: "business_id", TIME: "date", RATING: "stars"}
_ATOMIC = {USER: "user_id", ITEM: "item_id", TIME: "timestamp", RATING: "rating"}


def public_form(path: Path, edition: str = "") -> Form:
    """The form of a public file of events, by its first lines.

    edition: as the user gives it; decides where the lines do not. Raises DataError for a file of no known form,
    ConfigError for one of another edition.
    """
    member = _member(path, ".inter")
    lines = first_lines(path, member)
    if lines[0].lstrip().startswith(b"{"):
        form = _json_form(path, lines[0])
    elif b":token" in lines[0]:
        names, separator = read_header(path, lines[0], "\t")
        columns = {role: name for role, name in _ATOMIC.items() if name in names or role != RATING}
        if ORIGINAL_TIME in names:  # a file that was written here, whose timestamp is a rank
            columns[TIME] = ORIGINAL_TIME
        form = replace(_separated(path, names, separator, columns, False, member), atomic=True)
    elif lines[0].startswith(_HEADER_2023) or re.fullmatch(rb"([^,]+,){3}\d+", lines[0]):
        form = _ratings_form(path, lines, edition)
    else:
        raise DataError(
            f"{path}:1: is no file of Amazon reviews or ratings, of Yelp reviews, nor of RecBole; for a log of your "
            "own say which columns to read with --user, --item and --time"
        )
    if edition and form.edition and form.edition != edition:
        raise ConfigError(f"--edition: {path} is of the {form.edition} edition; say --edition {form.edition}")
    return form


def own_form(
    path: Path, columns: Mapping[str, str], member: str = "", names: Sequence[str] = (), time_format: str = ""
) -> Form:
    """The form of a user's table, by its name and its first line: CSV, TSV, ``.inter``, JSON lines, Parquet and such.

    columns: role -> the file's column. names: of all columns, for a file without a header. time_format: of times that
    are neither numbers nor ISO 8601. Raises DataError for columns that the file does not have, and for a first line
    that is no header.
    """
    suffix, kind = _suffix(path), table_kind(path)
    if kind or suffix in _PARQUET_NAMES:
        return Form(kind or PARQUET, columns, time_format=time_format)
    member = _member(path, member)
    line = first_lines(path, member)[0]
    if suffix in _JSON_NAMES or line.lstrip().startswith(b"{"):
        return Form("json", columns, member=member, time_format=time_format)
    has_names, tab = bool(names), "\t" if _SEPARATORS.get(suffix) or b":token" in line else ","
    if names:
        separator = find_separator(path, line, tab, len(names))
    else:
        names, separator = read_header(path, line, tab, columns.values())
        check_header(path, names, columns.values(), columns.get(TIME), separator)
    quotes = separator not in ("\t", "::")
    form = _separated(path, names, separator, columns, quotes, member, header=not has_names)
    return replace(form, time_format=time_format)


def atomic_columns(path: Path) -> list[str]:
    """The columns of a RecBole ``.item`` file, which may be in a zip archive."""
    return list(read_header(path, first_lines(path, _member(path, ".item"))[0], "\t")[0])


def read_object(path: Path, line: bytes, number: int = 1) -> dict:
    """:func:`read_record` of a line. Raises DataError with the line's ``number``."""
    try:
        return read_record(line.decode("utf-8"))
    except ValueError:
        what = "no JSON object" if _is_text(line) else "not UTF-8"
    fail(path, number, f"the line is {what}", "fix it, leave it out with --skip_bad_lines, or give another file")


def read_record(line: str) -> dict:
    """The record in one line, which is JSON or, in the oldest files, a Python dictionary (read as a literal).

    Raises ValueError for any other line.
    """
    for parse in (json.loads, ast.literal_eval):
        try:
            record = parse(line)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if isinstance(record, dict):
            return record
    raise ValueError("no object")


def _is_text(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _json_form(path: Path, line: bytes) -> Form:
    keys = set(read_object(path, line))
    if "reviewerID" in keys:
        edition = "2014" if "helpful" in keys else "2018" if "verified" in keys else ""
        return Form("json", _REVIEWS, frozenset({TIME}), edition=edition)
    if {"user_id", "parent_asin"} <= keys:
        return Form("json", _REVIEWS_2023, frozenset({TIME}), edition="2023")
    if {"user_id", "business_id"} <= keys:
        return Form("json", _YELP, edition="latest")
    fail(
        path,
        1,
        f"the fields {', '.join(sorted(keys)[:12])} are of no public set that is known here",
        "for a log of your own say --user, --item and --time",
    )


def _ratings_form(path: Path, lines: Sequence[bytes], edition: str) -> Form:
    """Ratings without texts: the header, or the look of the ids, says the order of their columns."""
    if lines[0].startswith(_HEADER_2023):
        names = tuple(lines[0].decode("ascii", "replace").split(","))
        return _separated(path, names, ",", _REVIEWS_2023, False, edition="2023")
    rows = [fields for line in lines if len(fields := line.split(b",")) == 4]
    user_first = _share(rows, 0, _AMAZON_USER) > 0.9 < _share(rows, 1, _AMAZON_ITEM)
    item_first = _share(rows, 0, _AMAZON_ITEM) > 0.9 < _share(rows, 1, _AMAZON_USER)
    edition = "2014" if user_first else "2018" if item_first else edition
    if edition not in ("2014", "2018"):
        raise DataError(
            f"{path}:1: cannot tell users from items in a file without a header; say --edition 2014 for user, item, "
            "rating, time, --edition 2018 for item, user, rating, time, or put a header on top and say --user, --item "
            "and --time"
        )
    names = (USER, ITEM, RATING, TIME) if edition == "2014" else (ITEM, USER, RATING, TIME)
    columns = {role: role for role in (USER, ITEM, TIME, RATING)}
    return _separated(path, names, ",", columns, False, header=False, edition=edition)


def _share(rows: list, column: int, pattern: re.Pattern) -> float:
    """The share of the rows whose field matches a pattern."""
    return sum(pattern.fullmatch(row[column]) is not None for row in rows) / len(rows)


def _separated(path, names, separator, columns, quotes, member="", header=True, edition="") -> Form:
    absent = [(role, name) for role, name in columns.items() if name not in names]
    if absent:
        what = f"no column {absent[0][1]}; the header has {', '.join(names)}"
        fail(path, 1, what, _how_to_name(absent[0][0], columns))
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        fail(path, 1, f"column {twice[0]} appears twice in the header", "rename one of them")
    return Form(
        "separated",
        columns,
        names=tuple(names),
        separator=separator,
        header=header,
        quotes=quotes,
        member=member,
        edition=edition,
    )


def _how_to_name(role: str, columns: Mapping[str, str]) -> str:
    """What to do about a column that is not there."""
    if columns.get(role) == _ATOMIC.get(role):
        return "say --user, --item and --time, named as they are there"
    if role == ITEM and USER not in columns:
        return "say with --id_column which one names the item"
    return "name the columns as they are there"


def _member(path: Path, member: str) -> str:
    """The file in a zip archive: the one named so, or else the only one there is."""
    return member if any(name.endswith(member) for name in members(path)) else ""


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()
