"""What a run is asked to do: which value wins, where it came from, and what is checked for whose model."""

import dataclasses

import pytest

from recbole_metarec.config import run_config
from recbole_metarec.config.run_config import RunConfig, UserKeys
from recbole_metarec.config.schema import default_values, keys_in, restricted_keys
from recbole_metarec.errors import ConfigError
from recbole_metarec.runs.settings import make_run_config


@pytest.fixture()
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("epochs: 7\nvq_heads: 8\nseed: 1\n")
    (tmp_path / "b.yaml").write_text("# later files win\nseed: 2\nvq_heads: 16\n")
    return ["a.yaml", "b.yaml"]


def test_the_strongest_value_wins_and_keeps_its_origin(files):
    run = RunConfig.read("MetaRec", "ml-drama", files, {"vq_heads": 32, "margin": 2})
    assert [run[key] for key in ("epochs", "seed", "vq_heads", "margin", "n_layers")] == [7, 2, 32, 2, 2]
    origins = {key: run.origin(key) for key in ("epochs", "seed", "vq_heads", "margin", "n_layers")}
    assert origins == {"epochs": "a.yaml:1", "seed": "b.yaml:2", "vq_heads": "config_dict", "margin": "config_dict",
                       "n_layers": "defaults"}  # fmt: skip
    assert set(run.user.values) == {"epochs", "seed", "vq_heads", "margin"}


def test_every_default_is_there_and_nothing_can_be_changed():
    run = RunConfig.read("UniSRec", "ml-drama")
    assert run.values.items() >= default_values("UniSRec").items()
    assert run.values.keys() >= {name for name, key in restricted_keys().items() if key.kind != "computed"}
    assert (run["model"], run["dataset"], run["seed"]) == ("UniSRec", "ml-drama", 2020)
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.model = "LRURec"
    with pytest.raises(TypeError):
        run.values["seed"] = 1
    for key in ("metrics", "numerical_features"):  # no two runs share a list
        run[key].append("AUC")
        assert "AUC" not in RunConfig.read("UniSRec", "ml-drama")[key]


def test_a_file_is_read_once(files, monkeypatch):
    read, opened = run_config.read_yaml, []
    monkeypatch.setattr(run_config, "read_yaml", lambda path: opened.append(path) or read(path))
    make_run_config("MetaRec", None, UserKeys.read(files, {"epochs": 1}))
    assert opened == files


def test_an_error_names_the_origin_of_the_key_that_the_user_gave(files, tmp_path):
    with pytest.raises(ConfigError, match=r"^b\.yaml:3: vq_heads is 16, which does not divide embedding_size 8; "):
        RunConfig.read("MetaRec", "ml-drama", files, {"embedding_size": 8})
    with pytest.raises(ConfigError, match=r"^a\.yaml:1: epochs is 7\.5; use an int >= 0"):
        (tmp_path / "a.yaml").write_text("epochs: 7.5\n")
        RunConfig.read("MetaRec", "ml-drama", files)
    with pytest.raises(ConfigError, match=r"^--vq_haeds: unknown config key; did you mean vq_heads"):
        RunConfig.build("SASRec", "ml-drama", UserKeys.of({"vq_haeds": 1}, "--{}"))
    with pytest.raises(ConfigError, match=r"^a\.yaml:1: model is 5; "):
        (tmp_path / "a.yaml").write_text("model: 5\n")
        make_run_config(None, None, UserKeys.read(files))
    with pytest.raises(ConfigError, match="overrides: .* are no config keys"):
        RunConfig.read("MetaRec", "ml-drama", (), ["epochs"])


def test_what_is_changed_of_the_defaults_is_weaker_than_the_user():
    build = RunConfig.build
    assert build("MetaRec", "ml-drama", UserKeys(), {"transfer_guard": True})["transfer_guard"] is True
    user = UserKeys.of({"transfer_guard": False}, "config_dict")
    assert build("MetaRec", "ml-drama", user, {"transfer_guard": True})["transfer_guard"] is False
    assert "transfer_guard" not in make_run_config("LRURec", None, UserKeys()).values
    assert make_run_config("MetaRec", None, UserKeys())["transfer_guard"] is True


def test_recboles_own_models_get_the_protocol_and_nothing_else():
    run = RunConfig.read("SASRec", "ml-drama", (), {"hidden_size": 32})
    assert run.defaults == {key: default_values("LRURec")[key] for key in keys_in("protocol")}
    assert run["hidden_size"] == 32
    assert "epochs" not in run.values


@pytest.mark.parametrize(
    ("model", "user"),
    [("SASRec", {"epochs": -1}), ("SASRec", {"metrics": ["AUC"]}), ("SASRec", {"save_dataset": True}),
     ("SASRec", {"repeatable": "yes"}), ("GRU4Rec", {"seed": -1}), ("S3Rec", {"pretrain_epochs": -1})],
)  # fmt: skip
def test_what_means_the_same_in_a_model_of_recbole_is_checked(model, user):
    (key,) = user
    with pytest.raises(ConfigError, match=rf"^config_dict: (AUC|{key}) is "):
        RunConfig.read(model, "ml-drama", (), user)


@pytest.mark.parametrize("user", [{"embedding_size": 0}, {"worker": 2}, {"shuffle": False}, {"pretrain_epochs": -1}])
def test_what_a_model_of_recbole_decides_itself_is_not(user):
    RunConfig.read("GRU4Rec", "ml-drama", (), user)
    with pytest.raises(ConfigError):
        RunConfig.read("UniSRec", "ml-drama", (), user)
