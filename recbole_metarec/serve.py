"""Recommendations from a saved model: no dataset, no source, no training code and no RecBole is needed to answer.

RecBole's own models and fitted baselines are the exception: they are rebuilt from the data that they name.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from recbole_metarec.config.suggestions import nearest
from recbole_metarec.data.sequences import SequenceStore
from recbole_metarec.errors import CheckpointError, DataError
from recbole_metarec.evaluation.best import Best, best_items
from recbole_metarec.files import model_file
from recbole_metarec.lazy import LazyModule
from recbole_metarec.model.network import Memory, SequenceNetwork
from recbole_metarec.model.saved_network import names_network, network_maker
from recbole_metarec.trainer.checkpoint import load_model, read_checkpoint

# the reader of data brings pandas and Polars, half a second that an answer to a given history need not wait for
histories = LazyModule("recbole_metarec.data.histories")
remade = LazyModule("recbole_metarec.plugin.remade")  # it brings RecBole

# what must be text in a config, for its data to be read
_TEXTS = ("data_path", "USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "field_separator")


@dataclass(frozen=True)
class UserState:
    """What the model remembers of a user (for LRURec and MetaRec a complex [1, n] per layer, for UniSRec the recent
    items), and the state after the last event: output [1, d], None before any event."""

    memory: Memory
    output: Tensor | None = None


class Search(Protocol):
    """What finds the best items without scoring all of them."""

    def top(self, output: Tensor, k: int, exclude: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The k best items by number after what the network's ``forward`` returns for one user, and their scores."""


@dataclass(frozen=True)
class DataOrigin:
    """The data that a model was trained on: the dataset's name, the folder that held it, the values of the config."""

    dataset: str
    data_path: str
    values: Mapping

    @classmethod
    def of(cls, config: str, file: str | Path) -> "DataOrigin":
        """What the config of a checkpoint, JSON, says of it. file: for the message of a CheckpointError."""
        try:
            saved = json.loads(config)
            dataset, values = saved["dataset"], defaultdict(lambda: None, saved["values"])
            if Path(dataset).name != dataset or not all(isinstance(values[key], str) for key in _TEXTS):
                raise ValueError
            return cls(dataset, values["data_path"], values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{file}: its config is not one that this package wrote; train again") from error


class Recommender:
    """A network that scores, and the names of its items.

    >>> recommender = Recommender.load("saved/...")                # doctest: +SKIP
    >>> recommender.recommend(["B00001", "B00042"], k=10)          # doctest: +SKIP
    """

    def __init__(
        self, network: SequenceNetwork, items: list[str], origin: DataOrigin | None = None, device: str = "cpu"
    ):
        """items: the names in the order of the network's rows, that of padding first."""
        try:
            self.network, self.device = network.eval().to(device), torch.device(device)
        except (RuntimeError, AssertionError) as error:
            raise DataError(f"device: {device} cannot be used ({error}); leave it out, or give cpu") from error
        self.origin, self.items = origin, tuple(items[1:])
        self._number = {name: number for number, name in enumerate(self.items, 1)}
        self._histories = None  # a data.histories.Histories once somebody asks for one

    def __repr__(self) -> str:
        data = f" of {self.origin.dataset}" if self.origin else ""
        return f"<Recommender: {type(self.network).__name__}, {len(self.items)} items{data}, on {self.device}>"

    @classmethod
    def load(cls, run: str | Path, data_path: str | None = None, device: str = "cpu") -> "Recommender":
        """Reads a run's folder, or its ``model.pth``; nothing in the file is executed.

        RecBole's own models and fitted baselines are rebuilt from the data that they were trained on.

        data_path: the folder that holds the domain now, if it has moved and the data are needed.
        device: where it computes: ``cpu``, ``cuda`` or ``cuda:N``.
        Raises CheckpointError for a file that holds no model that can be served, DataError if data_path is no folder.
        """
        if data_path is not None and not Path(data_path).expanduser().is_dir():
            raise DataError(f"data_path: {data_path} is not a folder; give the folder that holds NAME/NAME.inter")
        file = model_file(run)
        content = read_checkpoint(file)
        if "optimizer" in content:
            raise CheckpointError(f"{file}: a training state, for resuming; give the model.pth beside it")
        origin = DataOrigin.of(content.get("config"), file)
        if data_path is not None:
            origin = replace(origin, data_path=data_path)
        if not names_network(content):
            return cls(*remade.network_of(content, file, data_path), origin, device)
        items = content.get("items")
        if not isinstance(items, list) or not items or not all(isinstance(name, str) for name in items):
            raise CheckpointError(f"{file}: holds no item names; train again")
        twice = next((name for name, times in Counter(items).items() if times > 1), None)
        if twice is not None:
            raise CheckpointError(f"{file}: two of its items are named {twice!r}; train again")
        return cls(load_model(network_maker(content, file), content, file), items, origin, device)

    # -- whom to recommend for ---------------------------------------------------------------------------------

    def knows(self, item: str) -> bool:
        """Whether the model was trained with an item of that name."""
        return item in self._number

    def history_of(self, user: str) -> list[str]:
        """A user's items, oldest first, from the data that the model was trained on.

        They include the events that were held out from training. The data are read once, and again when their file
        has changed. Raises DataError if they are neither where they were nor where a run would
        look for them, or for a user who is not in them.
        """
        return self.histories().of(user)

    def histories(self):
        """Those of all users, a :class:`~recbole_metarec.data.histories.Histories`; as :meth:`history_of`."""
        if self.origin is None:
            raise DataError("this model does not say what data it was trained on; give a history instead")
        file = histories.event_file(self.origin.dataset, self.origin.data_path)
        if self._histories is None or self._histories.version != histories.version_of(file):
            self._histories = histories.Histories.read(file, self.origin.values)
        return self._histories

    # -- one user, event by event ------------------------------------------------------------------------------

    def start(self) -> UserState:
        """A user without any event."""
        return UserState(self.network.first_memory())

    @torch.no_grad()
    def add(self, state: UserState, item: str) -> UserState:
        """The state after one more event, at a cost that, for LRURec and MetaRec, does not depend on the history.

        Raises DataError for an item that the model has not seen in training.
        """
        output, memory = self.network.next_memory(state.memory, self._number_of(item))
        return UserState(memory, output)

    @torch.no_grad()
    def top(
        self, state: UserState, k: int = 10, exclude: Iterable[str] = (), search: Search | None = None
    ) -> list[tuple[str, float]]:
        """The k best items and their scores, best first; fewer where the catalogue has no more.

        search: where not every item is to be scored, a :class:`~recbole_metarec.serving.search.ItemSearch`.
        Raises DataError for a user without any event, an unknown item in ``exclude``, or k below 1.
        """
        _check_count(k)
        _check_names("exclude", exclude)
        if state.output is None:
            raise DataError("the history is empty: add at least one item before asking for recommendations")
        excluded = [self._number_of(item) for item in exclude]
        if search is not None:
            return self._named(*(found.tolist() for found in search.top(state.output, k, excluded)))
        scores = self.network.score(state.output)[0]
        scores[[0, *excluded]] = float("-inf")
        best = scores.topk(min(k, len(self.items)))
        return self._named(best.indices.tolist(), best.values.tolist())

    # -- whole histories ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def recommend(
        self,
        history: Iterable[str],
        k: int = 10,
        include_seen: bool = False,
        search: Search | None = None,
    ) -> list[tuple[str, float]]:
        """The k best next items after a history of item names, oldest first: [(item, score)], best first.

        include_seen: whether items of the history may be among them, as they may in RecBole's evaluation. search: as
        :meth:`top` has it.
        Raises DataError for an empty history, an unknown item, a string instead of a list, or k below 1.
        """
        _check_count(k)
        _check_names("history", history)
        history = [str(item) for item in history]
        state = self.start()
        if history:
            numbers = [self._number_of(item) for item in history[-self.network.longest :]]
            output, memory = self.network.memory_of(numbers)
            state = UserState(memory, output)
        return self.top(state, k, () if include_seen else history, search)

    def recommend_many(
        self, histories: Iterable[Iterable[str]], k: int = 10, include_seen: bool = False
    ) -> list[list[tuple[str, float]]]:
        """As :meth:`recommend` for each of many histories, in batches: the same to rounding, and much faster."""
        _check_count(k)
        numbers = []
        for history in histories:
            _check_names("history", history)
            numbers.append([self._number_of(str(item)) for item in history])
            if not numbers[-1]:
                raise DataError(f"history {len(numbers)} is empty: give at least one item")
        offsets = np.cumsum([0, *map(len, numbers)])
        items = np.fromiter((item for history in numbers for item in history), np.int32, offsets[-1])
        store = SequenceStore(items, offsets, np.zeros(len(numbers), np.int64), len(self.items) + 1)
        parts = best_items(self.network, store, k, include_seen, self.device)
        return [self._named(*row) for best in parts for row in zip(best.items.tolist(), best.scores.tolist())]

    def recommend_user(self, user: str, k: int = 10, include_seen: bool = False) -> list[tuple[str, float]]:
        """As :meth:`recommend` after the whole history of a user of the data, as :meth:`recommend_users`."""
        parts = list(self.recommend_users([user], k, include_seen))
        if not parts:
            raise DataError(f"user {user!r} has no item that the model was trained with; give a history instead")
        return self._named(*(found[0].tolist() for found in parts[0][1]))

    def recommend_users(
        self, users: Sequence[str], k: int = 10, include_seen: bool = False
    ) -> Iterator[tuple[Sequence[str], Best]]:
        """For users of the data, from their whole histories there, in parts: names, and the best items by number.

        Number n is ``items[n - 1]``. Items that the model does not know are skipped; a user who has no others
        gets no recommendation. Raises DataError as :meth:`history_of` does, and for k below 1.
        """
        _check_count(k)
        store = self.histories().store_of(users, self._number, self.network.users)
        some = np.flatnonzero(store.lengths)
        start = 0
        for best in best_items(self.network, store.of_users(some), k, include_seen, self.device):
            which = some[start : start + len(best.items)]
            start += len(which)
            yield [users[row] for row in which], best

    def _named(self, numbers: list[int], scores: list[float]) -> list[tuple[str, float]]:
        pairs = zip(numbers, scores, strict=True)
        return [(self.items[number - 1], score) for number, score in pairs if score > float("-inf")]

    def _number_of(self, item: str) -> int:
        if item not in self._number:
            guess = nearest(item, self._number)
            hint = f"did you mean {guess!r}?" if guess else "leave it out"
            raise DataError(f"unknown item {item!r}: the model was trained without it; {hint}")
        return self._number[item]


def _check_count(k) -> None:
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
        raise DataError(f"k is {k!r}, but it must be at least 1; give how many items to recommend, such as k=10")


def _check_names(what: str, names) -> None:
    """A text is a sequence of letters to Python, which would all be taken for items."""
    if isinstance(names, (str, bytes)):
        raise DataError(f"{what} is a single string, {names!r}; give a list of item names, such as [{names!r}]")
