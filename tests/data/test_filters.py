"""One filter by counts: against a plain loop, and the same through all that use it."""

import random
from collections import Counter

import numpy as np
import polars as pl
import pytest

from recbole_metarec.config.intervals import Intervals
from recbole_metarec.data.filters import core, within_counts
from recbole_metarec.prepare import events as prepared
from recbole_metarec.prepare.splitting import k_core

RULES = [None, "[2,inf)", "[3,inf)", "(1,6];[9,20)", "(-inf,5]"]


def slow(pairs, *rules):
    """The places left in a list of (user, item): all at once, all counted again, until nothing changes."""
    left = list(range(len(pairs)))
    while True:
        counts = [Counter(pairs[place][side] for place in left) for side in (0, 1)]
        sides = [(side, rule) for side, rule in enumerate(rules) if rule]
        kept = [at for at in left if all(rule.hold(np.array([counts[side][pairs[at][side]]])) for side, rule in sides)]
        if kept == left:
            return left
        left = kept


@pytest.mark.parametrize("seed", range(25))
def test_events_left_are_those_of_a_plain_loop(seed):
    rng = random.Random(seed)
    pairs = [(min(rng.randrange(12), rng.randrange(12)), rng.randrange(9)) for _ in range(rng.randrange(1, 70))]
    users, items = (np.array(codes) for codes in zip(*pairs))
    rules = [rule and Intervals.parse(rule) for rule in rng.choices(RULES, k=2)]
    rows, expected = within_counts(users, items, *rules), slow(pairs, *rules)
    assert (None if rows is None else rows.tolist()) == (None if len(expected) == len(pairs) else expected)


@pytest.mark.parametrize("seed", range(10))
def test_every_k_core_of_the_package_is_this_one(seed):
    rng = np.random.default_rng(seed)
    users, items, times = rng.integers(0, 15, 80), rng.integers(0, 12, 80), np.arange(80)
    plain = slow(list(zip(users.tolist(), items.tolist())), *[Intervals.parse("[4,inf)")] * 2)
    assert core(users, items, 4, 4).tolist() == plain
    assert prepared.core(prepared.RawEvents(users, items, times), 4, 4).times.tolist() == plain
    frame = pl.DataFrame({"user_id": users.astype(str), "item_id": items.astype(str), "place": times})
    assert k_core(frame, 4)["place"].to_list() == plain
