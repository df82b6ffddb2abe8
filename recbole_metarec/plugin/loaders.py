"""RecBole's loaders for the models of this package."""

from collections.abc import Iterator

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_metarec.data.batches import TARGET_LIST, SequenceBatches
from recbole_metarec.data.sequences import Windows, training_windows
from recbole_metarec.plugin.dataset import TransferDataset


class SequenceLoader:
    """Batches of every position, cut anew in each epoch.

    ``epoch`` is the number of the next pass; a trainer that resumes sets it.
    """

    def __init__(self, config, dataset: TransferDataset, sampler=None, shuffle: bool = True):
        self.config, self._dataset, self.sampler, self.shuffle = config, dataset, sampler, shuffle
        self.epoch = 0
        windows, budget = self._rows()
        self.batches = SequenceBatches(dataset.store, windows, budget, config["seed"], config["dataset"], shuffle)

    def _rows(self) -> tuple[Windows, int]:
        """All training rows, and how many predicted events make a batch."""
        dataset, config = self._dataset, self.config
        windows = training_windows(dataset.store, dataset.trained, config["MAX_ITEM_LIST_LENGTH"])
        return windows, config["train_batch_size"]

    @property
    def dataset(self) -> TransferDataset:
        """The training part."""
        return self._dataset

    def update_config(self, config) -> None:
        """RecBole's hook after loaders were read from disk."""
        self.config = config

    def __len__(self) -> int:
        return len(self.batches.plan(self.epoch))

    def __iter__(self) -> Iterator[Interaction]:
        number, self.epoch = self.epoch, self.epoch + 1
        return map(self._interaction, self.batches.plan(number))

    def _interaction(self, rows: np.ndarray) -> Interaction:
        batch = self.batches.batch(rows)
        return Interaction({**self._histories(rows, batch.inputs), TARGET_LIST: batch.targets})

    def _histories(self, rows: np.ndarray, inputs: Tensor) -> dict[str, Tensor]:
        dataset, windows = self._dataset, self.batches.windows
        users = np.searchsorted(dataset.store.offsets, windows.start[rows], side="right") - 1
        return {
            dataset.uid_field: torch.from_numpy(dataset.store.users[users]),
            getattr(dataset, f"{dataset.iid_field}_list_field"): inputs,
            dataset.item_list_length_field: torch.from_numpy(windows.length[rows]),
        }


class HistoryEvalLoader(FullSortEvalDataLoader):
    """RecBole's full ranking of rows with a history; without ``repeatable`` what a row has seen is struck out."""

    def collate_fn(self, index) -> tuple:
        """(rows, what is struck out, row of each positive, positive), as RecBole's."""
        rows, _, places, positives = super().collate_fn(index)
        return rows, self.struck_out(index), places, positives

    def struck_out(self, index) -> tuple[Tensor, Tensor] | None:
        """Row (0 .. B - 1) and item of each score that counts no more, int64 [n] each; None with ``repeatable``."""
        if self.config["repeatable"]:
            return None
        return tuple(map(torch.from_numpy, self._dataset.seen.of_rows(np.asarray(index))))
