"""The mends of RecBole's checkpoints: nothing in a file runs, its own are read back, and each mend is still needed."""

import importlib.metadata
import importlib.util
import logging
import os
from pathlib import Path

import pytest
import torch
from packaging.version import Version
from support.mending import SMALL, can_go, run_without

from recbole_metarec.errors import CheckpointError, TrainingError

TORCH_LOAD = torch.load


class Hostile:
    """Runs code when unpickled."""

    def __reduce__(self):
        return os.mkdir, ("it-ran",)


@pytest.fixture
def trainer():
    """A fitted Trainer of RecBole's own whose checkpoint lies in the test's folder, and its test data."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_logger

    config = Config(model="BPR", dataset="ml-100k", config_dict=dict(SMALL))
    init_logger(config)
    train, valid, test = data_preparation(config, create_dataset(config))
    model = get_model("BPR")(config, train._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], "BPR")(config, model)
    trainer.fit(train, valid, show_progress=False, verbose=False)
    logging.getLogger().handlers.clear()
    return trainer, test


def test_torch_load_is_never_replaced():
    assert torch.load is TORCH_LOAD and torch.load.__module__ == "torch.serialization"


def test_own_checkpoint_is_read_back_and_resumed(trainer):
    trainer, test = trainer
    expected = trainer.evaluate(test, load_best_model=False)
    with torch.no_grad():
        trainer.model.user_embedding.weight.zero_()
    assert trainer.evaluate(test) == expected
    trainer.resume_checkpoint(trainer.saved_model_file)
    assert trainer.start_epoch == 1
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ


def test_changed_checkpoint_is_refused_and_nothing_in_it_runs(trainer):
    trainer, test = trainer
    torch.save({"state_dict": Hostile()}, trainer.saved_model_file)
    for read in (lambda: trainer.evaluate(test), lambda: trainer.resume_checkpoint(trainer.saved_model_file)):
        with pytest.raises(CheckpointError, match="trust_pickle: true"):
            read()
    assert not os.path.exists("it-ran")


def test_foreign_checkpoint_needs_trust(trainer):
    trainer, test = trainer
    os.rename(trainer.saved_model_file, "foreign.pth")
    with pytest.raises(CheckpointError, match=r"foreign\.pth.*trust_pickle: true"):
        trainer.evaluate(test, model_file="foreign.pth")
    trainer.config["trust_pickle"] = True
    assert trainer.evaluate(test, model_file="foreign.pth")
    trainer.resume_checkpoint("foreign.pth")


def test_plain_tensors_need_no_trust(trainer):
    trainer, test = trainer
    expected = trainer.evaluate(test)
    torch.save({"state_dict": trainer.model.state_dict(), "other_parameter": None}, "plain.pth")
    assert trainer.evaluate(test, model_file="plain.pth") == expected


def test_truncated_checkpoint_is_said_in_one_line(trainer):
    trainer, test = trainer
    with open(trainer.saved_model_file, "r+b") as file:
        file.truncate(100)
    with pytest.raises(CheckpointError, match=r"cannot be read|trust_pickle"):
        trainer.evaluate(test)
    with pytest.raises(FileNotFoundError):
        trainer.evaluate(test, model_file="absent.pth")


@pytest.mark.skipif(Version(torch.__version__) < Version("2.6"), reason="PyTorch < 2.6 unpickles by default")
def test_trainer_checkpoints_still_needed():
    out = run_without("trainer_checkpoints", "Pop")
    assert "Weights only load failed" in out, can_go("trainer_checkpoints")


@pytest.mark.parametrize("saved", [True, False])
def test_a_loss_that_is_nan_is_said_with_what_was_kept(saved, trainer):
    trainer, _ = trainer
    trainer._check_nan(torch.tensor(1.0))
    if not saved:
        os.unlink(trainer.saved_model_file)
    kept = f"the best model so far is {trainer.saved_model_file}" if saved else "no model was saved before it"
    with pytest.raises(TrainingError, match=f"the training loss is not finite; lower learning_rate; {kept}"):
        trainer._check_nan(torch.tensor(float("nan")))


def test_trainer_names_its_loss_still_needed():
    source = Path(importlib.util.find_spec("recbole").origin).with_name("trainer") / "trainer.py"
    assert 'raise ValueError("Training loss is nan")' in source.read_text(encoding="utf-8")
