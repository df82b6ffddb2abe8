"""Exact resume for RecBole's own trainers, which store neither generators nor the order of rows (RecBole #2126)."""

import random
from collections.abc import Callable
from pathlib import Path
from time import time

import numpy as np
import torch

from recbole_metarec.config.saved_config import config_to_json
from recbole_metarec.plugin.checkpoint_config import names_of
from recbole_metarec.trainer.checkpoint import read_checkpoint, write_checkpoint
from recbole_metarec.trainer.forms import (
    COUNT,
    Dependent,
    Mismatch,
    checked,
    finite_number,
    number,
    of_type,
    optimizer_form,
    read_as,
    rows,
    tensor,
)

_WORD = range(2**32)


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
            self.deploy()
        self._write(epoch)
        self.record()

    def deploy(self) -> None:
        """Writes the model as it is, tensors and plain values, to the run's ``model.pth``."""
        trainer = self.trainer
        content = {
            "config": config_to_json(trainer.config, text_alignment=False),
            "names": names_of(self.loader.dataset),
            "state_dict": trainer.model.state_dict(),
            "other_parameter": _without_modules(trainer.model.other_parameter()),
        }
        write_checkpoint(trainer.saved_model_file, content)

    def load_best(self) -> None:
        """Puts the best epoch's weights into the model; without any validation the model stays as it is."""
        if self._best is not None:
            self.trainer.model.load_state_dict(self._best)

    def resume(self) -> None:
        """Resumes after the last validation, if there was one. Raises CheckpointError for a file of another run."""
        if not self.file.exists():
            return
        content = read_checkpoint(self.file, self.trainer.device)
        content = {name: value for name, value in content.items() if value is not None and name != "format"}
        self._restore(read_as(self.file, content, self._form(content)))
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

    def _form(self, content: dict) -> dict:
        """Of what :meth:`_write` writes, without what is None."""
        trainer, losses = self.trainer, content.get("train_losses")
        others = _without_modules(trainer.model.other_parameter())
        # weights of a loss that is no longer finite are the trainer's to tell, in its next step
        weights = {name: tensor(one, may_be_nan=True) for name, one in trainer.model.state_dict().items()}
        form = {
            "epoch": range(len(losses) if isinstance(losses, dict) else 0),
            "cur_step": Dependent(lambda state: range(state["epoch"] + 2)),
            "best_valid_result": {trainer.valid_metric: finite_number, ...: finite_number},
            "best_valid_score": Dependent(lambda state: state["best_valid_result"][trainer.valid_metric]),
            "train_losses": Dependent(lambda state: {epoch: number for epoch in range(state["epoch"] + 1)}),
            "state_dict": weights,
            "best": weights,
            "optimizer": optimizer_form(trainer.optimizer, COUNT.stop - 1, moves_all=False),
            "generators": _generators_form(self.loader),
            "history": Dependent(lambda state: self._history_form(state["epoch"])),
            "seconds": finite_number,
        }
        if getattr(self.loader, "epoch", None) is not None:
            form["passes"] = COUNT
        if others is not None:
            form["other_parameter"] = {name: _like(value) for name, value in others.items()}
        return form

    def _history_form(self, epoch: int):
        step = self.trainer.eval_step
        validated = range(step - 1, epoch + 1, step)
        numbers = dict.fromkeys(("train_loss", "seconds", "valid_score"), number)
        return rows(len(validated), lambda row: {"epoch": validated[row], **numbers, ...: number})

    def _restore(self, content: dict) -> None:
        trainer = self.trainer
        trainer.model.load_state_dict(content["state_dict"])
        trainer.model.load_other_parameter(content.get("other_parameter"))
        trainer.optimizer.load_state_dict(content["optimizer"])
        trainer.start_epoch, trainer.cur_step = content["epoch"] + 1, content["cur_step"]
        trainer.best_valid_score, trainer.best_valid_result = content["best_valid_score"], content["best_valid_result"]
        trainer.train_loss_dict = content["train_losses"]
        self._best, self.rows, self.spent_before = content["best"], content["history"], content["seconds"]
        if "passes" in content:
            self.loader.epoch = content["passes"]
        _set_generators(self.loader, content["generators"])
        self.resumed = True
        self._started = self._last = time()


def _like(value) -> Callable:
    """Of a model's parameters beside its weights; of those that it has not yet, any tensor."""
    if isinstance(value, torch.Tensor):
        return tensor(value, may_be_nan=True)
    return of_type(type(None), torch.Tensor) if value is None else of_type(type(value))


def _without_modules(parameters: dict | None) -> dict | None:
    """FDSA lists whole layers there, whose weights stand in the model's ``state_dict`` anyway."""
    kept = {name: value for name, value in (parameters or {}).items() if not isinstance(value, torch.nn.Module)}
    return kept or None


def _generators(loader) -> dict:
    """The state of every generator that RecBole draws from, as tensors and plain values."""
    name, keys, *rest = np.random.get_state()
    states = {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    generator = getattr(loader, "generator", None)
    return states | ({"loader": generator.get_state()} if generator is not None else {})


def _torch_state(fresh: torch.Tensor) -> Callable:
    """The state of one of PyTorch's generators."""

    def check(value, path):
        state = tensor(fresh)(value, path)
        try:
            torch.Generator().set_state(state.cpu())
        except RuntimeError as error:
            raise Mismatch(f"{path} is no state of a generator") from error
        return state

    return check


def _cuda_states(fresh: list[torch.Tensor]) -> Callable:
    """One for each GPU, or none: the file may come from a machine without any."""

    def check(value, path):
        return [] if type(value) is list and not value else checked(value, fresh, path)

    return check


def _generators_form(loader) -> dict:
    fresh = _generators(loader)
    version, words, _ = fresh["python"]
    # where in its words a generator stands is the last of Python's, and NumPy's third
    python = (version, (_WORD,) * (len(words) - 1) + (range(len(words)),), of_type(float, type(None)))
    name, keys, *_ = fresh["numpy"]
    form = {"python": python, "numpy": (name, [_WORD] * len(keys), range(len(keys) + 1), range(2), finite_number)}
    form |= {kind: _torch_state(fresh[kind]) for kind in ("torch", "loader") if kind in fresh}
    return form | {"cuda": _cuda_states(fresh["cuda"]) if fresh["cuda"] else of_type(list)}


def _set_generators(loader, states: dict) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    if "loader" in states:
        loader.generator.set_state(states["loader"].cpu())
