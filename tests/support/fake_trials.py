"""Trials that train nothing, for tests of tuning; as a script, a trial's worker or a command that tunes.

The value of a configuration is known in closed form: best, and 1, at a = 0.25 and b = right.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

# isort: split
from optuna.distributions import CategoricalDistribution, FloatDistribution
from support import fake_runs, nursery

from recbole_metarec.errors import ConfigError
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.tuning import storage
from recbole_metarec.tuning.storage import storage_at
from recbole_metarec.tuning.study import TuningStudy
from recbole_metarec.tuning.tuner import Tuner

storage.HEARTBEAT_SECONDS, storage.GRACE_SECONDS = 1, 3  # so that a killed trial is soon known to be dead
WORKER = (sys.executable, str(Path(__file__).resolve()), "work")


def forked_worker() -> tuple[str, ...]:
    """The same worker as a fork, which costs less."""
    return *nursery.python(), *WORKER[1:]


SPACE = {"a": FloatDistribution(0.0, 1.0), "b": CategoricalDistribution(["wrong", "right", "bad", "odd"])}
DEFAULTS = {"a": 0.9, "b": "wrong"}


def base(folder: Path, seed: int = 1, data: Path | None = None, **config) -> PlannedRun:
    """The run of the default configuration. config: keys that are not searched."""
    run = fake_runs.planned(Path(folder), seed=seed, data=data)
    return replace(run, config=run.config | DEFAULTS | config)


def value(a: float, b: str) -> float:
    return 1 - (a - 0.25) ** 2 - (b != "right") * 0.5


def plan(run: PlannedRun, overrides) -> PlannedRun:
    """As the plan of a comparison does: the values in the run's config, and an error where they do not go together."""
    if overrides.get("b") == "odd":
        raise ConfigError("b is odd, which does not go with a")
    return replace(run, overrides=dict(overrides), config=run.config | overrides)


def pretend(run: PlannedRun) -> dict[str, float]:
    """A trial: notes in ``executed`` what it tries, waits where a file ``hold`` is and fails where b is bad."""
    folder = Path(run.folder).parent
    with open(folder / "executed", "a") as file:
        file.write(f"{run.config['a']} {run.config['b']}\n")
    deadline = monotonic() + 180
    while (folder / "hold").exists() and monotonic() < deadline:
        sleep(0.02)
    if run.config["b"] == "bad":
        raise RuntimeError("the loss\nis not finite")
    return {"ndcg@10": value(run.config["a"], run.config["b"]), "mrr@10": 0.5}


def executed(folder: Path) -> list[dict]:
    """The configuration of every trial that has begun, in order."""
    file = Path(folder) / "executed"
    rows = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [{"a": float(a), "b": b} for a, b in rows]


def tune(folder: Path, total: int, run: PlannedRun | None = None, space=SPACE, say=print, worker=()):
    """The study after a command that brought it to so many trials, forks by default: (best, count, errors)."""
    run = run or base(folder)
    with storage_at(url(folder)) as trials:
        study = TuningStudy(trials, run, space)
        Tuner(study, lambda overrides: plan(run, overrides), Path(folder), say, worker or forked_worker()).run(total)
        return study.best(), study.count(), study.failed()


def url(folder: Path) -> str:
    """Where trials are kept: a file, if the environment says nothing else."""
    return os.environ.get("TRIALS_ARE_KEPT_IN") or f"sqlite:///{folder}/tuning.sqlite"


def _command(folder: str, total: str, *worker: str) -> int:
    try:
        tune(Path(folder), int(total), say=lambda line: print(line, flush=True), worker=worker)
    except KeyboardInterrupt as stop:
        print(stop)
        return 130
    return 0


if __name__ == "__main__":
    from recbole_metarec.tuning import worker

    what, *arguments = sys.argv[1:]
    if what == "work":
        sys.exit(worker.work(arguments, pretend))
    sys.exit(_command(*arguments))
