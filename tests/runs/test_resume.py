"""``train --resume``: which run it goes on with, what it refuses, and that nothing finished is done again."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from support.same_runs import assert_same_run, runs, stop_after
from support.worlds import TINY

from recbole_metarec.cli.main import main
from recbole_metarec.errors import CheckpointError, DataError
from recbole_metarec.files import locked
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.train import train
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.trainer.trainer import TransferTrainer

QUIET = {"state": "ERROR", "show_progress": False, "device": "cpu", "checkpoint_dir": "saved"}
SMALL = {key: value for key, value in TINY.items() if key != "vq_heads"} | QUIET
pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture(scope="module")
def uninterrupted(shop):
    """The folder of a run that nothing has stopped, one for each model and config."""
    found = {}

    def of(model: str, given: dict) -> Path:
        key = repr((model, sorted(given.items())))
        if key not in found:
            place = {"data_path": str(shop), "checkpoint_dir": str(shop / "whole")}
            found[key] = run_experiment(model, "Target", overrides=given | place).run_dir
        return found[key]

    return of


def epochs_trained(monkeypatch) -> list[tuple[str, int]]:
    """Grows by (meta_transfer, epoch) of each epoch that is trained."""
    trained, original = [], TransferTrainer._train_epoch

    def counted(self, train_data, epoch_idx, *args, **kwargs):
        trained.append((self.transfer, epoch_idx))
        return original(self, train_data, epoch_idx, *args, **kwargs)

    monkeypatch.setattr(TransferTrainer, "_train_epoch", counted)
    return trained


def command(shop, *more, model="LRURec", **keys) -> list[str]:
    values = SMALL | keys
    place = ["--model", model, "--dataset", "Target", "--data_path", str(shop)]
    return ["train", *place, *(f"--{key}={value}" for key, value in values.items()), *more]


def test_the_same_command_starts_goes_on_and_is_done(shop, capsys, monkeypatch):
    trained = epochs_trained(monkeypatch)
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        assert main(command(shop, "--resume")) == 130
    (run_dir,) = runs()
    assert f"train --resume {run_dir} " in capsys.readouterr().err
    assert main(command(shop, "--resume")) == 0
    first = capsys.readouterr().out
    assert trained == [("none", epoch) for epoch in range(3)] and runs() == [run_dir]
    before = {path: path.stat().st_mtime_ns for path in run_dir.iterdir() if path.suffix != ".csv"}
    assert main(command(shop, "--resume")) == 0
    assert capsys.readouterr().out == first and len(trained) == 3
    assert main(["train", "--resume", str(run_dir)]) == 0
    assert capsys.readouterr().out == first and len(trained) == 3
    assert before == {path: path.stat().st_mtime_ns for path in run_dir.iterdir() if path.suffix != ".csv"}
    assert main(command(shop)) == 0, "without --resume a run is a new one"
    assert len(trained) == 6 and len(runs()) == 2


def test_an_unfinished_run_is_preferred_to_a_newer_finished_one(shop, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        assert main(command(shop)) == 130
    (unfinished,) = runs()
    assert main(command(shop)) == 0
    trained = epochs_trained(monkeypatch)
    assert main(command(shop, "--resume")) == 0
    assert [epoch for _, epoch in trained] == [1, 2] and (unfinished / "metrics.json").exists()


def test_another_run_is_refused_and_the_difference_named(shop, monkeypatch, capsys, tmp_path):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        assert main(command(shop)) == 130
    (run_dir,) = runs()
    capsys.readouterr()

    def refused(argv) -> str:
        assert main(argv) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert runs() == [run_dir]
        return line

    other = refused(command(shop, "--resume", epochs=4, learning_rate=0.02))
    assert str(run_dir) in other and "epochs was 3 and is 4, learning_rate was 0.01 and is 0.02" in other
    assert "epochs was 3 and is 9" in refused(["train", "--resume", str(run_dir), "--epochs=9"])
    assert "not the folder of a run" in refused(["train", "--resume", "saved"])
    assert "not the folder of a run" in refused(["train", "--resume", "nowhere"])
    changed = tmp_path / "changed"
    shutil.copytree(shop, changed)
    file = changed / "Target" / "Target.inter"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-1]) + "\n")
    assert "the data has changed since" in refused(command(changed, "--resume"))
    with locked(run_dir / "lock"):
        assert f"{run_dir} is already running" in refused(command(shop, "--resume"))
    # what says nothing about the result may change, and another seed is another run
    shutil.copytree(shop, tmp_path / "moved")
    assert main(command(tmp_path / "moved", "--resume", state="WARNING")) == 0 and runs() == [run_dir]
    assert main(command(shop, "--resume", seed=8)) == 0 and len(runs()) == 2


def test_what_a_killed_write_left_is_cleared_away(shop, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run_experiment("LRURec", "Target", overrides=SMALL | {"data_path": str(shop)})
    (run_dir,) = runs()
    (run_dir / ".model.pth.ab12.tmp").write_bytes(b"half")
    found = run_experiment(resume=run_dir)
    assert found.run_dir == run_dir and not list(run_dir.glob(".*"))
    assert found.metrics["model"] == "LRURec"


def test_a_folder_without_its_last_state_starts_over_in_place(shop, uninterrupted, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(TransferTrainer, "_save_training_state", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_experiment("LRURec", "Target", overrides=SMALL | {"data_path": str(shop)})
    (run_dir,) = runs()
    run_experiment(resume=run_dir)
    assert_same_run(uninterrupted("LRURec", SMALL), run_dir)


def test_a_damaged_state_is_said(shop, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run_experiment("LRURec", "Target", overrides=SMALL | {"data_path": str(shop)})
    (run_dir,) = runs()
    state = run_dir / "model-last.pth"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model-last\.pth: truncated"):
        run_experiment(resume=run_dir)
    (run_dir / "started.json").write_text("[]")
    with pytest.raises(DataError, match=r"started\.json: cannot be read"):
        run_experiment(resume=run_dir)


GUARDED = {"sources": "Near,Far", "vq_heads": 2, "transfer_guard": True}


@pytest.mark.parametrize("validations", [3, 5])
def test_the_guards_second_training_goes_on_and_the_first_is_not_done_again(
    shop, uninterrupted, monkeypatch, validations
):
    given = SMALL | GUARDED | {"data_path": str(shop)}
    whole = uninterrupted("MetaRec", SMALL | GUARDED)
    with monkeypatch.context() as patch:
        stop_after(patch, validations)
        with pytest.raises(KeyboardInterrupt):
            run_experiment("MetaRec", "Target", overrides=given)
    (run_dir,) = runs()
    trained = epochs_trained(monkeypatch)
    run_experiment("MetaRec", "Target", overrides=given, resume=True)
    assert trained == [("none", epoch) for epoch in range(validations - 3, 3)]
    assert_same_run(whole, run_dir)


@pytest.mark.parametrize("deployed", [True, False])
def test_a_run_killed_around_the_guards_verdict_keeps_both_models(shop, uninterrupted, monkeypatch, deployed):
    """Weights that ruin the model, so that the guard deploys the one without transfer, and dies before or after."""
    given = SMALL | GUARDED | {"meta_transfer": "joint", "source_weight": 1000.0}
    whole = uninterrupted("MetaRec", given)
    given |= {"data_path": str(shop)}
    assert json.loads((whole / "metrics.json").read_text())["guard"]["fired"]
    from recbole_metarec.trainer import guard

    original = guard.copy_atomically

    def dying(source, path):
        if path.name == "model.pth" and not deployed:
            raise KeyboardInterrupt
        original(source, path)
        if path.name == "model.pth":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(guard, "copy_atomically", dying)
        with pytest.raises(KeyboardInterrupt):
            run_experiment("MetaRec", "Target", overrides=given)
    (run_dir,) = runs()
    run_experiment(resume=run_dir)
    assert_same_run(whole, run_dir)


@pytest.mark.parametrize("given", [{"epochs": 0}, {"epochs": 5, "eval_step": 2}])
def test_a_pretrained_run_that_hardly_validates_is_resumed(shop, monkeypatch, given):
    given = SMALL | GUARDED | {"meta_transfer": "pretrain", "pretrain_epochs": 2, "data_path": str(shop)} | given
    whole = run_experiment("MetaRec", "Target", overrides=given | {"checkpoint_dir": "whole"})
    with monkeypatch.context() as patch:
        stop_after(patch, 2, method="_save_training_state")
        with pytest.raises(KeyboardInterrupt):
            run_experiment("MetaRec", "Target", overrides=given)
    (run_dir,) = runs()
    run_experiment(resume=run_dir)
    assert_same_run(whole.run_dir, run_dir)


# -- a disk that is full, a folder that may not be written -------------------------------------------------------------


def failing(original, at: int, errno: int):
    """``original``, which fails from its ``at``-th call on, as a full disk does."""
    made = []

    def call(*args, **kwargs):
        made.append(1)
        if len(made) >= at:
            raise OSError(errno, os.strerror(errno))
        return original(*args, **kwargs)

    return call


@pytest.mark.parametrize(
    "model, name, at",
    [
        *(("MetaRec", "fsync", at) for at in (2, 3, 6, 16)),
        *(("MetaRec", "replace", at) for at in (4, 11)),
        *(("SASRec", name, at) for name, at in (("replace", 1), ("fsync", 4), ("replace", 5))),
    ],
)
def test_a_full_disk_stops_the_run_in_one_line_and_loses_nothing(
    shop, uninterrupted, monkeypatch, capsys, model, name, at
):
    given = {"epochs": 2} | (GUARDED if model == "MetaRec" else {"hidden_size": 8, "n_heads": 2})
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(getattr(os, name), at, 28))
        assert main(command(shop, model=model, **given)) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and "No space left on device" in error[0] and "Traceback" not in error[0]
    if at <= 2:
        assert runs() == [], "a run that could not even begin leaves nothing"
        return
    (run_dir,) = runs()
    assert f"train --resume {run_dir}" in error[0] and not list(run_dir.glob(".*"))
    assert main(["train", "--resume", str(run_dir)]) == 0
    assert_same_run(uninterrupted(model, SMALL | given), run_dir)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_no_longer_be_written_loses_nothing(shop, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        assert main(command(shop)) == 130
    (run_dir,) = runs()
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    run_dir.chmod(0o500)
    try:
        assert main(["train", "--resume", str(run_dir)]) == 2
    finally:
        run_dir.chmod(0o700)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {run_dir}") and "Permission denied" in error
    assert before == {path.name: path.read_bytes() for path in run_dir.iterdir()}
    assert main(["train", "--resume", str(run_dir)]) == 0


def test_a_killed_run_of_the_leaderboard_goes_on(shop, monkeypatch):
    overrides = SMALL | {"data_path": str(shop)}
    place = {"folder": "saved", "command": "", "code": "", "data": "", "data_files": [], "config": {}}
    planned = PlannedRun("LRURec", "LRURec", "Target", [], 7, overrides, **place)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train(planned)
    trained = epochs_trained(monkeypatch)
    assert [train(planned)] == runs() and trained == [("none", 2)]
    assert train(planned) in runs() and len(runs()) == 2, "a finished one is done anew"


def test_sigterm_ends_a_run_with_the_line_that_resumes_it(shop, capsys, monkeypatch):
    """As a cluster or a service manager stops it; RecBole's ray would end it with a traceback."""
    original = TransferTrainer._save_training_state

    def save(self, epoch):
        original(self, epoch)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(TransferTrainer, "_save_training_state", save)
            assert main(command(shop)) == 143
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    (run_dir,) = runs()
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told == f"terminated; recbole-metarec train --resume {run_dir} continues from the last checkpoint"
    assert main(["train", "--resume", str(run_dir)]) == 0
