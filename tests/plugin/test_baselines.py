"""RecBole's own models as whole runs: trimmed rows, a config.yaml that repeats the run, S3-Rec's two stages."""

import csv
import json

import numpy as np
import pytest
import torch
from support.item_worlds import OF_MODEL, ONE_LAYER, TRIMMED, named_rows, write_shop_with_kinds

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from support.ndcg import ndcg_at

from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.errors import CheckpointError
from recbole_metarec.plugin.baselines import load_data
from recbole_metarec.plugin.config import recbole_config
from recbole_metarec.plugin.prefix_rows import PrefixLoader
from recbole_metarec.quick_start import run_experiment


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return write_shop_with_kinds(tmp_path_factory.mktemp("shop"))


def config_of(shop, model, **given):
    values = ONE_LAYER | {"data_path": str(shop)} | given
    return recbole_config(RunConfig.read(model, "Target", (), values))


def run(shop, model, **given):
    values = ONE_LAYER | {"epochs": 2, "pretrain_epochs": 1, "hidden_dropout_prob": 0.1, "data_path": str(shop)}
    values |= {"checkpoint_dir": str(shop / "saved")} | OF_MODEL.get(model, {}) | given
    return run_experiment(model, "Target", overrides=values)


@pytest.mark.parametrize("model", [*TRIMMED, "STAMP"])
def test_a_run_is_complete_and_its_config_repeats_it(shop, model, monkeypatch):
    passes = []
    original = PrefixLoader.__iter__
    monkeypatch.setattr(PrefixLoader, "__iter__", lambda loader: passes.append(loader.epoch) or original(loader))
    found = run(shop, model)
    assert passes == {"STAMP": [], "S3Rec": [0, 1, 2]}.get(model, [0, 1])
    metrics = json.loads((found.run_dir / "metrics.json").read_text())
    with open(found.run_dir / "ranks.csv", newline="") as file:
        ranks = np.array([int(row["rank"]) for row in csv.DictReader(file)])
    assert metrics["test_users"] == len(ranks) == 62
    assert metrics["test"]["ndcg@10"] == pytest.approx(ndcg_at(ranks, 10).mean(), abs=1e-6)
    files = [str(found.run_dir / "config.yaml")]
    again = run_experiment(model, "Target", config_files=files, overrides={"device": "cpu"})
    assert again.metrics["test"] == found.metrics["test"]
    assert (again.run_dir / "ranks.csv").read_bytes() == (found.run_dir / "ranks.csv").read_bytes()


def test_s3rec_starts_from_what_it_pretrained(shop):
    """Untrained in the second stage, the model is the pre-trained one; a foreign pickle is not read unasked."""
    found = run(shop, "S3Rec", epochs=0)
    pretrained, saved = (
        torch.load(found.run_dir / name, weights_only=kind)["state_dict"]
        for name, kind in (("pretrained.pth", True), ("model.pth", False))
    )
    assert pretrained.keys() == saved.keys()
    assert all(torch.equal(pretrained[name], saved[name]) for name in saved)
    reused = run(shop, "S3Rec", epochs=0, train_stage="finetune", pre_model_path=str(found.run_dir / "pretrained.pth"))
    assert reused.metrics["test"] == found.metrics["test"]
    foreign = shop / "foreign.pth"
    torch.save({"state_dict": saved, "config": np.random.default_rng}, foreign)
    with pytest.raises(CheckpointError, match="trust_pickle"):
        run(shop, "S3Rec", train_stage="finetune", pre_model_path=str(foreign))


@pytest.mark.parametrize("model", ["SASRec", "STAMP"])
def test_exact_time_orders_the_rows_of_recboles_models(tmp_path, monkeypatch, model):
    """Stamps that float32 cannot tell apart, listed newest first: trimmed or not, the order is that of the stamps."""
    monkeypatch.setenv("METAREC_CACHE", str(tmp_path / "cache"))
    shop = write_shop_with_kinds(tmp_path)
    file = shop / "Target" / "Target.inter"
    header, *lines = file.read_text().splitlines()
    expected = named_rows(load_data(config_of(shop, model))[0])
    late = [(user, item, 1500000000 + int(at)) for user, item, at in (line.split("\t") for line in reversed(lines))]
    file.write_text("\n".join([header, *(f"{user}\t{item}\t{at}" for user, item, at in late)]) + "\n")
    assert named_rows(load_data(config_of(shop, model, exact_time=True))[0]) == expected
    assert named_rows(load_data(config_of(shop, model))[0]) != expected
