"""Small made-up domains, written as the atomic files that RecBole reads, and runs on them through RecBole."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed


def write_domain(folder: Path, name: str, histories, times=None) -> Path:
    """NAME/NAME.inter under ``folder``: histories and times a list of lists, one per user."""
    rows = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user, items in enumerate(histories):
        stamps = range(len(items)) if times is None else times[user]
        rows += [f"{name}-u{user}\t{name}-{item}\t{stamp}" for item, stamp in zip(items, stamps, strict=True)]
    (folder / name).mkdir(parents=True, exist_ok=True)
    file = folder / name / f"{name}.inter"
    file.write_text("\n".join(rows) + "\n")
    return file


def write_items(folder: Path, name: str, texts, column: str = "text") -> Path:
    """NAME/NAME.item beside what :func:`write_domain` wrote: texts by item."""
    rows = [f"item_id:token\t{column}:token_seq", *(f"{name}-{item}\t{text}" for item, text in texts.items())]
    file = folder / name / f"{name}.item"
    file.write_text("\n".join(rows) + "\n")
    return file


def cluster_histories(
    seed: int, users: int, items: int, clusters: int, follow: float, length=(6, 14)
) -> list[list[int]]:
    """Histories whose next item is, with probability ``follow``, of the cluster after the last item's, else any item.

    Item i belongs to cluster i % clusters. With follow 0 nothing can be learned but popularity, which is even.
    """
    random = np.random.default_rng(seed)
    histories = []
    for _ in range(users):
        history = [int(random.integers(items))]
        for _ in range(int(random.integers(*length)) - 1):
            item = int(random.integers(items))
            if random.random() < follow:
                item = (history[-1] + 1) % clusters + clusters * int(random.integers(items // clusters))
            history.append(item)
        histories.append(history)
    return histories


class Run:
    """A model with its data and trainer, built as RecBole's run_recbole builds them. ``fit`` returns this object."""

    def __init__(self, folder: Path, model: str = "MetaRec", dataset: str = "Target", **given):
        quiet = {"data_path": str(folder), "state": "ERROR", "show_progress": False, "device": "cpu"}
        self.config = Config(model=model, dataset=dataset, config_dict=quiet | given)
        init_seed(self.config["seed"], self.config["reproducibility"])
        self.dataset = create_dataset(self.config)
        self.train, self.valid, self.test = data_preparation(self.config, self.dataset)
        init_seed(self.config["seed"], self.config["reproducibility"])
        self.model = get_model(model)(self.config, self.train.dataset)
        self.trainer = get_trainer(self.config["MODEL_TYPE"], model)(self.config, self.model)

    def fit(self, saved: bool = True) -> "Run":
        self.best_score, self.best_result = self.trainer.fit(self.train, self.valid, verbose=False, saved=saved)
        return self

    def weights(self) -> dict:
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def source_rows(self, name: str) -> list[dict]:
        return [row for row in self.trainer.log.source_history if row["source"] == name]


PLAIN = {"seen_offset": False, "item_memory": False}  # the published models: faster, for what is about other things
TINY = {
    "embedding_size": 8, "n_layers": 1, "train_batch_size": 64, "epochs": 3, "stopping_step": 50, "seed": 7,
    "vq_heads": 2, "learning_rate": 0.01, "topk": [5, 10], "MAX_ITEM_LIST_LENGTH": 8, "dropout_prob": 0.2, **PLAIN,
}  # fmt: skip


def write_shop(folder: Path) -> Path:
    """A target, a source that shares its structure, and one that shares nothing."""
    write_domain(folder, "Target", cluster_histories(1, 50, 24, 4, 0.8))
    write_domain(folder, "Near", cluster_histories(2, 60, 28, 4, 0.8))
    write_domain(folder, "Far", cluster_histories(3, 40, 20, 4, 0.0))
    return folder


def run(shop, model="MetaRec", fit=True, saved=False, **given) -> Run:
    """A tiny run on the three domains of :func:`write_shop`; ``given`` wins over the tiny sizes."""
    sources = {"sources": ["Near", "Far"]} if model == "MetaRec" else {}
    keys = {key: value for key, value in TINY.items() if model == "MetaRec" or key != "vq_heads"}
    made = Run(shop, model=model, **(keys | sources | given))
    return made.fit(saved=saved) if fit else made


@functools.cache
def baseline(shop: Path) -> dict:
    """Weights of the run that every other one is compared with."""
    return run(shop).weights()


def equal(one: dict, other: dict) -> bool:
    """Whether two sets of weights are equal to the bit."""
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def distance(one: dict, other: dict) -> float:
    """Largest difference of two sets of weights."""
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def without_seconds(rows: list[dict]) -> list[dict]:
    """Rows without what no run can repeat."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def check_exact_resume(whole: Run, run: Callable[..., Run]) -> None:
    """Two epochs, and two more by another trainer, give to the bit what the four epochs of ``whole`` gave."""
    first = run(saved=True, epochs=2)
    rest = run(fit=False, epochs=4)
    rest.trainer.resume_checkpoint(first.trainer.saved_model_file)
    rest.fit(saved=True)
    assert equal(rest.weights(), whole.weights()) and rest.best_score == whole.best_score
    assert without_seconds(rest.trainer.log.history) == without_seconds(whole.trainer.log.history)
