"""The tune command: mistakes before any trial, and a search on a small shop from the first trial to the comparison."""

import json
import shlex
import sqlite3

import pytest
from support.worlds import TINY, write_shop

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole_metarec import quick_start
from recbole_metarec.cli import main as cli
from recbole_metarec.cli.tune import FITTED_TRIALS, TRIALS
from recbole_metarec.quick_start import run_experiment, validate_experiment
from recbole_metarec.tuning import validate

pytestmark = pytest.mark.usefixtures("empty_cache", "without_pictures")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model", "SASrec"], "--model: unknown model SASrec; did you mean SASRec?"),
        (["--model", "Pop"], "--model: Pop has nothing to tune; "),
        (["--model", "NARM"], "--model: no search space ships for NARM; give one with --space FILE"),
        (["--trials", "0"], "--trials: 0 "),
        (["--trials", "many"], "--trials: 'many' "),
        (["--seed", "x"], "--seed is x; use an int in [0, 4294967295]"),
        (["--meta_transfer=joint"], "--meta_transfer is decided by the model's name; "),
        (["--target_users", "2"], "target_users: 2 is not allowed; use a number in (0, 1]"),
        (["--target_users", "0.1,0.2"], "--target_users: one share; "),
        (["--target_users", "0.1"], "--target_users: "),
        (["--trails", "2"], "--trails: not an option of recbole-metarec tune; did you mean --trials?"),
        (["--dataset", "Sciencific"], "domain Sciencific is not known (did you mean Scientific?)"),
    ],
)
def test_every_mistake_is_one_line_and_exit_code_2_and_leaves_nothing(argv, message, refused):
    refused(["tune", *argv], message)


def test_mistakes_in_space_and_storage_are_said_before_any_trial(capsys, tmp_path):
    write_shop(tmp_path / "shops")
    (tmp_path / "my.yaml").write_text("vq_heads: {low: 1, high: 2}\n")
    words = ["tune", "--model", "LRURec", "--dataset", "Target", "--data_path", str(tmp_path / "shops"), "--device=cpu"]
    for more, message in (
        (["--space", "my.yaml"], "my.yaml:1: LRURec does not read vq_heads; "),
        (["--space", "none.yaml"], "none.yaml: no such config file; "),
        (["--storage", "trials.sqlite"], "--storage: trials.sqlite is not the URL of a storage; "),
        (["--vq_heads=2"], "--vq_heads: none of LRURec reads vq_heads; "),
        (["--sources=Near"], "--sources: none of LRURec reads sources; "),
        (["--sources=Near", "--target_users=0.5", "--best=best.yaml"], "--sources: none of LRURec reads sources; "),
    ):
        assert cli.main([*words, *more]) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not (tmp_path / "saved").exists()
    leaderboard = ["leaderboard", *words[3:], "--models", "LRURec"]
    assert cli.main([*leaderboard, "--tuned"]) == 2
    assert capsys.readouterr().err == (
        "error: sqlite:///saved/tuning.sqlite: there is no such storage; run recbole-metarec tune first\n"
    )


def test_help_shows_the_form_of_a_space(capsys):
    assert cli.main(["tune", "--help"]) == 0
    assert "learning_rate: {low: 0.0001, high: 0.01, log: True}" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["LRURec", "MetaRec", "GRU4Rec"])
def test_a_trial_finds_what_the_run_finds_on_validation_and_never_ranks_test_rows(model, tmp_path, monkeypatch):
    keys = {**TINY, "epochs": 1, "device": "cpu", "state": "ERROR", "data_path": str(write_shop(tmp_path / "shops"))}
    keys = {key: value for key, value in keys.items() if model == "MetaRec" or key != "vq_heads"}
    keys |= {"transfer_guard": True, "sources": ["Near"]} if model == "MetaRec" else {}
    whole = run_experiment(model, "Target", overrides={**keys, "checkpoint_dir": "whole"})
    ranked, rank_both = [], quick_start.rank_both
    monkeypatch.setattr(quick_start, "rank_both", lambda *args: ranked.append(args[1]) or rank_both(*args))
    assert validate_experiment(model, "Target", {**keys, "checkpoint_dir": "trial"}) == whole.metrics["valid"]
    assert len(ranked) == 1
    (trial,) = (tmp_path / "trial").iterdir()
    assert {path.name for path in trial.iterdir()}.isdisjoint({"metrics.json", "ranks.csv"})


def test_a_search_its_best_run_and_the_comparison_of_it(capsys, tmp_path, forked_runs):
    write_shop(tmp_path / "shops")
    keys = {**TINY, "epochs": 1, "state": "INFO", "device": "cpu"}
    keys = {key: value for key, value in keys.items() if key not in ("seed", "vq_heads", "learning_rate")}
    words = ["--dataset", "Target", "--data_path", str(tmp_path / "shops")]
    words += [f"--{key}={value}" for key, value in keys.items()]
    assert cli.main(["tune", "--model", "LRURec", "--trials", "2", "--seed", "7", *words]) == 0
    out, err = capsys.readouterr()
    assert (
        err == "" and "[1/2] LRURec: learning_rate 0.001, weight_decay 0.01, memory_learning_rate 0.03: started" in out
    )
    assert "[2/2] LRURec: ndcg@10 " in out
    with sqlite3.connect("saved/tuning.sqlite") as connection:
        values = [row[0] for row in connection.execute("SELECT value FROM trial_values ORDER BY trial_id")]
    assert len(values) == 2
    assert f"the best of 2 trials (0 failed) is trial {values.index(max(values))}, ndcg@10 {max(values):.4f}" in out
    assert not list(tmp_path.glob("saved/tuning/**/*.pth")), "no trial leaves a checkpoint"

    commands = [shlex.split(line.partition(":")[2]) for line in out.splitlines() if line.startswith(("train", "comp"))]
    (_, *train), (_, *compare) = commands
    assert cli.main([*train, "--checkpoint_dir=again"]) == 0
    (metrics,) = tmp_path.glob("again/*/metrics.json")
    assert json.loads(metrics.read_text())["valid"]["ndcg@10"] == max(values)
    capsys.readouterr()
    assert cli.main([*compare, "--seeds", "1", "--seed=7"]) == 0
    out = capsys.readouterr().out
    assert f"LRURec: best of 2 trials, ndcg@10 {max(values):.4f} on validation: learning_rate " in out
    with sqlite3.connect("saved/leaderboard.sqlite") as connection:
        ((model, valid),) = connection.execute("SELECT model, valid FROM runs")
    assert model == "LRURec" and json.loads(valid)["ndcg@10"] == max(values)

    tune = ["tune", "--model", "LRURec", "--trials", "2", "--seed", "7", "--best", "best.yaml", *words]
    assert cli.main(tune) == 0
    assert "--tuned=best.yaml" in capsys.readouterr().out
    assert cli.main([*compare[:-1], "--tuned=best.yaml", "--seeds", "1", "--seed=7"]) == 0
    out = capsys.readouterr().out
    assert f"LRURec: best of 2 trials, ndcg@10 {max(values):.4f} on validation of Target: learning_rate " in out
    with sqlite3.connect("saved/leaderboard.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,), "it is the same run"


def test_what_is_fitted_in_seconds_is_tried_in_this_process_and_more_often(capsys, tmp_path, monkeypatch):
    write_shop(tmp_path / "shops")
    monkeypatch.setattr("recbole_metarec.tuning.tuner.RunProcess", None)
    words = ["tune", "--model", "ItemKNNDecay", "--dataset", "Target", "--data_path", str(tmp_path / "shops")]
    words += ["--seed=7", "--device=cpu"]
    original, begun = validate.validate, []

    def interrupted_once_and_failing_once(run):
        begun.append(run.overrides)
        print("what a trial prints")
        if len(begun) == 2:
            raise KeyboardInterrupt
        if len(begun) == 4:
            raise RuntimeError("no such luck")
        return original(run)

    monkeypatch.setattr(validate, "validate", interrupted_once_and_failing_once)
    assert cli.main([*words, "--trials", "3"]) == 130
    assert "1 of 3 trials are done" in capsys.readouterr().err
    assert cli.main([*words, "--trials", "3"]) == 0
    out, err = capsys.readouterr()
    assert "FAILED: RuntimeError: no such luck (see saved/tuning/" in out and "the best of 3 trials (1 failed)" in out
    assert "what a trial prints" not in out + err and "Traceback" not in out + err
    assert "what a trial prints" in next(tmp_path.glob("saved/tuning/*/trial-0000/output.log")).read_text()
    assert begun[2] == begun[1], "what was interrupted is tried again"
    values = {**begun[0], "checkpoint_dir": str(tmp_path / "alone"), "seed": 7}
    found = validate_experiment("ItemKNNDecay", "Target", values)["ndcg@10"]
    assert f"the default configuration {found:.4f}" in out
    assert not list(tmp_path.glob("saved/tuning/**/*.pth"))
    monkeypatch.setattr("recbole_metarec.tuning.tuner.Tuner.run", lambda self, total: print(f"up to {total}"))
    monkeypatch.setattr("recbole_metarec.tuning.study.TuningStudy.best", lambda self: None)
    for model, most in (("ItemKNNDecay", FITTED_TRIALS), ("LRURec", TRIALS)):
        words[2] = model
        assert cli.main(words) == 1
        assert f"up to {most}\n" in capsys.readouterr().out
    assert FITTED_TRIALS > TRIALS


def test_a_search_on_the_shop_of_its_seed(capsys, tmp_path, forked_runs):
    """What is tuned is what the train command that is told trains, on half of the users; the comparison is on shops."""
    write_shop(tmp_path / "shops")
    keys = {**TINY, "epochs": 1, "device": "cpu"}
    words = ["--dataset", "Target", "--data_path", str(tmp_path / "shops"), "--sources", "Near"]
    words += [f"--{key}={value}" for key, value in keys.items() if key not in ("seed", "learning_rate")]
    search = ["--model", "MetaRec", "--trials", "1", "--seed", "7", "--target_users", "0.5", "--best", "best.yaml"]
    assert cli.main(["tune", *search, *words]) == 0
    out = capsys.readouterr().out
    assert "MetaRec on Target-users50-2: the best of 1 trials" in out, "an odd seed has the second of two shops"
    train, compare = (
        shlex.split(line.partition(":")[2])[1:] for line in out.splitlines() if line.startswith(("train", "comp"))
    )
    assert cli.main([*train, "--checkpoint_dir=again"]) == 0
    (metrics,) = tmp_path.glob("again/*/metrics.json")
    value = json.loads(metrics.read_text())["valid"]["ndcg@10"]
    assert f"[1/1] MetaRec: ndcg@10 {value:.4f} on validation" in out
    assert compare[:4] == ["sweep", "target_users=0.5", "--dataset", "Target"] and compare[-1] == "--tuned=best.yaml"
    capsys.readouterr()
    assert cli.main([*compare, "--seeds", "1", "--seed=7"]) == 0
    told = f"MetaRec: best of 1 trials, ndcg@10 {value:.4f} on validation of Target-users50-2"
    assert told in capsys.readouterr().out
