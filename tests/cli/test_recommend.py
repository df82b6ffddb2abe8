"""The recommend command: the newest run, a user of its data, and mistakes."""

import re

import pytest
from support.worlds import TINY, cluster_histories, write_domain

from recbole_metarec.cli import main as cli
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
    assert err == "" or re.fullmatch(r"by saved/LRURec-Shop-2-\S+\n", err)
    return [line.split("\t") for line in out.splitlines()]


def test_a_user_is_answered_from_the_whole_history_by_the_newest_run(trained, capsys, monkeypatch):
    folder, run_dir, histories = trained
    monkeypatch.chdir(folder)
    history = [f"Shop-{item}" for item in histories[7]]
    expected = Recommender.load(run_dir / "model.pth").recommend(history, k=5)
    shown = lines(capsys, "--user", "Shop-u7", "--k", "5")
    assert shown == [[str(place), item, f"{score:.4f}"] for place, (item, score) in enumerate(expected, 1)]
    assert lines(capsys, str(run_dir), "--history", ", ".join(history), "--k", "5") == shown
    fresh = {item for _, item, _ in lines(capsys, "--user", "Shop-u7", "--exclude_seen", "--k", "100")}
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "recommend: say for whom by --user U or by --history A,B,C, one of the two"),
        (
            ["--user", "a", "--history", "b"],
            "recommend: say for whom by --user U or by --history A,B,C, one of the two",
        ),
        (["--user", "Shop-u700"], "unknown user 'Shop-u700': not in "),
        (["--history", "Shop-3,Shop-99"], "unknown item 'Shop-99': the model was trained without it; did you mean"),
        (["--user", "nobody"], "unknown user 'nobody': not in "),
        (["--history", "Shop-3,zzz"], "unknown item 'zzz': the model was trained without it; leave it out"),
        (["--history", ","], "the history is empty: "),
        (["--user", "Shop-u7", "--k", "0"], "--k: 0 "),
        (["nowhere.pth", "--user", "Shop-u7"], "nowhere.pth: no such checkpoint; "),
        (["--usr", "Shop-u7"], "--usr: not an option of recbole-metarec recommend; did you mean --user?"),
    ],
)
def test_every_mistake_is_one_line(trained, words, message, capsys, monkeypatch):
    monkeypatch.chdir(trained[0])
    assert cli.main(["recommend", *words]) == 2
    out, err = capsys.readouterr()
    err = re.sub(r"^by \S+\n", "", err)
    assert out == "" and err.startswith(f"error: {message}") and err.count("\n") == 1


def test_without_a_run_it_says_so(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["recommend", "--user", "a"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: saved: ") and err.count("\n") == 1
