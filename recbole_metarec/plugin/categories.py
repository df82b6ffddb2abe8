"""Users and items as pandas's categories while RecBole reads a target: a number for each event, and every name once.

RecBole's steps do with categories what they do with names. Two of them go through all names of all events in Python,
and are done here by column: filtering by the number of events, and the numbering.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from recbole_metarec.data.filters import within_counts
from recbole_metarec.data.reader import NeedsRecBole, count_rules


class TokenIds(Mapping):
    """The number of each name. The dict is made when somebody asks: most runs never do, and names may be millions."""

    def __init__(self, names: Sequence[str]):
        self._names = names

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self._names)}

    def __getitem__(self, name: str) -> int:
        return self._numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def filter_by_counts(dataset) -> bool:
    """``_filter_by_inter_num`` of a RecBole dataset; False, with nothing done, where only RecBole's own does it.

    That is where a file of users or items was read, whose lines it filters, too, and for intervals that it alone reads.
    """
    events = dataset.inter_feat
    columns = [events[field].array for field in (dataset.uid_field, dataset.iid_field)]
    if not all(map(_is_categorical, columns)) or dataset.user_feat is not None or dataset.item_feat is not None:
        return False
    try:
        rules = count_rules(dataset.config)
    except NeedsRecBole:
        return False
    rows = within_counts(*(column.codes for column in columns), *rules)
    if rows is not None:
        dataset.inter_feat = events.take(rows)
    return True


def number_names(dataset, remap_list: Sequence[tuple]) -> bool:
    """``_remap`` of a RecBole dataset for one column of categories; False, with nothing done, for anything else."""
    if len(remap_list) != 1 or not _is_categorical(remap_list[0][0][remap_list[0][1]].array):
        return False
    ((feat, field, _),) = remap_list
    column = feat[field].array
    numbers, used = pd.factorize(column.codes)
    names = np.array(["[PAD]", *column.categories[used]])
    dataset.field2id_token[field], dataset.field2token_id[field] = names, TokenIds(names)
    feat[field] = numbers + 1
    return True


def _is_categorical(column) -> bool:
    return isinstance(column.dtype, pd.CategoricalDtype)
