"""What a trainer writes on its way and goes on from: the model to deploy, and beside it all that resuming needs."""

from pathlib import Path
from time import time

from recbole_metarec.errors import CheckpointError
from recbole_metarec.trainer.checkpoint import config_to_json, load_weights, read_checkpoint, write_checkpoint


class TrainingState:
    """The part of :class:`~recbole_metarec.trainer.trainer.TransferTrainer` that saves and resumes it."""

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        """The deployable model: the target's weights and the config. No source is in it."""
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        content = {
            "config": config_to_json(self.config, text_alignment=False),
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
        """Everything that resuming needs, beside the model: ``<model>-last.pth``."""
        path = Path(self.saved_model_file)
        return path.with_name(f"{path.stem}-last.pth")

    def _save_training_state(self, epoch: int) -> None:
        transfer = {}
        if len(self.sources):
            transfer = {"source_sides": self.sources.state_dict(), "transfer": self.state.state_dict()}
        content = {
            **self._form,
            **self._sources_form,
            "meta_transfer": self.transfer,
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": {name: float(value) for name, value in (self.best_valid_result or {}).items()},
            "state_dict": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "pretrained": self.pretrained,
            "steps": self._steps_done,
            "seconds": self.spent_before + time() - self._started,
            "history": self.history,
            "source_history": self.source_history,
            "signs": self.signs.seen,
            **transfer,
        }
        write_checkpoint(self.training_state_file, content)

    def resume_checkpoint(self, resume_file):
        """Goes on after the last validation of the run whose model is ``resume_file``; :meth:`fit` then continues.

        Raises CheckpointError if its training state is missing, damaged, or of another model.
        """
        self.saved_model_file = str(resume_file)
        content = read_checkpoint(self.training_state_file, self.device)
        self._refuse_another(content, {"meta_transfer": self.transfer, **self._form})
        load_weights(self.model, content, self.training_state_file)
        try:
            self._go_on_from(content)
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{self.training_state_file}: not the training state of such a run ({error}); train again"
            ) from error
        self.logger.info(f"Checkpoint loaded. Resume training from epoch {self.start_epoch}")

    def _go_on_from(self, content: dict) -> None:
        self.optimizer.load_state_dict(content["optimizer"])
        self.start_epoch, self.cur_step = content["epoch"] + 1, content["cur_step"]
        self.best_valid_score, self.pretrained = content["best_valid_score"], content["pretrained"]
        self.best_valid_result = content["best_valid_result"]
        self.history, self.source_history = content["history"], content["source_history"]
        self.signs.seen = content["signs"]
        self._steps_done, self.spent_before = content["steps"], content["seconds"]
        self._started = time()
        self._resumed = content

    @property
    def _form(self) -> dict:
        """What decides which optimisers there are, besides the sources."""
        return {key: self.config[key] for key in ("model", "learner", "target_negatives", "source_negatives")}

    @property
    def _sources_form(self) -> dict:
        """What a training state is of besides, known once the sources were read."""
        return {"sources": self.sources.names, **self._text_form}

    def _refuse_another(self, content: dict, own: dict) -> None:
        for key, value in own.items():
            if content.get(key) != value:
                raise CheckpointError(
                    f"{self.training_state_file}: {key} was {content.get(key)} when it was written and is {value} now; "
                    "resume with the config and the data of that run"
                )
