"""A domain written as RecBole's atomic files: whole or not at all, and so that every reader reads the same.

``timestamp`` is the rank of an event in its user's history, which RecBole's float32 holds exactly; the time itself
is in ``original_timestamp``. ``NAME.json`` says where the domain comes from and what was done to it.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl

from recbole_metarec.data.ids import is_missing
from recbole_metarec.errors import DataError
from recbole_metarec.files import make_dir, replace_folders

USER, ITEM, TIME = "user_id", "item_id", "time"
STAMP, ORIGINAL_TIME = "timestamp", "original_timestamp"
_TYPES = {USER: "token", ITEM: "token"}
_ENDINGS = (".inter", ".item", ".json", ".truth.json")  # the files of a domain that we write
_SLICE_ROWS = 1 << 20


def write_domain(
    folder: Path,
    name: str,
    events: pl.DataFrame,
    items: pl.DataFrame | None = None,
    *,
    about: Mapping | None = None,
    overwrite: bool = False,
    types: Mapping[str, str] | None = None,
    names: Mapping[str, pl.Series] | None = None,
) -> Path:
    """Write ``folder/NAME/NAME.inter``, ``NAME.item`` where there are ``items``, and ``NAME.json``; return its folder.

    events: one row per event, columns user_id and item_id (text), ``time`` (a number; equal times keep the order of
    the rows), and any other numeric columns, which are kept. Users are written in the order of their first row.
    items: column item_id (text) and text columns, of which items without an event are left out.
    about: plain values for ``NAME.json``, beside the counts.
    types: RecBole's type of columns whose values do not show it, such as numbers that are kept as text.
    names: where user_id and item_id of ``events`` are numbers from 0, as for millions of events, the texts behind the
    numbers; each belongs to some event.
    Raises DataError for a name that is taken (see :func:`check_free`), for ids that RecBole would read as something
    else, for a domain without events, and where the disk is full or may not be written to; nothing is then left.
    """
    final = check_free(folder, name, overwrite)
    if events.is_empty():
        raise DataError(f"{final}: no event is left, so there is nothing to write; loosen the filter")
    ids = names or {column: events[column].unique() for column in (USER, ITEM)}
    for column, texts in ids.items():
        _check_ids(texts, column, final)
    make_dir(final.parent)
    building = None
    try:
        building = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=final.parent))
        building.chmod(0o755)
        _write_table(_in_order(events), building / f"{name}.inter", types or {}, names)
        if items is not None:
            _write_table(_cleaned(items, ids[ITEM]), building / f"{name}.item", types or {})
        counts = {"events": len(events), "users": len(ids[USER]), "items": len(ids[ITEM])}
        text = json.dumps({"name": name, **counts, **(about or {})}, indent=2, ensure_ascii=False)
        (building / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        replace_folders({building: final})
    except OSError as error:
        raise DataError(
            f"{final}: cannot be written ({error.strerror or error}); check its permissions and the space on its disk"
        ) from None
    finally:
        if building:
            shutil.rmtree(building, ignore_errors=True)
    return final


@contextmanager
def written_together(folder: Path, names: Sequence[str], overwrite: bool = False) -> Iterator[Path]:
    """A hidden folder inside ``folder``, made here: what is written to ``NAME/`` in it is moved to ``folder/NAME``
    at the end, for each of ``names``; nothing is if an exception is raised.

    Raises DataError for a name that is taken (see :func:`check_free`), and where the disk is full or may not be
    written to.
    """
    folder = Path(folder)
    for name in names:
        check_free(folder, name, overwrite)
    make_dir(folder)
    hidden = None
    try:
        hidden = Path(tempfile.mkdtemp(prefix=".domains.", dir=folder))
        yield hidden
        replace_folders({hidden / name: folder / name for name in names})
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}); check its permissions and the space on its disk"
        ) from None
    finally:
        if hidden:
            shutil.rmtree(hidden, ignore_errors=True)


def check_free(folder: Path, name: str, overwrite: bool) -> Path:
    """The folder of a domain that is to be written.

    Raises DataError if it is taken, unless ``overwrite``; with ``overwrite``, too, if it holds files that are not part
    of a domain, such as the log that the domain is made from, which would be deleted.
    """
    final = Path(folder) / name
    if not final.exists():
        return final
    if not overwrite:
        raise DataError(f"{final}: is there already; name another folder or domain, or say --overwrite")
    if not final.is_dir():
        raise DataError(f"{final}: is a file and no domain, so --overwrite leaves it; move it, or name another folder")
    ours = {name + ending for ending in _ENDINGS}
    others = sorted(path.name for path in final.iterdir() if path.name not in ours or path.is_dir())
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise DataError(
            f"{final}: holds {', '.join(others[:3])}{more} beside the domain, which --overwrite would delete; move "
            "what you want to keep to another folder, and delete the rest"
        )
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
    users, times = events[USER], events[TIME].to_numpy()
    codes = (users if users.dtype.is_integer() else users.cast(pl.Categorical).to_physical()).to_numpy()
    codes = _by_first_row(codes)
    same_user = codes[1:] == codes[:-1]
    if not np.all(np.where(same_user, times[1:] >= times[:-1], codes[1:] > codes[:-1])):
        order = np.lexsort((times, codes))
        events, codes = events[order], codes[order]
        same_user = codes[1:] == codes[:-1]
    starts = np.flatnonzero(np.concatenate(([True], ~same_user)))
    places = np.arange(len(codes), dtype=np.int32)
    rank = places - np.repeat(places[starts], np.diff(starts, append=len(codes)))
    others = [column for column in events.columns if column not in (USER, ITEM, TIME)]
    return events.select(USER, ITEM, pl.Series(STAMP, rank), pl.col(TIME).alias(ORIGINAL_TIME), *others)


def _by_first_row(codes: np.ndarray) -> np.ndarray:
    """For each row the first row of its user."""
    first_row = np.zeros(int(codes.max()) + 1, np.uint32)
    first_row[codes[::-1]] = np.arange(len(codes), dtype=np.uint32)[::-1]  # the last of several values stays
    return first_row[codes]


def _cleaned(items: pl.DataFrame, used: pl.Series) -> pl.DataFrame:
    """The texts of the items that are used, each on one line, so that no field looks quoted."""
    used = used.rename(ITEM).to_frame()
    kept = items.join(used, on=ITEM, how="semi").unique(ITEM, keep="first", maintain_order=True).sort(ITEM)
    texts = pl.col(pl.String).exclude(ITEM).fill_null("").str.replace_all(r"[\s\p{Cc}]+", " ")
    return kept.with_columns(texts.str.strip_chars_start('" ').str.strip_chars_end())


def _check_ids(ids: pl.Series, column: str, final: Path) -> None:
    unreadable = ids.filter(ids.is_null() | is_missing(ids) | ids.str.contains(r'[\t\n\r\x00]|^"'))
    if len(unreadable):
        raise DataError(
            f"{final}: {column} {unreadable.sort()[0]!r} would be read as something else (a missing value, a quoted "
            "field or a part of it); rename it"
        )


def _write_table(
    table: pl.DataFrame, path: Path, types: Mapping[str, str], names: Mapping[str, pl.Series] | None = None
) -> None:
    kinds = {name: "token_seq" if kind == pl.String else "float" for name, kind in table.schema.items()}
    kinds |= {**types, **_TYPES}
    header = {name: f"{name}:{kinds[name]}" for name in table.columns}
    with open(path, "wb") as file:
        for start in range(0, max(len(table), 1), _SLICE_ROWS):
            rows = table[start : start + _SLICE_ROWS]
            spelled = [texts.gather(rows[column]).alias(column) for column, texts in (names or {}).items()]
            rows = rows.with_columns(spelled).rename(header)
            rows.write_csv(file, include_header=start == 0, separator="\t", quote_style="never")
