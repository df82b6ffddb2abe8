"""Recommendations from a saved model: no data set, no source, no training code is needed to answer."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import torch
from recbole.utils import get_model
from torch import Tensor

from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.config.suggestions import nearest
from recbole_metarec.data.domains import find_domain
from recbole_metarec.data.reader import NeedsRecBole, ReadSpec, read_domain
from recbole_metarec.data.sequences import SequenceStore
from recbole_metarec.errors import CheckpointError, DataError
from recbole_metarec.plugin.checkpoint_config import config_from_json
from recbole_metarec.trainer.checkpoint import load_model, read_checkpoint


@dataclass(frozen=True)
class UserState:
    """What the model remembers of a user (for LRURec and MetaRec a complex [1, n] per layer, for UniSRec the recent
    items), and the state after the last event: output [1, d], None before any event."""

    memory: tuple[Tensor, ...]
    output: Tensor | None = None


class Recommender:
    """A saved model and the names of its items.

    >>> recommender = Recommender.load("saved/.../model.pth")      # doctest: +SKIP
    >>> recommender.recommend(["B00001", "B00042"], k=10)          # doctest: +SKIP
    """

    def __init__(self, model, items: list[str], config=None):
        self.model, self.config = model.eval(), config
        self.items = items
        self._number = {name: number for number, name in enumerate(items) if number}
        self._histories: _Histories | None = None

    @classmethod
    def load(cls, model_file: str | Path, data_path: str | None = None) -> "Recommender":
        """Reads a checkpoint of this package; nothing in the file is executed. Raises CheckpointError.

        data_path: the folder that holds the domain now, for ``history_of``, if it is no longer where it was.
        """
        content = read_checkpoint(model_file)
        items = content.get("items")
        if not isinstance(items, list) or not items or not all(isinstance(name, str) for name in items):
            raise CheckpointError(f"{model_file}: holds no item names; take the model.pth of a run folder")
        twice = next((name for name, times in Counter(items).items() if times > 1), None)
        if twice is not None:
            raise CheckpointError(f"{model_file}: two of its items are named {twice!r}; train again")
        config = config_from_json(content.get("config"), data_path)
        try:
            catalogue = _Catalogue(len(items))
            model = load_model(lambda: get_model(config["model"])(config, catalogue), content, model_file)
        except (RuntimeError, MemoryError) as error:
            raise CheckpointError(f"{model_file}: its config makes no model that fits here; train again") from error
        return cls(model, items, config)

    def history_of(self, user: str) -> list[str]:
        """The items of a user, oldest first, from the data that the model was trained on: those to be recommended for.

        Events that the model's training left out, such as the last ones, are there, too. The data are read once, and
        again when their file has changed. Raises DataError if they are neither where they were nor where a run would
        look for them, or for a user who is not in them.
        """
        file = self._data_file()
        if self._histories is None or self._histories.version != _version(file):
            self._histories = _Histories.read(file, self.config)
        histories = self._histories
        if user not in histories.rows:
            guess = nearest(user, histories.rows)
            hint = f"did you mean {guess!r}?" if guess else "check the name, or give a history"
            raise DataError(f"unknown user {user!r}: not in {file}; {hint}")
        return histories.of(user)

    def _data_file(self) -> Path:
        name = self.config["dataset"]
        file = Path(self.config["data_path"]) / f"{name}.inter"
        if file.is_file():
            return file
        try:  # the model may have come from another machine, whose folders say nothing here
            return find_domain(name, DEFAULT_DATA_PATH) / name / f"{name}.inter"
        except DataError:
            raise DataError(
                f"{file}: the data that the model was trained on is not there; say with --data_path (data_path=) where "
                "it lies, or give a history in its place"
            ) from None

    def start(self) -> UserState:
        """A user without any event."""
        return UserState(self.model.first_memory())

    @torch.no_grad()
    def add(self, state: UserState, item: str) -> UserState:
        """The state after one more event, at a cost that, but for UniSRec, does not depend on the history.

        Raises DataError for an item that the model has not seen in training.
        """
        output, memory = self.model.next_memory(state.memory, self._number_of(item))
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
        scores = self.model.score(state.output)[0]
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
            numbers = [self._number_of(item) for item in history[-self.model.max_seq_length :]]
            output, memory = self.model.memory_of(numbers)
            state = UserState(memory, output)
        return self.top(state, k, history if exclude_seen else ())

    def _number_of(self, item: str) -> int:
        if item not in self._number:
            guess = nearest(item, self._number)
            hint = f"did you mean {guess!r}?" if guess else "leave it out"
            raise DataError(f"unknown item {item!r}: the model was trained without it; {hint}")
        return self._number[item]


@dataclass(frozen=True)
class _Histories:
    """Everybody's events as a file has them. version: of the file. rows: user -> place in the store."""

    version: tuple[int, int, int]
    rows: dict[str, int]
    store: SequenceStore
    items: Sequence[str]

    @classmethod
    def read(cls, file: Path, config) -> "_Histories":
        version = _version(file)  # before it is read: what is written meanwhile makes it be read again
        try:
            domain = read_domain(file, ReadSpec.of(config))
        except NeedsRecBole:
            raise DataError(f"{file}: training alone reads data with these keys; give a history in its place") from None
        names = domain.users.to_list()
        rows = {names[number - 1]: row for row, number in enumerate(domain.store.users.tolist())}
        return cls(version, rows, domain.store, domain.items)

    def of(self, user: str) -> list[str]:
        start, end = self.store.offsets[self.rows[user]], self.store.offsets[self.rows[user] + 1]
        return [self.items[int(number) - 1] for number in self.store.items[start:end]]


def _version(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _check_count(k) -> None:
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
        raise DataError(f"k is {k!r}, but it must be at least 1; give how many items to recommend, such as k=10")


def _check_names(what: str, names) -> None:
    """A text is a sequence of letters to Python, which would all be taken for items."""
    if isinstance(names, (str, bytes)):
        raise DataError(f"{what} is the one text {names!r}; give a list of item names, such as [{names!r}]")


class _Catalogue:
    """All that a model asks a dataset for: how many items there are, padding included."""

    def __init__(self, n_items: int):
        self.n_items = n_items

    def num(self, field: str) -> int:
        return self.n_items
