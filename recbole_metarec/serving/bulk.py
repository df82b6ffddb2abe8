"""Recommendations for many users in one file: Parquet, CSV, or one JSON object a line."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.files import write_atomically
from recbole_metarec.serve import Recommender

_SHOWN = 3  # unknown users that an error names


@dataclass(frozen=True)
class Answered:
    """How many users have recommendations, and how many have none, because the model knows none of their items."""

    users: int
    without: int


def read_users(file: str | Path, known) -> list[str]:
    """The users of a text file, one a line, in its order and each once.

    known: the users of the data. Raises DataError for a file that cannot be read, or is empty, and for users who are
    not known, with the line of the first.
    """
    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(f"{file}: no list of users can be read ({what}); give a text file, or all") from None
    unknown = [(number, line) for number, line in enumerate(lines, 1) if line and line not in known]
    if unknown:
        names = ", ".join(repr(line) for _, line in unknown[:_SHOWN]) + (", ..." if len(unknown) > _SHOWN else "")
        raise DataError(
            f"{file}:{unknown[0][0]}: {len(unknown)} users are not in the data: {names}; leave them out of the list"
        )
    users = list(dict.fromkeys(filter(None, lines)))
    if not users:
        raise DataError(f"{file}: it names no user; write one a line, or give all")
    return users


def check_output(output: str | Path) -> Path:
    """The absolute path of the file. Raises ConfigError for an ending that is none of ``FORMATS``."""
    path = Path(output).expanduser()
    if path.suffix not in FORMATS:
        raise ConfigError(f"--output {output}: its ending must name the format; use one of {', '.join(FORMATS)}")
    return path


def write_recommendations(
    recommender: Recommender,
    users: Sequence[str],
    output: Path,
    k: int = 10,
    include_seen: bool = False,
    show_progress: bool = False,
) -> Answered:
    """Writes the k best items of each user: columns user, rank, item and score, users in the order given.

    The file is whole or not there. Raises DataError as ``Recommender.recommend_users`` does, and where it cannot be
    written.
    """
    answered = []

    def frames() -> Iterator[pl.DataFrame]:
        items = pl.Series(recommender.items)
        with tqdm(total=len(users), desc="Recommend", unit=" users", ncols=100, disable=not show_progress) as bar:
            for names, best in recommender.recommend_users(users, k, include_seen):
                yield _frame(names, best, items)
                answered.append(len(names))
                bar.update(len(names))

    write_atomically(output, FORMATS[output.suffix](frames()), "free some space there, or choose another --output")
    return Answered(sum(answered), len(users) - sum(answered))


def _frame(names: Sequence[str], best, items: pl.Series) -> pl.DataFrame:
    row, place = best.items.nonzero()
    return pl.DataFrame(
        {
            "user": pl.Series(names, dtype=pl.String).gather(row),
            "rank": (place + 1).astype(np.int32),
            "item": items.gather(best.items[row, place] - 1),
            "score": best.scores[row, place],
        }
    )


def _parquet(frames: Iterable[pl.DataFrame]) -> Iterator[bytes]:
    packed = io.BytesIO()
    pl.concat([_EMPTY, *frames]).write_parquet(packed)
    yield packed.getbuffer()


def _csv(frames: Iterable[pl.DataFrame]) -> Iterator[bytes]:
    yield _EMPTY.write_csv().encode()
    for frame in frames:
        yield frame.write_csv(include_header=False).encode()


def _jsonl(frames: Iterable[pl.DataFrame]) -> Iterator[bytes]:
    for frame in frames:
        yield frame.write_ndjson().encode()


_EMPTY = pl.DataFrame(schema={"user": pl.String, "rank": pl.Int32, "item": pl.String, "score": pl.Float32})
FORMATS: dict[str, Callable] = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}
