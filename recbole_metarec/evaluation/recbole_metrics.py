"""RecBole's metrics of the one ranking."""

from collections import OrderedDict

import numpy as np
import torch
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct


def metrics_of(ranks: np.ndarray, config) -> OrderedDict:
    """RecBole's metrics, by RecBole's evaluator, of ranks int64 [R]; keys as RecBole prints them (``ndcg@10``)."""
    deepest = max(config["topk"])
    hits = np.zeros((len(ranks), deepest + 1), dtype=np.int64)
    hits[:, deepest] = 1  # one relevant item in each row
    is_hit = ranks <= deepest
    hits[np.flatnonzero(is_hit), ranks[is_hit] - 1] = 1
    struct = DataStruct()
    struct.set("rec.topk", torch.from_numpy(hits))
    return Evaluator(config).evaluate(struct)
