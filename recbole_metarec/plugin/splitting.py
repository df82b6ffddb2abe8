"""How the config of a RecBole dataset wants its events to be split."""

from pathlib import Path
from typing import NoReturn

import numpy as np

from recbole_metarec.config.time_points import TimePoints
from recbole_metarec.data.sequences import HistorySplit, SequenceStore
from recbole_metarec.data.time_split import split_by_time
from recbole_metarec.errors import DataError
from recbole_metarec.randomness import numpy_stream

LEAVE_ONE_OUT = "leave-one-out"


def split_of(dataset, store: SequenceStore, event_times: np.ndarray | None) -> tuple[HistorySplit, str]:
    """The split of a RecBole dataset's events, and what it is in words; ``eval_users`` leaves some held-out rows.

    store, event_times [N]: its events, sorted by user and time. Raises DataError for dates where there are none.
    """
    points, most = TimePoints.of(dataset.config["eval_args"]), dataset.config["eval_users"]
    if points is None:
        split, words = HistorySplit.leave_one_out(store.lengths), LEAVE_ONE_OUT
    else:
        split, words = split_by_time(store, event_times, points, Path(dataset.dataset_path))
    if most is None or most >= max(len(split.valid), len(split.test)):
        return split, words
    # no run's seed: all that are compared must be measured on the same users
    place = numpy_stream(0, "eval_users", dataset.config["dataset"]).permutation(len(store.users))
    return split.measured_on(most, place), f"{words}, measured on {most} users"


def fail_without_held_out(dataset, part: str) -> NoReturn:
    """Raise the DataError of a RecBole dataset without a row in ``part``, which is validation or test."""
    needed = {"validation": 4, "test": 3}[part]
    problem = f"no user has {needed} events or more; loosen the filter or bring longer histories"
    if TimePoints.of(dataset.config["eval_args"]):
        problem = "no user has an event in its period and one before it; move the points of TS in eval_args"
    raise DataError(f"{dataset.dataset_path}: no {part} row is left: {problem}")
