"""The recommend command: the newest run, a user of its data, and mistakes."""

import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from support.tiny import tiny_metarec
from support.worlds import TINY, cluster_histories, write_domain

from recbole_metarec.cli import main as cli
from recbole_metarec.cli.recommend import items_of
from recbole_metarec.data import histories as reading
from recbole_metarec.data.reader import read_domain
from recbole_metarec.errors import DataError
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.serve import Recommender

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run in saved/ of a folder, and the histories of its shop, which stand in the file out of order."""
    folder = tmp_path_factory.mktemp("shop")
    histories = cluster_histories(1, 50, 24, 4, 0.8)
    times = [list(range(len(history))) for history in histories]
    shuffled = [(history[::-1], stamps[::-1]) for history, stamps in zip(histories, times)]
    write_domain(folder, "Shop", *map(list, zip(*shuffled)))
    keys = {key: value for key, value in TINY.items() if key != "vq_heads"}
    keys |= {"data_path": str(folder), "checkpoint_dir": str(folder / "saved"), "epochs": 1, "state": "ERROR"}
    for seed in (1, 2):
        experiment = run_experiment("LRURec", "Shop", overrides={**keys, "seed": seed})
    return folder, experiment.run_dir, histories


def lines(capsys, *words) -> list[list[str]]:
    assert cli.main(["recommend", *words]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"by \S*saved/LRURec-Shop-2-\S+; items seen before .*\n", err)
    return [line.split("\t") for line in out.splitlines()]


def test_a_user_is_answered_from_the_whole_history_by_the_newest_run(trained, capsys, monkeypatch):
    folder, run_dir, histories = trained
    monkeypatch.chdir(folder)
    history = [f"Shop-{item}" for item in histories[7]]
    expected = Recommender.load(run_dir).recommend(history, k=5)
    shown = lines(capsys, "--user", "Shop-u7", "--k", "5")
    assert shown == [[str(place), item, f"{score:.4f}"] for place, (item, score) in enumerate(expected, 1)]
    assert lines(capsys, str(run_dir), "--history", ", ".join(history), "--k", "5") == shown
    fresh = {item for _, item, _ in lines(capsys, "--user", "Shop-u7", "--k", "100")}
    assert fresh == {f"Shop-{item}" for item in range(24)} - set(history)


def test_a_model_that_has_moved_finds_the_data_by_data_path_or_where_a_run_would_look(
    trained, capsys, monkeypatch, tmp_path, empty_cache
):
    folder, run_dir, _ = trained
    expected = lines(capsys, str(run_dir), "--user", "Shop-u7")
    away = tmp_path / "elsewhere"
    away.mkdir()
    (folder / "Shop").rename(away / "Shop")
    try:
        assert cli.main(["recommend", str(run_dir), "--user", "Shop-u7"]) == 2
        assert "is not there; say with --data_path" in capsys.readouterr().err
        assert lines(capsys, str(run_dir), "--user", "Shop-u7", "--data_path", "elsewhere") == expected
        assert cli.main(["recommend", str(run_dir), "--user", "Shop-u7", "--data_path", "nowhere"]) == 2
        assert capsys.readouterr().err.startswith("error: --data_path nowhere is not a folder; ")
        with pytest.raises(DataError, match="^data_path: nowhere is not a folder; "):
            Recommender.load(run_dir / "model.pth", data_path="nowhere")
        away.rename(tmp_path / "dataset")
        assert lines(capsys, str(run_dir), "--user", "Shop-u7") == expected
    finally:
        next(tmp_path.glob("*/Shop")).rename(folder / "Shop")


def test_the_data_are_read_once_and_again_when_they_have_changed(trained, monkeypatch):
    folder, run_dir, histories = trained
    recommender, read = Recommender.load(run_dir / "model.pth"), []
    monkeypatch.setattr(reading, "read_domain", lambda *given: read.append(given) or read_domain(*given))
    for user, history in enumerate(histories):
        assert recommender.history_of(f"Shop-u{user}") == [f"Shop-{item}" for item in history]
    assert len(read) == 1
    file, before = folder / "Shop" / "Shop.inter", (folder / "Shop" / "Shop.inter").read_text()
    try:
        file.write_text(before + "Shop-u3\tShop-5\t999\nnew\tShop-1\t0\n")
        assert recommender.history_of("Shop-u3") == [f"Shop-{item}" for item in [*histories[3], 5]]
        assert recommender.history_of("new") == ["Shop-1"] and len(read) == 2
    finally:
        file.write_text(before)


def test_all_users_or_those_of_a_file_are_written(trained, capsys, monkeypatch, tmp_path):
    folder, run_dir, histories = trained
    monkeypatch.chdir(folder)
    assert cli.main(["recommend", "--users", "all", "--output", str(tmp_path / "recs.parquet"), "--k", "3"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'recs.parquet'}: 50 users, up to 3 items each\n"
    assert "items seen before are left out (--include_seen)" in err and "Recommend" not in err
    table = pl.read_parquet(tmp_path / "recs.parquet")
    assert table["user"].n_unique() == 50
    for user, history in enumerate(histories):
        assert not {f"Shop-{item}" for item in history} & set(table.filter(user=f"Shop-u{user}")["item"])
    (tmp_path / "some.txt").write_text("Shop-u8\nShop-u3\n")
    words = ["--users", str(tmp_path / "some.txt"), "--output", str(tmp_path / "some.csv"), "--k", "3"]
    assert cli.main(["recommend", str(run_dir), *words]) == 0
    some = pl.read_csv(tmp_path / "some.csv")
    assert some["user"].to_list() == ["Shop-u8"] * 3 + ["Shop-u3"] * 3
    assert some["item"].to_list() == [
        item for user in ("Shop-u8", "Shop-u3") for item in table.filter(user=user)["item"].to_list()
    ]


def test_an_item_may_hold_commas_and_spaces():
    recommender = Recommender(tiny_metarec()[0], ["[PAD]", "nail", "saw, big", "nail, small", " odd ", *"abcdefg"])
    assert items_of(["nail,saw, big"], recommender) == ["nail", "saw", "big"]
    assert items_of(["saw, big", "nail , a", " odd ", "nail, small"], recommender) == [
        "saw, big", "nail", "a", " odd ", "nail, small",
    ]  # fmt: skip


def test_the_newest_run_is_of_one_dataset(trained, capsys, monkeypatch, tmp_path):
    _, run_dir, _ = trained
    monkeypatch.chdir(tmp_path)
    for name, dataset in (("old", "Shop"), ("new", "Other")):
        shutil.copytree(run_dir, tmp_path / "saved" / name)
        metrics = tmp_path / "saved" / name / "metrics.json"
        metrics.write_text(metrics.read_text().replace('"Shop"', f'"{dataset}"'))
    assert cli.main(["recommend", "--history", "Shop-3"]) == 2
    assert "saved: it has runs on Other, Shop; say which by --dataset" in capsys.readouterr().err
    assert cli.main(["recommend", "--history", "Shop-3", "--dataset", "Shop"]) == 0
    assert "by saved/old; items seen before" in capsys.readouterr().err
    assert cli.main(["recommend", "--history", "Shop-3", "--dataset", "None"]) == 2
    assert "saved: there is no finished run on None; train one, or give its folder\n" in capsys.readouterr().err
    (tmp_path / "saved" / "old" / "metrics.json").unlink()
    begun = (
        "there is no finished run on Shop; recbole-metarec train --resume saved/old finishes the newest that was begun"
    )
    assert cli.main(["recommend", "--history", "Shop-3", "--dataset", "Shop"]) == 2
    assert f"error: saved: {begun}\n" == capsys.readouterr().err
    compared = Path("saved/leaderboard/LRURec-Shop-1/LRURec-Shop")
    shutil.copytree(run_dir, compared)
    assert cli.main(["recommend", "--history", "Shop-3", "--dataset", "None"]) == 2
    assert f"or give its folder, such as {compared} of a comparison\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "recommend: say for whom by --user U, --history A,B,C or --users all, one of the three"),
        (
            ["--user", "a", "--history", "b"],
            "recommend: say for whom by --user U, --history A,B,C or --users all, one of the three",
        ),
        (["--user", "Shop-u700"], "unknown user 'Shop-u700': not in "),
        (["--history", "Shop-3,Shop-99"], "unknown item 'Shop-99': the model was trained without it; did you mean"),
        (["--user", "nobody"], "unknown user 'nobody': not in "),
        (["--history", "Shop-3,zzz"], "unknown item 'zzz': the model was trained without it; leave it out"),
        (["--history", ","], "the history is empty: "),
        (["--user", "Shop-u7", "--k", "0"], "--k: 0 "),
        (["nowhere.pth", "--user", "Shop-u7"], "nowhere.pth: no such checkpoint; "),
        (["--users", "all"], "recommend: --users and --output belong together"),
        (["--user", "Shop-u7", "--output", "x.csv"], "recommend: --users and --output belong together"),
        (["--users", "all", "--output", "x.txt"], "--output x.txt: its ending must name the format"),
        (["--users", "absent.txt", "--output", "x.csv"], "absent.txt: no list of users can be read"),
        (["--user", "Shop-u7", "--device", "cuda:77"], "device: cuda:77 cannot be used ("),
        (["--user", "Shop-u7", "--device", "abacus"], "device: abacus cannot be used ("),
        (["--usr", "Shop-u7"], "--usr: not an option of recbole-metarec recommend; did you mean --user?"),
    ],
)
def test_every_mistake_is_one_line(trained, words, message, capsys, monkeypatch):
    monkeypatch.chdir(trained[0])
    assert cli.main(["recommend", *words]) == 2
    out, err = capsys.readouterr()
    err = re.sub(r"^by .*\n", "", err)
    assert out == "" and err.startswith(f"error: {message}") and err.count("\n") == 1


def test_what_is_no_model_is_named_as_what_it_is(trained, capsys, tmp_path):
    state = trained[1] / "model-last.pth"
    assert cli.main(["recommend", str(state), "--history", "Shop-3"]) == 2
    assert capsys.readouterr().err == (
        f"error: {state}: a training state, for resuming; give the model.pth beside it\n"
    )
    assert cli.main(["recommend", str(tmp_path), "--history", "Shop-3"]) == 2
    assert "model.pth: no such checkpoint; " in capsys.readouterr().err


def test_without_a_run_it_says_so(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["recommend", "--user", "a"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: saved: ") and err.count("\n") == 1
