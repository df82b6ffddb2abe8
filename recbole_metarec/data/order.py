"""The order of events in their users' histories, and what a user should know about it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from recbole_metarec.data.numbers import Times
from recbole_metarec.data.runs import runs


@dataclass(frozen=True)
class EventSummary:
    """What an interaction file holds, before any filter. All fields are counts.

    duplicates: rows that repeat an earlier (user, item, time).
    time_ties: neighbours in a user's history with the very same time; their order is the file's.
    moved_float32: positions of histories that hold another event when ordered by float32.
    last_moved_float32: users whose last event, the test item, is then another one.
    """

    events: int
    users: int
    items: int
    duplicates: int
    time_ties: int
    moved_float32: int
    last_moved_float32: int

    @property
    def lost_order(self) -> str:
        """What RecBole's float32 timestamps do to the order of events, as a sentence; empty if nothing."""
        if not self.moved_float32:
            return ""
        return (
            f"RecBole keeps time as float32, which moves {self.moved_float32} of {self.events} events and gives "
            f"{self.last_moved_float32} users another test item; exact_time: True keeps the order of the full times"
        )

    @property
    def repetitions(self) -> str:
        """Repeated rows and equal times, as a sentence; empty if there are none."""
        if not (self.duplicates or self.time_ties):
            return ""
        return (
            f"{self.events} events of {self.users} users on {self.items} items in the file; {self.duplicates} rows "
            f"repeat an earlier (user, item, time); {self.time_ties} neighbours in a history share one timestamp, "
            "their order is the file's"
        )


def summarise(
    users: np.ndarray, items: np.ndarray, times: Times, orders: tuple[np.ndarray, np.ndarray], n_items: int
) -> EventSummary:
    """What is to be said of n events: users int [n] with every value of 0 .. u - 1, items int [n].

    orders: the events by (user, full time) and by (user, float32 time), see :func:`both_orders`.
    """
    order, stored_order = orders
    in_order, times_in_order = users[order], times.units[order]
    ties = (in_order[1:] == in_order[:-1]) & (times_in_order[1:] == times_in_order[:-1])
    # only an event that shares user and time with a neighbour can be a repetition
    tied = order[np.append(ties, False) | np.append(False, ties)]
    repeated = pd.DataFrame({"user": users[tied], "item": items[tied], "time": times.units[tied]}).duplicated()
    lengths = np.bincount(users)
    moved = np.zeros(len(users), bool) if stored_order is order else order != stored_order
    return EventSummary(
        events=len(users),
        users=len(lengths),
        items=n_items,
        duplicates=int(repeated.sum()),
        time_ties=int(ties.sum()),
        moved_float32=int(moved.sum()),
        last_moved_float32=int(moved[np.cumsum(lengths) - 1].sum()),
    )


def both_orders(users: np.ndarray, times: Times) -> tuple[np.ndarray, np.ndarray]:
    """int [n] each: the events by user and full time, and by user and the time as RecBole keeps it."""
    order = in_time(users, times.units)
    return order, order if times.is_kept else in_time(users, times.stored)


def in_time(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """int [n], the events by (user, time), equal ones as in the file. Files that we write are in order already."""
    step = np.diff(users)
    if ((step > 0) | ((step == 0) & (times[1:] >= times[:-1]))).all():
        return np.arange(len(users))
    return np.lexsort((times, users))


def history_ranks(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """int64 [n], the rank from 0 of every event in its user's history, by time, then by place in the arrays.

    users: int [n] with values 0 .. u - 1. times: [n] of any dtype that can be sorted.
    """
    ranks = np.empty(len(users), dtype=np.int64)
    ranks[in_time(users, times)] = runs(np.bincount(users))[1]
    return ranks
