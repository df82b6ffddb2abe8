"""One experiment: its folder, its table, the guard, and what is served from it."""

import csv
import json
import sys

import numpy as np
import pytest
import torch
import yaml
from support.ndcg import ndcg_at
from support.worlds import cluster_histories, write_domain

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)
from recbole_metarec.cli.main import main
from recbole_metarec.errors import CheckpointError, ConfigError, DataError, TrainingError
from recbole_metarec.evaluation.transfer_guard import LEVEL, p_of_gain
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.serve import Recommender

SMALL = {"embedding_size": 8, "n_layers": 1, "epochs": 3, "train_batch_size": 128, "show_progress": False,
         "state": "ERROR", "device": "cpu"}  # fmt: skip


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shops")
    for seed, name in enumerate(("Mine", "Theirs", "Others")):
        write_domain(folder, name, cluster_histories(seed, 80, 40, 4, 0.9))
    settings = {"data_path": str(folder), "sources": ["Theirs", "Others"], "checkpoint_dir": str(folder / "saved")}
    return run_experiment("MetaRec", "Mine", overrides={**SMALL, **settings})


def rows_of(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_folder_holds_everything(experiment):
    names = {path.name for path in experiment.run_dir.iterdir()}
    assert names >= {"config.yaml", "metrics.json", "history.csv", "sources.csv", "ranks.csv", "model.pth",
                     "history.png", "similarity.png", "codebook.png"}  # fmt: skip
    assert not [name for name in names if name.endswith(".tmp")]
    assert experiment.run_dir.name.startswith("MetaRec-Mine-2020-")


def test_metrics_agree_with_the_ranks_on_disk(experiment):
    metrics = json.loads((experiment.run_dir / "metrics.json").read_text())
    ranks = rows_of(experiment.run_dir / "ranks.csv")
    assert len(ranks) == metrics["test_users"] == len({row["user_id"] for row in ranks}) == 80
    ours, theirs = (np.array([int(row[column]) for row in ranks]) for column in ("rank", "rank_no_transfer"))
    assert metrics["test"]["ndcg@10"] == pytest.approx(ndcg_at(ours, 10).mean(), abs=1e-6)
    assert metrics["guard"]["no_transfer_test"]["ndcg@10"] == pytest.approx(ndcg_at(theirs, 10).mean(), abs=1e-6)
    assert metrics["test"]["recall@10"] == pytest.approx((ours <= 10).mean(), abs=1e-6)
    assert metrics["test"]["mrr@50"] == pytest.approx(np.where(ours <= 50, 1 / ours, 0.0).mean(), abs=1e-6)
    unseen, other = (np.array([int(row[f"{name}_unseen"]) for row in ranks]) for name in ("rank", "rank_no_transfer"))
    assert metrics["test_unseen"]["ndcg@10"] == pytest.approx(ndcg_at(unseen, 10).mean(), abs=1e-6)
    assert metrics["guard"]["transfer_test_unseen"] == metrics["test_unseen"]
    found = metrics["guard"]["no_transfer_test_unseen"]["ndcg@10"]
    assert found == pytest.approx(ndcg_at(other, 10).mean(), abs=1e-6)
    missed = unseen == unseen.max()  # a repeat comes after all items
    assert (unseen <= ours)[~missed].all() and (unseen < ours).any()
    assert metrics["valid_unseen"].keys() == metrics["valid"].keys()
    assert metrics["sources"] == ["Theirs", "Others"] and len(metrics["data_fingerprint"]) == 64


def test_every_source_is_recorded_in_every_epoch(experiment):
    rows = rows_of(experiment.run_dir / "sources.csv")
    assert [(row["epoch"], row["source"]) for row in rows] == [
        (str(epoch), name) for epoch in range(3) for name in ("Theirs", "Others")
    ]
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert float(first["weight"]) + float(second["weight"]) == pytest.approx(1.0, abs=1e-5)


def test_the_guard_deploys_transfer_where_validation_shows_that_it_is_better(experiment):
    guard = experiment.metrics["guard"]
    assert guard["p"] == p_of_gain(*(part.valid_ranks for part in experiment.parts[:2]))
    assert guard["fired"] == (guard["p"] > LEVEL) and f"(p = {guard['p']:.3f}" in experiment.table()
    kind = "no_transfer" if guard["fired"] else "transfer"
    deployed, chosen = (
        torch.load(experiment.run_dir / name, weights_only=True)["state_dict"]
        for name in ("model.pth", f"model-{kind}.pth")
    )
    assert all(torch.equal(deployed[name], chosen[name]) for name in chosen)
    assert experiment.metrics["valid"]["ndcg@10"] == guard["transfer_valid"], "the comparison is unguarded"


def test_the_simplest_baselines_stand_beside_it_with_the_figures_of_their_own_runs(experiment):
    *_, neighbours, popularity = experiment.parts
    settings = yaml.safe_load((experiment.run_dir / "config.yaml").read_text())
    given = {"data_path": settings["data_path"], "checkpoint_dir": str(experiment.run_dir.parent), "device": "cpu"}
    for part, name, model in (
        (neighbours, "item-kNN", "ItemKNNDecay"),
        (popularity, "popularity", "SequentialPop"),
    ):
        (alone,) = run_experiment(model, "Mine", overrides=given).parts
        assert part.name == name and f"\n{name} " in experiment.table()
        assert (part.test_ranks == alone.test_ranks).all() and part.test_unseen == alone.test_unseen
        assert experiment.metrics["references"][name]["test"] == alone.test


def test_the_model_without_transfer_is_lrurec_to_the_bit(experiment):
    settings = yaml.safe_load((experiment.run_dir / "config.yaml").read_text())
    place = {"data_path": settings["data_path"], "checkpoint_dir": str(experiment.run_dir.parent)}
    alone = run_experiment("LRURec", "Mine", overrides={**SMALL, **place})
    assert alone.metrics["test"] == experiment.metrics["guard"]["no_transfer_test"]


def test_config_yaml_repeats_the_run(experiment):
    again = run_experiment(
        "MetaRec", "Mine", config_files=[str(experiment.run_dir / "config.yaml")], overrides={"device": "cpu"}
    )
    assert again.metrics["test"] == experiment.metrics["test"] and again.run_dir != experiment.run_dir
    assert (again.run_dir / "ranks.csv").read_bytes() == (experiment.run_dir / "ranks.csv").read_bytes()


def test_config_yaml_repeats_the_run_from_the_command_line(experiment, capsys, monkeypatch):
    """On any machine: a gpu_id that nobody asked for must not be asked for by the file."""
    monkeypatch.setattr(sys, "argv", ["recbole-metarec"])
    assert main(["train", "--config_files", str(experiment.run_dir / "config.yaml"), "--epochs=1"]) == 0
    assert "80 test users" in capsys.readouterr().out


def test_a_bad_source_is_said_before_anything_is_made(experiment, tmp_path, capsys):
    shops = experiment.run_dir.parent.parent
    write_domain(shops, "Broken", [[1, 2, 3, 4]]).write_text("no header\n")
    place = ["--data_path", str(shops), f"--checkpoint_dir={tmp_path / 'saved'}", "--dataset", "Mine"]
    for source in ("Theirz", "Broken"):
        assert main(["train", *place, "--sources", source]) == 2
        assert source in capsys.readouterr().err
    assert not (tmp_path / "saved").exists()


def test_recboles_own_models_run_under_the_same_protocol(experiment, capsys):
    shops = str(experiment.run_dir.parent.parent)
    small = {"epochs": 1, "hidden_size": 8, "inner_size": 8, "n_heads": 1, "topk": [10], "show_progress": False}
    found = run_experiment("SASRec", "Mine", overrides={**small, "data_path": shops, "state": "ERROR"})
    assert found.metrics["test_users"] == 80 and set(found.metrics["test"]) == {"ndcg@10", "recall@10", "mrr@10"}
    assert main(["train", "--model", "SASRec", "--dataset", "Mine", "--data_path", shops, "--epochs=abc"]) == 2
    assert "epochs is abc" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="topk"):
        run_experiment("SASRec", "Mine", overrides={**small, "topk": [10, 50], "data_path": shops, "state": "ERROR"})


def test_the_table_says_what_was_found(experiment):
    table = experiment.table()
    level = ndcg_at(experiment.parts[0].test_unseen_ranks, 10).mean()
    assert "test, seen removed" in table and f" {level:.4f} " in table
    assert "80 test users" in table and "the same without transfer" in table and "95 % interval" in table
    assert ("not distinguishable" in table) != ("different" in table)


def test_recommender_needs_the_file_alone_and_scores_as_the_model_does(experiment):
    recommender = Recommender.load(experiment.run_dir / "model.pth")
    names = ["[PAD]", *recommender.items]
    history = [names[3], names[5], names[3]]
    best = recommender.recommend(history, k=len(names), include_seen=True)
    with torch.no_grad():
        sequence = torch.tensor([[3, 5, 3, 0, 0]])
        scores = recommender.network.score(recommender.network(sequence, torch.tensor([3])))[0]
    assert len(best) == len(names) - 1 and names[0] not in dict(best)
    for name, score in best:
        assert score == pytest.approx(float(scores[names.index(name)]), abs=1e-5)
    assert [score for _, score in best] == sorted((score for _, score in best), reverse=True)
    assert not set(history) & set(dict(recommender.recommend(history, k=5)))


def test_recommender_answers_mistakes_in_one_line(experiment, tmp_path):
    recommender = Recommender.load(experiment.run_dir / "model.pth")
    with pytest.raises(DataError, match=r"unknown item 'Mine-x1'.*did you mean"):
        recommender.recommend(["Mine-x1"])
    with pytest.raises(DataError, match="history is empty"):
        recommender.recommend([])
    (tmp_path / "cut.pth").write_bytes((experiment.run_dir / "model.pth").read_bytes()[:500])
    with pytest.raises(CheckpointError, match="truncated"):
        Recommender.load(tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        Recommender.load(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    "histories, message",
    [
        ([[1, 2], [2, 3, 1], [1, 2]], "no validation row is left"),
        ([[1, 2], [2, 3]], "no validation row is left"),
    ],
)
def test_nothing_to_evaluate_on_is_said_before_training(tmp_path, histories, message):
    write_domain(tmp_path, "Short", histories)
    with pytest.raises(DataError, match=message):
        run_experiment("LRURec", "Short", overrides={**SMALL, "data_path": str(tmp_path)})


@pytest.mark.parametrize("model", ["LRURec", "SASRec"])
def test_one_user_to_evaluate_on_is_enough(tmp_path, model):
    """RecBole gives the names of a list of one as a bare text."""
    write_domain(tmp_path, "One", [[1, 2, 3, 4, 5], [2, 3], [3, 4]])
    given = {**SMALL, "topk": [5], "valid_metric": "NDCG@5", "data_path": str(tmp_path)}
    if model == "SASRec":
        given |= {"hidden_size": 8, "inner_size": 8, "n_heads": 1}
    made = run_experiment(model, "One", overrides=given)
    assert made.metrics["test_users"] == 1
    assert [line.split(",")[0] for line in (made.run_dir / "ranks.csv").read_text().split()] == ["user_id", "One-u0"]


def test_nothing_left_after_the_filter_is_said(tmp_path):
    write_domain(tmp_path, "Thin", [[1, 2, 3, 4], [2, 3, 4, 1]])
    with pytest.raises(DataError, match="filter"):
        settings = {"data_path": str(tmp_path), "user_inter_num_interval": "[50,inf)"}
        run_experiment("LRURec", "Thin", overrides={**SMALL, **settings})


def test_a_learning_rate_that_explodes_stops_the_run_and_keeps_a_model(tmp_path):
    write_domain(tmp_path, "Mine", cluster_histories(0, 40, 20, 4, 0.9))
    settings = {"data_path": str(tmp_path), "learner": "sgd", "learning_rate": 1e30, "checkpoint_dir": "kept"}
    with pytest.raises(TrainingError, match=r"epoch 0, step .* not finite; lower learning_rate") as stop:
        run_experiment("LRURec", "Mine", overrides={**SMALL, **settings})
    file = str(stop.value).rsplit(" ", 1)[1]
    assert all(value.isfinite().all() for value in torch.load(file, weights_only=True)["state_dict"].values())
