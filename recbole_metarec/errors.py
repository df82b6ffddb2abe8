"""The user's mistakes as exceptions, whose text is the one line that the user reads.

A message says what is wrong, where (file:line or config key), and what to do. The command line prints it
after ``error: `` and exits with 2. All are ``ValueError``s, so that code around RecBole may catch them as usual.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

_NO_MEMORY = re.compile(
    "out of memory|not enough memory|can't allocate|cannot allocate|bad_alloc|storage size calculation overflowed", re.I
)
_PASSWORD = re.compile(r"(://[^:/@\s]*):\S*@")


def without_passwords(text: str) -> str:
    """Text in which no URL shows its password."""
    return _PASSWORD.sub(r"\1@", text)


class MetaRecError(ValueError):
    """Any mistake in what the user gave: arguments, configuration, data or a checkpoint."""

    def __str__(self) -> str:
        """In one line, whatever is quoted in it, and without secrets."""
        return without_passwords(" ".join(super().__str__().splitlines()))


class ConfigError(MetaRecError):
    """A config key is unknown, or its value is of the wrong type, out of range or in conflict with another."""


class RecBoleMissingError(MetaRecError, ImportError):
    """RecBole is not installed; on Python 3.12 and later it has to be installed separately."""


class DataError(MetaRecError):
    """A file of a domain is missing, malformed, or leaves nothing to train on or to evaluate."""


class CheckpointError(MetaRecError):
    """A checkpoint is truncated, of another model or shape, or would have to run code to be read."""


class TrainingError(MetaRecError):
    """The loss or a gradient is no longer finite; the last good checkpoint is kept."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: the work ends as after Ctrl-C, and the user is told what was kept."""


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turns a failed allocation of memory, in Python, NumPy or PyTorch on any device, into a ConfigError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        raise ConfigError(
            "there is not enough memory for sizes such as these; lower train_batch_size, eval_batch_size, "
            "embedding_size, n_layers, MAX_ITEM_LIST_LENGTH, text_width, source_negatives or target_negatives"
        ) from error
