"""The registry of models: facts of what ships, and a user's model of each kind trained under its own name."""

import importlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest.mock import ANY

import pytest
import torch
from support.entry_points import offer
from support.model_cases import Sharpened
from support.worlds import cluster_histories, write_domain

import recbole_metarec
from recbole_metarec.config import models
from recbole_metarec.config.model_names import check_model
from recbole_metarec.config.models import SHIPPED_MODELS, SHIPPED_SPECS, model_spec, register_model
from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.config.schema import default_values, known_keys
from recbole_metarec.errors import ConfigError
from recbole_metarec.jobs.competitors import competitors
from recbole_metarec.jobs.plan import make_plan

# isort: split
import recbole.data.dataset
import recbole.trainer
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.model.sequential_recommender import GRU4Rec
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.utils import get_model, get_trainer

from recbole_metarec.model.lrurec import LRURec
from recbole_metarec.model.metarec import MetaRec
from recbole_metarec.plugin.dataset import TransferDataset
from recbole_metarec.trainer.trainer import TransferTrainer

ROOT = Path(recbole_metarec.__file__).resolve().parents[1]
TINY = {"epochs": 1, "embedding_size": 8, "state": "ERROR", "show_progress": False}


class MeanOfHistory(SequentialRecommender):
    """A model of RecBole's kind that owes nothing to anybody: the mean of a history's vectors, and one factor."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.item_embedding = torch.nn.Embedding(self.n_items, config["embedding_size"], padding_idx=0)
        self.factor = config["history_factor"]
        self.loss_type = config["loss_type"]

    def forward(self, sequence, length):
        """Vectors [B, d] of histories [B, L]."""
        return self.factor * self.item_embedding(sequence).sum(1) / length[:, None]

    def full_sort_predict(self, interaction):
        """Scores [B, n_items]."""
        mean = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return mean @ self.item_embedding.weight.T

    def calculate_loss(self, interaction):
        """Cross-entropy over the catalogue."""
        return torch.nn.functional.cross_entropy(self.full_sort_predict(interaction), interaction[self.POS_ITEM_ID])


class OurGRU(GRU4Rec):
    """RecBole's own, under another name."""


@pytest.fixture(autouse=True)
def forgotten_afterwards(monkeypatch):
    monkeypatch.setattr(models, "_REGISTERED", {})


@pytest.fixture
def shop(tmp_path):
    write_domain(tmp_path / "data", "Shop", cluster_histories(0, 60, 60, 4, 0.8))
    return {**TINY, "data_path": str(tmp_path / "data")}


# --- facts ------------------------------------------------------------------------------------------------------------


def test_facts_of_what_ships_are_true_of_the_classes_and_keys():
    for spec in SHIPPED_SPECS:
        if spec.is_ours:
            assert spec.load_model().__name__ == spec.name
            keys = default_values(spec.name)
            assert spec.takes_sources == ("sources" in keys)
            assert (spec.texts != "none") == ("text_encoder" in keys)
            assert (spec.texts == "optional") == ("text_alignment" in keys)
            assert bool(spec.without_transfer) == ("meta_transfer" in keys)
        else:
            assert get_model(spec.name).__name__ == spec.name
            assert spec.texts == "none" and not spec.takes_sources
        assert spec.source_files == ()
        assert spec.trainer is None or get_trainer(None, spec.name) is spec.load_trainer()


def test_the_registry_costs_neither_torch_nor_recbole():
    code = """
    import sys
    from recbole_metarec.config.model_names import check_model
    from recbole_metarec.config.models import SHIPPED_SPECS
    check_model("SASRec", "--model")
    assert all(spec.width_key for spec in SHIPPED_SPECS)
    assert not {"torch", "numpy", "recbole"} & set(sys.modules)
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment)


def test_an_unknown_model_is_told_with_the_nearest_name_registered_ones_included():
    register_model(MeanOfHistory)
    check_model("MeanOfHistory", "--model")
    for typed, nearest in (("MetaRek", "MetaRec"), ("SASRek", "SASRec"), ("MeanOfHistry", "MeanOfHistory")):
        with pytest.raises(ConfigError, match=f"^--model: unknown model {typed}; did you mean {nearest}"):
            check_model(typed, "--model")
    with pytest.raises(ConfigError, match="did you mean MeanOfHistory"):
        competitors(["MeanOfHistry"])
    with pytest.raises(ConfigError, match="did you mean MeanOfHistory"):
        get_model("MeanOfHistry")


# --- what may be registered ------------------------------------------------------------------------------------------


def test_facts_of_a_registered_model_are_its_parents_where_none_are_given():
    class Heir(MetaRec):
        pass

    class Deaf(Heir):
        pass

    spec = register_model(Heir, defaults={"vq_heads": 2})
    assert (spec.base, spec.is_ours, spec.takes_sources, spec.texts) == ("MetaRec", True, True, "optional")
    assert default_values("Heir") == {**default_values("MetaRec"), "vq_heads": 2}
    assert register_model(Deaf, texts="none").defaults == {"vq_heads": 2}
    assert model_spec("Deaf").load_trainer() is TransferTrainer and model_spec("Deaf").texts == "none"
    assert spec.source_files[0] == Path(__file__).resolve()
    (line,) = competitors(["Heir"])
    assert line.spec is spec and not line.guarded


def test_what_cannot_be_a_model_is_refused():
    taken = type("SASRec", (MeanOfHistory,), {})
    facts = {"texts": "all"}, {"takes_sources": True}
    wrong = [(object, {}), ("LRURec", {}), (taken, {}), *((MeanOfHistory, given) for given in facts)]
    for model, given in wrong:
        with pytest.raises(ConfigError, match="^register_model: "):
            register_model(model, **given)
    register_model(Sharpened)
    register_model(Sharpened)  # as a module does that is imported again
    with pytest.raises(ConfigError, match="there is a model Sharpened already"):
        register_model(type("Sharpened", (LRURec,), {"__qualname__": "Other.Sharpened"}))
    assert models.added_models() == ("Sharpened",)


def test_an_entry_point_is_a_name_at_once_and_loaded_when_its_model_is_asked_for(monkeypatch):
    register_gru, nothing = lambda: register_model(OurGRU), lambda: None
    loaded = offer(monkeypatch, Sharpened=lambda: Sharpened, OurGRU=lambda: register_gru, Absent=lambda: nothing)
    check_model("Sharpened", "--model")
    assert loaded == []
    assert model_spec("Sharpened").model is Sharpened and model_spec("OurGRU").base == "GRU4Rec"
    assert model_spec("Sharpened").is_ours and loaded == ["Sharpened", "OurGRU"]
    with pytest.raises(ConfigError, match=r"^Absent: the entry point shop\.models:Absent .* registers no model"):
        model_spec("Absent")


def broken(error: Exception):
    raise error


@pytest.mark.parametrize("load", [lambda: broken(ImportError("no torchvision")), lambda: lambda: broken(KeyError("x"))])
def test_an_entry_point_that_cannot_be_loaded_is_told_only_where_it_might_help(monkeypatch, load):
    loaded = offer(monkeypatch, Broken=load, Sharpened=lambda: lambda: register_model(Sharpened, defaults={"edge": 2}))
    broken_one = r"Broken: the entry point shop\.models:Broken of recbole_metarec\.models cannot be loaded \("
    assert RunConfig.read("LRURec", "Shop", (), {"epochs": 1})["epochs"] == 1 and loaded == []
    with pytest.raises(ConfigError, match=f"^{broken_one}(ImportError: no torchvision|KeyError: 'x')"):
        model_spec("Broken")
    assert RunConfig.read("Sharpened", "Shop", (), {"edge": 3})["edge"] == 3
    with pytest.raises(ConfigError, match="^config_dict: unknown config key epoch; did you mean epochs"):
        RunConfig.read("LRURec", "Shop", (), {"epoch": 3})
    with pytest.raises(ConfigError, match=f"^config_dict: unknown config key qqqqqqqq; {broken_one}"):
        RunConfig.read("LRURec", "Shop", (), {"qqqqqqqq": 3})


SOURCES = {
    "shop_models.py": "from shop_bases import Base\n\n\nclass Mine(Base):\n    SIZE = 1\n",
    "shop_bases.py": "from recbole_metarec.model.lrurec import LRURec\n\n\nclass Base(LRURec):\n    SIZE = 1\n",
    "shop_trainers.py": "from recbole_metarec.trainer.trainer import TransferTrainer\n\n\n"
    "class Trainer(TransferTrainer):\n    SIZE = 1\n",
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_change_of_a_file_that_defines_a_model_makes_other_runs_of_it_and_of_no_other(
    tmp_path, monkeypatch, shop, name
):
    """Of its class, of its trainer's, or of one that they are derived from."""
    monkeypatch.syspath_prepend(tmp_path)
    for module in SOURCES:
        (tmp_path / module).write_text(SOURCES[module])
        monkeypatch.delitem(sys.modules, module.removesuffix(".py"), raising=False)
    importlib.invalidate_caches()
    file = tmp_path / name
    mine = importlib.import_module("shop_models").Mine
    spec = register_model(mine, importlib.import_module("shop_trainers").Trainer)
    assert spec.source_files == tuple(tmp_path / module for module in SOURCES)
    given = {key: value for key, value in shop.items() if key not in ("state", "show_progress")}
    plan = lambda: [run.key for run in make_plan(competitors(["Mine", "LRURec"]), "Shop", [1], given)]  # noqa: E731
    mine, other = plan()
    file.write_text(file.read_text().replace("SIZE = 1", "SIZE = 2"))
    assert plan() == [ANY, other] and plan()[0] != mine


# --- a registered model is trained as those that ship ----------------------------------------------------------------


def test_a_subclass_of_ours_is_trained_by_run_experiment_and_by_recbole(shop, tmp_path):
    register_model(Sharpened, defaults={"sharpness": 2.0, "n_layers": 1})
    assert get_model("Sharpened") is Sharpened and recbole.trainer.SharpenedTrainer is TransferTrainer
    assert recbole.data.dataset.SharpenedDataset is TransferDataset
    experiment = recbole_metarec.run_experiment("Sharpened", "Shop", overrides=shop)
    kept = (experiment.run_dir / "config.yaml").read_text()
    assert "sharpness: 2.0" in kept and "n_layers: 1" in kept
    assert experiment.metrics["model"] == "Sharpened" and experiment.metrics["guard"]["fired"] is None
    result = run_recbole(
        "Sharpened", "Shop", config_dict={**shop, "sharpness": 2.0, "checkpoint_dir": str(tmp_path / "r")}
    )
    assert result["test_result"]["ndcg@10"] == pytest.approx(experiment.metrics["test"]["ndcg@10"], abs=1e-4)
    (file,) = (path for path in (tmp_path / "r").glob("*.pth") if not path.stem.endswith("-last"))
    config, model, *_ = load_data_and_model(file)
    assert type(model) is Sharpened and (model.sharpness, config["sharpness"]) == (2.0, 2.0)


def test_a_model_of_recboles_kind_is_trained_by_run_experiment(shop):
    register_model(MeanOfHistory, defaults={"history_factor": 0.5, "loss_type": "CE"})
    experiment = recbole_metarec.run_experiment("MeanOfHistory", "Shop", overrides=shop)
    kept = (experiment.run_dir / "config.yaml").read_text()
    assert "history_factor: 0.5" in kept and 0 <= experiment.metrics["test"]["ndcg@10"] <= 1
    assert json.loads((experiment.run_dir / "metrics.json").read_text())["model"] == "MeanOfHistory"


def test_a_subclass_of_a_model_of_recboles_has_its_keys_and_defaults(tmp_path):
    register_model(OurGRU, defaults={"num_layers": 3})
    run = RunConfig.read("OurGRU", "Shop", (), {"dropout_prob": 0.1})
    assert (run["num_layers"], run["hidden_size"], run["dropout_prob"]) == (3, 128, 0.1)
    assert competitors(["OurGRU"])[0].spec.width_key == "embedding_size"


@pytest.mark.parametrize("model", [Sharpened, MeanOfHistory])
def test_keys_of_a_registered_model_are_known_checked_and_nothing_else_is(model, tmp_path):
    register_model(model, defaults={"sharpness": 2.0, "rounds": 3})
    assert known_keys()["sharpness"] == model.__name__
    (tmp_path / "my.yaml").write_text("epochs: 1\nsharpness: 3.5\n")
    run = RunConfig.read(model.__name__, "Shop", [tmp_path / "my.yaml"])
    assert (run["sharpness"], run["rounds"]) == (3.5, 3)
    for given, said in (
        ({"sharpnes": 1.0}, "^config_dict: unknown config key sharpnes; did you mean sharpness"),
        ({"rounds": 1.5}, "^config_dict: rounds is 1.5; use an int"),
        ({"sharpness": "very"}, "^config_dict: sharpness is very; use a float"),
    ):
        with pytest.raises(ConfigError, match=said):
            RunConfig.read(model.__name__, "Shop", (), given)


def test_what_ships_is_untouched_by_what_is_registered():
    before = default_values("LRURec"), SHIPPED_MODELS, set(known_keys())
    register_model(Sharpened, defaults={"sharpness": 2.0, "n_layers": 1})
    assert (default_values("LRURec"), SHIPPED_MODELS) == before[:2]
    assert set(known_keys()) == before[2] | {"sharpness"}
