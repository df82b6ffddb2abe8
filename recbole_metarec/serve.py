"""Recommendations from a saved model: no dataset, no source, no training code and no RecBole is needed to answer."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path

import torch
from torch import Tensor

from recbole_metarec.config.suggestions import nearest
from recbole_metarec.errors import CheckpointError, DataError
from recbole_metarec.lazy import LazyModule
from recbole_metarec.model.network import Memory, SequenceNetwork
from recbole_metarec.model.saved_network import network_maker
from recbole_metarec.trainer.checkpoint import load_model, read_checkpoint

# the reader of data brings pandas and Polars, half a second that an answer to a given history need not wait for
histories = LazyModule("recbole_metarec.data.histories")

# what must be text in a config, for its data to be read
_TEXTS = ("data_path", "USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "field_separator")


@dataclass(frozen=True)
class UserState:
    """What the model remembers of a user (for LRURec and MetaRec a complex [1, n] per layer, for UniSRec the recent
    items), and the state after the last event: output [1, d], None before any event."""

    memory: Memory
    output: Tensor | None = None


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
    """A network that scores, and the names of its items, padding first.

    >>> recommender = Recommender.load("saved/.../model.pth")      # doctest: +SKIP
    >>> recommender.recommend(["B00001", "B00042"], k=10)          # doctest: +SKIP
    """

    def __init__(self, network: SequenceNetwork, items: list[str], origin: DataOrigin | None = None):
        self.network, self.origin = network.eval(), origin
        self.items = items
        self._number = {name: number for number, name in enumerate(items) if number}
        self._histories = None  # a data.histories.Histories once somebody asks for one

    @classmethod
    def load(cls, model_file: str | Path, data_path: str | None = None) -> "Recommender":
        """Reads a checkpoint of this package; nothing in the file is executed.

        data_path: the folder that holds the domain now, for ``history_of``, if it is no longer where it was.
        Raises CheckpointError for a file that holds no model that can be served, DataError if data_path is no folder.
        """
        if data_path is not None and not Path(data_path).expanduser().is_dir():
            raise DataError(f"data_path: {data_path} is not a folder; give the folder that holds NAME/NAME.inter")
        content = read_checkpoint(model_file)
        items = content.get("items")
        if not isinstance(items, list) or not items or not all(isinstance(name, str) for name in items):
            raise CheckpointError(
                f"{model_file}: holds no item names; take the model.pth of a run of LRURec, MetaRec or UniSRec"
            )
        twice = next((name for name, times in Counter(items).items() if times > 1), None)
        if twice is not None:
            raise CheckpointError(f"{model_file}: two of its items are named {twice!r}; train again")
        origin = DataOrigin.of(content.get("config"), model_file)
        if data_path is not None:
            origin = replace(origin, data_path=data_path)
        return cls(load_model(network_maker(content, model_file), content, model_file), items, origin)

    def history_of(self, user: str) -> list[str]:
        """The items of a user, oldest first, from the data that the model was trained on: those to be recommended for.

        Events that the model's training left out, such as the last ones, are there, too. The data are read once, and
        again when their file has changed. Raises DataError if they are neither where they were nor where a run would
        look for them, or for a user who is not in them.
        """
        if self.origin is None:
            raise DataError("this model does not say what data it was trained on; give a history in its place")
        file = histories.event_file(self.origin.dataset, self.origin.data_path)
        if self._histories is None or self._histories.version != histories.version_of(file):
            self._histories = histories.Histories.read(file, self.origin.values)
        return self._histories.of(user)

    def start(self) -> UserState:
        """A user without any event."""
        return UserState(self.network.first_memory())

    @torch.no_grad()
    def add(self, state: UserState, item: str) -> UserState:
        """The state after one more event, at a cost that, but for UniSRec, does not depend on the history.

        Raises DataError for an item that the model has not seen in training.
        """
        output, memory = self.network.next_memory(state.memory, self._number_of(item))
        return UserState(memory, output)

    @torch.no_grad()
    def top(self, state: UserState, k: int = 10, exclude: Iterable[str] = ()) -> list[tuple[str, float]]:
        """The k best items and their scores, best first; fewer where the catalogue has no more.

        Raises DataError for a user without any event, an unknown item in ``exclude``, or k below 1.
        """
        _check_count(k)
        _check_names("exclude", exclude)
        if state.output is None:
            raise DataError("the history is empty: add at least one item before asking for recommendations")
        scores = self.network.score(state.output)[0]
        scores[[0, *(self._number_of(item) for item in exclude)]] = float("-inf")
        best = scores.topk(min(k, len(self.items) - 1))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [(self.items[number], score) for number, score in pairs if score > float("-inf")]

    @torch.no_grad()
    def recommend(self, history: Iterable[str], k: int = 10, exclude_seen: bool = False) -> list[tuple[str, float]]:
        """The k best next items after a history of item names, oldest first: [(item, score)], best first.

        exclude_seen leaves the history's own items out; evaluation does not, as RecBole's does not.
        Raises DataError for an empty history, an unknown item, one text in place of a list, or k below 1.
        """
        _check_count(k)
        _check_names("history", history)
        history = [str(item) for item in history]
        state = self.start()
        if history:
            numbers = [self._number_of(item) for item in history[-self.network.longest :]]
            output, memory = self.network.memory_of(numbers)
            state = UserState(memory, output)
        return self.top(state, k, history if exclude_seen else ())

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
        raise DataError(f"{what} is the one text {names!r}; give a list of item names, such as [{names!r}]")
