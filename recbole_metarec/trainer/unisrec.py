"""UniSRec in the same trainer: contrastive pre-training on all sources together, then fine-tuning on the target."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from recbole_metarec.data.batches import SequenceBatch, SequenceBatches
from recbole_metarec.data.sequences import SequenceStore, training_windows
from recbole_metarec.data.source import Source
from recbole_metarec.data.text_vectors import TextVectors
from recbole_metarec.randomness import stream_seed
from recbole_metarec.trainer import meta_step as meta
from recbole_metarec.trainer.step import StepResult
from recbole_metarec.trainer.trainer import TransferTrainer


class SourceMixture:
    """All sources as one domain, whose batches mix them in proportion to their events.

    texts, dropped: float [N, w], row i for item i of the batches, row 0 padding: the texts' vectors, whole and after
    words were dropped.
    """

    def __init__(self, sources: tuple[Source, ...], vectors: TextVectors, config):
        store = SequenceStore.joined([source.store for source in sources])
        windows = training_windows(store, store.lengths, config["MAX_ITEM_LIST_LENGTH"])
        self.batches = SequenceBatches(store, windows, config["pretrain_batch_size"], config["seed"], "mixture")
        self.texts, self.dropped = (_joined(parts).to(config["device"]) for parts in (vectors.sources, vectors.dropped))


def _joined(vectors: tuple[np.ndarray, ...]) -> Tensor:
    return torch.from_numpy(np.concatenate([vectors[0][:1], *(rows[1:] for rows in vectors)]))


class TextTrainer(TransferTrainer):
    """Trains UniSRec. Its layers are RecBole's, which draw dropout from the global generator: each epoch seeds it."""

    moves_all = False

    def __init__(self, config, model):
        super().__init__(config, model)
        self.mixture: SourceMixture | None = None

    def _set_up(self, train_data) -> None:
        super()._set_up(train_data)
        dataset = train_data.dataset
        self.source_names = [source.name for source in dataset.sources]
        self.text_digest = dataset.text_vectors.digest
        self.model.set_texts(dataset.text_vectors.target)
        if dataset.sources:
            self.mixture = SourceMixture(dataset.sources, dataset.text_vectors, self.config)

    @property
    def pretrain_epochs(self) -> int:
        return self.config["pretrain_epochs"] if self.mixture else 0

    def _pretrain_steps(self, number: int) -> tuple[int, Iterator[StepResult]]:
        self._seed_layers("pretrain", number)
        plan = self.mixture.batches.plan(number)
        return len(plan), (self._contrast(self.mixture.batches.batch(rows).to(self.device)) for rows in plan)

    def _contrast(self, batch: SequenceBatch) -> StepResult:
        self.model.train()
        loss = self.model.pretraining_loss(batch, self.mixture.texts, self.mixture.dropped)
        return StepResult(loss.detach(), meta.gradients(loss, self.model.shared_parameters()))

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        self._seed_layers("train", epoch_idx)
        return super()._train_epoch(train_data, epoch_idx, loss_func, show_progress)

    def _one_step(self, batch: SequenceBatch, streams) -> StepResult:
        self.model.train()
        loss = self.model.next_item_loss(batch.to(self.device))
        return StepResult(
            loss.detach(), meta.gradients(loss, self.model.target_parameters(pretrained=self.pretrained > 0))
        )

    def _seed_layers(self, phase: str, epoch: int) -> None:
        torch.manual_seed(stream_seed(self.seed, "layers", phase, epoch))
