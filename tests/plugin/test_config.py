"""RecBole's Config as it is made of a RunConfig: GPUs that were asked for, and what a pickle of it holds."""

import os
import pickle

import pytest
import torch
from recbole.config import Config

from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.errors import ConfigError
from recbole_metarec.plugin.config import recbole_config
from recbole_metarec.plugin.gpu import check_gpu


def run(**user) -> RunConfig:
    return RunConfig.read("MetaRec", "ml-drama", (), user)


@pytest.mark.parametrize("user", [{"gpu_id": 0}, {"gpu_id": "0,1"}, {"device": "cuda:1"}])
def test_a_gpu_that_was_asked_for_and_is_not_there_is_an_error(user, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"^config_dict: {next(iter(user))} is .* no GPU"):
        check_gpu(run(**user))
    check_gpu(run())  # RecBole's defaults only mean "if there is one"
    check_gpu(run(**user, use_gpu=False))


def test_a_gpu_number_beyond_the_last_is_an_error(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="gpu_id is 2, but there are 2 GPUs"):
        check_gpu(run(gpu_id="2"))
    check_gpu(run(gpu_id="0,1"))


@pytest.mark.parametrize("visible", ["2,3", "", None])
@pytest.mark.parametrize("user", [{}, {"gpu_id": "1"}, {"use_gpu": False}], ids=str)
def test_the_gpus_that_the_user_lets_be_seen_stay_those(monkeypatch, visible, user):
    """RecBole's Config would write its gpu_id, 0 by default, over them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    config = recbole_config(run(**user))
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible
    expected = "cpu" if "use_gpu" in user else f"cuda:{user['gpu_id']}" if user else "cuda"
    assert config["device"] == torch.device(expected)


def test_each_process_of_a_machine_has_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: chosen.append(number))
    chosen = []
    for word, value in {"RANK": 5, "WORLD_SIZE": 8, "LOCAL_RANK": 1, "MASTER_ADDR": "here", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(word, str(value))
    assert recbole_config(run())["device"] == torch.device("cuda:1") and chosen == [1]
    assert recbole_config(run(device="cpu"))["device"] == torch.device("cpu") and chosen == [1]


@pytest.mark.parametrize("model", ["MetaRec", "SASRec"])
def test_the_config_is_recbole_s_own_class_and_survives_a_pickle(model):
    config = recbole_config(RunConfig.read(model, "ml-drama", (), {"checkpoint_dir": "1 + 1", "epochs": 3}))
    again = pickle.loads(pickle.dumps(config))
    assert type(again) is Config
    assert again.final_config_dict == config.final_config_dict
    assert (again["checkpoint_dir"], again["epochs"], again["eval_args"]["order"]) == ("1 + 1", 3, "TO")


@pytest.mark.parametrize("model", ["LRURec", "MetaRec", "UniSRec"])
def test_recboles_own_door_leads_to_the_same_config(model, tmp_path):
    (tmp_path / "my.yaml").write_text("epochs: 3\neval_args:\n  group_by: user\nsources: ~\n")
    user = {"topk": [10], "learning_rate": 1e-4, "clip_grad_norm": None}
    if model == "LRURec":
        (tmp_path / "my.yaml").write_text("epochs: 3\n")
    ours = recbole_config(RunConfig.read(model, "ml-drama", [tmp_path / "my.yaml"], user))
    theirs = Config(model, "ml-drama", [tmp_path / "my.yaml"], user)
    assert ours.final_config_dict == theirs.final_config_dict
    assert ours.external_config_dict == theirs.external_config_dict
    assert ours.__dict__.keys() == theirs.__dict__.keys()


@pytest.mark.parametrize(
    ("text", "user"),
    [("vq_heads: 5\n", {}), ("seed: 1\nvq_haeds: 4\n", {}), ("epochs: 1\n", {"vq_heads": 4, "embedding_size": 6}),
     ("embedding_size: 6\n", {"n_layers": 1}), ("seed: 1\n", {"worker": 2}), ("seed: 1\n", {"sources": ["ml-drama"]}),
     ("data_path: no/such\n", {}), ("gpu_id: 0\n", {})],
)  # fmt: skip
def test_recboles_own_door_refuses_in_the_same_words(text, user, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises(ConfigError) as ours:
        recbole_config(RunConfig.read("MetaRec", "ml-drama", [tmp_path / "my.yaml"], user))
    with pytest.raises(ConfigError) as theirs:
        Config("MetaRec", "ml-drama", [tmp_path / "my.yaml"], user)
    assert str(ours.value) == str(theirs.value)
    assert str(ours.value).startswith((f"{tmp_path}/my.yaml:", "config_dict: "))
