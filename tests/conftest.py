"""What every test starts from: no command-line words, an empty folder of its own, equal seeds."""

import gc
import logging
import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

gc.disable()  # until all is imported and collected


def pytest_collection_finish():
    """What is imported and collected stays: the garbage collector need not look through it again and again."""
    gc.enable()
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_run(monkeypatch, tmp_path):
    """RecBole reads sys.argv, writes saved/ and log/ into the current folder, wraps sys.stdout and sets up the log."""
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, getattr(sys, stream))
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.chdir(tmp_path)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def data_dir() -> Path:
    """Folder of real domains (NAME/NAME.inter), from METAREC_DATA."""
    folder = os.environ.get("METAREC_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real data: set METAREC_DATA to a folder that holds NAME/NAME.inter")
    return Path(folder)


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server that is running."""
    from support.postgres import running

    with running() as server:
        yield server


@pytest.fixture(params=["file", "server"])
def place(request, tmp_path) -> str:
    """Where a store of runs can be: a file, and a database on a server."""
    if request.param == "file":
        return str(tmp_path / "runs.sqlite")
    return request.getfixturevalue("postgres").new_database()


@pytest.fixture
def empty_cache(tmp_path_factory, monkeypatch):
    """No prepared domain anywhere, and no embedded one made on the way: what is only asked for costs nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("recbole_metarec.data.domains.ensure_embedded", lambda folder: folder)


@pytest.fixture
def refused(capsys, tmp_path):
    """Checks that a command line ends in one line that starts so, in exit code 2, and leaves nothing behind."""

    def check(argv: list[str], message: str) -> None:
        from recbole_metarec.cli import main as cli

        assert cli.main(argv) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith(f"error: {message}") and err.count("\n") == 1
        assert list(tmp_path.iterdir()) == []

    return check


@pytest.fixture
def forked_runs(monkeypatch):
    """The processes of runs and trials that a command starts are forks, which need not import PyTorch each."""
    from support import nursery

    from recbole_metarec.jobs.process import RunProcess

    start = RunProcess.__init__

    def fork(self, run, worker, *rest):
        assert worker[0] == sys.executable
        start(self, run, [*nursery.python(), *worker[1:]], *rest)

    monkeypatch.setattr(RunProcess, "__init__", fork)


@pytest.fixture(scope="module")
def without_pictures():
    """Runs in this process draw none: they take half of a small run's time, and test_quick_start.py looks at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recbole_metarec.quick_start._draw", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """The domains Target, Near and Far, which the tests of one file share. Files with other domains have their own."""
    from support.worlds import write_shop  # brings RecBole, which most tests need not

    return write_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch) -> Path:
    """The folder of a cache of the test's own, which is not there yet."""
    monkeypatch.setenv("METAREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """A cache that the tests of one file share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
