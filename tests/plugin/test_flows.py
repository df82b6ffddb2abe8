"""RecBole's own flows across processes: checkpoints that this user wrote, pre-training, tuning, and what they log."""

import inspect
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from support.item_worlds import OF_MODEL, ONE_LAYER, write_shop_with_kinds
from support.worlds import TINY

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
import recbole.quick_start
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import HyperTuning
from recbole.utils import get_model, get_trainer, init_seed

from recbole_metarec.errors import CheckpointError
from recbole_metarec.files import cache_dir
from recbole_metarec.plugin import recbole_checkpoint


@pytest.fixture
def shop(tmp_path, monkeypatch, fresh_cache):
    monkeypatch.chdir(tmp_path)
    return write_shop_with_kinds(tmp_path)


@pytest.fixture
def another_process(monkeypatch):
    """Forgets what this process remembers, as a new one would."""

    def start():
        monkeypatch.setattr(recbole_checkpoint, "_written", {})

    return start


def settings(shop, **given) -> dict:
    plain = {"data_path": str(shop), "checkpoint_dir": str(shop / "saved"), "train_neg_sample_args": None, "epochs": 1}
    return ONE_LAYER | plain | {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}} | given


def made(shop, model, **given):
    """(model, trainer, loaders) as RecBole's scripts make them."""
    config = Config(model, "Target", config_dict=settings(shop, **given))
    init_seed(config["seed"], True)
    loaders = data_preparation(config, create_dataset(config))
    network = get_model(model)(config, loaders[0].dataset)
    return network, get_trainer(config["MODEL_TYPE"], model)(config, network), loaders


def test_a_checkpoint_of_recbole_is_read_by_the_user_who_wrote_it_and_by_whoever_trusts_it(shop, another_process):
    load = recbole.quick_start.load_data_and_model
    assert list(inspect.signature(load).parameters) == ["model_file", "trust_pickle"]
    recbole.quick_start.run_recbole("SASRec", "Target", config_dict=settings(shop))
    (file,) = (shop / "saved").glob("SASRec-*.pth")
    another_process()
    weights = load(str(file))[1].state_dict()
    foreign = shop / "foreign.pth"
    shutil.copy(file, foreign)
    with pytest.raises(CheckpointError, match=r"you did not write on this machine, .* pass trust_pickle=True"):
        load(str(foreign))
    trusted = load(str(foreign), trust_pickle=True)[1].state_dict()
    assert all(torch.equal(trusted[name], weights[name]) for name in weights)
    content = torch.load(file, weights_only=False)
    torch.save(content | {"epoch": 5}, file)
    with pytest.raises(CheckpointError, match="trust_pickle"):
        load(str(file))


def test_a_note_that_somebody_else_could_have_written_counts_for_nothing(
    tmp_path, another_process, monkeypatch, fresh_cache
):
    file = tmp_path / "model.pth"
    file.write_bytes(b"content")
    recbole_checkpoint.note_written(file)
    another_process()
    assert recbole_checkpoint.wrote_file(file)
    (note,) = (cache_dir() / "written").iterdir()
    note.chmod(0o622)
    assert not recbole_checkpoint.wrote_file(file)
    note.chmod(0o600)
    assert recbole_checkpoint.wrote_file(file)
    monkeypatch.setattr(os, "getuid", lambda: note.stat().st_uid + 1)
    assert not recbole_checkpoint.wrote_file(file)


def test_the_oldest_notes_are_dropped(tmp_path, another_process, monkeypatch, fresh_cache):
    monkeypatch.setattr(recbole_checkpoint, "_MOST_NOTES", 3)
    files = [tmp_path / str(number) for number in range(5)]
    for age, file in enumerate(files):
        file.write_text(file.name)
        recbole_checkpoint.note_written(file)
        os.utime(recbole_checkpoint._note(str(file)), (age, age))
    another_process()
    assert [recbole_checkpoint.wrote_file(file) for file in files] == [False, False, True, True, True]


def test_without_a_cache_a_process_still_knows_what_it_wrote(tmp_path, monkeypatch, another_process):
    (tmp_path / "file").touch()
    monkeypatch.setenv("METAREC_CACHE", str(tmp_path / "file" / "cache"))
    recbole_checkpoint.note_written(tmp_path / "file")
    assert recbole_checkpoint.wrote_file(tmp_path / "file")
    another_process()
    assert not recbole_checkpoint.wrote_file(tmp_path / "file")


def test_the_second_stage_reads_in_another_process_what_the_first_wrote(shop, another_process):
    stages = OF_MODEL["S3Rec"] | {"pretrain_epochs": 1, "save_step": 1}
    first, trainer, loaders = made(shop, "S3Rec", **stages, train_stage="pretrain")
    trainer.fit(loaders[0])
    another_process()
    second, _, _ = made(shop, "S3Rec", **stages, train_stage="finetune", pre_model_path=trainer.saved_model_file)
    assert torch.equal(second.item_embedding.weight, first.item_embedding.weight)
    shutil.copy(trainer.saved_model_file, shop / "foreign.pth")
    foreign = stages | {"train_stage": "finetune", "pre_model_path": str(shop / "foreign.pth")}
    with pytest.raises(CheckpointError, match="trust_pickle"):
        made(shop, "S3Rec", **foreign)
    made(shop, "S3Rec", **foreign, trust_pickle=True)


def test_the_exhaustive_search_tries_every_combination_once():
    pytest.importorskip("hyperopt", reason="RecBole's HyperTuning needs hyperopt")
    tried = []

    def objective(config, files):
        tried.append((config["a"], config["b"]))
        score = {"best_valid_score": config["a"], "valid_score_bigger": True}
        return {"model": "Pop", **score, "best_valid_result": {}, "test_result": {}}

    tuning = HyperTuning(objective, params_dict={"choice": {"a": [1, 2, 3], "b": ["x", "y"]}}, early_stop=100)
    tuning.run()
    assert sorted(tried) == [(a, b) for a in (1, 2, 3) for b in ("x", "y")] and tuning.best_score == 3


def test_ray_is_told_nothing_outside_its_sessions(shop, caplog):
    given = settings(shop, model="SASRec", dataset="Target")
    found = recbole.quick_start.objective_function(given, saved=False)
    assert found["test_result"]["ndcg@10"] >= 0 and "Session not detected" not in caplog.text


def test_wandb_is_told_by_recboles_key(shop, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="log_wandb needs wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(shop))
    given = settings(shop, **TINY) | {"log_wandb": True, "epochs": 2, "topk": [5, 10]}
    trained = recbole.quick_start.run_recbole("LRURec", "Target", config_dict=given)
    summary = dict(wandb.run.summary)
    wandb.finish()
    assert summary["train_step"] == summary["valid_step"] == 1 and summary["train/train_loss"] > 0
    assert summary["valid/ndcg@10"] > 0 and list((shop / "wandb").glob("offline-run-*/*.wandb"))
    assert summary["eval/ndcg@10"] == pytest.approx(trained["test_result"]["ndcg@10"], abs=1e-6)


@pytest.mark.parametrize(
    ("file", "line", "mends"),
    [
        ("model/sequential_recommender/s3rec.py", "torch.load(self.pre_model_path)", "pretrained_files_are_read"),
        ("model/general_recommender/ract.py", "torch.load(self.pre_model_path)", "pretrained_files_are_read"),
        ("model/general_recommender/neumf.py", "torch.load(self.mf_pretrain_path", "pretrained_files_are_read"),
        ("model/general_recommender/convncf.py", "torch.load(self.pre_model_path)", "pretrained_files_are_read"),
        ("model/general_recommender/nais.py", "torch.load(self.pretrain_path)", "pretrained_files_are_read"),
        ("model/context_aware_recommender/kd_dagfm.py", 'torch.load(config["warm_up"])', "pretrained_files_are_read"),
        ("trainer/trainer.py", "torch.save(state, saved_model_file)", "pretrained_files_are_noted"),
        ("trainer/hyper_tuning.py", "np.random.RandomState(seed)", "exhaustive_search_draws"),
        ("quick_start/quick_start.py", "tune.report(**test_result)", "reports_inside_a_session"),
    ],
)
def test_they_are_still_needed(file, line, mends):
    source = Path(find_spec("recbole").origin).parent / file
    assert line in source.read_text(encoding="utf-8"), f"RecBole has changed: see whether mends.{mends} can go"
