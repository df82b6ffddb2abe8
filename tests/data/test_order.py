"""The order of events, told against a slow count of one user after the other in decimal numbers."""

import random
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest

from recbole_metarec.data.order import history_ranks
from recbole_metarec.data.reader import ReadSpec, read_domain, read_events

HEADER = b"user_id:token\titem_id:token\ttimestamp:float\n"


def write(folder, content):
    path = folder / "D.inter"
    path.write_bytes(content)
    return path


def slow_orders(users, values):
    """Row numbers by user in order of value, then of the file, one user after the other."""
    orders = {}
    for row, user in enumerate(users):
        orders.setdefault(user, []).append(row)
    return {user: sorted(rows, key=lambda row: (values[row], row)) for user, rows in orders.items()}


def slow_summary(users, items, times):
    exact = slow_orders(users, [Decimal(t) for t in times])
    stored = [np.float32(float(t)) for t in times]
    coarse = slow_orders(users, stored)
    neighbours = [pair for rows in exact.values() for pair in pairwise(rows)]
    same = [Decimal(times[a]) == Decimal(times[b]) for a, b in neighbours]
    return {
        "events": len(users),
        "users": len(set(users)),
        "items": len(set(items)),
        "duplicates": len(users) - len({(u, i, Decimal(t)) for u, i, t in zip(users, items, times)}),
        "time_ties": sum(same),
        "moved_float32": sum(a != b for user in exact for a, b in zip(exact[user], coarse[user])),
        "last_moved_float32": sum(exact[user][-1] != coarse[user][-1] for user in exact),
    }


def some_events(rng, kind, n=300):
    clock = {
        "ranks": lambda: str(rng.randrange(12)),
        "seconds": lambda: str(rng.randrange(1_400_000_000, 1_400_003_000)),
        "milliseconds": lambda: str(rng.randrange(1_400_000_000_000, 1_400_000_900_000)),
        "nanoseconds": lambda: str(1_400_000_000_000_000_000 + rng.randrange(300)),  # float64 would confuse these
        "fractions": lambda: f"{rng.randrange(3)}.{rng.randrange(4)}{'0' * rng.randrange(3)}",
        "long fractions": lambda: f"1400000000.00000000000{rng.randrange(100, 400)}",
        "exponents": lambda: f"{rng.choice('+-')}{rng.randrange(1, 4)}e{rng.randrange(-2, 3)}",
    }[kind]
    return [(f"u{rng.randrange(60)}", f"é{rng.randrange(20)}", clock()) for _ in range(n)]


KINDS = ["ranks", "seconds", "milliseconds", "nanoseconds", "fractions", "long fractions", "exponents"]


@pytest.mark.parametrize("kind", KINDS)
def test_summary_equals_a_slow_count(kind, tmp_path):
    events = some_events(random.Random(kind), kind)
    path = write(tmp_path, HEADER + "".join("\t".join(e) + "\n" for e in events).encode())
    for block_bytes in (40, None):
        assert vars(read_domain(path, ReadSpec(), block_bytes).summary) == slow_summary(*zip(*events))


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_equal_a_slow_ranking(kind, tmp_path):
    written = some_events(random.Random(kind), kind)
    path = write(tmp_path, HEADER + "".join("\t".join(e) + "\n" for e in written).encode())
    users, _, times = zip(*written)
    slow = slow_orders(users, [Decimal(t) for t in times])
    ranks = {row: rank for rows in slow.values() for rank, row in enumerate(rows)}
    for block_bytes in (50, None):
        events = read_events(path, ReadSpec(), block_bytes=block_bytes)
        assert history_ranks(events.users, events.times.units).tolist() == [ranks[row] for row in range(len(users))]


def test_history_ranks_of_users_in_any_order():
    users, times = np.array([2, 0, 2, 1, 0, 2]), np.array([5, 9, 5, 0, 1, 4])
    assert history_ranks(users, times).tolist() == [1, 1, 2, 0, 0, 0]


def test_repeated_rows_and_equal_times_are_said(tmp_path):
    path = write(tmp_path, HEADER + b"u\ta\t1\nu\tb\t2\nv\ta\t1\n")
    assert read_domain(path, ReadSpec()).summary.repetitions == ""
    path = write(tmp_path, HEADER + b"u\ta\t1\nu\ta\t1\nu\tb\t1\nv\ta\t1\n")
    assert read_domain(path, ReadSpec()).summary.repetitions == (
        "4 events of 2 users on 2 items in the file; 1 rows repeat an earlier (user, item, time); "
        "2 neighbours in a history share one timestamp, their order is the file's"
    )
