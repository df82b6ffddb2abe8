"""A domain in numbers: sizes, histories, popularity, oddities, and what it shares with others."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from recbole_metarec.data.companions import companion_rows, repeat_rows
from recbole_metarec.data.features import read_features
from recbole_metarec.data.order import EventSummary
from recbole_metarec.data.reader import Domain, ReadSpec, read_domain
from recbole_metarec.data.sequences import HistorySplit, SequenceStore
from recbole_metarec.data.text_file import read_header
from recbole_metarec.data.writer import ORIGINAL_TIME

# A rank in a history is far below this; a Unix time, in whatever unit, far above.
_LEAST_UNIX_TIME = 10**8


@dataclass(frozen=True)
class Statistics:
    """One domain. lengths int64 [U]: events of each user; counts int64 [I]: events of each item that has any.

    rows: how many rows leave-one-out gives, by part.
    consecutive: events that repeat the event before them.
    repeats, companions: test events whose item the user has met already, or whose item belongs to the one before it.
    original: what the file holds by its original times, where the time that models read is but a rank.
    span: first and last time, as the file has them, unless all that the file has are ranks.
    texts: text column -> items of the catalogue with a text in it; None without a ``NAME.item``.
    """

    name: str
    file: Path
    lengths: np.ndarray
    counts: np.ndarray
    rows: dict[str, int]
    consecutive: int
    repeats: int
    companions: int
    summary: EventSummary
    original: EventSummary | None
    span: tuple[float, float] | None
    texts: dict[str, int] | None

    @property
    def users(self) -> int:
        """Users with at least one event."""
        return len(self.lengths)

    @property
    def items(self) -> int:
        """Items with at least one event."""
        return len(self.counts)

    @property
    def events(self) -> int:
        """Events after the filters."""
        return int(self.lengths.sum())

    @property
    def density(self) -> float:
        """Share of the pairs (user, item) that an event could fill, repetitions counted."""
        return self.events / (self.users * self.items)

    def top_share(self, share: float = 0.01) -> float:
        """Share of the events that fall on the most popular ``share`` of the items, at least one item."""
        top = max(1, round(share * self.items))
        return float(np.sort(self.counts)[-top:].sum() / self.events)


@dataclass(frozen=True)
class Shared:
    """How many users and items of a domain have the same name in another one.

    None: the names are plain numbers in both, so that equal ones need not mean the same user or item.
    """

    name: str
    users: int | None
    items: int | None


def inspect_domain(name: str, folder: Path, spec: ReadSpec) -> tuple[Statistics, Domain]:
    """Reads and measures ``folder/NAME/NAME.inter``. Raises DataError for a file that is refused."""
    file = folder / name / f"{name}.inter"
    domain = read_domain(file, replace(spec, also=ORIGINAL_TIME))
    store = domain.store
    split = HistorySplit.leave_one_out(store.lengths)
    rows = {"train": int(np.maximum(split.trained - 1, 0).sum()), "valid": len(split.valid), "test": len(split.test)}
    statistics = Statistics(
        name,
        file,
        lengths=store.lengths,
        counts=store.item_counts(store.lengths)[1:],
        rows=rows,
        consecutive=_consecutive(store),
        repeats=int(repeat_rows(store, split).sum()),
        companions=int(companion_rows(store, split).sum()),
        summary=domain.summary,
        original=domain.also.summary if domain.also else None,
        span=_span(domain),
        texts=_texts(file.with_suffix(".item"), domain.items, spec),
    )
    return statistics, domain


def share_names(domain: Domain, name: str, other: Domain, same_numbers: bool = False) -> Shared:
    """What a domain has in common with another one, called ``name``, by the names of users and items.

    same_numbers: a number stands for the same user or item in both.
    """
    pairs = (domain.users, other.users), (domain.items, other.items)
    counts = [_common(*pair) for pair in pairs]
    if not same_numbers:
        counts = [None if count and _are_numbers(*pair) else count for count, pair in zip(counts, pairs)]
    return Shared(name, *counts)


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of counts [n]: 0 if all are equal, 1 - 1/n if one has everything."""
    ordered, n = np.sort(counts).astype(np.float64), len(counts)
    return float(2 * (np.arange(1, n + 1) * ordered).sum() / (n * ordered.sum()) - (n + 1) / n)


def histogram(values: np.ndarray) -> list[tuple[int, int, int]]:
    """(from, to, how many) of counts [n] above 0, by doubling ranges 1, 2, 3-4, 5-8, ... up to the largest."""
    if not len(values):
        return []
    edges = np.concatenate([[0], 2 ** np.arange(0, int(np.ceil(np.log2(values.max()))) + 1)])
    which = np.searchsorted(edges, values) - 1
    counts = np.bincount(which, minlength=len(edges) - 1)
    return [(int(low) + 1, int(high), int(n)) for low, high, n in zip(edges[:-1], edges[1:], counts)]


def _common(names: pl.Series, others: pl.Series) -> int:
    return names.to_frame("name").join(others.to_frame("name"), on="name", how="semi").height


def _are_numbers(*names: pl.Series) -> bool:
    return all(series.str.contains("^[0-9]+$").all() for series in names)


def _consecutive(store: SequenceStore) -> int:
    same = store.items[1:] == store.items[:-1]
    starts = store.offsets[1:-1]
    same[starts - 1] = False  # the first event of a user follows nobody's
    return int(same.sum())


def _span(domain: Domain) -> tuple[float, float] | None:
    if domain.also:
        return domain.also.span
    return domain.times.span if domain.times.span[0] >= _LEAST_UNIX_TIME else None


def _texts(file: Path, items: pl.Series, spec: ReadSpec) -> dict[str, int] | None:
    if not file.is_file():
        return None
    types = read_header(file, spec.separator, spec.encoding).types
    columns = [name for name, kind in types.items() if kind == "token_seq"]
    features = read_features(file, spec.fields[1], columns, spec.separator, spec.encoding)
    names = features[spec.fields[1]]
    return {name: _common(items, names.filter(features[name].str.strip_chars() != "")) for name in columns}
