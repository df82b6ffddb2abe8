"""The service of docs/service.py on the loopback: how long eight clients at once wait for an event or for ten items.

Each client has its own user, who buys an item and asks for ten others, again and again.
"""

import http.client
import json
import os
import random
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from harness import HERE, Figure, NotYet, Result, main
from sides import build

from recbole_metarec.serve import Recommender

_DATASET = "Instruments"  # 9,922 items
_CLIENTS, _EVENTS = 8, 50  # in a repeat each client sends so many events and as many questions


def measure(options) -> Result:
    ours, file = build("LRURec", options.data_path, _DATASET), Path("model.pth").absolute()
    ours.model.lru_share.fill_(0.5)  # so that both encoder and memory are used
    ours.trainer._save_checkpoint(-1, verbose=False, saved_model_file=str(file))
    recommender = Recommender.load(file)
    rounds = []
    with served(file) as port, ThreadPoolExecutor(_CLIENTS) as pool:
        for number in range(options.repeats + 1):
            users = [f"{number} {client}" for client in range(_CLIENTS)]
            rounds.append(list(pool.map(partial(visit, port, recommender.items), users)))
    same = answers_are_right(recommender, rounds[-1])
    kinds = {"an event": 0, "a question": 1}
    waits = {kind: [[w for v in visits for w in v[which]] for visits in rounds[1:]] for kind, which in kinds.items()}
    figures = {
        f"{kind}, p{q}": Figure("ms", [float(np.percentile(times, q)) for times in waits[kind]])
        for kind in kinds
        for q in (50, 99)
    }
    slower = [max(pair) for pair in zip(*(figures[f"{kind}, p99"].values for kind in kinds), strict=True)]
    notes = f"{_CLIENTS} clients, each {_EVENTS} times an event and a question of ten items by turns, a connection for "
    notes += f"each; {len(recommender.items):,} items, with the item memory. Load of the machine meanwhile: "
    notes += f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, the clients among it."
    return Result(same, slower, figures, notes)


@contextmanager
def served(model: Path):
    """Runs the service in its own process, and yields its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "service:app", "--app-dir", str(HERE.parent / "docs")]
    paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "MODEL": str(model), "PYTHONPATH": paths}
    process = subprocess.Popen([*command, "--port", str(port), "--log-level", "warning"], env=environment)
    try:
        while True:
            if process.poll() is not None:
                raise NotYet("the service has not started; it needs fastapi and uvicorn")
            try:
                ask(port, "/health")
                break
            except ConnectionError:
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def ask(port: int, path: str, content: dict | None = None):
    """Sends a request: GET, or POST with content. Returns (answer, milliseconds)."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        body = None if content is None else json.dumps(content)
        connection.request("GET" if body is None else "POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        return json.loads(text), 1e3 * (time.perf_counter() - started)
    finally:
        connection.close()


def visit(port: int, items: list[str], user: str) -> tuple[list[float], list[float], list[str], list[dict]]:
    """One client: milliseconds of each event and of each question, the user's history, and the last answer."""
    events, questions, answer = [], [], []
    history = random.Random(user).choices(items, k=_EVENTS)
    for number, item in enumerate(history, start=1):
        counted, took = ask(port, "/event", {"user": user, "item": item})
        assert counted["seen"] == len(set(history[:number])), "an event was lost"
        events.append(took)
        answer, took = ask(port, "/recommend", {"user": user, "k": 10})
        questions.append(took)
    return events, questions, history, answer


def answers_are_right(recommender: Recommender, visits: list[tuple]) -> str:
    """Compares each last answer with recommendations for the same history without the service."""
    off = 0.0
    for _, _, history, answer in visits:
        alone = dict(recommender.recommend(history, len(recommender.items)))
        off = max(off, *(abs(alone[line["item"]] - line["score"]) for line in answer))
    assert off <= 1e-4, f"scores differ by {off:.3g}: nothing was measured"
    return f"no event lost; the last answers of {len(visits)} users = their histories by themselves, off by {off:.0e}"


if __name__ == "__main__":
    main(measure)
