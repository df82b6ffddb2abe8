"""Exact resume for RecBole's own trainers, which store neither generators nor the order of rows (RecBole #2126)."""

import random
from pathlib import Path
from time import time

import numpy as np
import torch

from recbole_metarec.errors import CheckpointError
from recbole_metarec.trainer.checkpoint import read_checkpoint, write_checkpoint


class RecBoleProgress:
    """The ``callback_fn`` of one of RecBole's trainers: after each validation it stores all that the rest depends on.

    rows: one per validation, as ``TransferTrainer.history`` has them. loader: the training loader, whose order of rows
    is part of the state. file: where the state is kept, as tensors and plain values. record: called after each change
    of ``rows``. spent_before: seconds of kept work that was done before the run was resumed.
    """

    def __init__(self, trainer, loader, file: Path, record=lambda: None):
        self.trainer, self.loader, self.file, self.record = trainer, loader, Path(file), record
        self.rows: list[dict] = []
        self.resumed = False
        self._steps = len(loader)
        self._best: dict | None = None
        self._started = self._last = time()
        self.spent_before = 0.0

    @property
    def is_finished(self) -> bool:
        """Whether no epoch is left to be trained."""
        stopped = self.trainer.cur_step > self.trainer.stopping_step
        return self.resumed and (stopped or 0 < self.trainer.epochs <= self.trainer.start_epoch)

    def __call__(self, epoch: int, score: float) -> None:
        """Adds a row, whose seconds are those of training and validation together, and stores the state."""
        now, loss = time(), self.trainer.train_loss_dict[epoch]
        row = {"epoch": epoch, "train_loss": loss / self._steps, "seconds": now - self._last}
        self.rows.append(row | {"valid_score": float(score)})
        self._last = now
        if self.trainer.cur_step == 0:  # RecBole's mark of a new best
            weights = self.trainer.model.state_dict()
            self._best = {name: value.detach().clone() for name, value in weights.items()}
        self._write(epoch)
        self.record()

    def load_best(self) -> None:
        """Puts the best epoch's weights into the model; without any validation the model stays as it is."""
        if self._best is not None:
            self.trainer.model.load_state_dict(self._best)

    def resume(self) -> None:
        """Goes on after the last validation, if there was one. Raises CheckpointError for a file of another run."""
        if not self.file.exists():
            return
        content = read_checkpoint(self.file, self.trainer.device)
        try:
            self._restore(content)
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{self.file}: not the training state of such a run ({error}); train again"
            ) from error
        self.record()

    def _write(self, epoch: int) -> None:
        trainer = self.trainer
        content = {
            "epoch": epoch,
            "cur_step": trainer.cur_step,
            "best_valid_score": float(trainer.best_valid_score),
            "best_valid_result": {name: float(value) for name, value in (trainer.best_valid_result or {}).items()},
            "train_losses": dict(trainer.train_loss_dict),
            "state_dict": trainer.model.state_dict(),
            "other_parameter": _without_modules(trainer.model.other_parameter()),
            "best": self._best,
            "optimizer": trainer.optimizer.state_dict(),
            "generators": _generators(self.loader),
            "passes": getattr(self.loader, "epoch", None),
            "history": self.rows,
            "seconds": self.spent_before + time() - self._started,
        }
        write_checkpoint(self.file, content)

    def _restore(self, content: dict) -> None:
        trainer = self.trainer
        trainer.model.load_state_dict(content["state_dict"])
        trainer.model.load_other_parameter(content["other_parameter"])
        trainer.optimizer.load_state_dict(content["optimizer"])
        trainer.start_epoch, trainer.cur_step = content["epoch"] + 1, content["cur_step"]
        trainer.best_valid_score, trainer.best_valid_result = content["best_valid_score"], content["best_valid_result"]
        trainer.train_loss_dict = content["train_losses"]
        self._best, self.rows, self.spent_before = content["best"], content["history"], content["seconds"]
        if content["passes"] is not None:
            self.loader.epoch = content["passes"]
        _set_generators(self.loader, content["generators"])
        self.resumed = True
        self._started = self._last = time()


def _without_modules(parameters: dict | None) -> dict | None:
    """FDSA lists whole layers there, whose weights stand in the model's ``state_dict`` anyway."""
    kept = {name: value for name, value in (parameters or {}).items() if not isinstance(value, torch.nn.Module)}
    return kept or None


def _generators(loader) -> dict:
    """The state of every generator that RecBole draws from, as tensors and plain values."""
    name, keys, *rest = np.random.get_state()
    found = {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    own = getattr(loader, "generator", None)
    return found | ({"loader": own.get_state()} if own is not None else {})


def _set_generators(loader, states: dict) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    if "loader" in states:
        loader.generator.set_state(states["loader"].cpu())
