"""A domain as a smaller shop would have it: some of its users, and nothing of the others."""

import hashlib
from pathlib import Path

import numpy as np
import polars as pl

from recbole_metarec.data.atomic import ORIGINAL_TIME
from recbole_metarec.data.domains import find_domain
from recbole_metarec.data.files import cache_dir
from recbole_metarec.data.table import read_table
from recbole_metarec.data.writing import ITEM, TIME, USER, read_about, write_domain
from recbole_metarec.errors import DataError
from recbole_metarec.run_folder import data_fingerprint

_RULE = 1  # to be raised when the same domain and share give other files than before
_RECBOLE_TIME = "timestamp"


def share_name(name: str, share: float) -> str:
    """What a domain of this share of ``name``'s users is called: ``Scientific-users10`` for 0.1."""
    return name if share == 1 else f"{name}-users{100 * share:.10g}"


def chosen_users(users: list[str], share: float) -> set[str]:
    """The users that a share in (0, 1] keeps: at least one, and all those of every smaller share.

    Drawn by a digest of their names, so the same ones whatever the order of the file.
    """
    drawn = sorted(users, key=lambda user: hashlib.sha256(user.encode()).digest())
    return set(drawn[: max(1, round(share * len(drawn)))])


def cut_users(name: str, data_path: str | None, share: float) -> str:
    """Writes a copy of ``name`` with this share of its users to the cache; its name, by which it is then found.

    Items that only others have met are not in it. A share of 1 is the domain itself. A copy that is there is used again
    if it was cut from the very same files.
    Raises DataError if the domain cannot be read, if ``data_path`` holds another one of the copy's name, or if nothing
    can be written.
    """
    if share == 1:
        return name
    place, cut = find_domain(name, data_path) / name, share_name(name, share)
    other = Path(data_path or ".").expanduser() / cut
    if data_path and other.exists():
        raise DataError(f"{other}: is there already, and has the name that {100 * share:g} % of {name} need; rename it")
    files = [file for file in (place / f"{name}.inter", place / f"{name}.item") if file.is_file()]
    about = {"cut_from": name, "share_of_users": share, "rule": _RULE, "origin": data_fingerprint(files)}
    if not _is_cut(cut, about):
        events = _events(files[0])
        kept = chosen_users(events[USER].unique().to_list(), share)
        events = events.filter(pl.col(USER).is_in(list(kept)))
        items = _items(files[1]) if len(files) > 1 else None
        try:
            write_domain(cache_dir(), cut, events, items, about, overwrite=True)
        except DataError:
            if not _is_cut(cut, about):  # another process was faster
                raise
    return cut


def _is_cut(cut: str, about: dict) -> bool:
    found = read_about(cache_dir(), cut)
    return (cache_dir() / cut / f"{cut}.inter").is_file() and {key: found.get(key) for key in about} == about


def _events(file: Path) -> pl.DataFrame:
    table = read_table(file, "\t", "utf-8")
    missing = [column for column in (USER, ITEM, _RECBOLE_TIME) if column not in table.names]
    if missing:
        raise DataError(f"{file}:1: no column {missing[0]}, without which its users cannot be told apart; rename it")
    # the time of a ranked copy is the rank once more
    columns = [_RECBOLE_TIME, *(name for name, kind in zip(table.names, table.types) if kind == "float")]
    numbers = {column: _numbers(table, column) for column in dict.fromkeys(columns) if column != ORIGINAL_TIME}
    words = {column: [value.decode() for value in table.column(column)] for column in (USER, ITEM)}
    return pl.DataFrame(words | numbers).rename({_RECBOLE_TIME: TIME})


def _numbers(table, column: str) -> np.ndarray:
    try:
        return np.array(table.column(column), dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{table.path}: column {column} is no column of numbers ({error})") from None


def _items(file: Path) -> pl.DataFrame:
    table = read_table(file, "\t", "utf-8")
    words = [name for name, kind in zip(table.names, table.types) if kind.startswith("token")]
    return pl.DataFrame({name: [value.decode() for value in table.column(name)] for name in words})
