"""One dataset on disk cut into domains on disk, with their item texts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recbole_metarec.config.suggestions import nearest
from recbole_metarec.data.domains import find_domain
from recbole_metarec.data.faults import fail
from recbole_metarec.data.features import read_features
from recbole_metarec.data.numbers import Times
from recbole_metarec.data.reader import ReadSpec, read_events
from recbole_metarec.data.text_file import read_header
from recbole_metarec.data.text_vectors import drop_words
from recbole_metarec.data.writer import (
    ITEM,
    ORIGINAL_TIME,
    STAMP,
    TIME,
    read_about,
    write_domain,
    written_together,
)
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.prepare.splitting import Split


@dataclass(frozen=True)
class Dataset:
    """A domain as text: events with user_id, item_id, ``time`` (a number) and the file's other columns, in the order of
    time; items with item_id and the file's other columns, or None. types: RecBole's, of all columns.
    """

    name: str
    events: pl.DataFrame
    items: pl.DataFrame | None
    types: Mapping[str, str]
    about: Mapping

    def with_column(self, column: str) -> pl.DataFrame:
        """The events with a column of theirs, or with that of their items; of a ``token_seq``, the first word.

        Raises ConfigError for a column that neither file has.
        """
        events = self.events
        if column not in events.columns:
            if self.items is None or column not in self.items.columns:
                guess = nearest(column, self.types)
                hint = f"did you mean {guess}?" if guess else f"its columns are {', '.join(self.types)}"
                raise ConfigError(f"--by: {self.name} has no column {column}; {hint}")
            values = self.items.select(ITEM, column).unique(ITEM, keep="first")
            events = events.join(values, on=ITEM, how="left", maintain_order="left")
        if self.types[column] == "token_seq":
            events = events.with_columns(pl.col(column).str.strip_chars().str.split(" ").list.first())
        return events

    def items_with(self, share_of_words: float, seed: int) -> pl.DataFrame | None:
        """The items with about this share, in (0, 1], of the words of each text: each word stays or goes by chance, and
        one always stays.

        Raises DataError if words are to be dropped and no column holds text.
        """
        if share_of_words == 1:
            return self.items
        columns = [] if self.items is None else self.items.columns
        texts = [column for column in columns if self.types[column] == "token_seq"]
        if not texts:
            raise DataError(
                f"--source-words: {self.name} has no item texts; leave it out, or give {self.name}.item a column of "
                "type token_seq"
            )
        fewer = (pl.Series(name, drop_words(self.items[name].to_list(), 1 - share_of_words, seed)) for name in texts)
        return self.items.with_columns(fewer)


def read_frames(name: str, data_path=None) -> Dataset:
    """Reads NAME.inter and, where it is there, NAME.item.

    Raises DataError for a domain that is not there, for the first line that RecBole would refuse or misread, and for a
    column ``time`` in the file.
    """
    folder = find_domain(name, data_path)
    path = folder / name / f"{name}.inter"
    types = dict(read_header(path).types)
    if TIME in types:
        fail(path, 1, f"a column is named {TIME}, which is kept for the times of {STAMP}", "rename it in the header")
    events = read_events(path, ReadSpec(also=ORIGINAL_TIME), list(types))
    frame = pl.concat(events.others).select(list(types))
    items, item_file = None, path.with_suffix(".item")
    if item_file.is_file():
        types |= read_header(item_file).types
        items = read_features(item_file, ITEM).frame
    return Dataset(
        name, _in_time(frame, events.users, events.times, events.also), items, types, read_about(folder, name)
    )


def write_split(
    dataset: Dataset,
    split: Split,
    folder: Path,
    about: Mapping,
    overwrite: bool = False,
    items: Mapping[str, pl.DataFrame | None] | None = None,
) -> dict:
    """Write each part as ``NAME-PART``, all or none; part -> the name of its domain.

    about: how it was cut, for ``NAME-PART.json``. items: of the parts whose items are not the dataset's. Raises
    ConfigError for two parts of one name, DataError for a name that is taken (unless ``overwrite``) and where the disk
    is full or may not be written to.
    """
    names = _names(dataset.name, split.parts)
    about = {"split_of": dataset.name, "how": dict(about)}
    if dataset.about.get("simulated"):
        about["simulated"] = True
    kept = [column for column in dataset.events.columns if column not in (STAMP, ORIGINAL_TIME)]
    with written_together(folder, list(names.values()), overwrite) as hidden:
        for part, events in split.parts.items():
            others = [name for other, name in names.items() if other != part]
            write_domain(
                hidden,
                names[part],
                events.select(kept),
                (items or {}).get(part, dataset.items),
                about={**about, "part": part, "default_sources": others},
                types=dataset.types,
            )
    return names


def _names(dataset: str, parts) -> dict[str, str]:
    names = {part: f"{dataset}-" + re.sub(r"[^\w.+-]+", "_", part) for part in parts}
    for part, name in names.items():
        twin = next((other for other in parts if other != part and names[other].lower() == name.lower()), None)
        if twin:
            raise ConfigError(f"--by: the values {part!r} and {twin!r} would both be the domain {name}; rename one")
    return names


def _in_time(frame: pl.DataFrame, users: np.ndarray, stamps: Times, originals: Times | None) -> pl.DataFrame:
    """In the order of ``timestamp``; ``time`` is the original one where it is known and goes the same way.

    Compared at full precision: nanoseconds since 1970 are more than float64 tells apart.
    """
    order = np.argsort(stamps.units, kind="stable")
    field = STAMP
    if originals:  # of every event
        codes = pl.DataFrame({"user": users[order], "time": originals.units[order]})
        if not codes.select((pl.col("time") < pl.col("time").shift(1).over("user")).any()).item():
            field = ORIGINAL_TIME
    events = frame[order]
    return events.with_columns(_number(events[field]).alias(TIME))


def _number(texts: pl.Series) -> pl.Series:
    whole = texts.str.strip_chars().cast(pl.Int64, strict=False)
    return texts.str.strip_chars().cast(pl.Float64, strict=False) if whole.null_count() else whole
