"""Mends of RecBole 1.2.1 in how it evaluates. See :mod:`.mends`.

``tests/evaluation/test_list_measures.py`` tests these.
"""

import functools

from torch import Tensor

from recbole_metarec.plugin.mends import mend
from recbole_metarec.plugin.on_import import after


@mend(after, "recbole.evaluator.collector")
def collected_numbers(collector) -> None:
    """Let coverage and popularity measures be evaluated: RecBole moves all that they read to the CPU as if it were a
    tensor, and fails at the number of items.

    Can go when RecBole's collector tells tensors from numbers.
    """
    original = collector.Collector.get_data_struct

    @functools.wraps(original)
    def get_data_struct(self):
        collected = self.data_struct._data_dict
        others = {key: value for key, value in collected.items() if not isinstance(value, Tensor)}
        for key in others:
            del collected[key]
        struct = original(self)
        collected.update(others)
        struct._data_dict.update(others)
        return struct

    collector.Collector.get_data_struct = get_data_struct
