"""Texts of items: title, brand and categories from the metadata of a public set, or columns of a user's file."""

import html
import re
from collections.abc import Collection, Iterable
from pathlib import Path

import polars as pl

from recbole_metarec.data.faults import fail
from recbole_metarec.data.writer import ITEM
from recbole_metarec.errors import DataError
from recbole_metarec.prepare.containers import members
from recbole_metarec.prepare.forms import ITEM as ITEM_ROLE
from recbole_metarec.prepare.forms import column_names, own_form, read_object
from recbole_metarec.prepare.lines import first_lines, read_blocks
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
    if _is_atomic(path):
        names = column_names(path) or _names_inside(path)
        columns = [name for name in _ATOMIC_TEXTS if name in names]
        if not columns:
            raise DataError(f"{path}:1: has none of the columns {', '.join(_ATOMIC_TEXTS)}; name another file")
        return column_texts(path, "item_id", columns, wanted, skip_bad, show_progress)
    texts: dict[str, str] = {}
    for number, line in _lines_about(path, set(wanted), show_progress):
        record = _record(path, number, line, skip_bad)
        item = next((record[name] for name in _IDS if isinstance(record.get(name), str)), None)
        if item is None and not skip_bad:
            fail(path, number, f"no field {' or '.join(_IDS)}", "give the metadata that belongs to the reviews")
        if item in wanted and item not in texts:
            texts[item] = _told(record)
    return _table(path, texts.items())


def column_texts(
    path: Path, item_column: str, columns: list[str], wanted: Collection[str], skip_bad: bool, show_progress: bool
) -> pl.DataFrame:
    """Columns item_id and text of the ``wanted`` items: ``columns`` of a table, joined. Raises DataError."""
    roles = {ITEM_ROLE: item_column} | {f"text {number}": name for number, name in enumerate(columns)}
    form = own_form(path, roles, ".item")
    keys = pl.DataFrame({ITEM_ROLE: sorted(wanted)})
    parts = []
    for frame in RowReader(path, form, skip_bad, show_progress).frames():
        texts = pl.concat_str(pl.exclude(ITEM_ROLE), separator=" ", ignore_nulls=True).str.strip_chars()
        rows = frame.join(keys, on=ITEM_ROLE, how="semi", maintain_order="left")
        parts.append(rows.select(pl.col(ITEM_ROLE).alias(ITEM), texts.alias(TEXT)))
    table = pl.concat(parts).unique(ITEM, keep="first", maintain_order=True) if parts else pl.DataFrame()
    return _table(path, table.rows())


def _table(path: Path, rows: Iterable[tuple[str, str]]) -> pl.DataFrame:
    rows = [row for row in rows if row[1]]
    if not rows:
        raise DataError(f"{path}: has no text for any item of the events; give the file that belongs to them")
    return pl.DataFrame(rows, schema={ITEM: pl.String, TEXT: pl.String}, orient="row")


def _lines_about(path: Path, wanted: set, show_progress: bool):
    """(line number, line) of the lines that name a wanted item, or no item at all."""
    wanted = {item.encode() for item in wanted}
    for block in read_blocks(path, show_progress=show_progress):
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


def _is_atomic(path: Path) -> bool:
    return any(name.endswith(".item") for name in (path.name, *members(path)))


def _names_inside(path: Path) -> list[str]:
    return [field.split(":")[0] for field in first_lines(path, ".item")[0].decode("utf-8", "replace").split("\t")]
