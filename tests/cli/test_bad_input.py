"""The index of bad input: one line that says what is wrong, exit code 2, no traceback, and nothing half-written."""

import os
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
import recbole.quick_start
from support import nursery
from support.bad_inputs import FILES, NOT_FINITE, ON_A_FULL_DISK, READING, TYPED, WRITING
from support.without_rights import files_limited_to, rights_that_count
from support.worlds import TINY, cluster_histories, write_domain, write_items

from recbole_metarec.cli import main as cli
from recbole_metarec.errors import ConfigError
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.trainer.checkpoint import read_checkpoint, write_checkpoint

pytestmark = pytest.mark.usefixtures("empty_cache")


class Trap:
    """Leaves a file where it is unpickled."""

    def __reduce__(self):
        return open, ("trapped", "w")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Places by name: data (good, thin and faulty domains), run (of MetaRec on Good), bad (spoilt checkpoints), ..."""
    folder = tmp_path_factory.mktemp("world")
    data = folder / "data"
    write_domain(data, "Good", cluster_histories(1, 30, 12, 4, 0.8))
    write_domain(data, "Near", cluster_histories(2, 30, 12, 4, 0.8))
    write_domain(data, "Texts", cluster_histories(2, 30, 12, 4, 0.8))
    write_items(data, "Texts", {item: f"thing {item}" for item in range(12)})
    write_domain(data, "Thin", [[1, 2], [2, 3, 1], [1, 2]])
    write_domain(data, "Ones", [[1], [2], [3]])
    for name, (content, _, _) in FILES.items():
        write_domain(data, name, []).write_bytes(content)
    keys = {**TINY, "epochs": 1, "topk": [5, 10], "data_path": str(data), "checkpoint_dir": str(folder / "saved")}
    keys |= {"state": "ERROR", "sources": "Near", "transfer_guard": False, "device": "cpu"}
    run = run_experiment("MetaRec", "Good", overrides=keys).run_dir
    bad = folder / "bad"
    spoil_checkpoints(run / "model.pth", bad)
    torn = folder / "torn"
    shutil.copytree(run, torn)
    (torn / "model-last.pth").write_bytes((torn / "model-last.pth").read_bytes()[:1000])
    (folder / "log.csv").write_text("u,i,t\na,x,1\na,y,2\n")
    (folder / "model.yaml").write_text("model: MetaRek\n")
    (folder / "key.yaml").write_text("# mine\ntemperatur: 1\n")
    places = {"data": data, "run": run, "bad": bad, "torn": torn, "log": folder / "log.csv"}
    return places | {"model_yaml": folder / "model.yaml", "key_yaml": folder / "key.yaml"}


def spoil_checkpoints(good, folder):
    folder.mkdir()
    content, raw = read_checkpoint(good), good.read_bytes()
    weights = content["state_dict"]
    (folder / "truncated.pth").write_bytes(raw[: len(raw) // 2])
    (folder / "empty.pth").touch()
    (folder / "text.pth").write_text("no checkpoint\n")
    torch.save({**content, "config": Trap()}, folder / "hostile.pth")
    torch.save(weights, folder / "foreign.pth")
    spoilt = {
        "other-model": {"state_dict": {f"gru.{name}": value for name, value in weights.items()}},
        "other-shape": {"state_dict": weights | {"item_embedding.weight": weights["item_embedding.weight"][:5]}},
        "other-network": {"network": content["network"].replace("LRUNetwork", "SASRec")},
        "no-items": {"items": []},
    }
    for name, changed in spoilt.items():
        write_checkpoint(folder / f"{name}.pth", content | changed)
    write_checkpoint(folder / "no-weights.pth", {key: value for key, value in content.items() if key != "state_dict"})
    of_recbole = {"config": content["config"].replace('"model": "MetaRec"', '"model": "SASRec"')}
    without_network = {key: value for key, value in content.items() if key != "network"}  # as versions before wrote it
    write_checkpoint(folder / "recbole-model.pth", without_network | of_recbole)


def snapshot(*folders) -> dict:
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}


@pytest.fixture()
def refuses(world, capsys, tmp_path, monkeypatch):
    """Checks what a command line answers, and that the log of the attempt is all that it leaves."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def check(words: str, message: str, may_leave: tuple[str, ...] = (), **places) -> str:
        places |= world
        before = snapshot(*(place for place in world.values() if place.is_dir()))
        code = cli.main(words.format(**places).split())
        out, err = capsys.readouterr()
        assert code == 2, (code, out, err)
        assert err.startswith(f"error: {message.format(**places)}") and err.count("\n") == 1, err
        assert "Traceback" not in out + err
        left = {path.relative_to(tmp_path).parts[0] for path in tmp_path.iterdir()} - {"log", "log_tensorboard"}
        assert left <= set(may_leave), left
        assert snapshot(*(place for place in world.values() if place.is_dir())) == before
        return err

    return check


@pytest.mark.parametrize(("command", "words", "fault"), READING, ids=lambda value: value[:40])
def test_a_bad_file(command, words, fault, refuses):
    _, line, named = FILES[fault]
    error = refuses(words.replace("{name}", fault), f"{{data}}/{fault}/{fault}.inter:{line}: ")
    assert named in error, command


@pytest.mark.parametrize(
    ("words", "message"), [case for cases in TYPED.values() for case in cases], ids=lambda value: value[:60]
)
def test_what_is_typed(words, message, refuses):
    refuses(words, message)


@pytest.mark.parametrize(("words", "message"), NOT_FINITE)
def test_numbers_that_explode_keep_the_last_good_model(words, message, refuses, tmp_path):
    refuses(words, message, may_leave=("saved",))
    for model in tmp_path.glob("saved/*/model.pth"):
        assert all(bool(value.isfinite().all()) for value in read_checkpoint(model)["state_dict"].values())


@pytest.mark.parametrize("command", WRITING)
def test_no_permission(command, refuses, tmp_path):
    place = tmp_path / "locked"
    place.mkdir()
    place.chmod(0o555)
    with rights_that_count():
        refuses(WRITING[command], "", may_leave=("locked", "saved"), place=place)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("command", ON_A_FULL_DISK)
def test_a_full_disk(command, refuses, tmp_path):
    place = tmp_path / "full"
    place.mkdir()
    with files_limited_to(100):
        refuses(WRITING[command], "", may_leave=("full", "saved"), place=place)
    assert [path for path in place.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("start", [run_experiment, recbole.quick_start.run_recbole])
def test_an_unknown_model_from_python(start, tmp_path):
    with pytest.raises(ConfigError, match=r"^model: unknown model MetaRek; did you mean MetaRec\?"):
        start(model="MetaRek", dataset="ml-100k")
    assert {path.name for path in tmp_path.iterdir()} <= {"log", "log_tensorboard"}


def test_config_keys_from_python_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match=r"^overrides: \['epochs=1'\] are no config keys; "):
        run_experiment("LRURec", "ml-100k", overrides=["epochs=1"])
    assert not list(tmp_path.iterdir())


PROCESSES = [
    ("train --dataset Goood --data_path {data}", "domain Goood is not known (did you mean Good?)", None),
    ("train --dataset empty --data_path {data}", "{data}/empty/empty.inter:1: the file is empty", None),
    ("train --dataset Good --data_path {data} --sources ragged", "{data}/ragged/ragged.inter:2: 2 fields", None),
    ("recommend {bad}/hostile.pth --user u", "{bad}/hostile.pth: a pickle, as models of RecBole's own are ", None),
    (f"{WRITING['train LRURec']}", "", 3000),
]


@pytest.mark.parametrize(("words", "message", "limit"), PROCESSES)
def test_in_a_process_of_its_own(words, message, limit, world, tmp_path):
    """There the log is set up: it may have said what was read before, but ends in the one line, without a traceback."""
    command = [*nursery.python(), "-m", "recbole_metarec", *words.format(**world, place=tmp_path).split()]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with files_limited_to(limit) if limit else nullcontext():
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == "", done.stderr
    *before, last = done.stderr.splitlines()
    assert last.startswith(f"error: {message.format(**world)}")
    assert not any("Traceback" in line or "Logging error" in line for line in before)
    assert not any("error" in line for line in before)
    assert not (tmp_path / "trapped").exists()
