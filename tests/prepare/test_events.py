"""Numbering, repetitions, cores and order against plain loops; nothing depends on blocks or threads."""

import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recbole_metarec.prepare import events as steps
from recbole_metarec.prepare.events import RawEvents, collect
from recbole_metarec.prepare.prepare import Request, prepare_domain
from recbole_metarec.prepare.vocabulary import Vocabulary


def random_events(seed, n=400, users=90, items=70, times=4) -> RawEvents:
    rng = np.random.default_rng(seed)
    return RawEvents(
        (users * rng.random(n) ** 2).astype(np.uint32),
        (items * rng.random(n) ** 2).astype(np.uint32),
        rng.integers(-times, times, n),
        rng.integers(1, 6, n).astype(np.float32),
    )


def rows(events: RawEvents) -> list[tuple]:
    return list(zip(*(column.tolist() for column in (events.users, events.items, events.times, events.ratings))))


def test_ids_are_numbered_as_they_are_first_seen_and_come_back():
    rng = np.random.default_rng(0)
    vocabulary, plain = Vocabulary(), {}
    for size in [1, 500, 3, 2000, 0, 700, 5000]:
        block = [f"id{number}é" for number in (6000 * rng.random(size) ** 2).astype(int)]
        expected = [plain.setdefault(name, len(plain)) for name in block]
        assert vocabulary.encode(pl.Series("x", block, dtype=pl.String)).tolist() == expected
    assert len(vocabulary) == len(plain)
    assert vocabulary.names(np.arange(len(plain))).to_list() == list(plain)
    some = np.sort(rng.choice(len(plain), 100, replace=False))
    vocabulary.forget_hashes()
    assert vocabulary.names(some).to_list() == [list(plain)[number] for number in some]
    assert vocabulary.names(some[:0]).to_list() == []


def test_two_ids_with_one_hash_are_never_taken_for_one(monkeypatch):
    """A poor hash, which maps several ids to one number, is noticed by the second hash."""
    good = Vocabulary.encode.__globals__["_hash"]
    poor = lambda names, seed: good(names, seed) % np.uint64(50) if seed == 20 else good(names, seed)  # noqa: E731
    monkeypatch.setitem(Vocabulary.encode.__globals__, "_hash", poor)
    with pytest.raises(RuntimeError, match="two ids have the same hash"):
        Vocabulary().encode(pl.Series([str(number) for number in range(200)]))


def test_columns_grow_over_arrays_and_become_fractions(monkeypatch):
    monkeypatch.setattr(steps._Column, "_LENGTH", 8)
    parts = [np.arange(5), np.arange(20), np.array([0.5]), np.arange(9)]
    column = steps._Column(np.int64)
    for part in parts:
        column.append(part)
    whole = column.joined()
    assert whole.dtype == np.float64 and np.array_equal(whole, np.concatenate(parts))
    assert steps._Column(np.uint32).joined().tolist() == []


def test_times_are_whole_if_all_blocks_together_are():
    one = pl.DataFrame({"user": ["a"], "item": ["x"], "time": [5]})
    for time, kind in ((6.0, "i"), (6.5, "f")):
        frames = [one, one.with_columns(pl.lit(time).alias("time"))]
        events, *_ = collect(frames)
        assert events.times.dtype.kind == kind and events.times.tolist() == [5, time] and events.ratings is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fractions", [False, True])
def test_of_repetitions_the_first_stays(seed, fractions):
    events = random_events(seed, users=8, items=8)
    if fractions:
        events.times = events.times / 2
    plain = {}
    for row in rows(events):
        plain.setdefault(row[:3], row)
    assert len(plain) < len(events)
    assert rows(steps.without_repetitions(events)) == list(plain.values())
    none = events.take(np.zeros(len(events), bool))
    assert len(steps.without_repetitions(none)) == 0


def brute_core(triples: list, user_least: int, item_least: int) -> list:
    """One offender at a time, until there is none."""
    while True:
        users, items = Counter(row[0] for row in triples), Counter(row[1] for row in triples)
        bad_user = next((user for user, n in users.items() if n < user_least), None)
        bad_item = next((item for item, n in items.items() if n < item_least), None)
        if bad_user is not None:
            triples = [row for row in triples if row[0] != bad_user]
        elif bad_item is not None:
            triples = [row for row in triples if row[1] != bad_item]
        else:
            return triples


@pytest.mark.parametrize("least", [(1, 1), (2, 5), (5, 5), (1, 8), (7, 1), (40, 40)])
@pytest.mark.parametrize("seed", range(3))
def test_core_is_the_largest_part_where_all_have_enough(seed, least):
    events = random_events(seed)
    kept = rows(steps.core(events, *least))
    assert kept == brute_core(rows(events), *least)
    if least == (5, 5):
        once = [row for row in rows(events) if Counter(r[0] for r in rows(events))[row[0]] >= 5]
        assert len(kept) < len(once) < len(events)  # one round would not do


def test_order_and_ties():
    events = steps.in_order(random_events(1))
    expected = sorted(rows(random_events(1)), key=lambda row: (row[0], row[2]))  # stable, too
    assert rows(events) == expected
    assert steps.time_ties(events) == sum(a[0] == b[0] and a[2] == b[2] for a, b in pairwise(expected))


SCRIPT = """
import sys, pathlib
from recbole_metarec.prepare import lines
from recbole_metarec.prepare.prepare import Request, prepare_domain
lines.read_blocks.__defaults__ = ("", "", False, 9999)
own = {"user": "u", "item": "i", "time": "t"}
request = Request("Made", pathlib.Path(sys.argv[1]), raw=pathlib.Path("log.csv"), columns=own, user_core=3, item_core=3)
prepare_domain(request, show_progress=False)
"""


def test_the_same_file_gives_the_same_domain_whatever_threads_and_blocks(tmp_path):
    rng = np.random.default_rng(3)
    n = 4000
    log = {"u": rng.integers(0, 500, n), "i": (200 * rng.random(n) ** 2).astype(int), "t": rng.integers(0, 50, n)}
    pl.DataFrame(log).write_csv("log.csv")
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", SCRIPT, "one"], env=environment, check=True, capture_output=True)
    own = {"user": "u", "item": "i", "time": "t"}
    request = Request("Made", Path("many"), raw=Path("log.csv"), columns=own, user_core=3, item_core=3)
    prepare_domain(request, show_progress=False)
    for name in ("Made.inter", "Made.json"):
        assert (tmp_path / "one" / "Made" / name).read_bytes() == (tmp_path / "many" / "Made" / name).read_bytes()
