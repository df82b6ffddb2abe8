"""A user's class by its place: what is imported and what never is, what lies beside it, and runs of every kind."""

import sys
import textwrap
from pathlib import Path

import pytest
from support.worlds import write_domain, write_shop

import recbole_metarec
from recbole_metarec.cli import main as cli
from recbole_metarec.config import models
from recbole_metarec.config.model_names import model_name
from recbole_metarec.config.models import model_spec
from recbole_metarec.config.own_models import load_class, settings_of
from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.errors import ConfigError
from recbole_metarec.jobs.competitors import competitors
from recbole_metarec.jobs.plan import make_plan
from recbole_metarec.tuning.space import read_space, space_file

# isort: split
from recbole.quick_start import run_recbole

QUICK = {"epochs": 1, "embedding_size": 8, "state": "ERROR", "show_progress": False, "topk": 10}
MEAN = """
    import torch
    from recbole.model.abstract_recommender import SequentialRecommender
    from {helper} import scores_of


    class Mean(SequentialRecommender):
        defaults = {{"embedding_size": 8, "lift": 1.0, "learning_rate": 0.002}}

        def __init__(self, config, dataset):
            super().__init__(config, dataset)
            self.lift = config["lift"]
            self.items = torch.nn.Embedding(self.n_items, config["embedding_size"])

        def full_sort_predict(self, interaction):
            return self.lift * scores_of(self.items, interaction[self.ITEM_SEQ])

        def predict(self, interaction):
            return self.full_sort_predict(interaction).gather(1, interaction[self.ITEM_ID][:, None])[:, 0]

        def calculate_loss(self, interaction):
            return torch.nn.functional.cross_entropy(self.full_sort_predict(interaction), interaction[self.POS_ITEM_ID])
"""
HELPER = """
    def scores_of(items, histories):
        return items(histories).mean(1) @ items.weight.T
"""
POPULAR = """
    import torch
    from recbole.model.abstract_recommender import GeneralRecommender
    from recbole.utils import InputType


    class Crowd(GeneralRecommender):
        input_type = InputType.PAIRWISE

        def __init__(self, config, dataset):
            super().__init__(config, dataset)
            self.bias = torch.nn.Parameter(torch.zeros(self.n_items))

        def full_sort_predict(self, interaction):
            return self.bias.repeat(len(interaction[self.USER_ID]), 1)

        def calculate_loss(self, interaction):
            return (self.bias[interaction[self.NEG_ITEM_ID]] - self.bias[interaction[self.ITEM_ID]]).mean()
"""


@pytest.fixture(autouse=True)
def forgotten_afterwards(monkeypatch):
    monkeypatch.setattr(models, "_REGISTERED", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if "/site-packages/" not in (getattr(sys.modules[name], "__file__", None) or "/site-packages/"):
            del sys.modules[name]


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path.resolve()


@pytest.fixture
def mean():
    """``mine/mean_model.py`` and the module that it imports; the current folder holds the folder ``mine``."""
    write("mine/mean_helper.py", HELPER)
    return write("mine/mean_model.py", MEAN.format(helper="mean_helper"))


# --- which class it is ------------------------------------------------------------------------------------------------


def test_a_file_and_a_module_of_the_current_folder_name_a_class(mean, monkeypatch):
    assert model_name("mine/mean_model.py:Mean") == "Mean"
    spec = model_spec("Mean")
    assert (spec.name, spec.kind, spec.is_ours, spec.typed) == ("Mean", "sequential", False, "mine/mean_model.py:Mean")
    assert spec.load_model() is load_class("mine/mean_model.py:Mean", "--model")
    monkeypatch.chdir("mine")
    (line,) = competitors(["mean_model:Mean"])
    assert (line.name, line.typed, line.is_baseline) == ("Mean", "mean_model:Mean", False)


def test_what_lies_in_the_current_folder_never_stands_in_for_what_is_installed(mean):
    write("mine/yaml.py", "raise AssertionError('imported')")
    write("mine/tabulate.py", "raise AssertionError('imported')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "tabulate"]:
        del sys.modules[name]
    load_class("mine/mean_model.py:Mean", "--model")
    import tabulate  # noqa: F401
    import yaml  # noqa: F401


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("absent.py:Mean", "absent.py: no such file; check the path"),
        ("absent_module:Mean", "absent_module:Mean cannot be imported .*; check the name, and that it is in the"),
        ("mine/mean_model.py:Meen", "there is no class Meen in mine/mean_model.py; did you mean Mean"),
        ("mine/mean_model.py:", r"there is no class \(empty\) in mine/mean_model.py; write my_model.py:MyModel"),
        ("lacks.py:Mean", r"lacks.py:Mean cannot be imported \(ModuleNotFoundError.*; mend .*/lacks.py:2$"),
        ("typo.py:Mean", r"typo.py:Mean cannot be imported \(SyntaxError.*; mend .*/typo.py:1$"),
        ("json.py:Mean", "json.py has the name of another module, json; give the file another name"),
        (
            "half.py:Half",
            "register_model: Half has no full_sort_predict; write it, as docs/tutorials/own-model.md does",
        ),
        ("other.py:Other", "register_model: .* is neither a SequentialRecommender nor a GeneralRecommender"),
        ("other.py:SASRec", "register_model: there is a model SASRec already; give the class another name"),
    ],
)
def test_what_names_no_model_is_one_line_that_says_where(given, said, mean):
    write("lacks.py", "\nimport absent_module_of_this_test\n")
    write("typo.py", "def f(:\n")
    write("json.py", "")
    half = "class Half(SequentialRecommender):\n    def calculate_loss(self, interaction): pass\n"
    write("half.py", f"from recbole.model.abstract_recommender import SequentialRecommender\n{half}")
    write("other.py", "from mean_model import Mean\n\nclass SASRec(Mean): pass\n\nclass Other: pass\n")
    sys.path.append(str(mean.parent))
    with pytest.raises(ConfigError, match=f"^(--model: )?{said}"):
        model_name(given, "--model")


def test_a_class_that_its_own_file_registers_is_taken_as_it_is(mean):
    write("mine/both.py", "import recbole_metarec\nfrom mean_model import Mean\n\nclass Both(Mean):\n    pass\n\n"
          "recbole_metarec.register_model(Both, defaults={'lift': 3.0})\n")  # fmt: skip
    assert model_name("mine/both.py:Both") == "Both"
    assert model_spec("Both").defaults["lift"] == 3.0 and model_spec("Both").typed == "mine/both.py:Both"


# --- what lies beside it ----------------------------------------------------------------------------------------------


def test_keys_come_from_the_yaml_over_the_class_and_the_space_is_no_key(mean):
    write(
        "mine/Mean.yaml",
        "lift: 2.0\nsearch_space:\n  lift: {low: 0.5, high: 4.0}\n  learning_rate: {low: 1, high: 2}\n",
    )
    (line,) = competitors(["mine/mean_model.py:Mean"])
    assert settings_of(line.spec.model) == {"embedding_size": 8, "lift": 2.0, "learning_rate": 0.002}
    run = RunConfig.read("Mean", "Target", (), {})
    assert (run["lift"], run["learning_rate"]) == (2.0, 0.002)
    with pytest.raises(ConfigError, match="^config_dict: lift is very; use a float"):
        RunConfig.read("Mean", "Target", (), {"lift": "very"})
    assert space_file(line) == mean.with_name("Mean.yaml")
    with pytest.raises(ConfigError, match=r"Mean\.yaml:4: learning_rate leaves out 0\.002, the default"):
        read_space(space_file(line), line, run.values, {})
    assert list(read_space(space_file(line), line, run.values, {"learning_rate": 1})) == ["lift"]


def test_without_a_space_of_its_own_a_class_says_where_one_may_stand(mean):
    (line,) = competitors(["mine/mean_model.py:Mean"])
    with pytest.raises(
        ConfigError, match="write it under search_space in Mean.yaml beside the class, or give one with"
    ):
        space_file(line)


def test_a_change_of_the_class_or_of_a_module_that_it_imports_makes_other_runs(mean):
    shops = write_shop(Path("shops"))
    lines = competitors(["mine/mean_model.py:Mean", "LRURec"])
    plan = lambda: [run.key for run in make_plan(lines, "Target", [1], {"data_path": str(shops)})]  # noqa: E731
    keys = [plan()]
    helper = mean.with_name("mean_helper.py")
    assert set(lines[0].spec.source_files) == {mean, helper}
    for file, old, new in ((mean, "self.lift *", "2 * self.lift *"), (helper, ".mean(1)", ".sum(1)")):
        file.write_text(file.read_text().replace(old, new))
        keys.append(plan())
    helper.write_text("# a comment\n" + helper.read_text())
    keys.append(plan())
    own, others = zip(*keys)
    assert len(set(own)) == 3 and own[2] == own[3] and len(set(others)) == 1


# --- what is done with it ---------------------------------------------------------------------------------------------


def test_python_yaml_and_recbole_train_it_alike(mean):
    shops = str(write_shop(Path("shops")))
    given = {**QUICK, "data_path": shops, "lift": 2.0}
    first = recbole_metarec.run_experiment("mine/mean_model.py:Mean", "Target", overrides=given)
    Path("my.yaml").write_text("model: mine/mean_model.py:Mean\ndataset: Target\n")
    second = recbole_metarec.run_experiment(None, None, ["my.yaml"], given)
    third = recbole_metarec.run_experiment(model_spec("Mean").model, "Target", overrides=given)
    assert first.metrics["test"] == second.metrics["test"] == third.metrics["test"]
    assert "lift: 2.0" in (first.run_dir / "config.yaml").read_text()
    plain = run_recbole(model="mine/mean_model.py:Mean", dataset="Target", config_dict=given)
    assert plain["best_valid_result"]["ndcg@10"] == pytest.approx(first.metrics["valid"]["ndcg@10"], abs=1e-6)
    assert list(Path("saved").glob("Mean-*.pth"))


def test_a_run_is_resumed_with_its_class_named_again_and_no_folder_imports_one(mean, capsys, monkeypatch):
    shops = str(write_shop(Path("shops")))
    words = [
        "--dataset",
        "Target",
        "--data_path",
        shops,
        "--epochs=1",
        "--state=ERROR",
        "--show_progress=False",
        "--topk=10",
    ]
    assert cli.main(["train", "--model", "mine/mean_model.py:Mean", *words, "--lift=2"]) == 0
    (run,) = Path("saved").glob("Mean-*")
    monkeypatch.setattr(models, "_REGISTERED", {})
    del sys.modules["mean_model"]
    capsys.readouterr()
    assert cli.main(["train", "--resume", str(run)]) == 2
    said = f"error: --resume: the model of {run} is a class of your own; add --model mine/mean_model.py:Mean\n"
    assert capsys.readouterr().err == said and "mean_model" not in sys.modules
    assert cli.main(["recommend", "--user", "Target-u1"]) == 2
    said = f"error: {run}: its model is a class of your own; add --model mine/mean_model.py:Mean\n"
    assert capsys.readouterr().err == said
    assert cli.main(["train", "--resume", str(run), "--model", "mine/mean_model.py:Mean"]) == 0
    assert str(run) in capsys.readouterr().out


# --- general recommenders ---------------------------------------------------------------------------------------------


@pytest.fixture
def short_histories(tmp_path):
    """Users of two to six different items, for whom RecBole's split of general models keeps other rows."""
    histories = [[(7 * user + 5 * step) % 12 for step in range(2 + user % 5)] for user in range(40)]
    write_domain(tmp_path / "short", "Short", histories)
    return {**QUICK, "data_path": str(tmp_path / "short")}


def test_a_general_recommender_is_ranked_on_the_rows_of_sequential_ones(short_histories):
    write("crowd.py", POPULAR)
    given = {**short_histories, "epochs": 3}
    sequential = recbole_metarec.run_experiment("LRURec", "Short", overrides={**given, "n_layers": 1})
    for model in ("BPR", "MultiVAE", "crowd.py:Crowd"):
        experiment = recbole_metarec.run_experiment(model, "Short", overrides=given)
        users = [(run / "ranks.csv").read_text().splitlines() for run in (experiment.run_dir, sequential.run_dir)]
        assert len({tuple(line.split(",")[0] for line in lines) for lines in users}) == 1
        assert (experiment.run_dir / "history.csv").exists() and experiment.metrics["test_users"] == 32


def test_its_training_sees_what_sequential_models_are_trained_on_and_its_validation_leaves_seen_items_out(
    short_histories,
):
    experiment = recbole_metarec.run_experiment("BPR", "Short", overrides={**short_histories, "epochs": 2})
    row = (experiment.run_dir / "history.csv").read_text().splitlines()
    best = max(float(line.split(",")[-1]) for line in row[1:])
    assert experiment.metrics["valid_unseen"]["ndcg@10"] == pytest.approx(best, abs=1e-5)
    assert experiment.metrics["valid"]["ndcg@10"] != pytest.approx(best, abs=1e-5)
