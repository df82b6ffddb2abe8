"""Builds both sides as a user would: our models and RecBole's own, on the same data, by RecBole's calls."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from harness import seconds

import recbole_metarec  # noqa: F401  (mends recbole, so it must be imported first)

# isort: split
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

from recbole_metarec.config.models import model_spec
from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.data.batches import TARGET_LIST
from recbole_metarec.plugin.config import recbole_config


@dataclass
class Side:
    """A model with its data and trainer."""

    config: Any
    train: Any
    valid: Any
    model: Any
    trainer: Any

    def epoch(self, number: int = 0) -> float:
        """Seconds of one training epoch: batches, losses, gradients and optimiser."""
        return seconds(lambda: self.trainer._train_epoch(self.train, number))


def build(model: str, data_path: str, dataset: str = "Scientific", **keys) -> Side:
    """A model ready to train; RecBole's own get the same protocol as ours. keys: of the config."""
    defaults = {"data_path": data_path, "state": "ERROR", "show_progress": False, "seed": 2020, "device": "cpu"}
    values = defaults | keys
    if not model_spec(model).is_ours:
        del values["device"]
    config = recbole_config(RunConfig.read(model, dataset, (), values))
    init_seed(config["seed"], True)
    data = create_dataset(config)
    train, valid, _ = data_preparation(config, data)
    init_seed(config["seed"], True)
    network = get_model(model)(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, network)
    if model_spec(model).is_ours:
        trainer._set_up(train)
    return Side(config, train, valid, network, trainer)


class SomeBatches:
    """A fixed random sample of batches of RecBole's training loader, made by that loader's own code.

    share: of an epoch's rows that they hold.
    """

    shuffle = False

    def __init__(self, loader, count: int, seed: int = 0):
        rows = len(loader.dataset)  # RecBole's loader is a torch DataLoader over row numbers
        size = min(loader.batch_size, rows)
        chosen = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))[: count * size].tolist()
        self.share = len(chosen) / rows
        self._batches = torch.utils.data.DataLoader(chosen, batch_size=size, collate_fn=loader.collate_fn)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self):
        return iter(self._batches)


def recbole_epoch(side: Side, batches: SomeBatches) -> float:
    """Seconds of an epoch of RecBole's own Trainer, estimated from some of its batches."""
    return seconds(lambda: side.trainer._train_epoch(batches, 0)) / batches.share


def our_events(side: Side) -> Counter:
    """Counts the (user, target) pairs, by name, that one of our epochs predicts."""
    data, events = side.train.dataset, Counter()
    for batch in side.train:
        targets = batch[TARGET_LIST]
        row, column = targets.nonzero(as_tuple=True)
        events.update(named(data, batch[data.uid_field][row], targets[row, column]))
    return events


def recbole_events(side: Side) -> Counter:
    """Counts the (user, target) pairs, by name, of the rows that RecBole's own loader trains on."""
    data = side.train._dataset
    return Counter(named(data, data.inter_feat[data.uid_field], data.inter_feat[data.iid_field]))


def named(data, users, items):
    """Pairs (user, item) of names in the files, from int [N] each."""
    return zip(
        np.asarray(data.id2token(data.uid_field, users)).tolist(),
        np.asarray(data.id2token(data.iid_field, items)).tolist(),
        strict=True,
    )


def count_tokens(side: Side) -> tuple[int, int]:
    """(real inputs, predicted targets) of one of our epochs."""
    data = side.train.dataset
    inputs = targets = 0
    for batch in side.train:
        inputs += int((batch[f"{data.iid_field}_list"] > 0).sum())
        targets += int((batch[TARGET_LIST] > 0).sum())
    return inputs, targets
