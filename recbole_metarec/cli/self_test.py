"""A few seconds of the real thing in an empty folder: read, train, save, load, recommend. Prints what went wrong.

``python -m recbole_metarec.cli.self_test FOLDER`` ends with 0 and prints nothing but figures (JSON), or with 1 and a
sentence. The doctor runs it in another process, which may crash or hang without harm to the doctor.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

from recbole_metarec.config.models import DEFAULT_MODEL
from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.plugin.config import recbole_config
from recbole_metarec.serve import Recommender

_CLUSTERS, _EPOCHS = 4, 4
_TINY = {
    "embedding_size": 16, "n_layers": 1, "vq_heads": 2, "dropout_prob": 0.0, "MAX_ITEM_LIST_LENGTH": 8,
    "train_batch_size": 64, "learning_rate": 0.01, "epochs": _EPOCHS, "topk": [5], "valid_metric": "NDCG@5",
    "show_progress": False, "state": "ERROR", "seed": 1,
}  # fmt: skip


class SelfTestError(Exception):
    """What does not work, as a sentence."""


def self_test(folder: Path) -> dict:
    """Trains MetaRec on a made-up target with one source, in ``folder``. Returns the losses and what was checked.

    Raises SelfTestError if the loss is not finite or does not fall, or if a saved model gives other scores.
    """
    for number, name in enumerate(("Target", "Source")):
        _write_world(folder, name, seed=number)
    config = recbole_config(
        RunConfig.read(DEFAULT_MODEL, "Target", (), {**_TINY, "sources": ["Source"], "data_path": str(folder)})
    )
    init_seed(config["seed"], True)
    train, valid, _ = data_preparation(config, create_dataset(config))
    init_seed(config["seed"], True)
    model = get_model(DEFAULT_MODEL)(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], DEFAULT_MODEL)(config, model)
    trainer.fit(train, valid, verbose=False, saved=False)
    losses = [row["train_loss"] for row in trainer.log.history if row["epoch"] >= 0]
    check_losses(losses)
    file = folder / "saved.pth"
    trainer._save_checkpoint(_EPOCHS, verbose=False, saved_model_file=file)
    items = [str(name) for name in train.dataset.id2token("item_id", range(train.dataset.item_num))]
    check_scores(Recommender(model.cpu(), items), Recommender.load(file), items[1:5])
    return {"first_loss": losses[0], "last_loss": losses[-1], "device": str(config["device"])}


def check_losses(losses: list[float]) -> None:
    """Raises SelfTestError unless every loss is finite and the last is below the first."""
    shown = ", ".join(f"{loss:.4g}" for loss in losses)
    if not np.isfinite(losses).all():
        raise SelfTestError(f"the training loss is not finite: {shown}")
    if not losses[-1] < losses[0]:
        raise SelfTestError(f"the training loss does not fall: {shown}")


def check_scores(model: Recommender, loaded: Recommender, history: list[str]) -> None:
    """Raises SelfTestError unless the model that was loaded recommends what the one in memory does."""
    ours, theirs = (dict(side.recommend(history, k=100, include_seen=True)) for side in (model, loaded))
    if ours.keys() != theirs.keys() or not np.allclose([ours[key] for key in ours], [theirs[key] for key in ours]):
        raise SelfTestError("a model that was saved and loaded gives other scores than before")


def _write_world(folder: Path, name: str, seed: int) -> None:
    """Histories that go round the clusters of items, which a model learns at once."""
    random = np.random.default_rng(seed)
    rows = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(60):
        first = int(random.integers(_CLUSTERS))
        for step in range(8):
            item = (first + step) % _CLUSTERS + _CLUSTERS * int(random.integers(5))
            rows.append(f"{name}-u{user}\t{name}-i{item}\t{step}")
    (folder / name).mkdir()
    (folder / name / f"{name}.inter").write_text("\n".join(rows) + "\n", encoding="utf-8")


def main(folder: str) -> int:
    """Runs the test; the exit code."""
    sys.argv = sys.argv[:1]  # RecBole's Config reads whatever else it finds there
    torch.set_num_threads(min(2, torch.get_num_threads()))
    try:
        print(json.dumps(self_test(Path(folder))))
    except SelfTestError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
