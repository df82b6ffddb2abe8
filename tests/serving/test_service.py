"""The example of a service in docs/, in a process of its own, asked over the loopback by many clients at once."""

import http.client
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from support.tiny import tiny_metarec

from recbole_metarec.model.saved_network import network_to_json
from recbole_metarec.serve import Recommender
from recbole_metarec.trainer.checkpoint import write_checkpoint

pytest.importorskip("fastapi", reason="the example needs fastapi and uvicorn")
pytest.importorskip("uvicorn", reason="the example needs fastapi and uvicorn")

DOCS = Path(__file__).resolve().parents[2] / "docs"
NAMES = ["[PAD]", *(f"item {number}" for number in range(1, 40))]
ORIGIN = {"data_path": "dataset", "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "TIME_FIELD": "timestamp"}
ORIGIN |= {"field_separator": "\t"}


class Client:
    """Asks one service, by a connection for each question."""

    def __init__(self, port: int):
        self.port = port

    def ask(self, path: str, content=None, body: bytes | None = None) -> tuple[int, dict | list]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            sent = body if content is None else json.dumps(content).encode()
            method = "GET" if sent is None else "POST"
            connection.request(method, path, sent, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(4)
    network, file = tiny_metarec(n_target=len(NAMES))[0].float(), tmp_path_factory.mktemp("model") / "model.pth"
    described = {"items": NAMES, "network": network_to_json(network), "state_dict": network.deployed_weights()}
    config = json.dumps({"model": "MetaRec", "dataset": "Shop", "values": ORIGIN})
    write_checkpoint(file, described | {"config": config})
    return file


@pytest.fixture(scope="module")
def client(model):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "service:app", "--app-dir", DOCS, "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--log-level", "warning"], env={**os.environ, "MODEL": str(model)}, stderr=subprocess.PIPE
    )
    try:
        client = Client(port)
        for _ in range(600):
            assert process.poll() is None, process.stderr.read().decode()
            try:
                assert client.ask("/health")[0] == 200
                break
            except OSError:
                time.sleep(0.1)
        yield client
        assert client.ask("/health")[0] == 200, "it still answers after all that was sent"
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()


def test_hundreds_of_requests_at_once_lose_nothing(client, model):
    draw, events = random.Random(1), []
    for user in range(30):
        events += [{"user": f"u{user}", "item": item} for item in draw.choices(NAMES[1:], k=10)]
    of_user = defaultdict(list)
    for event in events:
        of_user[event["user"]].append(event["item"])
    # users at once, the events of each in turn; and 300 questions of others in between
    with ThreadPoolExecutor(60) as pool:
        asked = [pool.submit(client.ask, "/recommend", {"user": f"nobody {number}"}) for number in range(300)]

        def shop(user):
            return [client.ask("/event", {"user": user, "item": item}) for item in of_user[user]]

        for user, answers in zip(of_user, pool.map(shop, of_user), strict=True):
            seen = [len(set(of_user[user][:count])) for count in range(1, 11)]
            assert answers == [(200, {"seen": count}) for count in seen]
        answers = list(pool.map(lambda user: client.ask("/recommend", {"user": user, "k": 5}), of_user))
        assert {one.result()[0] for one in asked} == {422}, "they have no event yet"
    recommender = Recommender.load(model)
    for (user, items), (status, found) in zip(of_user.items(), answers, strict=True):
        state = recommender.start()
        for item in items:
            state = recommender.add(state, item)
        best = [item for item, _ in recommender.top(state, 5, items)]
        assert status == 200 and [one["item"] for one in found] == best
        assert not {one["item"] for one in found} & set(of_user[user])


def test_events_of_one_user_at_once_are_all_counted(client):
    with ThreadPoolExecutor(40) as pool:
        sent = list(pool.map(lambda item: client.ask("/event", {"user": "eager", "item": item}), NAMES[1:]))
    assert sorted(answer["seen"] for _, answer in sent) == list(range(1, 40))


@pytest.mark.parametrize(
    ("path", "content", "status", "says"),
    [
        ("/recommend", {"user": "u", "k": 0}, 422, "greater than or equal to 1"),
        ("/recommend", {"user": "u", "k": 10**9}, 422, "less than or equal to 100"),
        ("/recommend", {"user": "u" * 300}, 422, "at most 200"),
        ("/recommend", {"user": ["u"]}, 422, "valid string"),
        ("/recommend", {"user": "u2", "k": "__import__('os')"}, 422, "valid integer"),
        ("/recommend", {}, 422, "required"),
        ("/event", {"user": "u", "item": "[PAD]"}, 422, "unknown item '[PAD]'"),
        ("/event", {"user": "u", "item": "item 999"}, 422, "unknown item 'item 999'"),
        ("/event", {"user": "u", "item": ""}, 422, "at least 1"),
        ("/event", {"user": "u", "item": "i" * 70_000}, 413, "at most 65536 bytes"),
        ("/nowhere", {"user": "u"}, 404, "Not Found"),
    ],
)
def test_hostile_requests_are_refused(client, path, content, status, says):
    found, answer = client.ask(path, content)
    assert found == status and says in json.dumps(answer)


def test_what_is_no_json_or_has_no_length_is_refused(client):
    for body in (b"{", b"\xff\xfe", b"[" * 60_000, b"null"):
        assert client.ask("/event", body=body)[0] in (400, 422)
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    connection.request("POST", "/event", iter([b"x" * 1000] * 10), {"Content-Type": "application/json"})  # chunks
    assert connection.getresponse().status == 413
    connection.close()
