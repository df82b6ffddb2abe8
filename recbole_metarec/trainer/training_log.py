"""What is recorded during training: rows per epoch and source, curves, warnings."""

from collections.abc import Callable
from logging import Logger

from recbole_metarec.errors import TrainingError
from recbole_metarec.trainer.diagnostics import PATIENCE, TransferMonitor, lost_sources


class TrainingLog:
    """The records of a training.

    history, source_history: one row per epoch, and per epoch and source. no_transfer_history: rows of the training that
    the transfer guard compares with. warnings: sentences by name. on_change: called after each change that should be
    written to disk.
    """

    def __init__(self, logger: Logger, monitor: TransferMonitor):
        self.logger, self.monitor = logger, monitor
        self.history: list[dict] = []
        self.source_history: list[dict] = []
        self.no_transfer_history: list[dict] = []
        self.on_change: Callable[[], None] = lambda: None

    @property
    def warnings(self) -> dict[str, str]:
        """Sentences by name: what the monitor has detected, and what :meth:`warn` has added."""
        return self.monitor.seen

    def restore(self, history: list[dict], source_history: list[dict], warnings: dict[str, str]) -> None:
        """Continues from the records of an earlier process."""
        self.history, self.source_history, self.monitor.seen = history, source_history, warnings

    def add_epoch(self, epoch: int, loss: float, seconds: float) -> None:
        """loss: mean over the epoch's steps."""
        self.history.append({"epoch": epoch, "train_loss": loss, "seconds": seconds})

    def add_score(self, score: float) -> None:
        """score: of the validation after the last epoch."""
        self.history[-1]["valid_score"] = float(score)

    def add_sources(self, rows: list[dict], curves, best_file: str) -> None:
        """Adds the rows of the last epoch, one per source, also to ``curves`` (a SummaryWriter); warns of failures.

        Raises TrainingError if no step of a source was usable in the last PATIENCE epochs.
        """
        if not rows:
            return
        self.source_history += rows
        for row in rows:
            for quantity in row.keys() - {"epoch", "source", "steps"}:
                curves.add_scalar(f"{quantity}/{row['source']}", row[quantity], row["epoch"])
        if "weight" in rows[0]:
            shares = ", ".join(f"{row['source']} {row['weight']:.3f}" for row in rows)
            self.logger.info(f"epoch {rows[0]['epoch']} source weights: {shares}")
        for sentence in self.monitor.check(rows, self.source_history):
            self.logger.warning(sentence)
        if lost := lost_sources(self.source_history):
            self.on_change()
            raise TrainingError(
                f"epoch {rows[0]['epoch']}: {', '.join(lost)} gave no finite step in {PATIENCE} epochs; lower "
                f"inner_learning_rate or leave it out of sources; the best model so far is {best_file}"
            )

    def warn(self, sign: str, sentence: str) -> None:
        """Logs and keeps a warning that the monitor does not detect."""
        self.warnings[sign] = sentence
        self.logger.warning(sentence)
