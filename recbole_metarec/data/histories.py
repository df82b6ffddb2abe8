"""The histories of all users of a domain, by name, from which a saved model recommends."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.config.suggestions import nearest
from recbole_metarec.data.domains import find_domain
from recbole_metarec.data.reader import NeedsRecBole, ReadSpec, read_domain
from recbole_metarec.data.sequences import SequenceStore
from recbole_metarec.errors import DataError


def event_file(dataset: str, data_path: str) -> Path:
    """``NAME.inter``, in data_path or where a run would look for it. Raises DataError if it is at neither."""
    for folder in (data_path, DEFAULT_DATA_PATH):
        try:
            return find_domain(dataset, folder) / dataset / f"{dataset}.inter"
        except DataError:
            continue
    raise DataError(
        f"{data_path}/{dataset}: the data that the model was trained on is not there; say with "
        "--data_path (data_path=) where it is, or give a history instead"
    )


def version_of(file: Path) -> tuple[int, int, int]:
    """Changes when the file is written again: its time, size and inode."""
    status = file.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _of_events(values: Mapping) -> Mapping:
    """Without the files beside the events: what a model reads there about items changes no history."""
    columns = values["load_col"]
    has_events = isinstance(columns, Mapping) and "inter" in columns
    return ChainMap({"load_col": {"inter": columns["inter"]}}, values) if has_events else values


@dataclass(frozen=True)
class Histories:
    """All users' events in a file. version: of the file. rows: user -> row in the store."""

    file: Path
    version: tuple[int, int, int]
    rows: dict[str, int]
    store: SequenceStore
    items: Sequence[str]

    @classmethod
    def read(cls, file: Path, values: Mapping) -> "Histories":
        """values: of the run's config, None for what it does not say. Raises DataError for what cannot be read."""
        version = version_of(file)  # taken before reading, so that a write in between makes it be read again
        try:
            domain = read_domain(file, ReadSpec.of(_of_events(values)))
        except NeedsRecBole:
            raise DataError(f"{file}: only training reads data with these keys; give a history instead") from None
        names = domain.users.to_list()
        rows = {names[number - 1]: row for row, number in enumerate(domain.store.users.tolist())}
        return cls(file, version, rows, domain.store, domain.items)

    def of(self, user: str) -> list[str]:
        """The user's items, oldest first. Raises DataError for a user who is not in the file."""
        row = self._row_of(user)
        start, end = self.store.offsets[row], self.store.offsets[row + 1]
        return [self.items[int(number) - 1] for number in self.store.items[start:end]]

    def store_of(self, users: Sequence[str], items: Mapping[str, int], numbers: Mapping[str, int]) -> SequenceStore:
        """The histories of some users by the numbers that the caller gives to ``items``, from 1, and to users.

        Items that have no number are left out; users without one get 0. Raises DataError as :meth:`of` does.
        """
        part = self.store.of_users(np.array([self._row_of(user) for user in users], np.int64))
        renumbered = np.array([0, *(items.get(item, 0) for item in self.items)], np.int32)[part.items]
        offsets = np.r_[0, np.cumsum(renumbered > 0)][part.offsets]
        ids = np.array([numbers.get(user, 0) for user in users], np.int64)
        return SequenceStore(renumbered[renumbered > 0], offsets, ids, len(items) + 1)

    def _row_of(self, user: str) -> int:
        if user not in self.rows:
            guess = nearest(user, self.rows)
            hint = f"did you mean {guess!r}?" if guess else "check the name, or give a history"
            raise DataError(f"unknown user {user!r}: not in {self.file}; {hint}")
        return self.rows[user]
