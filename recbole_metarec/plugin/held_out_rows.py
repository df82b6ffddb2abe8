"""RecBole's rows of held-out events, whose histories are gathered when they are asked for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
from recbole.data.interaction import Interaction
from torch import Tensor


class HeldOutRows(Interaction):
    """An Interaction of which only some columns are held: L numbers for every user would be most of a large target.

    names: all columns, in order. held: those of one number a row. gather: all columns of the rows int64 [B].
    What RecBole's class does with all columns at once makes them all, as does asking for one that is not held.
    """

    def __init__(
        self, names: Sequence[str], held: Mapping[str, Tensor], gather: Callable[[np.ndarray], dict[str, Tensor]]
    ):
        self._names, self._held, self._gather = list(names), held, gather
        self.length = len(next(iter(held.values())))

    @cached_property
    def interaction(self) -> dict[str, Tensor]:
        """All columns of all rows."""
        return self._gather(np.arange(self.length))

    @property
    def _is_whole(self) -> bool:
        return "interaction" in self.__dict__

    def __getattr__(self, name):
        if name.startswith("_") or name not in self:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self[name]

    def __getitem__(self, index):
        if self._is_whole:
            return super().__getitem__(index)
        if isinstance(index, str):
            return self._held[index] if index in self._held else self.interaction[index]
        rows = np.arange(*index.indices(self.length)) if isinstance(index, slice) else np.asarray(index)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        found = Interaction(self._gather(np.atleast_1d(rows)))
        return found if np.ndim(rows) else found[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, name) -> bool:
        return name in self.columns

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.interaction) if self._is_whole else list(self._names)
