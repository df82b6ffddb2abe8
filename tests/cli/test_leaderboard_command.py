"""The leaderboard command: mistakes before anything is run, and a whole comparison on a small shop."""

import re
import sqlite3

import pytest
from support.worlds import PLAIN, TINY, write_domain, write_shop

from recbole_metarec.cli import main as cli
from recbole_metarec.data.embedded import EMBEDDED_TARGET

pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--models", "LRURec,SASrec"], "--models: unknown model SASrec; did you mean SASRec?"),
        (["--models", ""], "--models: an empty name; give names such as"),
        (["--seeds", "0"], "--seeds: 0 is not in the range x>=1; see recbole-metarec leaderboard --help"),
        (["--seeds", "2020,2021"], "--seeds: '2020,2021' is not a valid whole number; "),
        (["--jobs", "many"], "--jobs: 'many' "),
        (["--jobs", "1", "--jobs", "2"], "--jobs: given twice, as 1 and as 2; "),
        (["--seed=x"], "--seed is x; use an int in [0, 4294967295]"),
        (["--seed=4294967295", "--seeds", "2"], "--seed is 4294967296; "),
        (["--seedz", "2"], "--seedz: not an option of recbole-metarec leaderboard; did you mean --seed?"),
        (["--stor=a.sqlite"], "--stor: not an option of recbole-metarec leaderboard; did you mean --store?"),
        (["--topk=[5, 20]"], "--topk: valid_metric NDCG@10 is not measured by metrics and topk; use NDCG@5, "),
        (["--meta_transfer=joint"], "--meta_transfer is what the models differ by; leave it out and"),
        (["--model=SASRec"], "--model is what the models differ by; "),
        (["--dropout_prob=2"], "--dropout_prob is 2; "),
        (["--sources", "A,A"], "--sources: source A is given twice; "),
        (["--data_path", "no/folder"], "--data_path no/folder is not a folder; "),
        (["--dataset", "Sciencific"], "domain Sciencific is not known (did you mean Scientific?)"),
        (["--dataset", EMBEDDED_TARGET, "--sources", EMBEDDED_TARGET], "--sources: the target ml-drama is among its"),
    ],
)  # fmt: skip
def test_every_mistake_is_one_line_and_exit_code_2_and_leaves_nothing(argv, message, refused):
    refused(["leaderboard", *argv], message)


def test_the_name_of_d_in_one_model_is_refused(refused, tmp_path_factory):
    shops = write_shop(tmp_path_factory.mktemp("shops"))
    words = ["leaderboard", "--dataset", "Target", "--data_path", str(shops), "--models", "SASRec,LRURec"]
    refused([*words, "--hidden_size=128"], "--hidden_size: d is the same for every model; use embedding_size")


def test_a_key_that_none_of_the_models_reads_and_a_bad_store_are_said_before_any_run(capsys, tmp_path):
    write_shop(tmp_path / "shops")
    words = ["leaderboard", "--dataset", "Target", "--data_path", str(tmp_path / "shops"), "--models", "LRURec"]
    assert cli.main([*words, "--vq_heads=2"]) == 2
    assert capsys.readouterr().err.startswith("error: --vq_heads: none of LRURec reads vq_heads; ")
    (tmp_path / "my.yaml").write_text("device: cpu\nadaptor_experts: 2\n")
    for command in (words, ["ablate", *words[1:-2]], ["sweep", "n_layers=1", *words[1:]], ["tune", *words[1:5]]):
        assert cli.main([*command, "--config_files", "my.yaml"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: my.yaml:2: none of ") and " reads adaptor_experts; leave it out" in error
    (tmp_path / "notes.txt").write_text("notes\n" * 300)
    assert cli.main([*words, "--store", str(tmp_path / "notes.txt")]) == 2
    assert "notes.txt: file is not a database" in capsys.readouterr().err
    write_domain(tmp_path / "shops", "Bad", [[1, 2], [2, 3]])
    assert cli.main([*words[:2], "Bad", *words[3:]]) == 2
    assert "no validation row is left" in capsys.readouterr().err


def test_fewer_items_than_topk_asks_for_are_said_before_any_run(refused, tmp_path_factory):
    shops = tmp_path_factory.mktemp("shops")
    write_domain(shops, "Few", [[1, 2, 3, 4, 5]] * 3)
    words = ["leaderboard", "--dataset", "Few", "--data_path", str(shops), "--models", "Pop,SASRec"]
    refused(words, "topk is [10, 50], but Few has 5 items; ask for fewer, such as --topk=[5] --valid_metric=NDCG@5")


def test_help_names_the_models_and_their_variants(capsys):
    assert cli.main(["leaderboard", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(model in out for model in ("SASRec", "UniSRec", "Pretrain"))


def test_a_comparison_with_a_failing_model_and_again_without_it(capsys, tmp_path, forked_runs):
    """LRURec, whose loss explodes, is recorded; Pop is done once, and its line is the same when it is only read."""
    write_shop(tmp_path / "shops")
    keys = {**TINY, "learner": "sgd", "learning_rate": 1e30, "state": "ERROR", "device": "cpu"}
    words = [f"--{key}={value}" for key, value in keys.items() if key not in ("vq_heads",)]
    words += ["--dataset", "Target", "--data_path", str(tmp_path / "shops"), "--output", "report"]
    words += ["--models", "Pop,LRURec", "--seeds", "1", "--jobs", "2", "--store", "runs.sqlite"]
    assert cli.main(["leaderboard", *words]) == 1
    first, err = capsys.readouterr()
    assert err == ""
    assert "Pop seed 7: ndcg@10" in first and "LRURec seed 7: FAILED" in first
    assert re.search(r"failed: LRURec, seed 7: epoch 0, step .* is not finite; lower learning_rate", first)
    names = ("leaderboard.csv", "leaderboard.html", "leaderboard.md")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == list(names)
    words[words.index("Pop,LRURec")] = "Pop"
    own = tuple(f"--{key}=" for key in ("n_layers", "dropout_prob", *PLAIN))
    words = [word for word in words if not word.startswith(own)]  # it reads none
    assert cli.main(["leaderboard", *words]) == 0
    second = capsys.readouterr().out
    assert second.startswith("1 of 1 runs are done already: runs.sqlite\n") and "started" not in second
    lines = [[line.split() for line in text.splitlines() if re.match(r"Pop +1 ", line)] for text in (first, second)]
    assert lines[0] == lines[1] and len(lines[0]) == 2, "a line of each protocol"
    with sqlite3.connect("runs.sqlite") as base:
        rows = base.execute("SELECT model, seed, error IS NULL, parameters FROM runs ORDER BY model").fetchall()
    assert rows == [("LRURec", 7, 0, None), ("SequentialPop", 7, 1, 0)]
