"""One run that a comparison wants, and what makes it the same run as another: its key."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from recbole_metarec.config.schema import keys_in
from recbole_metarec.errors import DataError
from recbole_metarec.files import write_json


@dataclass(frozen=True)
class PlannedRun:
    """One model with one seed on one target.

    model: the name in the table. experiment: the name that trains it. overrides: config keys for the experiment,
    those of this machine included. config: every key that decides the result, defaults included. code, data: versions
    of the code and of the files in ``data_files``. command: what a user types to repeat it. trials: as in RunResult.
    shown_as: what messages call it, where the model's name does not tell it from others.
    """

    model: str
    experiment: str
    dataset: str
    sources: list[str]
    seed: int
    overrides: dict
    config: dict
    code: str
    data: str
    data_files: list[str]
    command: str
    trials: int = 0
    folder: str = field(default="", compare=False)  # of its output; relative to the current one or absolute
    shown_as: str = field(default="", compare=False)

    @cached_property
    def key(self) -> str:
        """Equal for two runs exactly if model, config, seed, code and data are: hexadecimal SHA-256."""
        config = {name: value for name, value in self.config.items() if name not in keys_in("machine", "repetition")}
        parts = [self.model, self.experiment, self.dataset, self.sources, self.seed, config, self.code, self.data]
        text = json.dumps(parts, sort_keys=True, default=str, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def title(self) -> str:
        """``MODEL seed N``, for messages."""
        return f"{self.shown_as or self.model} seed {self.seed}"

    def write(self, path: Path) -> None:
        """Writes it for :meth:`read`. Raises DataError if the disk is full or may not be written to."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "PlannedRun":
        """What :meth:`write` wrote. Raises DataError for any other file."""
        try:
            return cls(**json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path}: not a planned run ({error}); run the leaderboard command instead") from None
