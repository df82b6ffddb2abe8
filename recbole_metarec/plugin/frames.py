"""RecBole's datasets filled from our reader: RecBole filters and numbers the rows, and never opens a file itself.

Beside what :mod:`recbole_metarec.data.reader` checks, this differs from RecBole's own loading in four things: a
quotation mark is a character; users and items without a line in ``NAME.user`` and ``NAME.item`` keep their events, as
if the line were there with nothing in it; lines of users and items without an event are left out, so that a model that
reads them ranks the same items as one that does not; and with ``exact_time`` a time is the rank of the event in its
user's history, which float32 holds exactly.
"""

from collections.abc import Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partialmethod
from logging import getLogger
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource, FeatureType

from recbole_metarec.config.time_points import TimePoints
from recbole_metarec.data.faults import fail, show
from recbole_metarec.data.features import read_features
from recbole_metarec.data.ids import factorize, is_missing
from recbole_metarec.data.numbers import numbers_of
from recbole_metarec.data.order import EventSummary, history_ranks
from recbole_metarec.data.reader import NeedsRecBole, ReadSpec, read_events
from recbole_metarec.data.text_file import Header, TextColumns, read_columns, read_header
from recbole_metarec.data.time_split import clock
from recbole_metarec.data.writer import ORIGINAL_TIME
from recbole_metarec.errors import DataError


@contextmanager
def filled_by_our_reader():
    """Within, any dataset class of RecBole reads its files through :func:`load_feat`."""
    originals = Dataset._load_feat, Dataset._reset_index
    Dataset._load_feat, Dataset._reset_index = load_feat, partialmethod(_reset_index, originals[1])
    try:
        yield
    finally:
        Dataset._load_feat, Dataset._reset_index = originals


def load_feat(dataset: Dataset, filepath, source, categories: bool = False) -> pd.DataFrame | None:
    """Stands in for ``Dataset._load_feat``: the columns of a file that ``load_col`` asks for, as RecBole wants them.

    token: text, NaN where RecBole reads none. float: float64, NaN where there is none. token_seq, float_seq: arrays.
    categories: whether users and items of events are pandas's categories, see :mod:`.categories`, instead of text.
    Raises DataError with file and line for a malformed file.
    """
    path, config = Path(filepath), dataset.config
    load_col, unload_col = dataset._get_load_and_unload_col(source)
    if load_col == set():
        return None
    form = config["field_separator"], config["encoding"] or "utf-8"
    header = read_header(path, *form)
    names = [name for name in header.types if load_col is None or name in load_col]
    names = [name for name in names if name not in (unload_col or ())]
    if not names:
        dataset.logger.warning(f"No columns has been loaded from [{source}]")
        return None
    _describe(dataset, header, names, source)
    if source is FeatureSource.INTERACTION:
        return _events_frame(dataset, path, names, categories)
    id_field = {FeatureSource.USER: dataset.uid_field, FeatureSource.ITEM: dataset.iid_field}.get(source)
    if id_field:
        header.require(id_field, "token")
    if id_field not in names:
        return _frame(dataset, read_columns(path, *form, names), names)
    columns = read_features(path, id_field, names, *form)
    if not len(columns):
        fail(path, 1, "no rows after the header", f"write a line for each {id_field}, or take it out of load_col")
    return _with_every_id(_frame(dataset, columns, names), dataset, id_field, path)


def settle_rows(dataset: Dataset) -> None:
    """To be called on the rows that passed RecBole's filters: leaves out users and items that have no event any more,
    and with ``exact_time`` puts in the place of times their ranks in the histories. Of a split by time the
    ``event_times`` of the dataset, [n], become those of the rows."""
    times = getattr(dataset, "event_times", None)
    if times is not None:
        dataset.event_times = times[dataset.inter_feat.index]
    ranks = dataset.__dict__.pop("_history_ranks", None)
    if ranks is not None:
        dataset.inter_feat[dataset.time_field] = ranks[dataset.inter_feat.index].astype(np.float64)
    if dataset.config["alias_of_user_id"] or dataset.config["alias_of_item_id"]:
        return  # an id that has no event may be in another column
    for name, id_field in (("user_feat", dataset.uid_field), ("item_feat", dataset.iid_field)):
        feat = getattr(dataset, name)
        has_event = None if feat is None else feat[id_field].isin(dataset.inter_feat[id_field].unique())
        if feat is not None and not has_event.all():
            setattr(dataset, name, feat[has_event].copy())


def check_counts(dataset: Dataset) -> None:
    """Raises DataError unless RecBole's dataset has as many events, users and items as our reader leaves.

    Every model of a comparison is measured on these, whatever else it reads. What asks for more than our reader does
    (``NeedsRecBole``) is not looked at.
    """
    ours = dataset.__dict__.pop("_expected_counts", None)
    theirs = dataset.inter_num, dataset.user_num - 1, dataset.item_num - 1
    if ours not in (None, theirs):
        told = (" events, ".join(map(str, counts[:2])) + f" users, {counts[2]} items" for counts in (theirs, ours))
        raise DataError(
            f"{dataset.dataset_path}: RecBole's dataset has {', the file has '.join(told)}; a comparison "
            f"on other events means nothing, so leave {dataset.config['model']} out of it, or change load_col"
        )


def tell(name: str, summary: EventSummary, exact_time: bool) -> None:
    """What a user should know about a domain's file, to the log."""
    if summary.repetitions:
        getLogger().info(f"{name}: {summary.repetitions}")
    if summary.lost_order and not exact_time:
        getLogger().warning(f"{name}: {summary.lost_order}")


def _reset_index(dataset: Dataset, original) -> None:
    settle_rows(dataset)
    original(dataset)


def _describe(dataset: Dataset, header: Header, names: Sequence[str], source) -> None:
    """What RecBole notes of each column while it reads the header."""
    for name in names:
        kind = FeatureType(header.types[name])
        if isinstance(source, FeatureSource) or source != "link":
            dataset.field2source[name], dataset.field2type[name] = source, kind
            if not kind.value.endswith("seq"):
                dataset.field2seqlen[name] = 1
            if "float" in kind.value:
                dataset.field2bucketnum[name] = 2


def _events_frame(dataset: Dataset, path: Path, names: Sequence[str], categories: bool) -> pd.DataFrame:
    spec, is_ours = ReadSpec.unfiltered(dataset.config), False
    with suppress(NeedsRecBole):
        spec, is_ours = ReadSpec.of(dataset.config), True
    others = [name for name in names if name not in spec.fields[:2]]
    is_timed = TimePoints.of(dataset.config["eval_args"]) is not None
    spec_of_file = replace(spec, also=ORIGINAL_TIME) if is_timed else spec
    events = read_events(path, spec_of_file, others, lambda block: _frame(dataset, block, others))
    if is_timed:
        dataset.event_times = clock(path, events.users, events.times, events.also)
    if is_ours:
        dataset._expected_counts = events.counts(spec)
    tell(path.stem, events.summary(), spec.exact_time)
    if spec.exact_time:
        dataset._history_ranks = history_ranks(events.users, events.times.units)
    columns = {name: np.concatenate([block[name].to_numpy() for block in events.others]) for name in others}
    for field, codes, texts in zip(spec.fields, (events.users, events.items), (events.user_names, events.item_names)):
        if field in names:
            words = texts.to_numpy()
            columns[field] = pd.Categorical.from_codes(codes, words) if categories else words[codes]
    return pd.DataFrame({name: columns[name] for name in names}, copy=False)


def _frame(dataset: Dataset, block: TextColumns, names: Sequence[str]) -> pd.DataFrame:
    columns = {}
    for name in names:
        kind = dataset.field2type[name]
        if kind is FeatureType.FLOAT:
            columns[name] = numbers_of(block, name)
        elif kind is FeatureType.TOKEN:
            columns[name] = _tokens(block[name])
        else:
            columns[name] = _sequences(dataset, block, name)
    return pd.DataFrame(columns)


def _tokens(texts: pl.Series) -> np.ndarray:
    """object [n]: the texts, NaN for what RecBole reads as missing."""
    codes, names = factorize(texts)
    values = np.array(names.to_list(), dtype=object)
    values[is_missing(names).to_numpy()] = np.nan
    return values[codes]


def _sequences(dataset: Dataset, block: TextColumns, name: str) -> pd.Series:
    """Arrays of words or numbers; notes the longest so far, or what ``seq_len`` cuts them to."""
    config, as_numbers = dataset.config, dataset.field2type[name] is FeatureType.FLOAT_SEQ
    values = []
    texts = block[name].set(is_missing(block[name]), "")
    for row, text in enumerate(texts.to_list()):
        words = list(filter(None, text.split(config["seq_separator"])))
        try:
            values.append(np.array(list(map(float, words)) if as_numbers else words))
        except ValueError:
            block.fail(row, f"{name} {show(text)} is no list of numbers", "write numbers, separated by spaces")
    cut = (config["seq_len"] or {}).get(name)
    longest = max(dataset.field2seqlen.get(name, 0), *map(len, values))
    dataset.field2seqlen[name] = min(cut, longest) if cut else longest
    return pd.Series([value[:cut] for value in values] if cut else values, dtype=object)


def _with_every_id(frame: pd.DataFrame, dataset: Dataset, id_field: str, path: Path) -> pd.DataFrame:
    """With a row, of which nothing but the name is known, for each user or item that has events and no line."""
    ids = pd.Series(dataset.inter_feat[id_field].unique())
    absent = ids[~ids.isin(frame[id_field])]
    if not len(absent):
        return frame
    dataset.logger.warning(
        f"{path}: {len(absent)} of {len(ids)} {id_field}s with events have no line; they keep their events"
    )
    rows = pd.DataFrame(np.nan, index=range(len(absent)), columns=frame.columns, dtype=object)
    for name in frame:
        if dataset.field2type[name].value.endswith("seq"):
            rows[name] = [np.array([])] * len(absent)
    rows[id_field] = absent.to_numpy()
    return pd.concat([frame, rows.astype(frame.dtypes)], ignore_index=True)
