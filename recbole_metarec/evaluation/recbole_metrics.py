"""RecBole's metrics from this package's ranks, and its measures of the lists that users are shown."""

import copy
from collections import ChainMap, Counter, OrderedDict

import numpy as np
import pandas as pd
import torch
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct

from recbole_metarec.config.rules import LIST_MEASURES
from recbole_metarec.evaluation.ranking import top_both
from recbole_metarec.evaluation.seen import events_of


def metrics_of(ranks: np.ndarray, config) -> OrderedDict:
    """RecBole's metrics from ranks int64 [R], by RecBole's evaluator; keys as RecBole prints them (``ndcg@10``).

    Measures of lists, which ranks do not determine, are left out.
    """
    deepest = max(config["topk"])
    hits = np.zeros((len(ranks), deepest + 1), dtype=np.int64)
    hits[:, deepest] = 1  # one relevant item in each row
    is_hit = ranks <= deepest
    hits[np.flatnonzero(is_hit), ranks[is_hit] - 1] = 1
    struct = DataStruct()
    struct.set("rec.topk", torch.from_numpy(hits))
    return Evaluator(_with_metrics(config, of_lists=False)).evaluate(struct)


def catalogue_of(train) -> DataStruct:
    """What RecBole's measures of lists read of a training part: the number of items, and the events of each."""
    struct = DataStruct()
    struct.set("data.num_items", train.item_num)
    events, items = pd.factorize(events_of(train)[1])
    struct.set("data.count_items", Counter(dict(zip(items.tolist(), np.bincount(events).tolist()))))
    return struct


def list_measures(model, eval_data, config, catalogue: DataStruct) -> tuple[OrderedDict, OrderedDict]:
    """The config's measures of lists, by RecBole: (with seen items, without). Both are empty if it names none."""
    asked = _with_metrics(config, of_lists=True)
    if not asked["metrics"]:
        return OrderedDict(), OrderedDict()
    measures = []
    for items in top_both(model, eval_data, max(config["topk"]), config["device"]):
        struct = copy.deepcopy(catalogue)
        struct.set("rec.items", torch.from_numpy(items))
        measures.append(Evaluator(asked).evaluate(struct))
    return tuple(measures)


def measured_lists(trainer, eval_data) -> OrderedDict:
    """:func:`list_measures` of a RecBole trainer's model, after its ``fit``, in the protocol that validation uses."""
    config = trainer.config
    with_seen, without_seen = list_measures(trainer.model, eval_data, config, trainer.eval_collector.data_struct)
    return with_seen if config["repeatable"] else without_seen


def _with_metrics(config, of_lists: bool):
    """The config with only those of its metrics that are measures of lists, or only the others."""
    names = [config["metrics"]] if isinstance(config["metrics"], str) else config["metrics"]
    return ChainMap({"metrics": [name for name in names if (name.lower() in LIST_MEASURES) == of_lists]}, config)
