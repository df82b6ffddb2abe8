"""Groups of test users in which models may differ: by what training knows of the user, of the held-out item, and of the
held-out item after the last one."""

from dataclasses import dataclass

import numpy as np

from recbole_metarec.data.companions import companion_rows
from recbole_metarec.data.pair_lags import REACH
from recbole_metarec.data.sequences import HistorySplit, SequenceStore

COLD_USER = 3  # training events at most: the fewest that 5-core data leave
COLD_ITEM = 4  # training events at most
POPULAR_SHARE = 0.1  # of the catalogue


@dataclass(frozen=True)
class Segment:
    """Some of the test users. rule: which ones, with the cut-off, for readers. mask: bool [U]."""

    name: str
    rule: str
    mask: np.ndarray

    @property
    def users(self) -> int:
        """How many users are in it."""
        return int(self.mask.sum())


def target_segments(store: SequenceStore, split: HistorySplit) -> tuple[np.ndarray, tuple[Segment, ...]]:
    """(ids int64 [U] of the users with a test row, their segments) for a target's histories.

    Lengths and counts are those of the training part.
    """
    held_out = store.items[store.offsets[split.test] + split.test_at]
    counts = store.item_counts(split.trained)
    groups = (*segments(split.trained[split.test], counts, held_out), *by_last_item(companion_rows(store, split)))
    return store.users[split.test], groups


def segments(history_lengths: np.ndarray, train_item_counts: np.ndarray, held_out: np.ndarray) -> tuple[Segment, ...]:
    """The segments by history, then those by held-out item; segments without users are left out.

    history_lengths int [U]: training events of each test user. train_item_counts int [n_items]: training events of
    each item, row 0 is padding. held_out int [U]: each user's test item, 1 .. n_items - 1.
    """
    every = (*by_history(history_lengths), *by_item(train_item_counts, held_out))
    return tuple(segment for segment in every if segment.users)


def by_history(lengths: np.ndarray) -> tuple[Segment, ...]:
    """Cold users by a fixed cut-off, and short, medium and long histories by tertiles: lengths int [U].

    Equal lengths are never separated, so the tertiles may differ in size. Short histories are left out if they are
    exactly the cold users.
    """
    if not len(lengths):
        return ()
    first, second = (int(cut) for cut in np.quantile(lengths, (1 / 3, 2 / 3), method="inverted_cdf"))
    cold, short = lengths <= COLD_USER, lengths <= first
    by_length = [Segment("Cold users", f"at most {COLD_USER} training events", cold)]
    if not np.array_equal(cold, short):
        by_length.append(Segment("Short histories", f"shortest third: at most {first} training events", short))
    middle = (lengths > first) & (lengths <= second)
    by_length.append(
        Segment("Medium histories", f"middle third: {_between(first + 1, second)} training events", middle)
    )
    by_length.append(Segment("Long histories", f"longest third: more than {second} training events", lengths > second))
    return tuple(by_length)


def by_item(train_counts: np.ndarray, held_out: np.ndarray) -> tuple[Segment, ...]:
    """Users whose held-out item is rare in training, popular, or neither: train_counts int [n_items], held_out [U].

    Popular is the tenth of the catalogue with the most training events, all ties included, but never a cold item.
    """
    catalogue = train_counts[1:]
    if not len(catalogue):
        return ()
    tenth = max(1, int(len(catalogue) * POPULAR_SHARE))
    cut = max(int(np.sort(catalogue)[-tenth]), COLD_ITEM + 1)
    counts = train_counts[held_out]
    unseen = int((counts == 0).sum())
    cold, popular = counts <= COLD_ITEM, counts >= cut
    none = f", {unseen} of them none" if unseen else ""
    return (
        Segment("Cold items", f"held-out item with at most {COLD_ITEM} training events{none}", cold),
        Segment(
            "Other items", f"held-out item with {_between(COLD_ITEM + 1, cut - 1)} training events", ~cold & ~popular
        ),
        Segment("Popular items", f"held-out item of the most popular tenth: {cut} training events or more", popular),
    )


def by_last_item(companion: np.ndarray) -> tuple[Segment, ...]:
    """Users whose held-out item is a companion of the last item of their history, and the others; no segment if nobody
    has one. companion: bool [U], from :func:`companion_rows`."""
    if not companion.any():
        return ()
    rule = f"the held-out item was within {REACH} events of the last one in at least half of its training events"
    return Segment("Companion items", rule, companion), Segment("No companions", "all other users", ~companion)


def _between(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"
