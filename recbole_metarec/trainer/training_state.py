"""What a trainer writes on its way and goes on from: the model to deploy, and beside it all that resuming needs."""

from pathlib import Path
from time import time

from recbole_metarec.config.saved_config import config_to_json
from recbole_metarec.errors import CheckpointError
from recbole_metarec.model.saved_network import network_to_json
from recbole_metarec.trainer.checkpoint import read_checkpoint, weights_for, write_checkpoint
from recbole_metarec.trainer.state_checks import CheckedState, alike, described


class TrainingState:
    """The part of :class:`~recbole_metarec.trainer.trainer.TransferTrainer` that saves and resumes it."""

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        """The deployable model: the target's weights, its network's sizes and the config. No source is in it."""
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        content = {
            "config": config_to_json(self.config, text_alignment=False),
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

        Raises CheckpointError, with nothing restored, if its training state is missing, damaged, or of another model.
        """
        self.saved_model_file = str(resume_file)
        content = read_checkpoint(self.training_state_file, self.device)
        self._refuse_another(content, {"meta_transfer": self.transfer, **self._form})
        weights_for(self.model, content, self.training_state_file)  # says what model it is of, where it is another
        state = CheckedState(self.training_state_file, content)
        progress, signs = self._progress_in(state), state.texts("signs")
        weights = state.tensors("state_dict", self.model.state_dict())
        moved = "all" if self.moves_all else "some"
        optimizer = state.optimizer("optimizer", self.optimizer, progress["_steps_done"], moved)
        self.model.load_state_dict(weights)
        self.optimizer.load_state_dict(optimizer)
        for name, value in progress.items():
            setattr(self, name, value)
        self.signs.seen = signs
        self._started = time()
        self._resumed = {key: value for key, value in content.items() if key not in ("state_dict", "optimizer")}
        self.logger.info(f"Checkpoint loaded. Resume training from epoch {self.start_epoch}")

    def _progress_in(self, state: CheckedState) -> dict:
        """Where the run stands, by the names of this trainer's attributes."""
        planned = self.config["pretrain_epochs"] or 0
        pretrained = state.count("pretrained", most=planned)
        epoch = state.count("epoch", -1 if pretrained else 0, len(state.listed("history")) - 1)
        if epoch >= 0 and pretrained not in (0, planned):
            state.refuse("pretrained", f"it is {pretrained}, not {planned}")
        passes, epochs = range(-planned, pretrained - planned), range(epoch + 1)
        history = state.rows("history", [{"epoch": number} for number in (*passes, *epochs)], ("train_loss", "seconds"))
        names = state.listed("sources") if "source_sides" in state.content else []
        taught = passes if self.transfer == "pretrain" else epochs
        of_sources = [{"epoch": number, "source": name} for number in taught for name in names]
        score, result = state.best(self.valid_metric, is_validated=epoch >= 0)
        return {
            "start_epoch": epoch + 1,
            "cur_step": state.count("cur_step", most=epoch + 1),
            "best_valid_score": score,
            "best_valid_result": result,
            "pretrained": pretrained,
            "history": history,
            "source_history": state.rows("source_history", of_sources, ("steps",)),
            "_steps_done": state.count("steps", least=1),
            "spent_before": state.number("seconds"),
        }

    def _go_on_with_sources(self) -> None:
        """The other half of :meth:`resume_checkpoint`, once the sources were read."""
        self._refuse_another(self._resumed, self._sources_form)
        state = CheckedState(self.training_state_file, self._resumed)
        sides = self.sources.checked(state.part("source_sides"), self._steps_done)
        transfer = self.state.checked(state.part("transfer"), self._steps_done)
        self.sources.load_state_dict(sides)
        self.state.load_state_dict(transfer)

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
            then = content.get(key)
            if not alike(then, value):
                raise CheckpointError(
                    f"{self.training_state_file}: {key} was {described(then)} when it was written and is {value} now; "
                    "resume with the config and the data of that run"
                )
