"""Each mend of RecBole 1.2.1 works, and each is still needed.

A ``still_needed`` test that fails is good news: RecBole or a library has changed, and the mend can be deleted.
"""

import importlib.metadata
import importlib.util
import logging
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.version import Version
from support import nursery

import recbole_metarec
from recbole_metarec.errors import CheckpointError, TrainingError
from recbole_metarec.plugin import mends

TORCH_LOAD = torch.load
SMALL = {
    "epochs": 1,
    "MAX_ITEM_LIST_LENGTH": 10,
    "user_inter_num_interval": "[300,330]",
    "embedding_size": 8,
    "hidden_size": 8,
    "inner_size": 8,
    "n_layers": 1,
    "num_layers": 1,
    "train_batch_size": 4096,
    "show_progress": False,
    "state": "ERROR",
}
SEQUENTIAL = {"train_neg_sample_args": None}
WITHOUT = """
import recbole_metarec
from recbole_metarec.plugin import checkpoint_mends, mends, on_import
for hooks in on_import.HOOKS.values():
    hooks[:] = [hook for hook in hooks if hook.__name__ != "{mend}"]
"""


def python(code: str, *, without: str | None = None, forked: bool = True) -> str:
    """What a process without RecBole prints (both streams) for the code, with all mends or all but ``without``.

    forked: a fork, which has PyTorch and other libraries already, and not a Python that starts with nothing.
    """
    if without:
        assert without in {mend.name for mend in mends.mends()}
        code = WITHOUT.format(mend=without) + textwrap.dedent(code)
    else:
        code = textwrap.dedent(code)
    path = os.pathsep.join(
        [os.path.dirname(os.path.dirname(recbole_metarec.__file__)), os.environ.get("PYTHONPATH", "")]
    )
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    words = nursery.python() if forked else (sys.executable,)
    done = subprocess.run([*words, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    return done.stdout + done.stderr


def can_go(mend: str) -> str:
    return f"RecBole fails no more without mends.{mend}: delete the mend and its tests"


def run(model: str, **config):
    from recbole.quick_start import run_recbole

    return run_recbole(model=model, dataset="ml-100k", config_dict={**SMALL, **config})


# --- RecBole's own models run ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "BERT4Rec"])
def test_sequential_models_train_reload_and_evaluate(model):
    result = run(model, **SEQUENTIAL)
    assert 0 <= result["test_result"]["ndcg@10"] <= 1


@pytest.mark.parametrize("model", ["Pop", "BPR", "LightGCN"])
def test_general_models_train_reload_and_evaluate(model):
    result = run(model)
    assert 0 < result["test_result"]["ndcg@10"] <= 1


@pytest.mark.filterwarnings("ignore:`session.report` is meant to only be called")
def test_hyper_tunings_objective_runs_outside_ray():
    from recbole.quick_start import objective_function

    result = objective_function({**SMALL, "model": "Pop", "dataset": "ml-100k"})
    assert result["model"] == "Pop" and result["test_result"]["ndcg@10"] > 0


def test_no_warning_floods_a_run():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        mends.quiet_warnings()
        run("BPR")
    recbole_future = [str(w.message) for w in seen if w.category is FutureWarning and "recbole" in w.filename]
    assert recbole_future == []


def test_quiet_warnings_still_needed():
    out = python(
        f"""
        from recbole.quick_start import run_recbole
        run_recbole(model="Pop", dataset="ml-100k", config_dict={SMALL!r})
        """,
        without="quiet_warnings",
    )
    assert "FutureWarning" in out, can_go("quiet_warnings")


# --- NumPy and SciPy ----------------------------------------------------------------------------------------------


def test_numpy_names_are_added_and_never_replaced():
    own_bool = np.bool
    mends.numpy_aliases()
    assert np.bool is own_bool
    assert np.zeros(1, dtype=np.float).dtype == np.float64
    assert np.zeros(1, dtype=np.long).dtype.kind == "i"
    assert np.array([1]).astype(np.str).dtype.kind == "U"


def test_config_leaves_numpys_own_names_alone():
    from recbole.config import Config

    before = np.bool, np.long
    Config(model="Pop", dataset="ml-100k")
    assert (np.bool, np.long) == before


@pytest.mark.skipif(Version(np.__version__) < Version("1.24"), reason="NumPy < 1.24 has the old names itself")
def test_numpy_aliases_still_needed():
    out = python(
        "import torch; from recbole.data.interaction import Interaction; Interaction({'a': [1.0]})",
        without="numpy_aliases",
    )
    assert "has no attribute 'float'" in out, can_go("numpy_aliases")


@pytest.mark.skipif(Version(np.__version__) < Version("2"), reason="NumPy 1 has np.float_")
def test_config_numpy_aliases_still_needed():
    out = python(
        "from recbole.config import Config; Config(model='Pop', dataset='ml-100k')", without="config_numpy_aliases"
    )
    assert "`np.float_` was removed" in out, can_go("config_numpy_aliases")


@pytest.mark.parametrize(
    "text, value",
    [
        ("[5, 10]", [5, 10]), ("1e-3", 0.001), ("None", None), ("true", True), ("False", False), ("[5,inf)", "[5,inf)"),
        ("{'a': 'b'}", {"a": "b"}), ("'x'", "x"), ("(1, 2)", (1, 2)),
        *((text, text) for text in ("max", "2*64", "b'x'", "1/0", "(" * 9999, "__import__('os').mkdir('it-ran')")),
    ],
)  # fmt: skip
def test_a_text_in_a_config_is_a_literal_and_no_program(monkeypatch, text, value):
    from recbole.config import Config

    given = Config(model="Pop", dataset="ml-100k", config_dict={"wandb_project": text})
    assert given["wandb_project"] == value and type(given["wandb_project"]) is type(value)
    if "=" not in text:
        monkeypatch.setattr(sys, "argv", ["run", f"--wandb_project={text}"])
        assert Config(model="Pop", dataset="ml-100k")["wandb_project"] == value
    assert not os.path.exists("it-ran")


def test_config_without_eval_still_needed():
    out = python(
        """
        from recbole.config import Config
        Config(model="Pop", dataset="ml-100k", config_dict={"a": "print('it ran')"})
        """,
        without="config_without_eval",
    )
    assert "it ran" in out, can_go("config_without_eval")


def test_dok_update_fills_a_matrix():
    from scipy.sparse import dok_matrix

    matrix = dok_matrix((2, 3))
    matrix._update({(0, 2): 1.0, (1, 0): 2.0})
    assert matrix.toarray().tolist() == [[0, 0, 1], [2, 0, 0]]


@pytest.mark.skipif(Version(importlib.metadata.version("scipy")) < Version("1.13"), reason="SciPy < 1.13 has _update")
def test_scipy_dok_update_still_needed():
    out = python(
        f"""
        from recbole.quick_start import run_recbole
        run_recbole(model="LightGCN", dataset="ml-100k", config_dict={SMALL!r})
        """,
        without="scipy_dok_update",
    )
    assert "has no attribute '_update'" in out, can_go("scipy_dok_update")


# --- ray ----------------------------------------------------------------------------------------------------------


def test_recbole_imports_and_numpy_is_left_as_found():
    out = python(
        """
        import recbole_metarec, numpy as np
        from recbole.trainer import HyperTuning
        from recbole.quick_start import objective_function
        print("bool8" in vars(np), "imported")
        """,
        forked=False,
    )
    assert "False imported" in out


@pytest.mark.skipif(Version(np.__version__) < Version("2"), reason="with NumPy 1 and setuptools < 81 ray imports")
def test_ray_for_recbole_still_needed():
    out = python("from recbole.quick_start import run_recbole")
    assert "Error" in out and "ray" in out, can_go("ray_for_recbole")


HIDE = """
import importlib.abc, sys
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {name!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Hide())
"""


def test_without_ray_recbole_starts_and_tuning_says_why_not():
    out = python(
        HIDE.format(name="ray")
        + textwrap.dedent(
            """
            import recbole_metarec
            from recbole.quick_start import quick_start
            quick_start.tune.report(ndcg=1.0)
            print("ray left behind:", "ray" in sys.modules)
            quick_start.tune.run()
            """
        )
    )
    assert "ray left behind: False" in out
    assert "AttributeError: run: ray could not be imported" in out and "hyperopt" in out


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray (Python 3.11 or older)")
def test_without_pkg_resources_ray_is_imported_all_the_same():
    out = python(
        """
        import importlib.util, sys
        real = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name == "pkg_resources" else real(name, *rest)
        import recbole_metarec
        from recbole.quick_start import quick_start
        print(sys.modules["ray.tune"].__file__, "pkg_resources" in sys.modules)
        """
    )
    assert "__init__.py False" in out


# --- the terminal ---------------------------------------------------------------------------------------------------


def test_colorama_wraps_stdout_once(monkeypatch, tmp_path):
    import io

    import recbole.utils.logger as logger
    from colorama.ansitowin32 import StreamWrapper

    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logger.init(autoreset=True)
    first = sys.stdout
    logger.init(autoreset=True)
    assert isinstance(first, StreamWrapper) and sys.stdout is first


def test_colorama_wraps_once_still_needed():
    out = python(
        """
        import sys, recbole.utils.logger as logger
        logger.init(autoreset=True); first = sys.stdout; logger.init(autoreset=True)
        print("wrapped again:", sys.stdout is not first)
        """,
        without="colorama_wraps_once",
    )
    assert "wrapped again: True" in out, can_go("colorama_wraps_once")


def test_anomaly_detection_stays_off():
    out = python(
        "import recbole_metarec, recbole.model.sequential_recommender, torch; print(torch.is_anomaly_enabled())"
    )
    assert out.split()[-1] == "False"


def test_anomaly_detection_off_still_needed():
    out = python(
        "import recbole.model.sequential_recommender, torch; print('on:', torch.is_anomaly_enabled())",
        without="anomaly_detection_off",
    )
    assert "on: True" in out, can_go("anomaly_detection_off")


# --- checkpoints ------------------------------------------------------------------------------------------------------


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
    out = python(
        f"""
        from recbole.quick_start import run_recbole
        run_recbole(model="Pop", dataset="ml-100k", config_dict={SMALL!r})
        """,
        without="trainer_checkpoints",
    )
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
