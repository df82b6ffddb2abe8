"""What RecBole sees of the package, and what it must not see."""

import copy
import importlib
import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from support import nursery

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
import recbole.data.utils
import recbole.quick_start
import recbole.quick_start.quick_start
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.utils import get_model, get_trainer
from recbole.utils.argument_list import dataset_arguments

from recbole_metarec.config.models import SHIPPED_MODELS, model_spec
from recbole_metarec.config.run_config import RunConfig, UserKeys
from recbole_metarec.config.saved_config import config_to_json
from recbole_metarec.config.schema import default_values
from recbole_metarec.errors import CheckpointError, ConfigError, DataError
from recbole_metarec.plugin import registration as plugin
from recbole_metarec.plugin.checkpoint_config import config_from_json
from recbole_metarec.plugin.config import recbole_config
from recbole_metarec.plugin.dataset import TransferDataset
from recbole_metarec.plugin.loaders import SequenceLoader
from recbole_metarec.trainer.checkpoint import write_checkpoint
from recbole_metarec.trainer.fitted import FittedTrainer
from recbole_metarec.trainer.trainer import TransferTrainer
from recbole_metarec.trainer.unisrec import TextTrainer


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("METAREC_CACHE", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture()
def shop(tmp_path):
    """A data folder with the domains Shop and Mall: 12 users with 6 events each, and texts."""
    for name, seed in (("Shop", 0), ("Mall", 1)):
        generator = np.random.default_rng(seed)
        rows = [f"{name}{user}\t{name}-{item}\t{time}"
                for user in range(12) for time, item in enumerate(generator.permutation(9)[:6])]  # fmt: skip
        (tmp_path / "data" / name).mkdir(parents=True)
        text = "\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows, ""])
        (tmp_path / "data" / name / f"{name}.inter").write_text(text)
        texts = "\n".join(["item_id:token\ttext:token_seq", *(f"{name}-{item}\tthing {item}" for item in range(9)), ""])
        (tmp_path / "data" / name / f"{name}.item").write_text(texts)
    return tmp_path / "data"


def settings(shop, **given) -> dict:
    return {"data_path": str(shop), "embedding_size": 8, "vq_heads": 2, "sources": ["Mall"], "epochs": 1,
            "state": "ERROR", "show_progress": False, **given}  # fmt: skip


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_recbole_finds_models_datasets_and_trainers_by_name(name):
    model = get_model(name)
    assert model.__name__ == name
    assert getattr(importlib.import_module("recbole.model.sequential_recommender"), name) is model
    theirs = FittedTrainer if model_spec(name).is_fitted else TransferTrainer
    assert get_trainer(None, name) is (TextTrainer if name == "UniSRec" else theirs)
    assert getattr(importlib.import_module("recbole.data.dataset"), f"{name}Dataset") is TransferDataset
    assert {"sources", "exact_time"} <= set(dataset_arguments)


def test_a_replaced_function_is_the_same_wherever_recbole_holds_it():
    for name in ("run", "load_data_and_model"):
        assert getattr(recbole.quick_start, name) is getattr(recbole.quick_start.quick_start, name)


def test_recboles_own_models_keep_config_loaders_and_dataset():
    script = textwrap.dedent("""
        import json
        import recbole_metarec
        {leave_out}
        from recbole.config import Config
        import recbole.data.utils as utils, recbole.data.dataset as dataset, recbole.trainer as trainer
        config = Config(model="SASRec", dataset="ml-100k", config_dict={{"train_neg_sample_args": None, "nobody": 1}})
        print(json.dumps([{{k: str(v) for k, v in config.final_config_dict.items()}}, sorted(config.__dict__),
                          utils.get_dataloader(config, "train").__name__,
                          utils.get_dataloader(config, "test").__name__, hasattr(dataset, "SASRecDataset")]))
    """)
    # first with the mends alone, so that nothing of ours is registered
    mends_alone = textwrap.dedent("""
        from recbole_metarec.plugin import mends, on_import, registration
        kept = {mend.name for mend in mends.mends()}
        for module, hooks in on_import.HOOKS.items():
            hooks[:] = [hook for hook in hooks if hook.__name__ in kept]
    """)
    environment = {**os.environ, "PYTHONPATH": str(Path(plugin.__file__).parents[2])}
    results = []
    for code in (script.format(leave_out=mends_alone), script.format(leave_out="")):
        done = subprocess.run([*nursery.python(), "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout.splitlines()[-1]))
    assert results[0] == results[1]
    assert results[0][0]["epochs"] == "300"
    assert results[0][2:] == ["TrainDataLoader", "FullSortEvalDataLoader", False]


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_defaults_are_ours_under_what_the_user_gives(name, shop, tmp_path):
    (tmp_path / "a.yaml").write_text("epochs: 7\nstopping_step: 3\n")
    given = {"data_path": str(shop), "stopping_step": 4, "clip_grad_norm": "None"}
    before = copy.deepcopy(given)
    config = Config(name, "Shop", ["a.yaml"], given)
    for key, value in default_values(name).items():
        if key not in ("epochs", "stopping_step", "eval_args", "train_neg_sample_args"):
            assert config[key] == value, key
    assert (config["epochs"], config["stopping_step"], config["seed"]) == (7, 4, 2020)
    assert config["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert config["data_path"] == str(shop / "Shop")
    assert given == before
    assert "_metarec_files" not in config.__dict__


def test_a_partial_eval_args_does_not_fall_back_to_a_random_split(shop):
    config = Config("MetaRec", "Shop", None, settings(shop, eval_args={"group_by": "user"}))
    assert config["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert config["eval_args"]["order"] == "TO"


def test_mistakes_name_file_and_line_or_config_dict(shop, tmp_path):
    (tmp_path / "my.yaml").write_text("epochs: 1\nvq_heads: 5\n")
    with pytest.raises(ConfigError, match=r"^my\.yaml:2: vq_heads is 5, which does not divide embedding_size 64; "):
        Config("MetaRec", "Shop", ["my.yaml"], {"data_path": str(shop)})
    (tmp_path / "my.yaml").write_text("epochs: 1\nvq_haeds: 4\n")
    with pytest.raises(ConfigError, match=r"^my\.yaml:2: unknown config key vq_haeds; did you mean vq_heads\?"):
        Config("MetaRec", "Shop", ["my.yaml"], {"data_path": str(shop)})
    with pytest.raises(ConfigError, match=r"^config_dict: unknown config key temprature; did you mean temperature\?"):
        Config("LRURec", "Shop", None, settings(shop, temprature=1))
    with pytest.raises(ConfigError, match=r"^config_dict: worker is 2, which is not supported here"):
        Config("LRURec", "Shop", None, settings(shop, worker=2))


def test_an_unknown_argument_of_the_calling_program_is_a_warning_a_wrong_value_is_not(shop, monkeypatch, caplog):
    monkeypatch.setattr(sys, "argv", ["script.py", "--cov=src", "--epochs=3"])
    with caplog.at_level(logging.WARNING):
        config = Config("MetaRec", "Shop", None, settings(shop))
    assert config["epochs"] == 3
    assert "--cov: unknown config key; " in caplog.text
    monkeypatch.setattr(sys, "argv", ["script.py", "--epochs=-3"])
    with pytest.raises(ConfigError, match=r"^--epochs is -3; use an int >= 0"):
        Config("MetaRec", "Shop", None, settings(shop))


def test_a_key_of_another_model_is_allowed_with_a_warning(shop, caplog):
    with caplog.at_level(logging.WARNING):
        Config("MetaRec", "Shop", None, settings(shop, margin=1.0))
    assert "margin belongs to" in caplog.text


def test_absent_data_is_an_error_before_recbole_downloads(shop):
    with pytest.raises(DataError, match=r"Sciencific is not known .did you mean Scientific"):
        Config("MetaRec", "Sciencific", None, {"data_path": str(shop)})
    with pytest.raises(DataError, match="Scientific"):
        Config("LRURec", "Scientific", None, {"data_path": str(shop)})


def test_device_and_use_gpu_mean_what_they_say(shop):
    assert Config("LRURec", "Shop", None, settings(shop, use_gpu=False))["device"] == torch.device("cpu")
    assert Config("LRURec", "Shop", None, settings(shop, device="cpu"))["device"] == torch.device("cpu")


def test_the_config_of_a_run_takes_texts_as_they_are_and_no_arguments(shop, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script.py", "--epochs=3", "stray"])
    given = settings(shop, wandb_project="max", checkpoint_dir="1 + 1")
    before = copy.deepcopy(given)
    config = recbole_config(RunConfig.read("MetaRec", "Shop", (), given))
    assert (config["wandb_project"], config["checkpoint_dir"], config["epochs"]) == ("max", "1 + 1", 1)
    assert given == before
    assert sys.argv == ["script.py", "--epochs=3", "stray"]
    with pytest.raises(ConfigError, match=r"^--vq_heads is 3, which does not divide"):
        RunConfig.build("MetaRec", "Shop", UserKeys.of(given, "config_dict") | UserKeys.of({"vq_heads": 3}, "--{}"))
    with pytest.raises(ConfigError, match=r"^config_dict: unknown config key nobody"):
        RunConfig.read("SASRec", "ml-100k", (), {"nobody": 1})
    assert sys.argv == ["script.py", "--epochs=3", "stray"]


def test_loaders_are_ours_for_training_and_recboles_for_evaluation(shop):
    config = Config("MetaRec", "Shop", None, settings(shop))
    train, valid, test = data_preparation(config, create_dataset(config))
    assert isinstance(train, SequenceLoader)
    assert isinstance(valid, FullSortEvalDataLoader)
    assert isinstance(test, FullSortEvalDataLoader)


def test_several_processes_are_refused_for_our_models(monkeypatch):
    for given in ({"nproc": 2}, {"world_size": 2}):
        with pytest.raises(ConfigError, match="without importing recbole_metarec"):
            recbole.quick_start.run("MetaRec", "Shop", **given)
        with pytest.raises(ConfigError, match="nproc"):
            recbole.quick_start.quick_start.run(None, "Shop", config_dict={"model": "LRURec"}, **given)


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_config_survives_json(name, shop):
    for given in (settings(shop), settings(shop, device="cpu", topk=[10, 20], learning_rate=1e-4, wandb_project="max")):
        config = Config(name, "Shop", None, given)
        text = config_to_json(config)
        again = config_from_json(text)
        assert again.final_config_dict == config.final_config_dict
        assert set(again.external_config_dict) == set(config.external_config_dict)
        assert json.loads(config_to_json(again)) == json.loads(text)


def test_a_config_is_rebuilt_without_its_data_and_with_its_own_defaults(shop, tmp_path):
    text = config_to_json(Config("LRURec", "Shop", None, settings(shop)))
    saved = json.loads(text)
    saved["values"]["epochs"] = 77  # a default of an older release
    shop.rename(tmp_path / "moved")
    assert config_from_json(json.dumps(saved))["epochs"] == 77
    with pytest.raises(DataError):
        config_from_json(text, data_may_be_absent=False)
    assert config_from_json(text, str(tmp_path / "moved"), False)["data_path"] == str(tmp_path / "moved" / "Shop")


def test_a_hostile_config_runs_nothing(shop, tmp_path):
    saved = json.loads(config_to_json(Config("LRURec", "Shop", None, settings(shop))))
    trap = f"__import__('pathlib').Path({str(tmp_path / 'trapped')!r}).touch()"
    values = {**saved["values"], "wandb_project": trap, "dataset_save_path": "x.pth", "trust_pickle": True}
    config = config_from_json(json.dumps({**saved, "values": values}))
    assert config["wandb_project"] == trap
    assert config["dataset_save_path"] is None
    assert config["trust_pickle"] is False
    assert not (tmp_path / "trapped").exists()
    for broken in ("", "{", "[]", "null", json.dumps({**saved, "model": "DeepFM"}),
                   json.dumps({**saved, "model": "antigravity:Model"}),
                   json.dumps({**saved, "dataset": "../Shop"}), json.dumps({**saved, "values": []}),
                   json.dumps({**saved, "values": {**values, "vq_heads": 3}}),
                   json.dumps({**saved, "values": {**values, "nobody": 3}})):  # fmt: skip
        with pytest.raises(CheckpointError):
            config_from_json(broken)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_run_recbole_saves_what_load_data_and_model_reads(name, shop, tmp_path):
    result = recbole.quick_start.run_recbole(name, "Shop", config_dict=settings(shop))
    assert set(result["test_result"]) >= {"ndcg@10", "recall@50", "mrr@10"}
    (file,) = (path for path in (tmp_path / "saved").rglob("*.pth") if not path.stem.endswith("-last"))
    config, model, dataset, train, _valid, test = recbole.quick_start.load_data_and_model(file)
    assert isinstance(model, get_model(name))
    assert isinstance(dataset, TransferDataset)
    assert isinstance(train, SequenceLoader)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    assert trainer.evaluate(test, load_best_model=False, show_progress=False) == result["test_result"]


def test_hypertuning_s_objective_runs_our_models(shop):
    given = settings(shop, model="MetaRec", dataset="Shop")
    result = recbole.quick_start.objective_function(given, None, saved=False)
    assert "ndcg@10" in result["test_result"]


class Trap:
    def __reduce__(self):
        return (open, ("trapped", "w"))


def test_checkpoints_that_cannot_be_read(shop, tmp_path):
    load = recbole.quick_start.load_data_and_model
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load("none.pth")
    config = Config("LRURec", "Shop", None, settings(shop))
    good = {"config": config_to_json(config), "state_dict": {"x": torch.zeros(2)}}
    write_checkpoint(tmp_path / "other.pth", good)
    with pytest.raises(CheckpointError, match="of another model"):
        load("other.pth")
    content = (tmp_path / "other.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.pth").write_text("no checkpoint")
    (tmp_path / "empty.pth").touch()
    torch.save({"weights": torch.zeros(2)}, tmp_path / "foreign.pth")
    torch.save({"config": Trap(), "state_dict": {}}, tmp_path / "hostile.pth")
    for name in ("cut", "text", "empty", "foreign", "hostile"):
        with pytest.raises(CheckpointError, match=rf"^{name}\.pth"):
            load(f"{name}.pth")
    assert not (tmp_path / "trapped").exists()


def test_a_checkpoint_of_recbole_s_own_is_read_if_this_process_wrote_it_or_on_the_user_s_word(tmp_path):
    given = {"train_neg_sample_args": None, "epochs": 1, "train_batch_size": 100_000, "state": "ERROR",
             "show_progress": False, "user_inter_num_interval": "[300,inf)", "MAX_ITEM_LIST_LENGTH": 5,
             "hidden_size": 4, "inner_size": 4, "n_heads": 1}  # fmt: skip
    recbole.quick_start.run_recbole("SASRec", "ml-100k", config_dict=given)
    (file,) = (tmp_path / "saved").rglob("*.pth")
    config, model, *_ = recbole.quick_start.load_data_and_model(str(file))
    assert (config["model"], type(model).__name__) == ("SASRec", "SASRec")
    copied = tmp_path / "copied.pth"
    copied.write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match="trust"):
        recbole.quick_start.load_data_and_model(str(copied))
    assert recbole.quick_start.load_data_and_model(str(copied), trust_pickle=True)[0]["model"] == "SASRec"
