"""RecBole's own sequential models on flat histories: its prefix rows, of like length together and cut to the longest.

RecBole stores a row of MAX_ITEM_LIST_LENGTH ids for every event and computes on all of them. On histories of seven
events nine tenths of that is padding, which a model that ``ignores_padding`` never looks at.
"""

from collections.abc import Iterator

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.data.transform import MaskItemSequence

from recbole_metarec.config.models import model_spec
from recbole_metarec.data.sequences import Windows, prefix_windows
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.plugin.dataset import TransferDataset
from recbole_metarec.plugin.loaders import HistoryEvalLoader, SequenceLoader
from recbole_metarec.randomness import numpy_stream

# Whole rows of scores are held at once; more rows of unlike length would bring their padding back.
_EVAL_ROWS = 512

# What these keys ask for, RecBole's own loaders do.
_LEFT_TO_RECBOLE = ("benchmark_filename", "worker", "save_dataloaders", "dataloaders_save_path")


def can_trim(config) -> bool:
    """Whether this run may take the loaders of this module: a model that reads no padding, nothing unusual asked."""
    spec = model_spec(config["model"])
    return (
        spec.ignores_padding
        and config["transform"] == spec.transform
        and config["loss_type"] == "CE"
        and config["train_neg_sample_args"]["distribution"] == "none"
        and not any(config[key] for key in _LEFT_TO_RECBOLE)
    )


class PrefixLoader(SequenceLoader):
    """Training batches of about ``train_batch_size`` prefix rows, which together are RecBole's, one target in each.

    Every batch is as wide as its longest row. Membership and order depend on (seed, dataset, epoch) alone.
    Raises DataError if no row carries a loss, ConfigError if ``mask_ratio`` leaves BERT4Rec nothing to predict.
    """

    def __init__(self, config, dataset: TransferDataset, sampler=None, shuffle: bool = True):
        super().__init__(config, dataset, sampler, shuffle)
        self.mask = BatchMask(config) if config["transform"] else None

    def _rows(self) -> tuple[Windows, int]:
        windows = prefix_windows(self._dataset.store, self._dataset.trained, self.config["MAX_ITEM_LIST_LENGTH"])
        budget = self.config["train_batch_size"]
        if not self.config["transform"]:
            return windows, budget
        # RecBole's BERT4Rec counts no loss at position 0: a batch of one-event rows alone would divide 0 by 0. They
        # stay out, and their share comes off the batch size, so that an epoch has as many steps as RecBole's.
        some = windows.length > 1
        if not some.any():
            raise DataError(f"{self._dataset.dataset_path}: BERT4Rec finds no training history of three events or more")
        kept = Windows(windows.start[some], windows.length[some], windows.context[some])
        return kept, max(1, round(budget * len(kept) / len(windows)))

    def __iter__(self) -> Iterator[Interaction]:
        random = numpy_stream(self.config["seed"], "mask", self.config["dataset"], self.epoch)
        plain = super().__iter__()
        return plain if self.mask is None else (self.mask.drawn(self._dataset, rows, random) for rows in plain)

    def _interaction(self, rows: np.ndarray) -> Interaction:
        dataset, windows = self._dataset, self.batches.windows
        target = dataset.store.items[windows.start[rows] + windows.length[rows]].astype(np.int64)
        histories = self._histories(rows, self.batches.batch(rows).inputs)
        return Interaction({**histories, dataset.iid_field: torch.from_numpy(target)})


class BatchMask(MaskItemSequence):
    """RecBole's mask of BERT4Rec drawn for a whole batch, from the same distribution.

    At most int(mask_ratio * MAX_ITEM_LIST_LENGTH) masks of a row are predicted, the last ones, however narrow the
    batch is. RecBole pads every row to that many slots; slots that are empty in all rows of a batch carry no loss and
    are left out. Negatives stay 0: only ``loss_type: BPR`` reads them. Raises ConfigError if there is no slot.
    """

    def __init__(self, config):
        super().__init__(config)
        if self.mask_item_length < 1:
            raise ConfigError(
                f"mask_ratio: {self.mask_ratio} of MAX_ITEM_LIST_LENGTH {self.max_seq_length} is less than one item; "
                "raise one of them"
            )

    def drawn(self, dataset: TransferDataset, rows: Interaction, random: np.random.Generator) -> Interaction:
        """``rows`` with the masked sequences int64 [B, W], and what is predicted int64 [B, slots], padded in front.

        A draw that leaves the batch without loss, where RecBole would stop at NaN, is drawn again.
        """
        items, lengths = rows[self.ITEM_SEQ].numpy(), rows[self.ITEM_SEQ_LEN].numpy()
        masked = self._draw(items, lengths, random)
        while not masked[:, 1:].any():
            masked = self._draw(items, lengths, random)
        from_end = np.cumsum(masked[:, ::-1], axis=1)[:, ::-1]
        predicted = masked & (from_end <= self.mask_item_length)
        row, column = predicted.nonzero()
        slots = from_end[row, column].max()
        index, positives = np.zeros((2, len(items), slots), dtype=np.int64)
        index[row, slots - from_end[row, column]] = column
        positives[row, slots - from_end[row, column]] = items[row, column]
        masks = {
            self.MASK_ITEM_SEQ: np.where(masked, dataset.num(self.ITEM_ID), items),
            self.POS_ITEMS: positives,
            self.NEG_ITEMS: np.zeros_like(positives),
            self.MASK_INDEX: index,
        }
        rows.update(Interaction({name: torch.from_numpy(values) for name, values in masks.items()}))
        return rows

    def _draw(self, items: np.ndarray, lengths: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """bool [B, W]: the last item of every row (with probability ft_ratio for the batch), or each by itself."""
        if random.random() < self.ft_ratio:
            return np.arange(items.shape[1]) == lengths[:, None] - 1
        return (random.random(items.shape) < self.mask_ratio) & (items > 0)


class TrimmedEvalLoader(HistoryEvalLoader):
    """RecBole's full ranking over rows sorted by length, each batch as wide as its longest row."""

    def __init__(self, config, dataset: TransferDataset, sampler=None, shuffle: bool = False):
        super().__init__(config, dataset, sampler, shuffle)
        lengths = dataset.inter_feat[dataset.item_list_length_field].numpy()
        step = min(config["eval_batch_size"], _EVAL_ROWS)
        self._batches = np.split(np.argsort(lengths, kind="stable"), range(step, len(lengths), step))

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple]:
        return map(self.collate_fn, self._batches)

    def collate_fn(self, index: np.ndarray) -> tuple:
        """As RecBole's; nothing of a row is masked where nothing is predicted."""
        dataset = self._dataset
        rows = dataset.inter_feat[index]
        width = int(rows[dataset.item_list_length_field].max())
        items = getattr(dataset, f"{dataset.iid_field}_list_field")
        kept = {name: rows[name] for name in (dataset.uid_field, dataset.iid_field, dataset.item_list_length_field)}
        trimmed = Interaction({**kept, items: rows[items][:, :width]})
        return trimmed, self.struck_out(index), torch.arange(len(rows)), rows[dataset.iid_field]


def trimmed_loaders(config, dataset: TransferDataset) -> tuple[PrefixLoader, TrimmedEvalLoader, TrimmedEvalLoader]:
    """Loaders of the training, validation and test part, for a config that :func:`can_trim`."""
    train, valid, test = dataset.build()
    first = PrefixLoader(config, train, shuffle=config["shuffle"])
    return first, TrimmedEvalLoader(config, valid), TrimmedEvalLoader(config, test)
