"""RecBole is set up when it is first imported, whoever does it; until then the package costs nothing."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support import nursery

import recbole_metarec
from recbole_metarec.cli import main as cli

ROOT = Path(recbole_metarec.__file__).resolve().parents[1]


def fresh(code: str, *, package: bool = True, forked: bool = True) -> list[str]:
    """What a process without RecBole prints that has imported our package, or has not, and runs ``code``.

    forked: a fork, which has PyTorch and other libraries already, and not a Python that starts with nothing.
    """
    start = "import recbole_metarec, sys\n" if package else ""
    words = nursery.python() if forked else (sys.executable,)
    command = [*words, "-c", start + textwrap.dedent(code)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_importing_the_package_imports_nothing_heavy_and_costs_little():
    heavy = {"torch", "numpy", "pandas", "polars", "scipy", "recbole"}
    code = f"import time; assert not {heavy!r} & set(sys.modules); print(time.process_time())"
    (seconds,) = fresh(code, forked=False)
    assert float(seconds) < 0.3


def test_help_and_mistyped_options_import_nothing_heavy_and_mistyped_words_neither_torch_nor_recbole():
    light = "absent=('torch', 'recbole', 'numpy', 'pandas', 'polars', 'scipy')"
    checks = [f"check(0, {light})", f"check(0, '--help', {light})", f"check(2, 'trian', {light})"]
    checks += [f"check(0, {name!r}, '--help', {light})" for name in cli.COMMANDS]
    checks += [f"check(2, {name!r}, '--no-such-option', {light})" for name in cli.COMMANDS]
    wrong = {
        "train": ["--model", "MetaRek"],
        "leaderboard": ["--models", "LRUReck"],
        "ablate": ["--variants", "no-such"],
        "sweep": ["temperatur=1"],
        "tune": ["--trials", "0"],
        "recommend": ["--user", "u"],
        "neighbours": ["no/folder"],
        "simulate": ["--noise", "2"],
    }
    checks += [f"check(2, {name!r}, *{words!r})" for name, words in wrong.items()]
    silent = """
    import contextlib, io
    from recbole_metarec.cli import main as cli

    def check(expected, *argv, absent=("torch", "recbole")):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            code = cli.main(list(argv))
        assert code == expected, (argv, said.getvalue())
        assert not set(absent) & set(sys.modules), argv
    """
    fresh(textwrap.dedent(silent) + "\n".join(checks), forked=False)


SET_UP = """
    import recbole.trainer, recbole.data.dataset, recbole.quick_start, recbole.config
    from recbole.utils import get_model
    assert recbole.trainer.MetaRecTrainer.__name__ == "TransferTrainer"
    assert recbole.data.dataset.MetaRecDataset.__name__ == "TransferDataset"
    assert get_model("MetaRec") is __import__("recbole_metarec.model.metarec").model.metarec.MetaRec
    assert recbole.config.Config._convert_config_dict(None, {"a": "2*64"}) == {"a": "2*64"}
    from recbole_metarec.plugin.mends import mends
    import recbole.model.sequential_recommender as package
    assert package.LRURec.__name__ == "LRURec"
    assert [mend.name for mend in mends() if not mend.in_force] == []
"""


@pytest.mark.parametrize(
    "first", ["recbole", "recbole.model.sequential_recommender.sasrec", "recbole_metarec.model.metarec"]
)
def test_recbole_is_set_up_whatever_is_imported_first(first):
    fresh(f"import {first}\n{textwrap.dedent(SET_UP)}", forked=first != "recbole_metarec.model.metarec")


def test_what_sets_recbole_up_does_not_import_it():
    """Else any module of ours that is imported first would be asked for in the middle of its own import."""
    fresh(
        "import recbole_metarec.plugin.mends, recbole_metarec.plugin.registration; assert 'recbole' not in sys.modules"
    )


def test_what_was_imported_before_us_is_set_up_at_once():
    code = "import recbole, recbole.utils.argument_list, recbole_metarec\n"
    fresh(code + textwrap.dedent(SET_UP) + "assert 'sources' in recbole.utils.dataset_arguments", package=False)


def test_recbole_can_be_looked_for_without_being_imported():
    said = fresh("""
    import importlib.util, importlib.resources
    spec = importlib.util.find_spec("recbole")
    print(spec.origin, "recbole" in sys.modules)
    assert importlib.util.find_spec("recbole_gnn_or_so") is None and importlib.util.find_spec("recbole.nothing") is None
    import recbole
    assert recbole.__spec__.origin == recbole.__file__ == spec.origin
    assert (importlib.resources.files("recbole") / "properties" / "overall.yaml").is_file()
    assert "__version__" in recbole.__loader__.get_source("recbole")
    """)
    assert said[0].endswith("recbole/__init__.py False")


def test_threads_that_import_recbole_at_once_all_get_it_set_up():
    fresh("""
    import importlib, threading
    names, missing = ["recbole", "recbole.config", "recbole.config", "recbole.trainer"], []
    start = threading.Barrier(len(names))

    def load(name):
        start.wait()
        importlib.import_module(name)
        if name == "recbole.trainer":
            sys.modules[name].MetaRecTrainer
        if name == "recbole.config" and not hasattr(sys.modules[name].Config._init_device, "__wrapped__"):
            missing.append(name)

    threads = [threading.Thread(target=load, args=(name,)) for name in names]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not missing and recbole_metarec.plugin.mends.mends()[0].in_force
    """)


def test_a_second_import_of_the_package_changes_nothing():
    fresh("""
    import importlib, recbole.config
    finders, method = list(sys.meta_path), recbole.config.Config._init_device
    importlib.reload(recbole_metarec)
    assert sys.meta_path == finders and recbole.config.Config._init_device is method
    """)


def test_the_import_fails_where_recbole_does_and_may_be_tried_again(tmp_path):
    (tmp_path / "broken" / "recbole").mkdir(parents=True)
    (tmp_path / "broken" / "recbole" / "__init__.py").write_text("raise ImportError('on purpose')")
    fresh("""
    sys.path.insert(0, "broken")
    for _ in range(2):
        try:
            import recbole
        except ImportError as error:
            assert str(error) == "on purpose"
        else:
            raise AssertionError
    sys.path.remove("broken")
    import recbole.config
    assert recbole.config.Config._init_device.__wrapped__
    """)
