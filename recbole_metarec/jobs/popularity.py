"""Popularity: every user is shown the items with most training events. The floor that a model must leave below.

RecBole's Pop is made for data without order, with a split of its own; this one counts what the sequential models
train on and goes through the same ranking.
"""

from logging import getLogger
from pathlib import Path
from time import time

import torch

from recbole_metarec.config.models import WITHOUT_TRANSFER
from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.evaluation.ranking import rank_both
from recbole_metarec.evaluation.recbole_metrics import metrics_of
from recbole_metarec.evaluation.seen import seen_items
from recbole_metarec.files import data_fingerprint, write_csv, write_json
from recbole_metarec.plugin.config import read_dataset, recbole_config, split_dataset
from recbole_metarec.plugin.dataset import user_names
from recbole_metarec.runs import folder


class _Counts:
    """What :func:`rank_both` wants of a model: the same scores for everybody, float32 [1, n_items]."""

    def __init__(self, counts: torch.Tensor):
        self.counts = counts.to(torch.float32)[None]  # whole numbers up to 2^24 stay exact

    def eval(self) -> None:
        """Nothing to switch."""

    def full_sort_predict(self, interaction) -> torch.Tensor:
        return self.counts.expand(len(interaction), -1)


def run_popularity(model: str, dataset: str, overrides: dict) -> Path:
    """Ranks by popularity in training, writes a run folder as ``run_experiment`` does, and returns it.

    model: its name. overrides: config keys, those of LRURec. Raises MetaRecError for a mistake in them or the data.
    """
    started = time()
    config = recbole_config(RunConfig.read(WITHOUT_TRANSFER, dataset, (), overrides))
    train, valid, test = split_dataset(config, read_dataset(config))
    part = train.dataset
    counts = torch.bincount(part.inter_feat[part.iid_field], minlength=part.item_num)
    ranks = {}
    for name, rows, seen in zip(("valid", "test"), (valid, test), seen_items(part, valid.dataset, test.dataset)):
        ranks[name], ranks[f"{name}_unseen"] = rank_both(_Counts(counts), rows, seen, torch.device("cpu"))
    run_dir = folder.make_run_folder(config["checkpoint_dir"], model, dataset, config["seed"])
    found = {name: {key: float(value) for key, value in metrics_of(own, config).items()} for name, own in ranks.items()}
    users = user_names(test._dataset, test._dataset.inter_feat[part.uid_field])
    by_user = zip(users, ranks["test"].tolist(), ranks["test_unseen"].tolist(), strict=True)
    write_csv(run_dir / "ranks.csv", [{"user_id": u, "rank": r, "rank_unseen": unseen} for u, r, unseen in by_user])
    metrics = {
        "model": model,
        "dataset": dataset,
        "sources": [],
        "seed": config["seed"],
        **found,
        "test_users": len(users),
        "epochs": 0,
        "seconds": time() - started,
        "peak_memory_mib": folder.peak_memory_mib(torch.device("cpu")),
        "parameters": part.item_num - 1,
        "versions": folder.versions(),
        "git_commit": folder.git_commit(),
        "data_fingerprint": data_fingerprint([Path(config["data_path"]) / f"{dataset}.inter"]),
    }
    write_json(run_dir / "metrics.json", metrics)
    getLogger().info(f"{model}: valid {found['valid']}, test {found['test']}")
    return run_dir
