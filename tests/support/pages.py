"""What the pages show, and how it is done in a test: the same commands and programs on small data, in this process.

A notebook's kernel calls :func:`make_small`, too, so that its cells are those of the page.
"""

import io
import os
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from support.worlds import cluster_histories, write_domain, write_items

from recbole_metarec import quick_start
from recbole_metarec.cli import main as cli
from recbole_metarec.config.models import model_spec
from recbole_metarec.jobs import pool, train
from recbole_metarec.jobs.process import RunProcess, log_file, run_file
from recbole_metarec.reports import html
from recbole_metarec.tuning import tuner, validate

# isort: split
from recbole import quick_start as recbole_quick_start

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SMALL = {
    "embedding_size": 8, "MAX_ITEM_LIST_LENGTH": 8, "epochs": 1, "topk": 10, "show_progress": False,
}  # fmt: skip
NETWORK = {"embedding_size", "epochs"}  # of which a fitted baseline reads none
TRAINS = ("train", "leaderboard", "ablate", "sweep", "tune")
FEWER = {"--seeds": "1", "--trials": "2"}  # than the pages say
PLANNED = ("ablate", "sweep")  # of which no more than the plan is made: tests/cli/test_experiments.py does some
_BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_WORKERS = {"jobs.train": train.main, "tuning.validate": validate.main}


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """(language, name of a file or "", text) of each block of code."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(page: Path) -> list[str]:
    """Each command of the page on a line of its own, as it is typed, but without what starts several processes."""
    lines = [
        re.sub("^torchrun .*-m recbole_metarec ", "recbole-metarec ", line)
        for kind, _, text in blocks(page)
        if kind == "bash"
        for line in text.replace("\\\n", "").splitlines()
    ]
    return [line for line in lines if line.startswith("recbole-metarec ")]


def write_domains(folder: Path, names: list[str]) -> None:
    """Small domains with item texts, called as those of the pages."""
    for seed, name in enumerate(names):
        write_domain(folder, name, cluster_histories(seed, 30, 24, 4, 0.8))
        write_items(folder, name, {item: f"thing{item % 4} word{item}" for item in range(24)})


def words_of(line: str) -> list[str]:
    """The words of a command, with as few seeds and trials as there can be, and small networks where it trains."""
    command, *words = shlex.split(line, comments=True)[1:]
    for option, few in FEWER.items():
        if option in words:
            words[words.index(option) + 1] = few
        elif option == "--seeds" and command == "leaderboard":
            words += [option, few]
    if command in PLANNED and "--cost" not in words:
        words.append("--cost")
    if command not in TRAINS or "--resume" in words:
        return [command, *words]
    typed = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
    while "--epochs" in words:
        del words[words.index("--epochs") : words.index("--epochs") + 2]
    unread = NETWORK if command == "tune" and model_spec(words[words.index("--model") + 1]).is_fitted else set()
    small = [f"--{key}={value}" for key, value in SMALL.items() if key not in (typed - {"epochs"}) | unread]
    return [command, *words, *small]


def run(line: str) -> str:
    """Does a command, which must succeed; returns what it prints."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.main(words_of(line))
    assert code == 0, f"{line}: {err.getvalue()}"
    return out.getvalue()


class SameProcess(RunProcess):
    """A run in this process, which is over when it has been started."""

    exit_code = None

    def __init__(self, run, worker, more, environment):
        self.run, self.log, self._started = run, log_file(run), 0.0
        Path(run.folder).mkdir(parents=True, exist_ok=True)
        run.write(run_file(run))
        main = _WORKERS[re.search(r"from recbole_metarec\.(\S+) import main", worker[2])[1]]
        with open(self.log, "a") as log, redirect_stdout(log), redirect_stderr(log):
            self.exit_code = main([str(run_file(run)), *more, str(os.getppid())])


def make_small(patch=setattr) -> None:
    """Runs on small networks, without pictures and without further processes. patch: takes object, name and value."""
    real, recbole_run = quick_start.run_experiment, recbole_quick_start.run_recbole

    def small(*args, overrides=None, **given):
        return real(*args, overrides={**(overrides or {}), **SMALL}, **given)

    def small_recbole(model, dataset, config_dict):
        keys = {
            **config_dict,
            **SMALL,
            "data_path": "dataset",
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        }
        return recbole_run(model=model, dataset=dataset.replace("ml-100k", "ml-drama"), config_dict=keys)

    patch(quick_start, "run_experiment", small)
    patch(recbole_quick_start, "run_recbole", small_recbole)
    patch(quick_start, "_draw", lambda *_: None)
    patch(html, "_picture", lambda *_: html.Picture("", ""))
    for module in (pool, tuner):
        patch(module, "RunProcess", SameProcess)
        patch(module, "POLL_SECONDS", 0.0)
