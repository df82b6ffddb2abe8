"""Everything that can be the user's mistake, as exceptions whose text is the one line that the user reads.

A message says what is wrong, where (file:line or config key), and what to do. The command line prints it
after ``error: `` and exits with 2. All are ``ValueError``s, so that code around RecBole may catch them as usual.
"""


class MetaRecError(ValueError):
    """Any mistake in what the user gave: arguments, configuration, data or a checkpoint."""

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())  # a value that is quoted may hold line ends


class ConfigError(MetaRecError):
    """A config key is unknown, or its value is of the wrong type, out of range or in conflict with another."""


class DataError(MetaRecError):
    """A file of a domain is missing, malformed, or leaves nothing to train on or to evaluate."""


class CheckpointError(MetaRecError):
    """A checkpoint is truncated, of another model or shape, or would have to run code to be read."""


class TrainingError(MetaRecError):
    """The loss or a gradient is no longer finite; the last good checkpoint is kept."""
