"""RecBole's Trainer with sources beside the target. The loop, early stopping and the log lines stay RecBole's."""

from collections.abc import Iterator
from pathlib import Path
from time import time

import torch
from recbole.trainer import Trainer
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from recbole_metarec import processes
from recbole_metarec.config.models import model_spec
from recbole_metarec.config.saved_config import config_to_json
from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.errors import TrainingError
from recbole_metarec.evaluation.ranking import rank_all
from recbole_metarec.evaluation.recbole_metrics import measured_lists, metrics_of
from recbole_metarec.model.saved_network import network_to_json
from recbole_metarec.randomness import Streams
from recbole_metarec.trainer.checkpoint import load_weights, read_checkpoint, write_checkpoint
from recbole_metarec.trainer.diagnostics import TransferMonitor
from recbole_metarec.trainer.guard import Guard, guard_transfer, initial_weights
from recbole_metarec.trainer.lessons import start_from
from recbole_metarec.trainer.measuring import EpochRecord, add_codebook_use, of_all_sources
from recbole_metarec.trainer.meta_step import finite, in_order
from recbole_metarec.trainer.mixing import choose_share
from recbole_metarec.trainer.optimizers import RowwiseOptimizer, fused, parameter_groups, slow_memory, steps_by_rows
from recbole_metarec.trainer.sources import SourceSide, SourceSides, events_of_a_source
from recbole_metarec.trainer.state import TrainingState
from recbole_metarec.trainer.step import StepResult, joint_step, plain_step
from recbole_metarec.trainer.training_log import TrainingLog
from recbole_metarec.trainer.transfer_state import TransferSettings, TransferState, source_weight
from recbole_metarec.trainer.transfer_step import TransferStep
from recbole_metarec.trainer.weighting import weighting_of


class TransferTrainer(Trainer):
    """Trains LRURec and MetaRec: ``meta_transfer`` decides what a step does, everything else is RecBole's Trainer.

    log: rows, curves and warnings. pretrained: passes over the sources that pre-training has done. steps_done: of the
    optimiser. spent_before: seconds of kept work from before the run was resumed. whole_table: whether every step moves
    the whole item table, as it does with transfer.
    """

    moves_all = True  # whether every step moves every parameter that requires a gradient

    def __init__(self, config, model, whole_table: bool = False):
        transfers = model_spec(config["model"]).without_transfer  # other models do not read meta_transfer
        self.transfer = (config["meta_transfer"] if transfers else None) or "none"
        # with transfer every step moves the whole table; what is compared with it must do the same
        self.rows_only = self.transfer == "none" and not whole_table and steps_by_rows(config, "target_negatives")
        self.sources_by_rows = steps_by_rows(config, "source_negatives") and not config["quantize_output"]
        super().__init__(config, model)
        self.seed = config["seed"]
        self.saved_model_file = _unused(Path(self.saved_model_file))
        watched = self.transfer == "meta" and weighting_of(config["gradient_rescaling"]).is_watched
        self.log = TrainingLog(self.logger, TransferMonitor(not watched, {}))
        self.sources = SourceSides((), self._optimizer_for_sources)
        self.source_names: list[str] = []
        self.pretrained = self.steps_done = 0
        self.resumed = False  # whether it continues an earlier run
        self._unrestored: dict | None = None  # the content of an earlier run's state file
        self._started, self.spent_before = time(), 0.0
        self._items: list[str] = []
        # weights are only valid with the text vectors that they were trained with
        self.text_digest: str | None = None
        self.guard: Guard | None = None
        if config["memory_from"] and getattr(model, "memory", None) is not None:
            start_from(model.memory, config["memory_from"])
        self._initial_weights = initial_weights(model) if self._is_guarded else None

    # -- what is optimised -------------------------------------------------------------------------------------

    def _build_optimizer(self, **kwargs):
        if "params" in kwargs:
            return fused(super()._build_optimizer(**kwargs))
        dense = fused(super()._build_optimizer(params=self._parameter_groups()))
        return RowwiseOptimizer(dense, [self.model.item_embedding.weight]) if self.rows_only else dense

    def _parameter_groups(self) -> list[dict]:
        return parameter_groups(self.model, self.config["memory_learning_rate"] or 0.0)

    def _optimizer_for_sources(self, tables, biases):
        groups = [{"params": tables}, {"params": biases, "weight_decay": 0.0}]
        dense = self._build_optimizer(params=groups)
        return RowwiseOptimizer(dense, tables) if self.sources_by_rows else dense

    # -- fitting -----------------------------------------------------------------------------------------------

    def fit(self, train_data, valid_data=None, verbose=True, saved=True, show_progress=False, callback_fn=None):
        """RecBole's fit, preceded by the sources' set-up (and pre-training). Returns (best score, best result)."""
        self._set_up(train_data)
        self._restore()
        if saved and self.start_epoch == 0 and self.pretrained == 0:
            self._save_checkpoint(-1, verbose=False)  # fails now, not after an epoch, if it cannot be written
        self._pretrain(verbose, saved, show_progress)

        def after_validation(epoch, score):
            self._after_validation(epoch, score, saved)
            if callback_fn:
                callback_fn(epoch, score)

        if self._is_finished:
            best = self.best_valid_score, self.best_valid_result
        else:
            best = super().fit(train_data, valid_data, verbose, saved, show_progress, after_validation)
        self.log.on_change()
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
    def _is_guarded(self) -> bool:
        return self.transfer != "none" and bool(self.config["transfer_guard"])

    def _set_up(self, train_data) -> None:
        """Takes what training needs from the data, once."""
        config, dataset = self.config, train_data.dataset
        self._items = [str(token) for token in dataset.id2token(dataset.iid_field, range(dataset.item_num))]
        memory = getattr(self.model, "memory", None)
        vectors = dataset.text_vectors if config["text_alignment"] or self._compares_texts else None
        if config["text_alignment"]:
            self.model.text_map.set_texts(vectors.target)
        if self._compares_texts:
            memory.set_texts(torch.from_numpy(vectors.target))
        self.text_digest = vectors.digest if vectors else None
        if len(self.sources) or self.transfer == "none":
            return
        events = events_of_a_source(config, self.transfer, len(dataset.sources))
        size = config["embedding_size"], config["MAX_ITEM_LIST_LENGTH"], events, self.seed, self.device
        texts = vectors.sources if vectors else [None] * len(dataset.sources)
        neighbours = 0 if memory is None else config["memory_neighbours"]
        mine = processes.assigned([source.store.n_items for source in dataset.sources])
        sides = [SourceSide(dataset.sources[k], *size, texts[k], self.sources_by_rows, neighbours) for k in mine]
        self.sources = SourceSides(sides, self._optimizer_for_sources, mine if processes.count() > 1 else None)
        self.source_names = [source.name for source in dataset.sources]
        self._set_up_transfer()

    @property
    def _compares_texts(self) -> bool:
        return getattr(getattr(self.model, "memory", None), "texts", None) is not None

    def _set_up_transfer(self) -> None:
        config, settings = self.config, TransferSettings.of(self.config, self.transfer)
        names = [name for name, _ in self.model.named_parameters()]
        alphas = {name: config["inner_learning_rate"] * self.model.trial_scale(name) for name in names}
        rate = config["learn_inner_learning_rate"]
        self.transfer_state = TransferState.initial(alphas, rate, len(self.source_names), self.device)
        self.meta_step = TransferStep(self.model, self.sources, settings, self.transfer_state, self.sources.numbers)

    # -- an epoch ----------------------------------------------------------------------------------------------

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        train_data.epoch = epoch_idx
        streams = Streams(self.device, self.seed, "dropout", epoch_idx)
        batches = (self.model.batch_of(interaction) for interaction in train_data)
        results = (self._one_step(batch, streams) for batch in batches)
        label = f"Train {epoch_idx:>5}" if show_progress else None
        return self._epoch(epoch_idx, len(train_data.batches.plan(epoch_idx)), results, label)

    def _pretrain(self, verbose: bool, saved: bool, show_progress: bool) -> None:
        """Does the passes over the sources that are left to do, then builds a fresh optimiser."""
        if self.pretrain_epochs and not self.pretrained:
            slow_memory(self.optimizer)
        for number in range(self.pretrained, self.pretrain_epochs):
            steps, results = self._pretrain_steps(number)
            label = f"Pretrain {number:>2}" if show_progress else None
            loss = self._epoch(number - self.pretrain_epochs, steps, results, label)
            self.pretrained = number + 1
            if verbose:
                self.logger.info(f"pretrain {number} [{self.log.history[-1]['seconds']:.2f}s, source loss: {loss:.4f}]")
            if saved:
                self._save_training_state(-1)
            self.log.on_change()
        if self.pretrain_epochs and self.start_epoch == 0:
            self.optimizer = self._build_optimizer()

    @property
    def pretrain_epochs(self) -> int:
        """Passes over the sources before the target's first epoch."""
        return self.config["pretrain_epochs"] if self.transfer == "pretrain" and len(self.sources) else 0

    def _pretrain_steps(self, number: int) -> tuple[int, Iterator[StepResult]]:
        """One pass over the sources: the number of its steps, and each step's result, to be applied before the next."""
        steps = int(processes.total(sum(len(side.stream.batches.plan(number)) for side in self.sources)))
        steps //= len(self.source_names)
        streams = Streams(self.device, self.seed, "pretrain", number)
        parameters = dict(self.model.named_parameters())
        return steps, (joint_step(self.model, parameters, None, self.sources, streams, 1.0) for _ in range(steps))

    def _epoch(self, epoch: int, steps: int, results: Iterator[StepResult], label: str | None) -> float:
        """Applies each result before the next is computed. Returns the sum of the losses. label: of a progress bar."""
        started, record, total = time(), EpochRecord(), 0.0
        for result in tqdm(results, total=steps, ncols=100, desc=label, disable=None) if label else results:
            self._apply(result, epoch)
            record.add(result.measured)
            total = total + result.loss
        total = float(total)
        self.log.add_epoch(epoch, total / steps, time() - started)
        rows = record.rows(epoch, self.sources.names)
        if rows:
            add_codebook_use(rows, self.sources, self.model)
        self.log.add_sources(of_all_sources(rows, self.source_names), self.tensorboard, self.saved_model_file)
        return total

    def _one_step(self, batch: SequenceBatch, streams) -> StepResult:
        self.model.train()
        parameters = dict(self.model.named_parameters())
        if len(self.sources) and self.transfer == "meta":
            return self.meta_step(parameters, batch, streams)
        if len(self.sources) and self.transfer == "joint":
            weight = source_weight(self.config, self.transfer)
            return joint_step(self.model, parameters, batch, self.sources, streams, weight)
        return plain_step(self.model, parameters, batch, streams, self.rows_only)

    def _apply(self, result: StepResult, epoch: int) -> None:
        """Steps every optimiser. Raises TrainingError, before anything moves, if loss or gradient is not finite."""
        self.steps_done += 1
        self._check_finite(result, epoch)
        for name, parameter in self.model.named_parameters():
            parameter.grad = in_order(result.gradient.get(name))  # None leaves a frozen one as it is
        if self.clip_grad_norm:
            clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
        self.optimizer.step()
        if result.source_gradients:
            self.sources.step(result.source_gradients)

    def _check_finite(self, result: StepResult, epoch: int) -> None:
        # the gradient may not be finite even if the loss is
        is_finite = bool(finite((*result.gradient.values(), result.loss)))
        if is_finite and not result.none_usable:
            return
        # the meta step reads the target's loss after every trial: if that fails, every source looks failed
        sources_failed = result.none_usable and (is_finite or self.transfer != "meta")
        cause = f"every source ({', '.join(self.source_names)})" if sources_failed else "the target's loss"
        raise TrainingError(
            f"epoch {epoch}, step {self.steps_done} of this run: {cause} is not finite; lower learning_rate or "
            f"inner_learning_rate; the best model so far is {self.saved_model_file}"
        )

    def _after_validation(self, epoch: int, score: float, saved: bool) -> None:
        self.log.add_score(score)
        if saved:
            self._save_training_state(epoch)
        self.log.on_change()

    # -- checkpoints, and resuming from them ---------------------------------------------------------------------

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        """Saves the deployable model: the target's weights, its network's sizes and the config, but no source."""
        if not processes.is_first():
            return
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        content = {
            "config": config_to_json(self.config, text_alignment=False, memory_texts=self._compares_texts),
            "network": network_to_json(self.model),
            "epoch": epoch,
            "best_valid_score": float(self.best_valid_score),
            "items": self._items,
            "state_dict": self.model.deployed_weights(),
        }
        write_checkpoint(path, content)
        if verbose:
            self.logger.info(f"Saving current: {path}")

    @property
    def training_state_file(self) -> Path:
        """The file beside the model that holds everything for resuming: ``<model>-last.pth``."""
        path = Path(self.saved_model_file)
        return path.with_name(f"{path.stem}-last.pth")

    def seconds_spent(self) -> float:
        """Seconds of work on this run, those before it was resumed included."""
        return self.spent_before + time() - self._started

    def _save_training_state(self, epoch: int) -> None:
        state = TrainingState.of(self, epoch)
        if processes.is_first():
            write_checkpoint(self.training_state_file, state.to_checkpoint())

    def resume_checkpoint(self, resume_file):
        """Lets :meth:`fit` resume after the last validation of the run whose model is ``resume_file``.

        Raises CheckpointError if its training state cannot be read. If the state is not one of this run, :meth:`fit`
        raises it, with nothing restored.
        """
        self.saved_model_file = str(resume_file)
        self._unrestored = self._read(self.training_state_file)
        self.resumed = True

    def _restore(self) -> None:
        """The second half of :meth:`resume_checkpoint`, once the sources have been read."""
        if self._unrestored is None:
            return
        TrainingState.from_checkpoint(self.training_state_file, self._unrestored, self).restore(self)
        self._unrestored, self._started = None, time()
        self.logger.info(f"Checkpoint loaded. Resume training from epoch {self.start_epoch}")

    # -- evaluation --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, eval_data, load_best_model=True, model_file=None, show_progress=False):
        """RecBole's metrics from this package's ranking: OrderedDict with keys such as ``ndcg@10``."""
        if not eval_data:
            return None
        if load_best_model:
            self.load_best(model_file or self.saved_model_file)
        try:
            result = metrics_of(self.rank(eval_data, show_progress), self.config) | measured_lists(self, eval_data)
        except TrainingError as error:
            epoch = self.log.history[-1]["epoch"] if self.log.history else -1
            raise TrainingError(f"after epoch {epoch}: {error}") from error
        self.wandblogger.log_eval_metrics(result, head="eval")
        return result

    def _valid_epoch(self, valid_data, show_progress=False):
        """RecBole's (score, result). With an item memory it also chooses the encoder's share in the scores."""
        if getattr(self.model, "memory", None) is None:
            return super()._valid_epoch(valid_data, show_progress)
        return choose_share(self.model, valid_data, self.config, self.device, self.valid_metric)

    def rank(self, eval_data, show_progress=False):
        """Rank of each row's held-out item: int64 [R]."""
        return rank_all(self.model, eval_data, self.device, show_progress)

    def load_best(self, model_file) -> None:
        """Puts a saved model's weights into this trainer's model. Raises CheckpointError."""
        load_weights(self.model, self._read(model_file), model_file)
        self.logger.info(f"Loading model structure and parameters from {model_file}")

    def _read(self, file) -> dict:
        device = self.device if processes.count() == 1 else "cpu"
        return processes.from_first(lambda: read_checkpoint(file, device))


def _unused(path: Path) -> str:
    """A path like this one that is not taken: RecBole names files by the second, and two runs may share one."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return str(candidate)
