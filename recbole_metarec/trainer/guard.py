"""The transfer guard: it also trains the same model without transfer, and validation decides which one is deployed."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from recbole_metarec import processes
from recbole_metarec.evaluation.metric import Metric
from recbole_metarec.evaluation.transfer_guard import LEVEL, deploys_transfer, p_of_gain, verdict
from recbole_metarec.files import copy_atomically


@dataclass(frozen=True)
class Guard:
    """Which of two trainings is deployed. Comparisons always use the one with transfer, whatever the guard decides.

    fired: whether the model without transfer is deployed, because validation does not show the other to be better. p:
    the p-value of that test, :func:`~recbole_metarec.evaluation.transfer_guard.p_of_gain`. transfer_valid,
    no_transfer_valid: the best validation scores. transfer_file, no_transfer_file: the saved models.
    """

    fired: bool
    p: float
    transfer_valid: float
    no_transfer_valid: float
    transfer_file: Path
    no_transfer_file: Path


def initial_weights(model) -> dict[str, Tensor]:
    """A copy of the weights from which both trainings start."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def guard_transfer(trainer, weights: dict[str, Tensor], train_data, valid_data, verbose: bool, show_progress: bool):
    """Trains without transfer from the same weights, seed and data order, and deploys one of the two.

    Returns (Guard, the other trainer). The deployed model replaces ``trainer.saved_model_file``; both stay
    beside it as ``*-transfer.pth`` and ``*-no_transfer.pth``. If ``trainer`` was resumed, so is the other training.
    """
    deployed = Path(trainer.saved_model_file)
    files = {kind: deployed.with_name(f"{deployed.stem}-{kind}.pth") for kind in ("transfer", "no_transfer")}
    kept = trainer.resumed and files["transfer"].exists()
    if processes.is_first() and not kept:  # otherwise ``deployed`` may already be the model without transfer
        copy_atomically(deployed, files["transfer"])
    config = copy.copy(trainer.config)
    config.final_config_dict = {**config.final_config_dict, "meta_transfer": "none", "transfer_guard": False}
    model = copy.deepcopy(trainer.model)
    model.load_state_dict(weights)
    trainer.logger.info("transfer guard: the same model without transfer")
    other = type(trainer)(config, model, whole_table=True)
    other.saved_model_file = str(files["no_transfer"])
    # otherwise both trainings would write into the same curves
    other.tensorboard = SummaryWriter(str(Path(trainer.tensorboard.log_dir) / "no_transfer"))
    if trainer.resumed and processes.from_first(other.training_state_file.exists):
        other.resume_checkpoint(other.saved_model_file)
    other.fit(train_data, valid_data, verbose=verbose, show_progress=show_progress)
    trainer.spent_before += other.spent_before
    with_transfer, without = float(trainer.best_valid_score), float(other.best_valid_score)
    kinds = (trainer, "transfer"), (other, "no_transfer")
    ranks = [_best_ranks(each, files[kind], valid_data) for each, kind in kinds]
    metric = Metric.named(config["valid_metric"])
    p = p_of_gain(*ranks, metric)
    fired = not deploys_transfer(p)
    if fired and processes.is_first():
        copy_atomically(files["no_transfer"], deployed)
    trainer.log.no_transfer_history = other.log.history
    if (loss := p_of_gain(*reversed(ranks), metric)) <= LEVEL:
        sentence = f"{with_transfer:.6f} on validation with the sources, {without:.6f} without them (p = {loss:.3f})"
        trainer.log.warn("negative", f"negative transfer: {sentence}")
    trainer.logger.info(f"transfer guard: {verdict(p)} (valid: {with_transfer:.6f} with, {without:.6f} without)")
    return Guard(fired, p, with_transfer, without, files["transfer"], files["no_transfer"]), other


def _best_ranks(trainer, file: Path, valid_data) -> np.ndarray:
    """Ranks of the held-out items on validation by the best model of a training: int64 [U]."""
    trainer.load_best(file)
    return trainer.rank(valid_data)
