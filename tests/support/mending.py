"""RecBole with all mends or all but one, and a small run of one of its models."""

import os
import subprocess
import sys
import textwrap

from support import nursery

import recbole_metarec
from recbole_metarec.plugin import checkpoint_mends, evaluation_mends, mends  # noqa: F401 (each adds its mends)

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


def run_without(mend: str, model: str) -> str:
    """What a process prints that runs one of RecBole's models with all mends but one."""
    code = f"""
        from recbole.quick_start import run_recbole
        run_recbole(model="{model}", dataset="ml-100k", config_dict={SMALL!r})
        """
    return python(code, without=mend)


def can_go(mend: str) -> str:
    return f"RecBole fails no more without mends.{mend}: delete the mend and its tests"


def run(model: str, **config):
    from recbole.quick_start import run_recbole

    return run_recbole(model=model, dataset="ml-100k", config_dict={**SMALL, **config})
