"""The command line: what it hands on, what wins over what, and one line for every mistake."""

import importlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.entry_points import offer
from support.model_cases import Sharpened

import recbole_metarec
from recbole_metarec import quick_start
from recbole_metarec.cli import main as cli
from recbole_metarec.config import models
from recbole_metarec.config.models import register_model
from recbole_metarec.config.schema import known_keys
from recbole_metarec.data.embedded import EMBEDDED_TARGET


class Table:
    def table(self):
        return "the table"


pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.fixture()
def calls(monkeypatch):
    """The RunConfig and the run to resume of each experiment that a command starts."""
    seen = []

    def run_from_config(run_config, resume):
        seen.append((run_config, resume))
        return Table()

    monkeypatch.setattr(quick_start, "run_from_config", run_from_config)
    return seen


def error(capsys, *argv) -> str:
    assert cli.main(list(argv)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err.removeprefix("error: ").rstrip("\n")


@pytest.fixture()
def data(tmp_path):
    folder = tmp_path / "data"
    (folder / "Shop").mkdir(parents=True)
    (folder / "Shop" / "Shop.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\nu\ti\t1\n")
    return folder


def test_no_option_is_metarec_on_the_embedded_target(calls, capsys):
    assert cli.main(["train"]) == 0
    assert capsys.readouterr().out == "the table\n"
    ((run_config, resume),) = calls
    assert (run_config.model, run_config.dataset, run_config.user.values, resume) == (
        "MetaRec",
        EMBEDDED_TARGET,
        {},
        None,
    )


def test_options_and_config_keys_in_both_spellings(calls, data, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("epochs: 3\nseed: 4\n")
    argv = ["train", "--dataset", "Shop", "--model=LRURec", "--data_path", str(data), "--sources", "A,B", "--seed=7",
            "--config_files", str(path), "--topk=[10, 20]", "--learning_rate=5e-4", "--exact-time",
            "--user_inter_num_interval=[5,10]", "--clip_grad_norm=None"]  # fmt: skip
    assert cli.main(argv) == 0
    ((run_config, _),) = calls
    assert (run_config.model, run_config.dataset) == ("LRURec", "Shop")
    assert run_config.origin("epochs") == f"{path}:1" and run_config.origin("seed") == "--seed"
    assert run_config.user.values == {
        "epochs": 3, "data_path": str(data), "sources": "A,B", "seed": 7, "topk": [10, 20], "learning_rate": 5e-4,
        "exact_time": True, "user_inter_num_interval": "[5,10]", "clip_grad_norm": None}  # fmt: skip


@pytest.mark.parametrize("name", ["train", "leaderboard"])
def test_every_config_key_is_understood_with_a_sign_or_a_space_and_with_hyphens_or_underscores(name):
    """Whatever the value: a number below zero, a list, a mapping, empty text."""
    command = importlib.import_module(f"recbole_metarec.cli.{name}").command

    def typed(*words) -> tuple[dict, dict]:
        with command.make_context(name, list(words)) as context:
            return context.params["user"].values, context.params["user"].origins

    keys = sorted(set(known_keys()) - {"config_files"})
    assert len(keys) > 300
    examples = itertools.cycle(["3", "-1e-9", "[5,inf]", "{a: 1}", "x=y", "a b", "", "None"])
    values = dict(zip(keys, examples))
    understood, origins = typed(*(f"--{key}={value}" for key, value in values.items()))
    assert understood.keys() == values.keys() and origins == {key: f"--{key}" for key in values}
    for spelled in (str, lambda key: key.replace("_", "-")):
        with_a_space = [word for key, value in values.items() for word in (f"--{spelled(key)}", value)]
        assert typed(*with_a_space) == (understood, origins)
        assert typed(*(f"--{spelled(key)}={value}" for key, value in values.items())) == (understood, origins)


@pytest.mark.parametrize("typed", [["--my_own_key", "3"], ["--my-own-key=3"], ["--config_files", "my.yaml"]])
def test_the_models_of_entry_points_are_loaded_for_a_key_that_nobody_else_knows(calls, monkeypatch, capsys, typed):
    Path("my.yaml").write_text("my_own_key: 3\n")
    assert "unknown config key" in error(capsys, "train", *typed)
    register = lambda: register_model(Sharpened, defaults={"my_own_key": 1})  # noqa: E731
    loaded = offer(monkeypatch, Broken=lambda: 1 / 0, Sharpened=lambda: register)
    monkeypatch.setattr(models, "_REGISTERED", {})
    for words in (["--help"], ["--model", "LRURec", "--epochs=1"], ["-h"]):
        assert cli.main(["train", *words]) == 0 and loaded == []
    assert cli.main(["train", "--model", "LRURec", *typed]) == 0
    assert calls[-1][0].user.values == {"my_own_key": 3} and set(loaded) == {"Broken", "Sharpened"}


def test_config_files_in_recbole_s_spelling_and_with_spaces_in_their_names(calls, tmp_path):
    for name, epochs in {"a.yaml": 1, "b.yaml": 2, "with space.yaml": 3}.items():
        (tmp_path / name).write_text(f"epochs: {epochs}\n")
    assert cli.main(["train", "--config_files=a.yaml b.yaml"]) == 0
    assert cli.main(["train", "--config_files", "b.yaml", "with space.yaml", "--seed", "1"]) == 0
    assert cli.main(["train", "--config-files", "b.yaml", "a.yaml"]) == 0
    origins = [(run_config["epochs"], run_config.origin("epochs")) for run_config, _ in calls]
    assert origins == [(2, "b.yaml:1"), (3, "with space.yaml:1"), (1, "a.yaml:1")]


def test_model_and_dataset_may_stand_in_a_file_and_the_command_line_wins(calls, data, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(f"model: LRURec\ndataset: Shop\ndata_path: {data}\n")
    assert cli.main(["train", f"--config_files={path}"]) == 0
    assert cli.main(["train", f"--config_files={path}", "--model", "SASRec"]) == 0
    (tmp_path / "b.yaml").write_text("model: MetaRec\n")
    assert cli.main(["train", "--config_files", str(path), "b.yaml"]) == 0  # the later file wins
    assert [run_config.model for run_config, _ in calls] == ["LRURec", "SASRec", "MetaRec"]
    assert {run_config.dataset for run_config, _ in calls} == {"Shop"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "unknown command trian; did you mean train?"),
        (["zzz"], "unknown command zzz; the commands are train, leaderboard"),
        (["train", "--vq_heads=5"], "--vq_heads is 5, which does not divide embedding_size 64; "
                                    "use 0, 1, 2, 4, 8, 16, 32 or 64"),
        (["train", "--vq_haeds=4"], "--vq_haeds: unknown config key; did you mean vq_heads?"),
        (["train", "--vq_haeds", "4"], "--vq_haeds: unknown config key; did you mean vq_heads?"),
        (["train", "--vq_haeds"], "--vq_haeds: unknown config key; did you mean vq_heads?"),
        (["train", "--vq_heads", "5"], "--vq_heads is 5, "),
        (["train", "--vq_heads"], "Option '--vq_heads' requires an argument; see recbole-metarec train --help"),
        (["train", "--dataset", "--resume"], "Option '--dataset' requires an argument; "),
        (["train", "extra"], "Got unexpected extra argument (extra); see recbole-metarec train --help"),
        (["train", "-x"], "-x: "),
        (["--versoin"], "--versoin: not an option of recbole-metarec; did you mean --version?"),
        (["train", "--model", "MetaRek"], "--model: unknown model MetaRek; did you mean MetaRec?"),
        (["train", "--model", "sasrec"], "--model: unknown model sasrec; did you mean SASRec?"),
        (["train", "--model", "DeepFM"], "--model: unknown model DeepFM; "),
        (["train", "--seed", "1", "--seed=2"], "--seed: given twice, as 1 and as 2; keep one of them"),
        (["train", "--epochs=1", "--epochs", "2"], "--epochs: given twice, as 1 and as 2; keep one of them"),
        (["train", "--exact-time", "--exact_time=False"], "--exact_time: given twice, as True and as False; "),
        (["train", "--seed", "x"], "--seed is x; use an int in [0, 4294967295]"),
        (["train", "--temperature=0"], "--temperature is 0; use a float > 0"),
        (["train", "--inner_steps=0"], "--inner_steps is 0; use an int >= 1"),
        (["train", "--inner_learning_rate=-1"], "--inner_learning_rate is -1; use a float >= 0"),
        (["train", "--sources", EMBEDDED_TARGET], f"--sources: the target {EMBEDDED_TARGET} is among its sources; "),
        (["train", "--sources", "A,A"], "--sources: source A is given twice; name each source once"),
        (["train", "--data_path", "no/folder"], "--data_path no/folder is not a folder; "),
        (["train", "--model", "SASRec", "--data_path", "no/folder"], "--data_path no/folder is not a"),
        (["train", "--config_files", "no.yaml"], "no.yaml: no such config file; check the path"),
        (["train", "--config_files"], "Option '--config_files' requires an argument; "),
        (["train", "--topk=[1"], "--topk: [1 is not a YAML value; check its brackets and quotes"),
        (["train", "--dataset", "Sciencific"], "domain Sciencific is not known (did you mean Scientific?)"),
        (["train", "--dataset", "Scientific"], "domain Scientific is not here"),
    ],
)  # fmt: skip
def test_every_mistake_is_one_line_and_exit_code_2(argv, message, calls, capsys):
    assert error(capsys, *argv).startswith(message)
    assert calls == []


def test_mistakes_in_a_file_name_file_and_line(calls, capsys, tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("# mine\nvq_heads: 5\n")
    message = f"{path}:2: vq_heads is 5, which does not divide embedding_size 64; use 0, 1, 2, 4, 8, 16, 32 or 64"
    assert error(capsys, "train", "--config_files", str(path)) == message
    assert cli.main(["train", "--config_files", str(path), "--vq_heads=8"]) == 0  # what is typed wins
    assert capsys.readouterr().out == "the table\n"
    path.write_text("epochs: 1\nvq_haeds: 5\n")
    assert error(capsys, "train", "--config_files", str(path)).startswith(f"{path}:2: unknown config key vq_haeds; ")


@pytest.mark.parametrize("argv", [["--help"], []])
def test_help_names_every_command(argv, capsys):
    assert cli.main(argv) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in cli.COMMANDS)
    assert "recbole-metarec train --dataset Scientific" in out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_help_of_a_command_has_an_example_of_it(name, capsys):
    assert cli.main([name, "--help"]) == 0
    assert f"\n  recbole-metarec {name}" in capsys.readouterr().out.partition("examples:")[2]


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"recbole-metarec {recbole_metarec.__version__}\n"


def raising(problem):
    def run_from_config(*_):
        raise problem

    return run_from_config


def test_interruption_disk_and_bugs(monkeypatch, capsys):
    monkeypatch.setattr(quick_start, "run_from_config", raising(KeyboardInterrupt("the last checkpoint is in saved/x")))
    assert cli.main(["train"]) == 130
    assert capsys.readouterr().err == "interrupted; the last checkpoint is in saved/x\n"
    monkeypatch.setattr(quick_start, "run_from_config", raising(OSError(28, "No space left on device", "saved/x.pth")))
    assert error(capsys, "train").startswith("saved/x.pth: No space left on device; ")
    monkeypatch.setattr(quick_start, "run_from_config", raising(PermissionError(13, "Permission denied", "saved")))
    assert error(capsys, "train").startswith("saved: Permission denied; ")
    monkeypatch.setattr(quick_start, "run_from_config", raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        cli.main(["train"])


def test_a_reader_that_goes_away_is_no_mistake():
    command = [sys.executable, "-m", "recbole_metarec", "--help"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ, PYTHONUNBUFFERED="1")
    )
    process.stdout.close()  # as `| head -0` would
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == b""
