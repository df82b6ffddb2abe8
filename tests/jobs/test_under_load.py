"""Many runs into one store and many requests to one process: nothing is lost, done twice, locked out or piled up."""

import gc
import random
import sqlite3
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from time import sleep

import psutil
import pytest
import torch
from support import fake_runs
from support.fake_runs import assert_complete, begun, command, found_by, planned, until
from support.worlds import TINY, cluster_histories, write_domain

from recbole_metarec.cli import main as cli
from recbole_metarec.errors import DataError
from recbole_metarec.jobs.store import RunStore
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.serve import Recommender

RUNS, RACED = 24, 100  # by processes of their own, and by two processes


def counts_in(file: Path) -> dict[str, int]:
    """Rows of each table, after SQLite has checked the whole file."""
    with sqlite3.connect(file) as base:
        assert base.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert base.execute("PRAGMA foreign_key_check").fetchall() == []
        tables = ("runs", "user_lists")
        return {table: base.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


def complete(runs: int) -> dict[str, int]:
    return {"runs": runs, "user_lists": 1}  # found_by gives the same users in some order


def test_runs_of_two_commands_at_once_are_all_there_and_none_twice(tmp_path):
    """Both commands want the first 6 runs at the same moment, and each 9 more alone; a third process reads."""
    shared, one, other = (
        [planned(tmp_path, seed=seed) for seed in seeds] for seeds in (range(6), range(6, 15), range(15, RUNS))
    )
    plan, commands = shared + one + other, []
    for number, own in enumerate((one, other)):
        (tmp_path / str(number)).mkdir()
        commands.append(command(tmp_path / str(number), shared + own, jobs=2, store=tmp_path / "runs.sqlite"))
    until(lambda: (tmp_path / "runs.sqlite").exists())
    seen = [0]
    with RunStore(tmp_path / "runs.sqlite") as store:
        while any(process.poll() is None for process in commands):
            seen.append(len(store.results(plan)))
            sleep(0.2)
    outputs = [process.communicate(timeout=60)[0] for process in commands]
    assert [process.returncode for process in commands] == [0, 0], outputs
    assert not any(word in output for output in outputs for word in ("locked", "FAILED", "Traceback"))
    assert seen == sorted(seen), "what was there once stays there"
    assert set(begun(tmp_path).values()) == {1} and len(begun(tmp_path)) == RUNS
    assert_complete(tmp_path, plan)
    assert counts_in(tmp_path / "runs.sqlite") == complete(RUNS)
    assert not list(tmp_path.glob("runs.sqlite-*")), "a journal that nobody needs"


def test_two_processes_that_reach_for_the_same_hundred_runs_get_each_of_them_once(tmp_path):
    file, go, script = tmp_path / "runs.sqlite", tmp_path / "go", str(Path(fake_runs.__file__))
    words = [sys.executable, script, "race", tmp_path, file, go, str(RACED)]
    racers = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    until(lambda: len(list(tmp_path.glob("go-*"))) == 2)
    go.touch()
    got = [racer.communicate(timeout=120)[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert Counter(got[0] + got[1]) == {str(seed): 1 for seed in range(RACED)}
    assert all(got), "one of them was done before the other began: nothing was tried"
    assert counts_in(file) == complete(RACED)
    plan = [planned(tmp_path, seed=seed) for seed in range(RACED)]
    with RunStore(file) as store:
        assert [result.valid for result in store.results(plan)] == [found_by(run).valid for run in plan]


# -- requests ----------------------------------------------------------------------------------------------------------

ITEMS, USERS = 24, 50


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Path:
    """The run folder of a trained model, whose data are there."""
    folder = tmp_path_factory.mktemp("shop")
    write_domain(folder, "Shop", cluster_histories(1, USERS, ITEMS, 4, 0.8))
    keys = {key: value for key, value in TINY.items() if key != "vq_heads"}
    keys |= {"data_path": str(folder), "checkpoint_dir": str(folder / "saved"), "epochs": 1, "state": "ERROR"}
    return run_experiment("LRURec", "Shop", overrides=keys).run_dir


def request(recommender: Recommender, draw: random.Random) -> str:
    """One request of a kind that is drawn, which is answered or refused as it should be; the kind."""
    kind = draw.choice(["user", "fresh user", "history", "long history", "steps", "nobody", "no item", "no k", "empty"])
    items = [f"Shop-{draw.randrange(ITEMS)}" for _ in range(300 if kind == "long history" else draw.randrange(1, 12))]
    k = draw.choice([1, 5, 10, 1000])
    if kind in ("nobody", "no item", "no k", "empty"):
        with pytest.raises(DataError):
            if kind == "nobody":
                recommender.history_of(f"Shop-u{draw.randrange(USERS, 10**9)}")
            elif kind == "no item":
                recommender.recommend([*items, f"Shop-{draw.randrange(ITEMS, 10**9)}"], k)
            else:
                recommender.recommend(items if kind == "no k" else [], 0 if kind == "no k" else k)
        return kind
    if "user" in kind:
        items = recommender.history_of(f"Shop-u{draw.randrange(USERS)}")
    if kind == "steps":
        state = recommender.start()
        for item in items:
            state = recommender.add(state, item)
        answer, left_out = recommender.top(state, k, exclude=items[:3]), set(items[:3])
    else:
        left_out = set(items) if kind == "fresh user" else set()
        answer = recommender.recommend(items, k, include_seen=not left_out)
    assert len(answer) == min(k, ITEMS - len(left_out)) and not left_out & {item for item, _ in answer}
    return kind


def requests(recommender: Recommender, count: int, seed: int) -> Counter:
    draw = random.Random(seed)
    return Counter(request(recommender, draw) for _ in range(count))


def tensors_alive() -> int:
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def resident_mib() -> float:
    return psutil.Process().memory_info().rss / 2**20


def open_files() -> int:
    """Of this process: descriptors, and so also sockets and pipes."""
    return psutil.Process().num_fds()


def test_a_thousand_mixed_requests_leave_nothing_behind(served):
    recommender = Recommender.load(served / "model.pth")
    requests(recommender, 200, seed=0)  # what is made once, such as what was read of the data, is there after these
    before, resident, grown = (tensors_alive(), open_files()), resident_mib(), []
    tracemalloc.start()
    for seed in range(2):
        traced = tracemalloc.get_traced_memory()[0]
        kinds = requests(recommender, 1000, seed)
        assert (tensors_alive(), open_files()) == before
        grown.append(tracemalloc.get_traced_memory()[0] - traced)
    tracemalloc.stop()
    assert len(kinds) == 9 and min(kinds.values()) > 50
    # What piles up does so in every thousand: one small object for each request that is answered would be 40 KiB.
    # What Python keeps free for the next list or tuple levels off.
    assert min(grown) < 24 * 1024, f"{[size // 1024 for size in grown]} KiB more in each of two thousand requests"
    # what Python does not see, such as torch's buffers: 16 KiB a request would be 16 MiB; an allocator keeps some pages
    assert resident_mib() - resident < 16


def test_loading_again_and_again_leaves_nothing_behind(served, capsys, monkeypatch):
    """A server that takes each new model as it comes, and the command in one process, which loads one each time."""
    monkeypatch.chdir(served.parent.parent)
    words = ["--user Shop-u7", "--history Shop-3,Shop-1 --include_seen", "--user nobody", "--k 0"]

    def ask(times: int) -> None:
        for number in range(times):
            assert cli.main(["recommend", str(served), *words[number % 4].split()]) == (0 if number % 4 < 2 else 2)
            capsys.readouterr()

    ask(20)
    before, resident = (tensors_alive(), open_files()), resident_mib()
    ask(60)
    assert (tensors_alive(), open_files()) == before
    assert resident_mib() - resident < 16
