"""What was done to a domain, step by step, beside what is published about it."""

from dataclasses import dataclass
from pathlib import Path

from recbole_metarec.config.dataset_files import domain_settings
from recbole_metarec.prepare.sources import RawFiles
from recbole_metarec.tables import COUNT, Column, Table


@dataclass(frozen=True)
class Stage:
    """How much is left after a step."""

    label: str
    events: int
    users: int
    items: int


_COLUMNS = (
    Column("left after", lambda stage: stage.label, left=True),
    Column("events", lambda stage: stage.events, COUNT),
    Column("users", lambda stage: stage.users, COUNT),
    Column("items", lambda stage: stage.items, COUNT),
)


@dataclass(frozen=True)
class Report:
    """What ``prepare_domain`` did.

    edition: of the raw file, empty where it has none. stages: in order. time_ties: neighbours in a history with the
    very same time. skipped: bad lines left out. texts: items with a text, None without item texts. least: events that
    each user and each item must have. sha256: of the raw file. atomic: whether that is in RecBole's form. notes: what
    else there is to say.
    """

    name: str
    folder: Path
    files: RawFiles
    edition: str
    stages: list[Stage]
    time_ties: int
    skipped: int
    texts: int | None
    texts_from: str
    sha256: str
    least: tuple[int, int]
    atomic: bool = False
    notes: tuple[str, ...] = ()

    def about(self) -> dict:
        """Plain values for ``NAME.json``."""
        return {
            "raw_file": self.files.reviews.name,
            "raw_sha256": self.sha256,
            "raw_address": self.files.address or None,
            "edition": self._edition or None,
            "least_events": {"user": self.least[0], "item": self.least[1]},
            "steps": {stage.label: [stage.events, stage.users, stage.items] for stage in self.stages},
            "time_ties": self.time_ties,
            "skipped_lines": self.skipped,
            "texts_from": self.texts_from or None,
        }

    def text(self) -> str:
        """The summary for a terminal."""
        published = self._published()
        rows = (*self.stages, *([published] if published else []))
        source = self.files.reviews.name + (f" ({self._edition})" if self._edition else "")
        caption = f"{self.name}, from {source}"
        return Table(_COLUMNS, rows, caption=caption, notes=(*self._notes(), f"written: {self.folder}")).terminal()

    @property
    def _edition(self) -> str:
        return self.edition or self.files.edition

    def _published(self) -> Stage | None:
        """The statistics in the domain's YAML, if they are of this edition."""
        settings = domain_settings(self.name)
        known = settings.get("statistics")
        if not known:
            return None
        of = str(known.get("edition", settings["public_source"]["edition"]))
        if of != self._edition:
            return None
        return Stage(f"published ({of})", known["interactions"], known["users"], known["items"])

    def _notes(self) -> list[str]:
        repeated = self.stages[0].events - self.stages[1].events
        notes = list(self.notes)
        if repeated:
            notes.append(f"{repeated:,d} rows repeat an earlier user, item and time; the first of each is kept")
        if self.time_ties:
            notes.append(f"{self.time_ties:,d} neighbours in a history share one time; their order is the file's")
        if self.skipped:
            notes.append(f"{self.skipped:,d} bad lines are left out")
        if max(self.least) == 1:
            why = ", as a file in RecBole's form is taken to be filtered already" if self.atomic else ""
            notes.append(f"  every user and item is kept{why}; --core 5 would keep those with five events or more")
        if self.texts is not None:
            notes.append(f"{self.texts:,d} of {self.stages[-1].items:,d} items have a text, from {self.texts_from}")
        return notes
