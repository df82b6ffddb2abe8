"""Splits keep what they promise: on random datasets, for every share, overlap and core."""

import numpy as np
import polars as pl
import pytest

from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.prepare.splitting import MOST_PARTS, PartShares, k_core, split_by_column, split_by_shares


def random_events(seed: int, users: int = 40, items: int = 30, events: int = 600) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in random.integers(users, size=events)],
            "item_id": [f"i{int(n)}" for n in items * random.random(events) ** 2],
            "kind": [("", "red", "green", "blue")[n] for n in random.choice(4, events, p=(0.1, 0.5, 0.3, 0.1))],
            "number": list(range(events)),
        }
    )


def ids(part: pl.DataFrame, column: str) -> set:
    return set(part[f"{column}_id"])


SHARES = [
    PartShares(),
    PartShares(0.3, 0.8),
    PartShares(0.5, 0.5, 0.4, 0.0),
    PartShares(0.5, 0.5, 0.0, 0.6),
    PartShares(0.25, 0.9, 0.5, 1.0),
    PartShares(0.7, 0.4, 1.0, 1.0),
]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shares", SHARES)
def test_shares_and_overlaps_are_exact(shares, seed):
    """Every user meets every item here, so that no id is lost between the draw and the events."""
    users, items = 23 + seed, 17 + seed
    pairs = [(f"u{u}", f"i{i}") for u in range(users) for i in range(items)]
    events = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")
    split = split_by_shares(events, shares, seed)
    a, b = split.parts["a"], split.parts["b"]
    for column, total, share, overlap in (
        ("user", users, shares.users, shares.overlap_users),
        ("item", items, shares.items, shares.overlap_items),
    ):
        in_a, in_b = ids(a, column), ids(b, column)
        assert len(in_a) == round(share * total)
        assert len(in_a & in_b) == round(overlap * len(in_a))
        assert len(in_a | in_b) == total
        shared = split.shared_users if column == "user" else split.shared_items
        assert shared.get(("a", "b"), 0) == len(in_a & in_b)
    shared = len(ids(a, "user") & ids(b, "user")) * len(ids(a, "item") & ids(b, "item"))
    for part, missing in ((a, 0), (b, shared)):
        assert len(part) == part["user_id"].n_unique() * part["item_id"].n_unique() - missing
    assert split.left_to_target == shared
    assert a.join(b, on=["user_id", "item_id"], how="semi").is_empty()
    assert split.unused == len(events) - len(a) - len(b)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("core", [0, 2])
def test_a_part_holds_every_event_of_its_users_with_its_items(shares, seed, core):
    events = random_events(seed)
    split = split_by_shares(events, shares, seed, core)
    rows = {name: set(part["number"]) for name, part in split.parts.items()}
    for part in split.parts.values():
        assert part.columns == events.columns
        assert part["number"].is_sorted()  # the order of the dataset
        assert part.equals(events.filter(pl.col("number").is_in(part["number"].implode())))
        if core:
            for column in ("user_id", "item_id"):
                assert part[column].value_counts()["count"].min() >= core
    if not core:
        for name, part in split.parts.items():
            users, items = (pl.col(column).is_in(part[column].implode()) for column in ("user_id", "item_id"))
            of_the_target = rows["a"] if name == "b" else set()
            assert set(events.filter(users & items)["number"]) - of_the_target == set(part["number"])
    assert not rows["a"] & rows["b"]  # what the target holds out, the source does not train on
    assert split.unused == len(events) - len(rows["a"] | rows["b"])


def test_the_draw_is_by_seed_and_not_by_the_order_of_rows():
    events = random_events(1)
    first = split_by_shares(events, PartShares(), 5).parts["a"]
    assert first.equals(split_by_shares(events, PartShares(), 5).parts["a"])
    assert not first.equals(split_by_shares(events, PartShares(), 6).parts["a"])
    backwards = split_by_shares(events.reverse(), PartShares(), 5).parts["a"]
    assert backwards.reverse().equals(first)


@pytest.mark.parametrize("seed", range(4))
def test_the_core_is_what_is_left_however_it_is_reached(seed):
    """Against removal one id at a time, in random order."""
    events = random_events(seed, events=150)
    random, left = np.random.default_rng(seed), events
    while True:
        weak = [
            pl.col(column) == value
            for column in ("user_id", "item_id")
            for value, count in left[column].value_counts().iter_rows()
            if count < 4
        ]
        if not weak:
            break
        left = left.filter(~weak[random.integers(len(weak))])
    assert k_core(events, 4).equals(left)


@pytest.mark.parametrize("seed", range(6))
def test_by_column_every_user_is_in_one_part(seed):
    events = random_events(seed)
    split = split_by_column(events, "kind")
    assert list(split.parts) == sorted(split.parts) and set(split.parts) <= {"red", "green", "blue"}
    assert not split.shared_users
    homes = {user: kind for kind, part in split.parts.items() for user in ids(part, "user")}
    for kind, part in split.parts.items():
        assert set(part["kind"]) == {kind}
        mine = [user for user, home in homes.items() if home == kind]
        assert part.equals(events.filter((pl.col("kind") == kind) & pl.col("user_id").is_in(mine)))
    assert homes == slow_homes(events)
    assert split.unused == len(events) - sum(map(len, split.parts.values()))


def slow_homes(events: pl.DataFrame) -> dict[str, str]:
    """The pairs (user, part) one after the other, each accepted if the user is free and the part has room."""
    valued = events.filter(pl.col("kind") != "")
    sizes = dict(valued["kind"].value_counts().iter_rows())
    own = valued.group_by("user_id", "kind").len().iter_rows()
    order = sorted((-n / sizes[kind], -n, user, kind) for user, kind, n in own)
    users = valued["user_id"].n_unique()
    room = {kind: int(np.ceil(users * n / len(valued))) for kind, n in sizes.items()}
    homes = {}
    for *_, user, kind in order:
        if user not in homes and room[kind]:
            homes[user] = kind
            room[kind] -= 1
    return homes


def test_by_column_with_users_kept_is_a_partition_of_the_rows_that_have_a_value():
    events = random_events(2)
    split = split_by_column(events, "kind", one_domain_each=False)
    assert {kind: part["number"].to_list() for kind, part in split.parts.items()} == {
        kind: events.filter(pl.col("kind") == kind)["number"].to_list() for kind in ("blue", "green", "red")
    }
    assert split.unused == (events["kind"] == "").sum()
    for (one, other), n in split.shared_users.items():
        assert n == len(ids(split.parts[one], "user") & ids(split.parts[other], "user"))


def test_columns_that_cannot_cut_and_parts_without_events():
    events = random_events(3)
    with pytest.raises(ConfigError, match="column one has 1 value, so it cuts nothing"):
        split_by_column(events.with_columns(one=pl.lit("x")), "one")
    with pytest.raises(ConfigError, match=f"has {len(events)} values, .* at most {MOST_PARTS}"):
        split_by_column(events.with_columns(pl.col("number").cast(pl.String)), "number")
    with pytest.raises(DataError, match="no event is left in a, b; "):
        split_by_shares(events, PartShares(), 0, core=500)
