"""The file of best configurations: what tuning puts in is what a comparison takes out, and nothing else is taken."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import optuna
import pytest
import yaml
from support.fake_trials import SPACE, base, value

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole_metarec.cli import main as cli
from recbole_metarec.errors import ConfigError
from recbole_metarec.jobs.competitors import competitors
from recbole_metarec.jobs.plan import Tuned
from recbole_metarec.tuning.best_file import check_writable, put_best, read_best
from recbole_metarec.tuning.study import TrialError, TuningStudy

GOOD = "LRURec:\n  config: {learning_rate: 0.002, n_layers: 1}\n  trials: 7\n  found: by hand\n"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Of a model A, some of whose trials fail."""
    run = replace(base(tmp_path_factory.mktemp("study")), sources=["Near", "Far"])
    study = TuningStudy(optuna.storages.InMemoryStorage(), run, SPACE)

    def evaluate(trial):
        config = run.config | trial.overrides
        if config["b"] in ("bad", "odd"):
            raise TrialError("no")
        return value(config["a"], config["b"])

    study.optimize(9, evaluate)
    return study


def test_the_best_is_put_in_with_what_it_was_found_on(study, tmp_path):
    put_best(tmp_path / "new" / "best.yaml", study)
    (entry,) = yaml.safe_load((tmp_path / "new" / "best.yaml").read_text()).items()
    found = f"ndcg@10 {study.best().value:.4f} on validation of Shop with Near, Far"
    assert entry == ("A", {"config": study.best().overrides, "trials": 9, "found": found})


def test_the_entries_of_other_models_stay_whoever_writes_at_the_same_time(study, tmp_path):
    file = tmp_path / "best.yaml"
    file.write_text(GOOD)
    names = [f"Model{number}" for number in range(12)]

    def put(name):
        own = TuningStudy.__new__(TuningStudy)
        vars(own).update(vars(study) | {"base": replace(study.base, model=name)})
        put_best(file, own)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(put, [*names, *names]))
    entries = yaml.safe_load(file.read_text())
    assert set(entries) == {"LRURec", *names}
    assert entries["LRURec"] == yaml.safe_load(GOOD)["LRURec"]
    assert all(entries[name]["config"] == study.best().overrides for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["best.yaml"]


def test_a_comparison_takes_the_entries_of_its_models(tmp_path):
    file = tmp_path / "best.yaml"
    file.write_text(GOOD + "MetaRec: {config: {}, trials: 1}\nGRU4Rec: nonsense\n")
    tuned, notes = read_best(file, competitors(["LRURec", "SASRec", "MetaRec"]))
    assert tuned == {"LRURec": Tuned({"learning_rate": 0.002, "n_layers": 1}, 7), "MetaRec": Tuned({}, 1)}
    assert notes == [
        "LRURec: best of 7 trials, by hand: learning_rate 0.002, n_layers 1",
        f"SASRec: the default configuration, 0 trials; {file} has none",
        "MetaRec: best of 1 trials: the default configuration",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nLRURec: 3\n", ":2: LRURec is no best configuration; write config"),
        ("LRURec: {config: {n_layers: 1}}\n", ":1: LRURec is no best configuration"),
        ("LRURec: {config: [1], trials: 3}\n", ":1: LRURec is no best configuration"),
        ("LRURec: {config: {}, trials: 3, seed: 4}\n", ":1: LRURec is no best configuration"),
        ("LRURec: {config: {}, trials: 0}\n", ":1: trials of LRURec is 0; use an int >= 1"),
        ("LRURec: {config: {}, trials: True}\n", ":1: trials of LRURec is True; use an int >= 1"),
        ("LRURec: {config: {n_layer: 1}, trials: 3}\n", ":1: .*n_layer"),
        ("LRURec: {config: {vq_heads: 1}, trials: 3}\n", ":1: LRURec does not read vq_heads"),
        ("LRURec: {config: {embedding_size: 8}, trials: 3}\n", ":1: embedding_size is not for tuning"),
        ("LRURec: {config: {n_layers: 0}, trials: 3}\n", ":1: n_layers is 0; use an int"),
        ("LRURec: {config: {n_layers: 1}, trials: 3\n", ":2: "),
    ],
)
def test_what_a_model_cannot_have_is_refused_with_its_line(text, message, tmp_path):
    (tmp_path / "best.yaml").write_text(text)
    with pytest.raises(ConfigError, match=f"best.yaml{message}"):
        read_best(tmp_path / "best.yaml", competitors(["LRURec"]))


def test_whether_it_can_be_written_shows_before_the_search(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "odd.yaml").write_text("- a list\n")
    for place, message in {
        "best.txt": "--best: best.txt is not the name of a YAML file; use one such as best.yaml",
        "file/best.yaml": "--best: file/best.yaml cannot be written (File exists); choose another file",
        "odd.yaml": "odd.yaml:1: not a list of settings; write lines of `key: value`",
    }.items():
        assert cli.main(["tune", "--model", "LRURec", "--trials", "1", "--best", place]) == 2
        assert capsys.readouterr().err == f"error: {message}\n"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "odd.yaml"}
    check_writable(tmp_path / "made" / "best.yml")
    assert (tmp_path / "made").is_dir()


def test_a_missing_file_and_one_that_is_neither_are_said(capsys):
    for place, message in {
        "none.yaml": "none.yaml: no such config file; check the path",
        "best.txt": "--tuned: best.txt is neither the URL of a storage nor a YAML file; ",
    }.items():
        assert cli.main(["leaderboard", "--models", "LRURec", f"--tuned={place}"]) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")
