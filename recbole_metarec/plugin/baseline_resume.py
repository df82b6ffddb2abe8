"""Exact resume for RecBole's own trainers, which store neither generators nor the order of rows (RecBole #2126)."""

import random
from pathlib import Path
from time import time

import numpy as np
import torch

from recbole_metarec.trainer.checkpoint import read_checkpoint, write_checkpoint
from recbole_metarec.trainer.state_checks import CheckedState, alike, described

_COLUMNS = ("train_loss", "seconds", "valid_score")


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
        self._restore(self._checked(CheckedState(self.file, content)))
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

    def _checked(self, state: CheckedState) -> dict:
        """What :meth:`_write` has written. Raises CheckpointError, with nothing restored, if it is anything else."""
        trainer, weights = self.trainer, self.trainer.model.state_dict()
        epoch = state.count("epoch", most=len(state.part("train_losses").content) - 1)
        validated = range(trainer.eval_step - 1, epoch + 1, trainer.eval_step)
        score, result = state.best(trainer.valid_metric, is_validated=True)
        no_passes = getattr(self.loader, "epoch", None) is None
        if no_passes and state["passes"] is not None:
            state.refuse("passes", "this run counts none")
        return {
            "epoch": epoch,
            "cur_step": state.count("cur_step", most=epoch + 1),
            "best_valid_score": score,
            "best_valid_result": result,
            "train_losses": state.numbers("train_losses", range(epoch + 1)),
            # weights of a loss that is no longer finite are the trainer's to tell, in its next step
            "state_dict": state.tensors("state_dict", weights, may_be_nan=True),
            "best": state.tensors("best", weights, may_be_nan=True),
            "other_parameter": _checked_others(state, _without_modules(trainer.model.other_parameter())),
            "optimizer": state.optimizer("optimizer", trainer.optimizer),
            "generators": _checked_generators(state.part("generators"), self.loader),
            "passes": None if no_passes else state.count("passes"),
            "history": state.rows("history", [{"epoch": number} for number in validated], _COLUMNS),
            "seconds": state.number("seconds"),
        }

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


def _checked_others(state: CheckedState, own: dict | None) -> dict | None:
    """A model's parameters beside its weights; of those that it has not yet, any tensor."""
    if own is None:
        return None if state["other_parameter"] is None else state.refuse("other_parameter", "this model has none")
    others = state.part("other_parameter")
    others.only_names(own)
    for name, value in own.items():
        found = others[name]
        if isinstance(value, torch.Tensor) or (value is None and isinstance(found, torch.Tensor)):
            others.tensor(name, found if value is None else value, may_be_nan=True)
        elif type(found) is not type(value):
            others.refuse(name, f"it is {described(found)}, not {described(value)}")
    return dict(others.content)


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


def _checked_generators(states: CheckedState, loader) -> dict:
    """States that fresh generators take and give back. Raises CheckpointError."""
    own = _generators(loader)
    states.only_names(own)
    python, numpy = random.Random(), np.random.RandomState()
    try:
        python.setstate(states["python"])
        numpy.set_state(states["numpy"])
        name, keys, *rest = numpy.get_state()
        taken = {"python": python.getstate(), "numpy": (name, keys.tolist(), *rest)}
    except (TypeError, ValueError, OverflowError, IndexError, KeyError) as error:
        states.refuse("", f"Python and NumPy do not take it: {error}")
    for kind, state in taken.items():
        if not alike(states[kind], state):
            states.refuse(kind, "it is no state of a generator")
    if not isinstance(taken["python"][2], float | None) or not 0 <= taken["numpy"][2] <= len(taken["numpy"][1]):
        states.refuse("", "it is no state of a generator")
    taken |= {kind: states.tensor(kind, own[kind]) for kind in ("torch", "loader") if kind in own}
    cuda = CheckedState(states.file, dict(enumerate(states.listed("cuda"))), f"{states.name}.cuda")
    if own["cuda"] and len(cuda.content) > len(own["cuda"]):
        states.refuse("cuda", f"it is of {len(cuda.content)} GPUs, here are {len(own['cuda'])}")
    taken["cuda"] = [cuda.tensor(place, state) for place, state in zip(cuda.content, own["cuda"], strict=False)]
    for state in [taken[kind] for kind in ("torch", "loader") if kind in taken]:
        try:
            torch.Generator().set_state(state)
        except RuntimeError as error:
            states.refuse("torch", f"PyTorch does not take it: {error}")
    return taken


def _set_generators(loader, states: dict) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    if "loader" in states:
        loader.generator.set_state(states["loader"].cpu())
