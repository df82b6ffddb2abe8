"""A source domain as training gets it."""

from dataclasses import dataclass
from pathlib import Path

from recbole_metarec.data.sequences import SequenceStore, Windows, training_windows


@dataclass(frozen=True)
class Source:
    """A source domain: its name, the file it was read from, every user's whole history, and, for a model that reads
    them, its items' texts in the order of their ids."""

    name: str
    path: Path
    store: SequenceStore
    texts: list[str] | None = None

    def windows(self, longest: int) -> Windows:
        """Training windows over whole histories: a source has nothing to hold out."""
        return training_windows(self.store, self.store.lengths, longest)
