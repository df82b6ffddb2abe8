"""Runs that train nothing, for tests of what keeps and starts runs; as a script, a worker or a command of them."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import psutil

from recbole_metarec.evaluation.results import RunResult, UnseenResult
from recbole_metarec.files import data_fingerprint, write_csv, write_json
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.pool import Runner
from recbole_metarec.jobs.store import RunStore
from recbole_metarec.runs.code_version import code_version

USERS = 40
WORKER = (sys.executable, str(Path(__file__).resolve()), "work")


_CODE = cache(code_version)


def planned(folder: Path, model: str = "A", seed: int = 1, data: Path | None = None, **overrides) -> PlannedRun:
    """A run whose output lies under ``folder``. overrides: ``fails`` with a text, ``waits`` for a file."""
    files = [str(data)] if data else []
    run = PlannedRun(
        model=model,
        experiment=model,
        dataset="Shop",
        sources=[],
        seed=seed,
        overrides=overrides,
        config={"valid_metric": "NDCG@10", "learning_rate": 0.1},
        code=_CODE(),
        data=data_fingerprint(files),
        data_files=files,
        command=f"train --model {model} --seed {seed}",
    )
    return replace(run, folder=str(folder / f"{model}-{seed}"))


def found_by(run: PlannedRun, users: int = USERS) -> RunResult:
    """What a finished run has found: the same for the same model and seed, whoever asks."""
    random = np.random.default_rng([run.seed, *run.model.encode()])
    ranks = random.integers(1, 1000, users)
    valid, test = ({"ndcg@10": round(float(value), 6), "mrr@10": 0.25} for value in random.random(2))
    unseen = UnseenResult({"ndcg@10": valid["ndcg@10"] / 2}, {"ndcg@10": test["ndcg@10"] / 2}, -(-ranks // 2))
    return RunResult(
        model=run.model,
        seed=run.seed,
        valid=valid,
        test=test,
        test_users=np.array([f"u{user}" for user in random.permutation(users)]),
        test_ranks=ranks,
        valid_ranks=np.where(ranks % 7, ranks // 2 + 1, 0),
        seconds=1.5,
        peak_memory_mib=10.0,
        parameters=7,
        command=run.command,
        unseen=unseen,
        history=[{"epoch": 0, "train_loss": 2.0, "valid_score": 0.1, "seconds": 0.5}],
    )


def pretend(run: PlannedRun) -> Path:
    """An experiment: notes in ``executed`` that it began, waits and fails as it is told, leaves a run folder."""
    folder = Path(run.folder)
    with open(folder.parent / "executed", "a") as file:
        file.write(f"{run.model} {run.seed} {os.getpid()}\n")
    if "waits" in run.overrides:
        deadline = monotonic() + 180
        while not Path(run.overrides["waits"]).exists() and monotonic() < deadline:
            sleep(0.02)
    if "fails" in run.overrides:
        raise RuntimeError(run.overrides["fails"])
    result = found_by(run)
    metrics = {"valid": result.valid, "test": result.test, "seconds": 1.5, "peak_memory_mib": {"resident": 10.0}}
    metrics |= {"valid_unseen": result.unseen.valid, "test_unseen": result.unseen.test}
    metrics |= {"parameters": 7, "versions": {"python": "3"}, "git_commit": None}
    write_json(folder / "metrics.json", metrics)
    ranks = (found.tolist() for found in (result.test_ranks, result.unseen.test_ranks, result.valid_ranks))
    rows = [
        {"user_id": user, "rank": rank, "rank_unseen": unseen, "valid_rank": valid or None}
        for user, rank, unseen, valid in zip(result.test_users, *ranks)
    ]
    write_csv(folder / "ranks.csv", rows)
    write_csv(folder / "history.csv", result.history)
    return folder


def executed(folder: Path) -> list[tuple[str, int]]:
    """(model and seed, process) of every run that has begun, in order."""
    file = folder / "executed"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(line.rpartition(" ")[0], int(line.rpartition(" ")[2])) for line in lines]


def write_plan(file: Path, runs: list[PlannedRun]) -> Path:
    file.write_text(json.dumps([asdict(run) for run in runs]))
    return file


def same(one, other) -> bool:
    """Whether two results say the same, users in any order."""
    for result in (one, other):
        assert len(result.test_users) == len(set(result.test_users.tolist()))
    found = []
    for result in (one, other):
        unseen = result.unseen
        of_users = result.test_users, result.test_ranks, unseen.test_ranks, result.valid_ranks
        ranks = zip(*(values.tolist() for values in of_users), strict=True)
        arrays = "test_users", "test_ranks", "valid_ranks", "unseen"
        plain = {name: value for name, value in vars(result).items() if name not in arrays}
        found.append((sorted(ranks), plain, unseen.valid, unseen.test, unseen.guarded_test))
    return found[0] == found[1]


def command(folder, plan, jobs=1, store=None) -> subprocess.Popen:
    """A command in a process of its own, with its lines to be read."""
    script = str(Path(__file__).resolve())
    store = store or folder / "runs.sqlite"
    words = [sys.executable, script, "command", write_plan(folder / "plan.json", plan), store]
    return subprocess.Popen(
        [*words, str(jobs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # tests that were started in the background ignore it, and so would their children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def until(condition, seconds=120.0):
    """Waits for what another process does; an assertion if it never does."""
    deadline = monotonic() + seconds
    while not (value := condition()):
        assert monotonic() < deadline, "nothing happened"
        sleep(0.02)
    return value


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def results(folder, plan, place=None):
    with RunStore(place or folder / "runs.sqlite") as store:
        return store.results(plan)


def assert_complete(folder, plan, place=None):
    """All runs of the plan are there, each as if nothing had ever been killed."""
    found = results(folder, plan, place)
    assert len(found) == len(plan)
    assert all(same(found_by(run), result) for run, result in zip(plan, found, strict=True))


def begun(folder) -> Counter:
    return Counter(name for name, _ in executed(folder))


def _command(plan_file: str, store_file: str, jobs: str) -> int:
    plan = [PlannedRun(**values) for values in json.loads(Path(plan_file).read_text())]
    with RunStore(store_file) as store:
        try:
            Runner(store, int(jobs), lambda line: print(line, flush=True), WORKER).run(plan)
        except KeyboardInterrupt as stop:
            print(stop)
            return 130
        return 1 if store.failures(plan) else 0


def _race(folder: str, store_file: str, go: str, count: str) -> int:
    """Waits for the file ``go``, then claims so many runs and finishes those that it gets; prints which."""
    with RunStore(store_file) as store:
        Path(f"{go}-{os.getpid()}").touch()
        while not Path(go).exists():
            sleep(0.001)
        for seed in range(int(count)):
            run = planned(Path(folder), seed=seed)
            with store.claimed(run) as mine:
                if mine:
                    store.finish(run, found_by(run))
                    print(seed)
            sleep(mine * 0.02)  # the other's turn, on a busy machine too
    return 0


def _hold(folder: str, store_file: str) -> int:
    with RunStore(store_file) as store, store.claimed(planned(Path(folder))) as mine:
        print(mine, flush=True)
        sleep(60)
    return 0


def _write_many(folder: str, store_file: str, first: str, count: str) -> int:
    with RunStore(store_file) as store:
        for seed in range(int(first), int(first) + int(count)):
            run = planned(Path(folder), seed=seed)
            store.finish(run, found_by(run))
    return 0


if __name__ == "__main__":
    from recbole_metarec.jobs import worker

    what, *arguments = sys.argv[1:]
    if what == "work":
        sys.exit(worker.work(arguments, pretend))
    sys.exit({"command": _command, "race": _race, "write": _write_many, "hold": _hold}[what](*arguments))
