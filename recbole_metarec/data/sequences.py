"""Histories as one flat array, their split into parts, and the windows that training reads."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from recbole_metarec.data.runs import runs


@dataclass(frozen=True)
class SequenceStore:
    """Every user's events, oldest first, as ids and offsets.

    items: int32 [N], users in turn. offsets: int64 [U + 1]; user u owns items[offsets[u]:offsets[u + 1]].
    users: int64 [U], the id of each user in its domain. n_items: catalogue size, padding included.
    """

    items: np.ndarray
    offsets: np.ndarray
    users: np.ndarray
    n_items: int

    @classmethod
    def from_events(cls, users: np.ndarray, items: np.ndarray, n_items: int) -> "SequenceStore":
        """users, items int [N], sorted by user, then by time."""
        starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]]) if len(users) else np.empty(0, np.int64)
        offsets = np.r_[starts, len(users)].astype(np.int64)
        return cls(items.astype(np.int32), offsets, users[starts].astype(np.int64), n_items)

    @classmethod
    def joined(cls, stores: Sequence["SequenceStore"]) -> "SequenceStore":
        """Several domains as one: the items (padding once, in front) and users of each follow those before it.

        Users are numbered anew, from 0.
        """
        starts = np.cumsum([0, *(store.n_items - 1 for store in stores)])
        items = np.concatenate([store.items + start for store, start in zip(stores, starts[:-1], strict=True)])
        offsets = np.r_[0, np.cumsum(np.concatenate([store.lengths for store in stores]))]
        return cls(items.astype(np.int32), offsets, np.arange(len(offsets) - 1), int(starts[-1]) + 1)

    def of_users(self, which: np.ndarray) -> "SequenceStore":
        """The histories of some users, int [V] positions in the store, over the same catalogue."""
        lengths = self.lengths[which]
        row, place = runs(lengths)
        items = self.items[self.offsets[which][row] + place]
        return SequenceStore(items, np.r_[0, np.cumsum(lengths)], self.users[which], self.n_items)

    def first(self, kept: np.ndarray) -> "SequenceStore":
        """The first ``kept[u]`` events of each user u, over the same catalogue; a user may be left without any."""
        items = self.items[self.followers(kept) >= 0]
        return SequenceStore(items, np.r_[0, np.cumsum(kept)], self.users, self.n_items)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [U], events of each user."""
        return np.diff(self.offsets)

    def prefix_rows(self, which: np.ndarray, ends: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the ``longest`` most recent events before event ``ends`` of each user in ``which`` stand.

        which, ends int [R]: position of the user in the store, and of the target in the user's history.
        Returns (int64 [R, longest] indices into the events, bool [R, longest] real ones), padded on the right.
        """
        lengths = np.minimum(ends, longest)
        columns = np.arange(longest)
        index = (self.offsets[which] + ends - lengths)[:, None] + columns
        return np.minimum(index, len(self.items) - 1), columns < lengths[:, None]

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each event its user's number and its place in this user's history, from 0: two int64 [N]."""
        return runs(self.lengths)

    def compact(self) -> tuple["SequenceStore", np.ndarray]:
        """The same histories over the items that occur in them, and the former number of each item, int64 [n]."""
        used, items = np.unique(np.r_[0, self.items], return_inverse=True)
        return SequenceStore(items[1:].astype(np.int32), self.offsets, self.users, len(used)), used

    def item_counts(self, kept: np.ndarray) -> np.ndarray:
        """int64 [n_items], how often each item occurs among the first ``kept[u]`` events of each user u."""
        return np.bincount(self.items[self.followers(kept) >= 0], minlength=self.n_items)

    def pairs(self, kept: np.ndarray, lags: Iterable[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(lag, items, those of the same user that lag behind) of the first ``kept[u]`` events, for each lag >= 1."""
        following = self.followers(kept)
        for lag in lags:
            first = np.flatnonzero(following >= lag)
            yield lag, self.items[first], self.items[first + lag]

    def followers(self, kept: np.ndarray) -> np.ndarray:
        """int64 [N], how many of the first ``kept[u]`` events stand behind each one; below 0 for those not kept."""
        user, position = self.places()
        return kept[user] - position - 1


@dataclass(frozen=True)
class HistorySplit:
    """What of each user's events trains, and which event is held out in validation and in the test: one at most.

    trained: int64 [U], the first so many. valid, test: int64 [R], users that have the row. valid_at, test_at: int64
    [R], place of the held-out event in its history; what stands before it is what a model is shown.
    """

    trained: np.ndarray
    valid: np.ndarray
    valid_at: np.ndarray
    test: np.ndarray
    test_at: np.ndarray

    @classmethod
    def leave_one_out(cls, lengths: np.ndarray) -> "HistorySplit":
        """Of users with so many events, by RecBole's rule for ``LS: valid_and_test``.

        The last event is the test target of users with n >= 3, the one before it the validation target of those with
        n >= 4; the events before are for training.
        """
        valid, test = np.flatnonzero(lengths >= 4), np.flatnonzero(lengths >= 3)
        return cls(lengths - np.clip(lengths - 2, 0, 2), valid, lengths[valid] - 2, test, lengths[test] - 1)

    @classmethod
    def by_time(cls, lengths: np.ndarray, before_valid: np.ndarray, before_test: np.ndarray) -> "HistorySplit":
        """Of users with so many events, and so many before each of the two periods: int64 [U] each.

        Held out is the first event of a period, if one stands before it: no model is shown anything that it would have
        to wait for. The others of the validation period train nothing, but stand in the histories of the test.
        """
        valid = np.flatnonzero((before_valid > 0) & (before_test > before_valid))
        test = np.flatnonzero((before_test > 0) & (lengths > before_test))
        return cls(before_valid, valid, before_valid[valid], test, before_test[test])

    def measured_on(self, most: int, place: np.ndarray) -> "HistorySplit":
        """The same events train; of validation and of test the ``most`` rows are left whose users come first.

        place: int [U], that of each user in an order of all of them.
        """
        valid, test = (np.sort(np.argsort(place[rows])[:most]) for rows in (self.valid, self.test))
        return HistorySplit(self.trained, self.valid[valid], self.valid_at[valid], self.test[test], self.test_at[test])


@dataclass(frozen=True)
class Windows:
    """Training rows: inputs items[start:start + length], targets one event later; the first ``context`` are loss-free.

    start, length, context: int64 [R].
    """

    start: np.ndarray
    length: np.ndarray
    context: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    @property
    def targets(self) -> np.ndarray:
        """int64 [R], how many events each window predicts."""
        return self.length - self.context


def training_windows(store: SequenceStore, kept: np.ndarray, longest: int) -> Windows:
    """Cuts the first ``kept[u]`` events of each user so that every event after the first is a target exactly once.

    A history of more than ``longest`` + 1 events is cut into windows that overlap by ``longest`` // 2 loss-free
    inputs (LRURec trains on all positions; one row per user would drop most of a long history).
    """
    predicted = np.maximum(kept - 1, 0)
    context = longest // 2
    stride = longest - context
    extra = np.maximum(0, -(-(predicted - longest) // stride))
    counts = np.where(predicted > 0, 1 + extra, 0)
    user, number = runs(counts)
    start = number * stride
    length = np.minimum(longest, predicted[user] - start)
    return Windows(store.offsets[user] + start, length, np.where(number > 0, context, 0))


def prefix_windows(store: SequenceStore, kept: np.ndarray, longest: int) -> Windows:
    """RecBole's training rows: for every event of the first ``kept[u]`` but the first, the ``longest`` before it.

    Only the last input of a row is followed by a target; the events before it are context.
    """
    predicted = np.maximum(kept - 1, 0)
    user, place = runs(predicted)
    end = place + 1
    length = np.minimum(end, longest)
    return Windows(store.offsets[user] + end - length, length, length - 1)
