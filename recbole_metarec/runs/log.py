"""RecBole's log of a run: on the terminal one line an epoch and what else matters, in its file everything."""

import copy
import logging
import re

from colorlog import ColoredFormatter
from recbole.data.dataset import Dataset
from recbole.utils import init_logger
from recbole.utils.logger import RemoveColorFilter

from recbole_metarec import processes

_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_TRAINED = re.compile(r"epoch \d+ training \[time: ([\d.]+)s, (?:train )?(.*)\]", re.DOTALL)
_VALIDATED = re.compile(r"epoch (\d+) evaluating \[time: ([\d.]+)s, valid_score: (\S+)\]")
_WEIGHTS = re.compile(r"epoch \d+ source weights: (.*)")
_LEFT_OUT = ("valid result", "Saving current", "Loading model structure", "[Training]", "[Evaluation]")


def open_log(config) -> None:
    """The log of this run; the file of an earlier run in this process would swallow it."""
    close_log()
    if not processes.is_first():
        logging.disable()
        return
    init_logger(config)
    if config["long_log"]:
        return
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, ColoredFormatter) and not isinstance(handler, logging.FileHandler):
            handler.addFilter(EpochLines(config["valid_metric"]))
            handler.setFormatter(_Shortened(handler.formatter))


def close_log() -> None:
    """Ends RecBole's log of the last run in this process."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if any(isinstance(rule, RemoveColorFilter) for rule in handler.filters) or isinstance(
            handler.formatter, ColoredFormatter
        ):
            root.removeHandler(handler)
            handler.close()


class EpochLines(logging.Filter):
    """Leaves out how RecBole describes config, model and epochs, and gives a record the line that stands for them."""

    def __init__(self, metric: str):
        super().__init__()
        self.metric, self.best, self.seconds, self.parts = metric, float("-inf"), 0.0, []

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown, shortened to its ``short`` if it has one."""
        if isinstance(record.msg, Dataset):
            data = record.msg
            record.short = f"{data.dataset_name}: {data.user_num - 1} users, {data.item_num - 1} items, "
            record.short += f"{data.inter_num} events"
            return True
        if not isinstance(record.msg, str):
            return False
        text = _COLOUR.sub("", record.getMessage()).strip()
        if weights := _WEIGHTS.fullmatch(text):
            self.parts.append(f"sources {weights[1]}")
        elif trained := _TRAINED.fullmatch(text):
            self.seconds += float(trained[1])
            self.parts.insert(0, trained[2].replace("loss: ", "loss "))
        elif validated := _VALIDATED.fullmatch(text):
            record.short = self._line(int(validated[1]), float(validated[2]), float(validated[3]))
            return True
        else:
            return not text.startswith(_LEFT_OUT) and ": best valid {" not in text
        return False

    def _line(self, epoch: int, seconds: float, score: float) -> str:
        self.best = float("-inf") if epoch == 0 else self.best  # another training in this process
        mark, self.best = " (best)" if score > self.best else "", max(score, self.best)
        parts = [f"epoch {epoch}: {self.metric} {score:.4f} on validation{mark}", *self.parts]
        parts.append(f"{self.seconds + seconds:.1f} s")
        self.seconds, self.parts = 0.0, []
        return ", ".join(parts)


class _Shortened(ColoredFormatter):
    """RecBole's format of the line that stands for a record."""

    def __init__(self, whole: ColoredFormatter):
        super().__init__("%(log_color)s%(asctime)s %(levelname)s %(message)s", "%H:%M:%S", log_colors=whole.log_colors)

    def format(self, record: logging.LogRecord) -> str:
        """As usual, of ``record.short``, if there is one."""
        if short := getattr(record, "short", ""):
            record = copy.copy(record)
            record.msg, record.args = short, None
        return super().format(record)
