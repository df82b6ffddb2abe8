"""Everything that a training resumes from, in memory and in ``<model>-last.pth``."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

from torch import Tensor

from recbole_metarec.trainer.checkpoint import FORMAT
from recbole_metarec.trainer.forms import (
    COUNT,
    Dependent,
    finite_number,
    number,
    of_type,
    optimizer_form,
    read_as,
    rows,
)

_OF_A_RUN = ("model", "learner", "target_negatives", "source_negatives", "meta_transfer", "sources", "text_vectors")


@dataclass
class TrainingState:
    """The entries of the file; one that is None is left out.

    model … text_vectors: identify the run; a run in which one of them differs cannot resume from this state. epoch: the
    last one that was trained, -1 in pre-training. cur_step: validations since the best one. pretrained: passes over the
    sources that pre-training has done. steps: of the optimiser, in all. seconds: spent so far. signs: warnings by name.
    source_sides, transfer: states of :class:`SourceSides` and :class:`TransferState`.
    """

    model: str
    learner: str
    target_negatives: int | None
    source_negatives: int | None
    meta_transfer: str
    sources: list[str]
    text_vectors: str | None
    epoch: int
    cur_step: int
    best_valid_score: float
    best_valid_result: dict[str, float]
    pretrained: int
    steps: int
    seconds: float
    history: list[dict]
    source_history: list[dict]
    signs: dict[str, str]
    state_dict: dict[str, Tensor]
    optimizer: dict
    source_sides: dict | None = None
    transfer: dict | None = None

    @classmethod
    def of(cls, trainer, epoch: int) -> "TrainingState":
        """The state of a TransferTrainer after an epoch. It shares tensors and lists with the trainer."""
        has_sides = len(trainer.sources) > 0
        return cls(
            **{key: trainer.config[key] for key in ("model", "learner", "target_negatives", "source_negatives")},
            meta_transfer=trainer.transfer,
            sources=trainer.source_names,
            text_vectors=trainer.text_digest,
            epoch=epoch,
            cur_step=trainer.cur_step,
            best_valid_score=float(trainer.best_valid_score),
            best_valid_result={name: float(value) for name, value in (trainer.best_valid_result or {}).items()},
            pretrained=trainer.pretrained,
            steps=trainer.steps_done,
            seconds=trainer.seconds_spent(),
            history=trainer.log.history,
            source_history=trainer.log.source_history,
            signs=trainer.log.warnings,
            state_dict=trainer.model.state_dict(),
            optimizer=trainer.optimizer.state_dict(),
            source_sides=trainer.sources.state_dict() if has_sides else None,
            transfer=trainer.transfer_state.state_dict() if has_sides else None,
        )

    def to_checkpoint(self) -> dict:
        """The entries as :func:`write_checkpoint` takes them."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}

    @classmethod
    def from_checkpoint(cls, file: str | Path, content: dict, trainer) -> "TrainingState":
        """The state in a file, checked to be one that a trainer like this one writes.

        Names, types, shapes and counts of all entries are checked, so that :meth:`restore` needs no further check.
        Raises CheckpointError, which names the first entry that differs.
        """
        content = {name: value for name, value in content.items() if value is not None}
        fresh = cls.of(trainer, -1)
        of_a_run = {name: getattr(fresh, name) for name in _OF_A_RUN}
        read_as(file, {name: content.pop(name, None) for name in ("format", *_OF_A_RUN)}, {"format": FORMAT} | of_a_run)
        _without_unused_rows(content, trainer)
        with suppress(KeyError, TypeError, AttributeError):  # malformed: read_as reports it
            content["source_sides"] = trainer.sources.part_of(content["source_sides"], len(trainer.source_names))
        return cls(**of_a_run, **read_as(file, content, _form(trainer, fresh)))

    def restore(self, trainer) -> None:
        """Puts the state into a trainer like the one that it comes from."""
        trainer.model.load_state_dict(self.state_dict)
        trainer.optimizer.load_state_dict(self.optimizer)
        if self.source_sides:
            trainer.sources.load_state_dict(self.source_sides)
            trainer.transfer_state.load_state_dict(self.transfer)
        trainer.start_epoch, trainer.cur_step = self.epoch + 1, self.cur_step
        trainer.best_valid_score, trainer.best_valid_result = self.best_valid_score, self.best_valid_result
        trainer.pretrained, trainer.steps_done, trainer.spent_before = self.pretrained, self.steps, self.seconds
        trainer.log.restore(self.history, self.source_history, self.signs)


def _form(trainer, fresh: TrainingState) -> dict:
    """The form of the entries that change during a run of this trainer. They are checked in this order."""
    planned, metric = trainer.pretrain_epochs, trainer.valid_metric
    names = trainer.source_names if len(trainer.sources) else []
    form = {
        "epoch": range(-1 if planned else 0, COUNT.stop),
        "pretrained": Dependent(lambda state: planned if state["epoch"] >= 0 else range(1, planned + 1)),
        "steps": range(1, COUNT.stop),
        "cur_step": Dependent(lambda state: range(state["epoch"] + 2)),
        "best_valid_result": Dependent(
            lambda state: {metric: finite_number, ...: finite_number} if state["epoch"] >= 0 else {}
        ),
        "best_valid_score": Dependent(lambda state: state["best_valid_result"].get(metric, fresh.best_valid_score)),
        "seconds": finite_number,
        "signs": {...: of_type(str)},
        "history": Dependent(lambda state: _history_form(_epochs(state, planned))),
        "source_history": Dependent(lambda state: _source_history_form(_taught(state, planned), names)),
        "state_dict": dict(fresh.state_dict),
        "optimizer": Dependent(lambda state: optimizer_form(trainer.optimizer, state["steps"], trainer.moves_all)),
    }
    if names:
        form["source_sides"] = Dependent(lambda state: trainer.sources.form(state["steps"]))
        form["transfer"] = Dependent(lambda state: trainer.transfer_state.form(state["steps"]))
    return form


def _epochs(state: dict, planned: int) -> range:
    """Epochs that have been trained; those of pre-training are numbered from -planned."""
    return range(-planned, state["epoch"] + 1 if state["epoch"] >= 0 else state["pretrained"] - planned)


def _taught(state: dict, planned: int) -> range:
    """Epochs that have trained on the sources."""
    return range(-planned, state["pretrained"] - planned) if planned else range(state["epoch"] + 1)


def _history_form(epochs: range) -> Callable:
    numbers = {"train_loss": number, "seconds": number, ...: number}
    return rows(len(epochs), lambda row: {"epoch": epochs[row], **numbers})


def _source_history_form(epochs: range, names: list[str]) -> Callable:
    """One row for each epoch and source."""
    count = len(names)

    def form_of(row: int) -> dict:
        return {"epoch": epochs[row // count], "source": names[row % count], "steps": number, ...: number}

    return rows(len(epochs) * count, form_of)


def _without_unused_rows(content: dict, trainer) -> None:
    """Drops the unused row-wise optimiser that files of version 0.1 and older hold beside that of a whole table."""
    optimizer = content.get("optimizer")
    if not trainer.rows_only and isinstance(optimizer, dict) and optimizer.keys() == {"dense", "rows"}:
        content["optimizer"] = optimizer["dense"]
