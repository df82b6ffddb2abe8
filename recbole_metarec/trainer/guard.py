"""The transfer guard: the same model without transfer, and the better of the two on validation is deployed."""

import copy
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from recbole_metarec.files import copy_atomically


@dataclass(frozen=True)
class Guard:
    """Which of two trainings is deployed. Every comparison uses the one with transfer, whatever the guard says.

    transfer_valid, no_transfer_valid: best validation scores. transfer_file, no_transfer_file: their models.
    fired: whether the one without transfer is deployed because the one with transfer did not win.
    """

    fired: bool
    transfer_valid: float
    no_transfer_valid: float
    transfer_file: Path
    no_transfer_file: Path


def initial_weights(model) -> dict[str, Tensor]:
    """A copy of the weights from which both trainings start."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def guard_transfer(trainer, weights: dict[str, Tensor], train_data, valid_data, verbose: bool, show_progress: bool):
    """Trains without transfer from the same weights, seed and data order, and deploys the better.

    Returns (Guard, the other trainer). The deployed model replaces ``trainer.saved_model_file``; both stay
    beside it as ``*-transfer.pth`` and ``*-no_transfer.pth``. If ``trainer`` was resumed, so is the other training.
    """
    deployed = Path(trainer.saved_model_file)
    files = {kind: deployed.with_name(f"{deployed.stem}-{kind}.pth") for kind in ("transfer", "no_transfer")}
    if not (trainer.resumed and files["transfer"].exists()):  # else the other one may be deployed already
        copy_atomically(deployed, files["transfer"])
    config = copy.copy(trainer.config)
    config.final_config_dict = {**config.final_config_dict, "meta_transfer": "none", "transfer_guard": False}
    model = copy.deepcopy(trainer.model)
    model.load_state_dict(weights)
    trainer.logger.info("transfer guard: the same model without transfer")
    other = type(trainer)(config, model, whole_table=True)
    other.saved_model_file = str(files["no_transfer"])
    # the second run of this process would write its curves into the first one's
    other.tensorboard = SummaryWriter(str(Path(trainer.tensorboard.log_dir) / "no_transfer"))
    if trainer.resumed and other.training_state_file.exists():
        other.resume_checkpoint(other.saved_model_file)
    other.fit(train_data, valid_data, verbose=verbose, show_progress=show_progress)
    trainer.spent_before += other.spent_before
    bigger = trainer.valid_metric_bigger
    with_transfer, without = float(trainer.best_valid_score), float(other.best_valid_score)
    fired = without >= with_transfer if bigger else without <= with_transfer
    if fired:
        copy_atomically(files["no_transfer"], deployed)
    if fired and without != with_transfer:
        sentence = f"negative transfer: {with_transfer:.6f} on validation with the sources, {without:.6f} without them"
        trainer.log.warn("negative", sentence)
    word = "fired: no transfer is deployed" if fired else "kept the transfer"
    trainer.logger.info(f"transfer guard {word} (valid: {with_transfer:.6f} with, {without:.6f} without)")
    return Guard(fired, with_transfer, without, files["transfer"], files["no_transfer"]), other
