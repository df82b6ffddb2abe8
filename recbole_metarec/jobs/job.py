"""One planned run of a comparison, and its identity: what makes two runs the same."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from recbole_metarec.config.saved_config import BEFORE
from recbole_metarec.config.schema import keys_in
from recbole_metarec.errors import DataError
from recbole_metarec.files import write_json

# A run without texts reads none of these keys: it is hashed with these values, whatever its config has.
_TEXTS = {"text_width": 512, "text_space": BEFORE["text_space"], "text_whitening": BEFORE["text_whitening"]}
_MEMORY = {"memory_neighbours", "memory_form", "memory_texts", "memory_from"}  # unread without an item memory
Recipe = tuple[str, str, int]


@dataclass(frozen=True)
class PlannedRun:
    """One model with one seed on one target.

    model: the name in the table. experiment: the name of the model that is trained. overrides: config keys that it is
    given, those of this machine included. config: every key that decides the result, defaults included. code, data:
    versions of the code and of the files in ``data_files``. command: what a user types to repeat it. model_files:
    source files of a model that is not this package's. trials: as in RunResult. folder: of its output, absolute or
    relative to the current one. shown_as: its name in messages, if the model's name does not tell it from others.
    reference: as in ModelSpec; the run's process finds a user's class by it.
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
    model_files: list[str] = field(default_factory=list)
    trials: int = 0
    folder: str = field(default="", compare=False)
    shown_as: str = field(default="", compare=False)
    reference: str = field(default="", compare=False)

    @property
    def typed_model(self) -> str:
        """What its process, or a user, types for the model."""
        return self.reference or self.experiment

    @cached_property
    def recipe(self) -> Recipe:
        """Equal for two runs exactly if they train the same model on the same data from the same seed, by any code.

        (hash of model, dataset, sources and config; fingerprint of the data; seed). It does not depend on the machine,
        so it also identifies results from another one.
        """
        not_hashed = keys_in("machine", "repetition")
        config = {name: value for name, value in self.config.items() if name not in not_hashed}
        has_memory = config.get("item_memory") is True
        if config.get("text_alignment") is False and not (has_memory and config["memory_texts"] is True):
            config |= {name: value for name, value in _TEXTS.items() if name in config}
        unread = set() if has_memory else set(_MEMORY)
        if not has_memory and not config.get("seen_offset"):
            unread.add("memory_learning_rate")
        # a key with the value that all runs had before it existed is left out: stored results stay valid
        unread |= {name for name, value in BEFORE.items() if config.get(name) == value}
        config = {name: value for name, value in config.items() if name not in unread}
        return _digest([self.experiment, self.dataset, self.sources, config])[:16], self.data, self.seed

    @cached_property
    def key(self) -> str:
        """The identity of its result: equal for two runs exactly if recipe and code are. SHA-256 in hexadecimal."""
        return _digest([*self.recipe, self.code])

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


def _digest(parts: list) -> str:
    return hashlib.sha256(json.dumps(_same_numbers(parts), sort_keys=True, default=str).encode()).hexdigest()


def _same_numbers(value):
    """The value with 1.0 as 1, so that both have the same hash."""
    if isinstance(value, dict):
        return {str(key): _same_numbers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_same_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
