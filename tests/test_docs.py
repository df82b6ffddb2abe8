"""What docs/ shows is done as it stands there: files are saved under their names, commands and programs are run.

Only the data and the sizes are smaller than in the text, and of ``ablate`` and ``sweep`` no more than the plan is made.
"""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from support.worlds import write_shop

import recbole_metarec
from recbole_metarec.cli import main as cli
from recbole_metarec.config import models

DOCS = Path(recbole_metarec.__file__).resolve().parents[1] / "docs"
TINY = {"embedding_size": 8, "MAX_ITEM_LIST_LENGTH": 8, "epochs": 1, "topk": 10, "show_progress": False}
_BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> tuple[dict[str, str], list[str]]:
    """The files that a page of docs/ shows, and its commands, each on a line of its own."""
    found = _BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    commands = [line for kind, _, text in found if kind == "bash" for line in text.replace("\\\n", "").splitlines()]
    return {name: text for _, name, text in found if name}, commands


@pytest.fixture
def page(monkeypatch, tmp_path, capsys, forked_runs):
    """A function that saves the files of a page and does its commands, and returns what they have printed."""
    monkeypatch.setattr(models, "_REGISTERED", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    shop = str(write_shop(tmp_path / "shop"))

    def do(name: str) -> list[str]:
        files, commands = blocks(name)
        for file, text in files.items():
            Path(file).write_text(text)
            monkeypatch.delitem(sys.modules, Path(file).stem, raising=False)
        return [_done(line, shop, capsys) for line in commands]

    return do


def _done(line: str, shop: str, capsys) -> str:
    program, command, *words = shlex.split(line)
    assert program == "recbole-metarec"
    fewer = {"leaderboard": ["--seeds=1"], "ablate": ["--cost"], "sweep": ["--cost"], "tune": ["--trials=1"]}
    words = [word for word in words if word not in ("--trials", "20")] + fewer.get(command, [])
    tiny = [f"--{key}={value}" for key, value in TINY.items()]
    sources = ["--sources=Near,Far"] if command == "ablate" or line.find("--gradient_rescaling") > 0 else []
    assert cli.main([command, *words, "--dataset=Target", f"--data_path={shop}", *sources, *tiny]) == 0
    return capsys.readouterr().out


def test_an_own_model(page, tmp_path, capsys):
    train, leaderboard, tune, sweep, ablate = page("own-model.md")
    assert "MyModel" in train and re.search(r"^MyModel +\d", leaderboard, re.MULTILINE)
    assert "MyModel on Target: the best of 1 trials (0 failed)" in tune
    assert sweep.startswith("cost: 6 runs") and ablate.startswith("cost: 10 runs")
    program = blocks("own-model.md")[0]["run_it.py"].replace("ml-drama", "Target")
    small = {**TINY, "data_path": str(tmp_path / "shop")}
    Path("run_it.py").write_text(program.replace('{"epochs": 5}', repr(small)))
    sys.path.append(str(tmp_path))
    runpy.run_path("run_it.py")
    assert "MyModel" in capsys.readouterr().out and list(Path("saved").glob("MyModel-*.pth"))


def test_an_own_transfer(page):
    ablate, train = page("own-transfer.md")
    assert ablate.startswith("cost: 10 runs") and "MetaRec" in train
    weights = (next(Path("saved").glob("MetaRec-*")) / "sources.csv").read_text().splitlines()
    column = weights[0].split(",").index("weight")
    assert sorted(float(line.split(",")[column]) for line in weights[1:]) == [0.0, 1.0]
