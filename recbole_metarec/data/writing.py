"""A domain written as RecBole's atomic files: whole or not at all, and so that no reader takes it for something else.

``timestamp`` is the rank of an event in its user's history, which RecBole's float32 holds exactly; the time itself
stands in ``original_timestamp``. ``NAME.json`` tells where the domain comes from and what was done to it.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recbole_metarec.data.atomic import ORIGINAL_TIME, READ_AS_MISSING
from recbole_metarec.data.files import make_dir
from recbole_metarec.errors import DataError

USER, ITEM, TIME = "user_id", "item_id", "time"
_TYPES = {USER: "token", ITEM: "token"}


def write_domain(
    folder: Path,
    name: str,
    events: pl.DataFrame,
    items: pl.DataFrame | None = None,
    about: Mapping | None = None,
    overwrite: bool = False,
    types: Mapping[str, str] | None = None,
) -> Path:
    """Write ``folder/NAME/NAME.inter``, ``NAME.item`` where there are ``items``, and ``NAME.json``; return its folder.

    events: one row per event, columns user_id and item_id (text), ``time`` (a number; equal times keep the order of
    the rows), and any other numeric columns, which are kept. Users are written in the order of their first row.
    items: column item_id (text) and text columns, of which items without an event are left out.
    about: plain values for ``NAME.json``, beside the counts.
    types: RecBole's type of columns whose values do not show it, such as numbers that are kept as text.
    Raises DataError for a name that is taken (unless ``overwrite``), for ids that RecBole would read as something else,
    for a domain without events, and where the disk is full or may not be written to; nothing is then left.
    """
    final = Path(folder) / name
    if final.exists() and not overwrite:
        raise DataError(f"{final}: is there already; name another folder or domain, or say --overwrite")
    if events.is_empty():
        raise DataError(f"{final}: no event is left, so there is nothing to write; loosen the filter")
    for column in (USER, ITEM):
        _check_ids(events, column, final)
    make_dir(final.parent)
    building = None
    try:
        building = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=final.parent))
        building.chmod(0o755)
        _write_table(_in_order(events), building / f"{name}.inter", types or {})
        if items is not None:
            _write_table(_cleaned(items, events), building / f"{name}.item", types or {})
        counts = {"events": len(events), "users": events[USER].n_unique(), "items": events[ITEM].n_unique()}
        text = json.dumps({"name": name, **counts, **(about or {})}, indent=2, ensure_ascii=False)
        (building / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        _put_in_place(building, final)
    except OSError as error:
        raise DataError(
            f"{final}: cannot be written ({error.strerror or error}); check its permissions and the space on its disk"
        ) from None
    finally:
        if building:
            shutil.rmtree(building, ignore_errors=True)
    return final


def read_about(folder: Path, name: str) -> dict:
    """What ``NAME.json`` beside a domain says about it; ``{}`` where there is none that can be read."""
    try:
        about = json.loads((Path(folder) / name / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _in_order(events: pl.DataFrame) -> pl.DataFrame:
    """User by user, in time, with the rank of each event and the columns as the file names them."""
    numbered = events.with_row_index("__row").with_columns(pl.col("__row").min().over(USER).alias("__first"))
    ordered = numbered.sort("__first", TIME, "__row").drop("__first", "__row")
    others = [column for column in events.columns if column not in (USER, ITEM, TIME)]
    rank = pl.int_range(pl.len()).over(USER).alias("timestamp")
    return ordered.select(USER, ITEM, rank, pl.col(TIME).alias(ORIGINAL_TIME), *others)


def _cleaned(items: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """The texts of items that have events, each on one line, so that no field looks quoted."""
    used = items.join(events.select(ITEM).unique(), on=ITEM, how="semi").unique(ITEM, keep="first").sort(ITEM)
    texts = pl.col(pl.String).exclude(ITEM).fill_null("").str.replace_all(r"[\s\p{Cc}]+", " ")
    return used.with_columns(texts.str.strip_chars_start('" ').str.strip_chars_end())


def _check_ids(events: pl.DataFrame, column: str, final: Path) -> None:
    ids = events[column].unique()
    as_missing = [text.decode() for text in READ_AS_MISSING] + [""]
    unreadable = ids.filter(ids.is_null() | ids.is_in(as_missing) | ids.str.contains(r'[\t\n\r]|^"'))
    if len(unreadable):
        raise DataError(
            f"{final}: {column} {unreadable.sort()[0]!r} would be read as something else (a missing value or a quoted "
            "field); rename it"
        )


def _write_table(table: pl.DataFrame, path: Path, types: Mapping[str, str]) -> None:
    kinds = {name: "token_seq" if kind == pl.String else "float" for name, kind in table.schema.items()}
    kinds |= {**types, **_TYPES}
    header = {name: f"{name}:{kinds[name]}" for name in table.columns}
    table.rename(header).write_csv(path, separator="\t", quote_style="never")


def _put_in_place(building: Path, final: Path) -> None:
    """Rename; what was there before is moved aside first and deleted last."""
    if not final.exists():
        building.rename(final)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        final.rename(aside / "old")
        building.rename(final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
