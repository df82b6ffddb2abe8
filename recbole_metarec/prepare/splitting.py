"""One dataset cut into domains: by the values of a column, or by shares of its users and items.

A part has users and items; an event belongs to every part that has both its user and its item, so to no part when its
user is in one and its item in another. Where parts are drawn that share users and items, no event is in both: the
target's held-out events must not be among those that the source trains on. Ids keep their names. Parts may then be
reduced to their k-core.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from recbole_metarec.data import filters
from recbole_metarec.data.ids import factorize
from recbole_metarec.data.writer import ITEM, USER
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.randomness import numpy_stream

MOST_PARTS = 50
_ROW = "__row"


@dataclass(frozen=True)
class PartShares:
    """How part a, the target, and part b, the source, share users and items; all from 0 to 1.

    users, items: share of all users and of all items that part a gets; part b gets the others and, from part a,
    overlap_users: share of part a's users that are in part b, too; overlap_items: the same of items. Where both are
    above 0, part b lacks the events of part a's users with part a's items, so a shared user is in part b by the other
    items alone, and a shared item by the other users.
    """

    users: float = 0.5
    items: float = 0.5
    overlap_users: float = 0.0
    overlap_items: float = 0.0


@dataclass(frozen=True)
class Split:
    """Parts by name, each a table of events in the order of the dataset; ``unused`` counts events that are in none.

    left_to_target: events whose user and item are in both parts, and which only the target has.
    shared_users, shared_items: for every pair of parts that share some, how many.
    """

    parts: Mapping[str, pl.DataFrame]
    unused: int
    shared_users: Mapping[tuple[str, str], int]
    shared_items: Mapping[tuple[str, str], int]
    left_to_target: int = 0


def split_by_shares(events: pl.DataFrame, shares: PartShares, seed: int, core: int = 0) -> Split:
    """Parts ``a`` and ``b`` of events (columns user_id and item_id, and any others), drawn at random.

    Sizes are exact: shares of distinct ids, rounded. The draw depends on the set of ids and the seed, not on the order
    of rows. core: users and items with fewer events than that in a part leave it, again and again. Raises DataError
    if a part is left without events.
    """
    events = events.with_row_index(_ROW)
    users = _two_groups(events[USER], shares.users, shares.overlap_users, seed, "users")
    items = _two_groups(events[ITEM], shares.items, shares.overlap_items, seed, "items")
    of_a, of_b = (
        pl.col(USER).is_in(in_users.implode()) & pl.col(ITEM).is_in(in_items.implode())
        for in_users, in_items in zip(users, items, strict=True)
    )
    split = _finished({"a": events.filter(of_a), "b": events.filter(of_b & ~of_a)}, len(events), core)
    return replace(split, left_to_target=len(events.filter(of_a & of_b)))


def split_by_column(events: pl.DataFrame, column: str, one_domain_each: bool = True, core: int = 0) -> Split:
    """One part for each value of ``column`` (text) of the events; rows without a value are in none.

    one_domain_each: a user stays in one part. The pairs (user, part) are taken in the order of the user's share of
    events in the part relative to the part's share of all events (then more events, then the smaller id) until each
    part has its share of all events in users; a user for whom no part has room is in none. Else users are in every part
    in which they have events. core: as in :func:`split_by_shares`. Parts that are left without events are left out.
    Raises ConfigError for a column with one value or with more than 50, DataError if fewer than two parts are left.
    """
    valued = events.with_row_index(_ROW).filter(pl.col(column).is_not_null() & (pl.col(column) != ""))
    values = valued[column].unique().sort().to_list()
    if len(values) < 2:
        raise ConfigError(f"column {column} has {len(values)} value{'s' * (len(values) != 1)}, so it cuts nothing")
    if len(values) > MOST_PARTS:
        raise ConfigError(
            f"column {column} has {len(values)} values, and each would be a domain; use one with at most {MOST_PARTS}"
        )
    if one_domain_each:
        valued = valued.join(_homes(valued, column), on=[USER, column], how="semi", maintain_order="left")
    return _finished({value: valued.filter(pl.col(column) == value) for value in values}, len(events), core)


def _two_groups(ids: pl.Series, share: float, overlap: float, seed: int, kind: str) -> tuple[pl.Series, pl.Series]:
    """Ids of part a and of part b."""
    ids = ids.unique().sort()
    shuffled = ids.gather(numpy_stream(seed, "split", kind).permutation(len(ids)))
    n_a = round(share * len(ids))
    return shuffled[:n_a], shuffled[n_a - round(overlap * n_a) :]


def _homes(events: pl.DataFrame, column: str) -> pl.DataFrame:
    """The one value of ``column`` of each user who gets one: a table of (user, value).

    Every user asks for the part that he or she prefers; a part refuses those that it has no room for, and they ask
    for their next part, until nobody is refused. The result is that of taking the pairs one after the other (Gale and
    Shapley 1962, where both sides rank the pairs alike).
    """
    sizes = events.group_by(column).agg(
        pl.len().alias("all"), (events[USER].n_unique() * pl.len() / len(events)).ceil().alias("room")
    )
    pairs = events.group_by(USER, column).agg(pl.len().alias("in_part")).join(sizes, on=column)
    pairs = pairs.with_columns((pl.col("in_part") / pl.col("all")).alias("preference"))
    pairs = pairs.sort("preference", "in_part", USER, column, descending=[True, True, False, False])
    while True:
        takers = pairs.unique(USER, keep="first", maintain_order=True)
        refused = takers.filter(pl.int_range(pl.len()).over(column) >= pl.col("room"))
        if refused.is_empty():
            return takers.select(USER, column)
        pairs = pairs.join(refused, on=[USER, column], how="anti", maintain_order="left")


def k_core(events: pl.DataFrame, core: int) -> pl.DataFrame:
    """The events that are left when users and items with fewer than ``core`` events are removed again and again."""
    rows = filters.core(*(factorize(events[column])[0] for column in (USER, ITEM)), core, core)
    return events if rows is None else events[rows]


def _finished(parts: dict[str, pl.DataFrame], events: int, core: int) -> Split:
    left = {name: kept for name, part in parts.items() if len(kept := k_core(part, core))}
    if len(left) < 2:
        empty = ", ".join(name for name in parts if name not in left)
        raise DataError(f"no event is left in {empty}; give other shares or another column, or a lower --core")
    used = pl.concat([part[_ROW] for part in left.values()]).n_unique()
    shared = (_shared(left, column) for column in (USER, ITEM))
    return Split({name: part.drop(_ROW) for name, part in left.items()}, events - used, *shared)


def _shared(parts: dict[str, pl.DataFrame], column: str) -> dict[tuple[str, str], int]:
    ids = {name: set(part[column].unique()) for name, part in parts.items()}
    names = list(ids)
    pairs = ((one, other) for at, one in enumerate(names) for other in names[at + 1 :])
    return {pair: n for pair in pairs if (n := len(ids[pair[0]] & ids[pair[1]]))}
