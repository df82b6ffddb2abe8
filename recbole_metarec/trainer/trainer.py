"""RecBole's Trainer with sources beside the target. RecBole keeps the loop, early stopping and the log lines."""

from collections.abc import Iterator
from pathlib import Path
from time import time

import torch
from recbole.trainer import Trainer
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.errors import TrainingError
from recbole_metarec.evaluation.ranking import rank_all
from recbole_metarec.evaluation.recbole_metrics import metrics_of
from recbole_metarec.randomness import Streams
from recbole_metarec.trainer.checkpoint import load_weights, read_checkpoint
from recbole_metarec.trainer.diagnostics import (
    PATIENCE,
    FailureSigns,
    lost_sources,
)
from recbole_metarec.trainer.guard import Guard, guard_transfer, initial_weights
from recbole_metarec.trainer.measuring import EpochRecord, add_codebook_use
from recbole_metarec.trainer.meta_step import finite
from recbole_metarec.trainer.optimizers import RowwiseOptimizer, fused, parameter_groups, steps_by_rows
from recbole_metarec.trainer.sources import SourceSide, SourceSides
from recbole_metarec.trainer.step import StepResult, joint_step, plain_step
from recbole_metarec.trainer.training_state import TrainingState
from recbole_metarec.trainer.transfer_state import TransferSettings, TransferState
from recbole_metarec.trainer.transfer_step import MetaStep


class TransferTrainer(TrainingState, Trainer):
    """Trains LRURec and MetaRec: ``meta_transfer`` decides what a step does, everything else is RecBole's Trainer.

    history, source_history: one row per epoch, and per epoch and source. With ``record`` set (a function of no
    argument) it is called after each validation, when both are up to date. spent_before: seconds of kept work that was
    done before the run was resumed. whole_table: the item table moves as with transfer, whole in every step.
    """

    moves_all = True  # whether every step moves every parameter that requires a gradient

    def __init__(self, config, model, whole_table: bool = False):
        self.transfer = (config["meta_transfer"] if config["model"] == "MetaRec" else None) or "none"
        # with transfer the whole table moves in every step, and so it must in what is compared with it
        self.rows_only = self.transfer == "none" and not whole_table and steps_by_rows(config, "target_negatives")
        self.sources_by_rows = steps_by_rows(config, "source_negatives") and not config["quantize_output"]
        super().__init__(config, model)
        self.seed = config["seed"]
        self.saved_model_file = _unused(Path(self.saved_model_file))
        self.history: list[dict] = []
        self.source_history: list[dict] = []
        self.pretrained = 0  # passes over the sources that pre-training has done
        self.sources = SourceSides((), self._optimizer_for_sources)
        self.signs = FailureSigns(config["gradient_rescaling"] == "uniform" or self.transfer != "meta", {})
        self.record = None
        self._steps_done = 0
        self._started, self.spent_before = time(), 0.0
        self._resumed: dict | None = None
        self._items: list[str] = []
        # weights mean something in the space of the text vectors alone that they were trained in
        self._text_form: dict = {}
        self.guard: Guard | None = None
        self._initial_weights = initial_weights(model) if self._is_guarded else None

    # -- what is optimised -------------------------------------------------------------------------------------

    def _build_optimizer(self, **kwargs):
        if "params" in kwargs:
            return fused(super()._build_optimizer(**kwargs))
        dense = fused(super()._build_optimizer(params=parameter_groups(self.model)))
        return RowwiseOptimizer(dense, [self.model.item_embedding.weight]) if self.rows_only else dense

    def _optimizer_for_sources(self, tables, biases):
        groups = [{"params": tables}, {"params": biases, "weight_decay": 0.0}]
        dense = self._build_optimizer(params=groups)
        return RowwiseOptimizer(dense, tables) if self.sources_by_rows else dense

    # -- fitting -----------------------------------------------------------------------------------------------

    def fit(self, train_data, valid_data=None, verbose=True, saved=True, show_progress=False, callback_fn=None):
        """RecBole's fit, preceded by the sources' set-up (and pre-training). Returns (best score, best result)."""
        self._set_up(train_data)
        if saved and self.start_epoch == 0 and self.pretrained == 0:
            self._save_checkpoint(-1, verbose=False)  # shows now, not after an epoch, whether it can be written
        self._pretrain(verbose, saved, show_progress)

        def after_validation(epoch, score):
            self._after_validation(epoch, score, saved)
            if callback_fn:
                callback_fn(epoch, score)

        if self._is_finished:
            best = self.best_valid_score, self.best_valid_result
        else:
            best = super().fit(train_data, valid_data, verbose, saved, show_progress, after_validation)
        if self.record:
            self.record()
        if not (self._is_guarded and saved and self.best_valid_result and len(self.sources)):
            return best
        start = self._initial_weights
        self.guard, other = guard_transfer(self, start, train_data, valid_data, verbose, show_progress)
        return (other.best_valid_score, other.best_valid_result) if self.guard.fired else best

    @property
    def _is_finished(self) -> bool:
        stopped = self.cur_step > self.stopping_step
        return self.resumed and (stopped or 0 < self.epochs <= self.start_epoch)

    @property
    def resumed(self) -> bool:
        """Whether it goes on with an earlier run."""
        return self._resumed is not None

    @property
    def _is_guarded(self) -> bool:
        return self.transfer != "none" and bool(self.config["transfer_guard"])

    def _set_up(self, train_data) -> None:
        config, dataset = self.config, train_data.dataset
        self._items = [str(token) for token in dataset.id2token(dataset.iid_field, range(dataset.item_num))]
        vectors = dataset.text_vectors if config["text_alignment"] else None
        if vectors:
            self.model.text_map.set_texts(vectors.target)
            self._text_form = {"text_vectors": vectors.digest}
        if self._resumed:
            self._refuse_another(self._resumed, self._text_form)
        if len(self.sources) or self.transfer == "none":
            return
        size = config["embedding_size"], config["MAX_ITEM_LIST_LENGTH"], config["train_batch_size"]
        texts = vectors.sources if vectors else [None] * len(dataset.sources)
        sides = [
            SourceSide(source, *size, self.seed, self.device, own, self.sources_by_rows)
            for source, own in zip(dataset.sources, texts, strict=True)
        ]
        self.sources = SourceSides(sides, self._optimizer_for_sources)
        settings = TransferSettings(
            **{key: config[key] for key in TransferSettings.__dataclass_fields__ if key != "source_weight"},
            source_weight=self._source_weight(),
        )
        alphas = {
            name: config["inner_learning_rate"] * self.model.trial_scale(name)
            for name, _ in self.model.named_parameters()
        }
        rate = config["learn_inner_learning_rate"]
        self.state = TransferState.initial(alphas, rate, len(self.sources), self.device)
        if self._resumed:
            self._go_on_with_sources()
        self.meta_step = MetaStep(self.model, self.sources, settings, self.state)

    def _source_weight(self) -> float:
        given = self.config["source_weight"]
        return (1.0 if self.transfer == "joint" else 0.0) if given == "auto" else given

    # -- an epoch ----------------------------------------------------------------------------------------------

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        train_data.epoch = epoch_idx
        started, record, total = time(), EpochRecord(), 0.0
        streams = Streams(self.device, self.seed, "dropout", epoch_idx)
        for interaction in self._bar(train_data, f"Train {epoch_idx:>5}", show_progress):
            result = self._one_step(self.model.batch_of(interaction.to(self.device)), streams)
            self._apply(result, epoch_idx)
            record.add(result.measured)
            total = total + result.loss
        total = float(total)
        steps = len(train_data.batches.plan(epoch_idx))
        self.history.append({"epoch": epoch_idx, "train_loss": total / steps, "seconds": time() - started})
        self._record_sources(record, epoch_idx)
        return total

    def _bar(self, batches, label: str, show: bool):
        return tqdm(batches, total=len(batches), ncols=100, desc=label, disable=None) if show else batches

    def _one_step(self, batch: SequenceBatch, streams) -> StepResult:
        self.model.train()
        parameters = dict(self.model.named_parameters())
        if len(self.sources) and self.transfer == "meta":
            return self.meta_step(parameters, batch, streams)
        if len(self.sources) and self.transfer == "joint":
            weight = self._source_weight()
            return joint_step(self.model, parameters, batch, self.sources, streams, weight)
        return plain_step(self.model, parameters, batch, streams, self.rows_only)

    def _apply(self, result: StepResult, epoch: int) -> None:
        """One step of every optimiser. Raises TrainingError, before anything has moved, if the loss is not finite."""
        self._steps_done += 1
        skipped = [side.name for side, own in zip(self.sources, result.own, strict=False) if own is None]
        # the loss may be finite where its gradient no longer is
        is_finite = bool(finite((*result.gradient.values(), result.loss)))
        none_left = 0 < len(self.sources) == len(skipped)
        if not is_finite or none_left:
            # the meta step asks the target after every trial: a target that fails makes every source look failed
            sources_failed = none_left and (is_finite or self.transfer != "meta")
            cause = f"every source ({', '.join(skipped)})" if sources_failed else "the target's loss"
            raise TrainingError(
                f"epoch {epoch}, step {self._steps_done} of this run: {cause} is not finite; lower learning_rate or "
                f"inner_learning_rate; the best model so far is {self.saved_model_file}"
            )
        for name, parameter in self.model.named_parameters():
            parameter.grad = result.gradient.get(name)  # None leaves a frozen one as it is
        if self.clip_grad_norm:
            clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
        self.optimizer.step()
        if result.own:
            self.sources.step(result.own)

    def _record_sources(self, record: EpochRecord, epoch: int) -> None:
        rows = record.rows(epoch, self.sources.names)
        if not rows:
            return
        add_codebook_use(rows, self.sources, self.model)
        self.source_history += rows
        for row in rows:
            for quantity in row.keys() - {"epoch", "source", "steps"}:
                self.tensorboard.add_scalar(f"{quantity}/{row['source']}", row[quantity], epoch)
        if "weight" in rows[0]:
            shares = ", ".join(f"{row['source']} {row['weight']:.3f}" for row in rows)
            self.logger.info(f"epoch {epoch} source weights: {shares}")
        for sentence in self.signs.look(rows, self.source_history):
            self.logger.warning(sentence)
        if lost := lost_sources(self.source_history):
            if self.record:
                self.record()
            raise TrainingError(
                f"epoch {epoch}: {', '.join(lost)} gave no finite step in {PATIENCE} epochs; lower "
                f"inner_learning_rate or leave it out of sources; the best model so far is {self.saved_model_file}"
            )

    def _after_validation(self, epoch: int, score: float, saved: bool) -> None:
        self.history[-1]["valid_score"] = float(score)
        if saved:
            self._save_training_state(epoch)
        if self.record:
            self.record()

    @property
    def _pretrain_epochs(self) -> int:
        """Passes over the sources before the target's first epoch."""
        return self.config["pretrain_epochs"] if self.transfer == "pretrain" and len(self.sources) else 0

    def _pretrain_pass(self, number: int) -> tuple[int, Iterator[StepResult]]:
        """One pass over the sources: how many steps it has, and each step's result, to be applied before the next."""
        steps = sum(len(side.stream.batches.plan(number)) for side in self.sources) // len(self.sources)
        streams = Streams(self.device, self.seed, "pretrain", number)
        parameters = dict(self.model.named_parameters())
        return steps, (joint_step(self.model, parameters, None, self.sources, streams, 1.0) for _ in range(steps))

    def _pretrain(self, verbose: bool, saved: bool, show_progress: bool) -> None:
        """Passes over the sources, as far as they are not done yet, then a fresh optimiser."""
        for number in range(self.pretrained, self._pretrain_epochs):
            started, record, total = time(), EpochRecord(), 0.0
            steps, results = self._pretrain_pass(number)
            for _ in self._bar(range(steps), f"Pretrain {number:>2}", show_progress):
                result = next(results)
                self._apply(result, number)
                record.add(result.measured)
                total = total + result.loss
            epoch = number - self._pretrain_epochs
            self._record_sources(record, epoch)
            self.pretrained = number + 1
            row = {"epoch": epoch, "train_loss": float(total) / steps}
            self.history.append(row | {"seconds": time() - started})
            if verbose:
                self.logger.info(f"pretrain {number} [time: {time() - started:.2f}s, source loss: {float(total):.4f}]")
            if saved:
                self._save_training_state(-1)
            if self.record:
                self.record()
        if self._pretrain_epochs and self.start_epoch == 0:
            self.optimizer = self._build_optimizer()

    # -- evaluation --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, eval_data, load_best_model=True, model_file=None, show_progress=False):
        """RecBole's metrics from the one ranking: OrderedDict, keys such as ``ndcg@10``."""
        if not eval_data:
            return None
        if load_best_model:
            self.load_best(model_file or self.saved_model_file)
        try:
            result = metrics_of(self.rank(eval_data, show_progress), self.config)
        except TrainingError as error:
            raise TrainingError(f"after epoch {self.history[-1]['epoch'] if self.history else -1}: {error}") from error
        self.wandblogger.log_eval_metrics(result, head="eval")
        return result

    def rank(self, eval_data, show_progress=False):
        """Rank of the held-out item of each row, int64 [R]."""
        return rank_all(self.model, eval_data, self.device, show_progress)

    def load_best(self, model_file) -> None:
        """Puts a saved model's weights into this trainer's model. Raises CheckpointError."""
        load_weights(self.model, read_checkpoint(model_file, self.device), model_file)
        self.logger.info(f"Loading model structure and parameters from {model_file}")


def _unused(path: Path) -> str:
    """RecBole names models to the second: two runs in one second must not share a file."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return str(candidate)
