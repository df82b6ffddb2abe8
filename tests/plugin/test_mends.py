"""RecBole 1.2.1 runs its own models, and each mend of its terminal output and config works and is still needed.

A ``still_needed`` test that fails is good news: RecBole or a library has changed, and the mend can be deleted.
"""

import os
import sys
import warnings

import pytest
from support.mending import SMALL, can_go, python, run

from recbole_metarec.plugin import mends

SEQUENTIAL = {"train_neg_sample_args": None}


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
        from recbole.config import Config
        from recbole.data import create_dataset
        create_dataset(Config(model="Pop", dataset="ml-100k", config_dict={SMALL!r}))
        """,
        without="quiet_warnings",
    )
    assert "FutureWarning" in out, can_go("quiet_warnings")


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
