"""Texts of items: title, brand and categories from the metadata of a public set, or columns of a user's file."""

import html
import re
from collections.abc import Collection, Iterable
from contextlib import closing
from logging import getLogger
from pathlib import Path

import polars as pl

from recbole_metarec.data.faults import fail, show
from recbole_metarec.data.ids import without_their_zeros
from recbole_metarec.data.item_texts import NoTextError
from recbole_metarec.data.writer import ITEM
from recbole_metarec.errors import DataError
from recbole_metarec.prepare.containers import members
from recbole_metarec.prepare.forms import ITEM as ITEM_ROLE
from recbole_metarec.prepare.forms import Form, atomic_columns, own_form, read_object
from recbole_metarec.prepare.lines import Block, first_lines, read_blocks
from recbole_metarec.prepare.rows import RowReader

TEXT = "text"
# What identifies an item, and what tells about it, in the 2023, 2014 and 2018 editions, and in Yelp's file.
_IDS = ("parent_asin", "asin", "business_id")
_TITLES, _BRANDS, _CATEGORIES = ("title", "name"), ("brand", "store"), ("categories", "category", "main_category")
_ATOMIC_TEXTS = ("title", "name", "brand", "store", "categories", "category", "text")
_ID = re.compile(rb"""["'](?:parent_asin|asin|business_id)["']\s*:\s*["']([^"']+)["']""")
_TAG = re.compile(r"<[^<>]{0,2000}>")
_SCRIPT = "getTime"  # some titles of the 2018 edition are a piece of the page's program


def metadata_texts(path: Path, wanted: Collection[str], skip_bad: bool, show_progress: bool) -> pl.DataFrame:
    """Columns item_id and text of the ``wanted`` items, from JSON lines of metadata or a RecBole ``.item`` file.

    A text is title, brand (or store) and categories, each ended by a full stop, without HTML. An item that occurs
    twice keeps its first text. Lines of items that are not wanted are not parsed. Raises DataError, with the line,
    for a line that is, and cannot be read; and for a file that has no text for any item.
    """
    if is_atomic(path):
        if missing := no_known_texts(path):
            raise DataError(f"{path}:1: {missing}")
        columns = [name for name in _ATOMIC_TEXTS if name in atomic_columns(path)]
        return column_texts(path, ITEM, columns, wanted, skip_bad, show_progress)
    texts: dict[str, str] = {}
    with closing(read_blocks(path, show_progress=show_progress)) as blocks:
        for number, line in _lines_about(blocks, set(wanted)):
            record = _record(path, number, line, skip_bad)
            item = next((record[name] for name in _IDS if isinstance(record.get(name), str)), None)
            if item is None and not skip_bad:
                fail(path, number, f"no field {' or '.join(_IDS)}", "give the metadata that belongs to the reviews")
            if item in wanted and item not in texts:
                texts[item] = _told(record)
    return _table(path, texts.items())


def is_atomic(path: Path) -> bool:
    """Whether a file is RecBole's ``.item``, or an archive that holds one."""
    return any(name.endswith(".item") for name in (path.name, *members(path)))


def no_known_texts(path: Path) -> str:
    """Why it is unknown which columns of a RecBole ``.item`` file are texts, and what to do; "" if it is known."""
    names = atomic_columns(path)
    if ITEM in names and set(names) & set(_ATOMIC_TEXTS):
        return ""
    others = [name for name in names if name != ITEM] or ["nothing else"]
    guess = next((name for name in others if re.search("title|name|text|descr", name)), "COLUMN")
    known = f"has none of the columns {', '.join(_ATOMIC_TEXTS)}" if ITEM in names else f"has no column {ITEM}"
    id_column = "" if ITEM in names else f" --id_column {names[0]}"
    return f"{known}, but {', '.join(others)}; say --items {path} --text {guess}{id_column}, or --without_text"


def column_texts(
    path: Path, item_column: str, columns: list[str], wanted: Collection[str], skip_bad: bool, show_progress: bool
) -> pl.DataFrame:
    """Columns item_id and text of the ``wanted`` items: ``columns`` of a table, joined. Raises DataError."""
    roles = {ITEM_ROLE: item_column} | {f"text {number}": name for number, name in enumerate(columns)}
    return form_texts(path, own_form(path, roles, ".item"), wanted, skip_bad, show_progress)


def form_texts(path: Path, form: Form, wanted: Collection[str], skip_bad: bool, show_progress: bool) -> pl.DataFrame:
    """The same of a file whose form is known; all its roles but the item are texts.

    An item with several lines keeps its first text; a warning names one if they differ. Raises DataError.
    """
    keys = pl.DataFrame({ITEM_ROLE: sorted(wanted)})
    parts = []
    for frame in RowReader(path, form, skip_bad, show_progress).frames():
        words = pl.exclude(ITEM_ROLE)
        if form.kind == "json":  # in which a list is text by now
            words = (
                pl.when(words.str.contains(r"^\[.*\]$")).then(words.str.replace_all(r'[\[\]"]', "")).otherwise(words)
            )
        texts = pl.concat_str(words, separator=" ", ignore_nulls=True).str.strip_chars()
        rows = frame.join(keys, on=ITEM_ROLE, how="semi", maintain_order="left")
        parts.append(rows.select(pl.col(ITEM_ROLE).alias(ITEM), texts.alias(TEXT)))
    if not any(map(len, parts)):
        _fail_without_zeros(path, form, wanted)
    schema = {ITEM: pl.String, TEXT: pl.String}
    table = pl.concat([pl.DataFrame(schema=schema), *parts]).filter(pl.col(TEXT) != "").unique(maintain_order=True)
    if table.is_empty() and form.kind == "json":
        _fail_without_field(path, form)
    first = table.unique(ITEM, keep="first", maintain_order=True)
    if len(table) > len(first):
        item = table.filter(~pl.col(ITEM).is_first_distinct())[ITEM][0]
        told = f"{len(table) - len(first)} lines give another text of an item, such as {show(item)}; the first is kept"
        getLogger().warning(f"{path}: {told}")
    return _table(path, first.rows())


def _fail_without_zeros(path: Path, form: Form, wanted: Collection[str]) -> None:
    """Raises DataError if the file's items differ from those of the events by leading zeros."""
    there = [frame[ITEM_ROLE] for frame in RowReader(path, form, True).frames()]
    pair = without_their_zeros(pl.concat(there), pl.Series(sorted(wanted))) if there else None
    if pair:
        what = (
            f"items such as {show(pair[0])} are {show(pair[1])} in the events, so one side has lost its leading zeros"
        )
        raise DataError(f"{path}: {what}; write the ids as text in both files")


def _fail_without_field(path: Path, form: Form) -> None:
    """Raises DataError if the first object of a file has none of the fields of texts."""
    line = first_lines(path, form.member)[0]
    record, names = read_object(path, line), [name for role, name in form.columns.items() if role != ITEM_ROLE]
    if not set(names) & set(record):
        fail(path, 1, f"there is no field {names[0]}; the line has {', '.join(record)}", "name one of them")


def _table(path: Path, rows: Iterable[tuple[str, str]]) -> pl.DataFrame:
    rows = [row for row in rows if row[1]]
    if not rows:
        raise NoTextError(f"{path}: has no text for any item of the events; give the file that belongs to them")
    return pl.DataFrame(rows, schema={ITEM: pl.String, TEXT: pl.String}, orient="row")


def _lines_about(blocks: Iterable[Block], wanted: set):
    """(line number, line) of the lines that name a wanted item, or no item at all."""
    wanted = {item.encode() for item in wanted}
    for block in blocks:
        for number, line in enumerate(block.data.split(b"\n"), block.line):
            named = _ID.findall(line)
            if line.strip() and (not named or not wanted.isdisjoint(named)):
                yield number, line


def _record(path: Path, number: int, line: bytes, skip_bad: bool) -> dict:
    try:
        return read_object(path, line, number)
    except DataError:
        if skip_bad:
            return {}
        raise


def _told(record: dict) -> str:
    """The text of one item."""
    parts = [_first(record, _TITLES), _first(record, _BRANDS), ", ".join(_categories(record))]
    return " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts if part)


def _first(record: dict, names: tuple[str, ...]) -> str:
    texts = (_cleaned(record.get(name)) for name in names)
    return next((text for text in texts if text and _SCRIPT not in text), "")


def _categories(record: dict) -> list[str]:
    """Each category once, whether they come as a text, a list, or a list of paths."""
    for name in _CATEGORIES:
        categories = list(dict.fromkeys(filter(None, map(_cleaned, _flat(record.get(name))))))
        if categories:
            return categories
    return []


def _flat(value) -> list:
    return [leaf for part in value for leaf in _flat(part)] if isinstance(value, list | tuple) else [value]


def _cleaned(value) -> str:
    """A text without HTML tags, entities and line ends; what is no text is empty."""
    if not isinstance(value, str):
        return ""
    return " ".join(_TAG.sub(" ", html.unescape(value)).split())
