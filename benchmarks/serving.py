"""The cost of serving from a stored state, one user at a time.

--against history: a new event after 1,000 events, against one after 10. --against sasrec: a new event, against encoding
the last 50 items again with RecBole's SASRec of the same width on the same catalogue; both without scoring, or with
``--top`` both with the top 10. --against median: the slowest of many mixed requests, against the median one.
--against pytorch: a new event by the exported ONNX step in onnxruntime, in µs, beside the same by PyTorch.
"""

import os
import random
from collections.abc import Callable
from functools import partial
from time import perf_counter

import numpy as np
import torch
from harness import Figure, NotYet, Result, alternate, assert_close, main, medians, ratios, seconds
from sides import build

from recbole_metarec.config.saved_config import config_to_json
from recbole_metarec.errors import DataError
from recbole_metarec.model.lru_network import LRUNetwork
from recbole_metarec.serve import DataOrigin, Recommender, UserState
from recbole_metarec.serving.export import to_onnx
from recbole_metarec.serving.graphs import graphs_of

_LENGTH = 50
_BLOCK, _BLOCKS = 20, 40  # a repeat is the median of so many alternating blocks of so many events
_BLOCK_NOTE = f"A repeat is the median of {_BLOCKS} alternating blocks of {_BLOCK} events."
_REQUESTS = 1000
_MIX = {"user": 40, "fresh": 10, "history": 20, "event": 20, "no user": 5, "no item": 5}  # per cent


def measure(options) -> Result:
    ours = build("LRURec", options.data_path)
    data = ours.train.dataset
    names = [str(name) for name in data.id2token(data.iid_field, range(data.item_num))]
    network = LRUNetwork(**ours.model.deployed_sizes())
    network.load_state_dict(ours.model.deployed_weights())
    recommender = Recommender(network, names, DataOrigin.of(config_to_json(ours.config), "LRURec"))
    picked = torch.randint(1, len(names), (1010,), generator=torch.Generator().manual_seed(0)).tolist()
    proof = same_state(recommender, picked[:_LENGTH])
    items = [names[number] for number in picked]
    if options.against == "pytorch":
        return against_pytorch(recommender, items, options.repeats)
    if options.against == "median":
        users = [str(name) for name in data.id2token(data.uid_field, range(1, data.user_num))]
        return against_median(recommender, users, options.repeats)
    if options.against == "history":
        return against_history(recommender, items, proof, options.repeats)
    return against_sasrec(recommender, picked[:_LENGTH], proof, options)


def against_pytorch(recommender: Recommender, items: list[str], repeats: int) -> Result:
    """The cost of an event by the exported step, with one thread, beside PyTorch's."""
    try:
        import onnxruntime
    except ImportError as error:
        raise NotYet(f"onnxruntime is not installed ({error})") from error
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    graph, longest = graphs_of(recommender.network)["step"], recommender.network.longest
    session = onnxruntime.InferenceSession(to_onnx(graph), settings)
    state, off = recommender.start(), 0.0
    known = {"state": np.zeros((1, graph.inputs["state"].shape[1]), np.float32)}
    known["history"] = np.zeros((1, longest), np.int64)
    for item in items[:_LENGTH]:
        state = recommender.add(state, item)
        known["item"] = np.array([recommender.items.index(item) + 1])
        outputs = session.run(None, {name: known[name] for name in graph.inputs})
        known |= {name.removeprefix("next_"): value for name, value in zip(graph.outputs, outputs, strict=True)}
        output = state.output.state if recommender.network.reads_history else state.output
        off = max(off, float(np.abs(known["output"] - output.numpy()).max()))
    inputs = {name: known[name] for name in graph.inputs}
    sides = {"onnx": lambda: session.run(None, inputs), "pytorch": lambda: recommender.add(state, items[0])}
    times = microseconds(sides, repeats)
    figures = {f"an event by {name}": Figure("µs", values) for name, values in times.items()}
    proof = f"{_LENGTH} events by both, states off by {assert_close('state', off, 1e-5)}"
    return Result(proof, times["onnx"], figures, _BLOCK_NOTE)


def against_history(recommender: Recommender, items: list[str], proof: str, repeats: int) -> Result:
    """The cost of an event after 1,000 events and after 10."""
    new = items[-1]
    early, late = (after(recommender, items[:count]) for count in (10, 1000))
    sides = {"1,000": lambda: recommender.add(late, new), "10": lambda: recommender.add(early, new)}
    times = microseconds(sides, repeats)
    figures = {f"an event after {name}": Figure("µs", values) for name, values in times.items()}
    return Result(proof, ratios(times["1,000"], times["10"]), figures, _BLOCK_NOTE)


def microseconds(sides: dict, repeats: int) -> dict[str, list[float]]:
    """Microseconds of each side, one value per repeat."""

    def block(work):
        return lambda: 1e6 * seconds(lambda: [work() for _ in range(_BLOCK)]) / _BLOCK

    times = alternate({name: block(work) for name, work in sides.items()}, repeats * _BLOCKS)
    return {name: medians(values, _BLOCKS) for name, values in times.items()}


def against_sasrec(recommender: Recommender, picked: list[int], proof: str, options) -> Result:
    """The cost of an event, and that of encoding the last 50 items again by SASRec."""
    theirs = build("SASRec", options.data_path)
    assert theirs.config["hidden_size"] == recommender.network.encoder.width
    assert theirs.train._dataset.item_num == len(recommender.items) + 1
    network, rows = theirs.model.eval(), torch.tensor([picked])
    lengths, new = torch.tensor([_LENGTH]), recommender.items[picked[-1] - 1]
    state = after(recommender, [recommender.items[number - 1] for number in picked[:-1]])

    def ours():
        now = recommender.add(state, new)
        return recommender.top(now, 10) if options.top else now

    @torch.no_grad()
    def sasrec():
        encoded = network(rows, lengths)
        return (encoded @ network.item_embedding.weight.t())[:, 1:].topk(10) if options.top else encoded

    times = microseconds({"ours": ours, "sasrec": sasrec}, options.repeats)
    n_items = len(recommender.items)
    scoring = "with scores and top 10" if options.top else "without scoring"
    return Result(
        same=proof,
        reached=ratios(times["sasrec"], times["ours"]),
        figures={
            f"our event, {scoring}": Figure("µs", times["ours"]),
            f"SASRec on {_LENGTH} items, {scoring}": Figure("µs", times["sasrec"]),
        },
        notes=f"One user at a time, d = {theirs.config['hidden_size']}, {n_items} items. {_BLOCK_NOTE}",
    )


def against_median(recommender: Recommender, users: list[str], repeats: int) -> Result:
    """How much longer than the median the slowest of a thousand mixed requests take, by the wall clock."""
    started = perf_counter()
    recommender.history_of(users[0])
    read = perf_counter() - started
    requests = mixed_requests(recommender, users)
    same = answers_are_right(recommender, users)

    def microseconds_of_each() -> list[float]:
        return [1e6 * seconds(request) for request in requests]

    rounds = [microseconds_of_each() for _ in range(repeats + 1)][1:]
    figures = {f"p{q}": Figure("µs", [float(np.percentile(times, q)) for times in rounds]) for q in (50, 95, 99)}
    figures["slowest"] = Figure("µs", [max(times) for times in rounds])
    busy = os.getloadavg()[0]
    mix = ", ".join(f"{share} % {kind}" for kind, share in _MIX.items())
    notes = f"A repeat is {_REQUESTS} requests: {mix} (fresh: without what was seen; event: one more event, then the "
    notes += "top; no user, no item: refused with a guess at the name meant). k is 1, 10 or 100 of "
    notes += f"{len(recommender.items)} items. Reading the data of {len(users)} users, once before: {read:.2f} s. "
    notes += f"Load of the machine meanwhile: {busy:.1f} on {os.cpu_count()} cores; what is above 1 a core waits, and "
    notes += "shows in the tail."
    return Result(same, ratios(figures["p99"].values, figures["p50"].values), figures, notes)


def mixed_requests(recommender: Recommender, users: list[str]) -> list[Callable]:
    """A thousand requests, the same ones each time."""
    draw, items = random.Random(0), recommender.items

    def of_user(user: str, k: int, fresh: bool) -> None:
        recommender.recommend(recommender.history_of(user), k, include_seen=not fresh)

    def event(state: UserState, item: str, k: int) -> None:
        recommender.top(recommender.add(state, item), k)

    def refused(ask: Callable) -> None:
        try:
            ask()
        except DataError:
            return
        raise AssertionError("a request that cannot be answered was")

    def slip(name: str) -> str:
        """The name with one wrong letter."""
        index = draw.randrange(len(name))
        return f"{name[:index]}?{name[index + 1 :]}"

    def one(kind: str) -> Callable:
        user, k = draw.choice(users), draw.choice([1, 10, 100])
        history = draw.choices(items, k=draw.randrange(1, 51))
        if kind == "event":
            return partial(event, after(recommender, history), draw.choice(items), k)
        return {
            "user": partial(of_user, user, k, False),
            "fresh": partial(of_user, user, k, True),
            "history": partial(recommender.recommend, history, k),
            "no user": partial(refused, partial(recommender.history_of, slip(user))),
            "no item": partial(refused, partial(recommender.recommend, [*history, slip(history[0])], k)),
        }[kind]

    return [one(kind) for kind in draw.choices(list(_MIX), list(_MIX.values()), k=_REQUESTS)]


@torch.no_grad()
def answers_are_right(recommender: Recommender, users: list[str]) -> str:
    """Compares the answers for some users with all scores of their histories, encoded in one pass and sorted."""
    numbers, off = {name: number for number, name in enumerate(recommender.items, 1)}, 0.0
    for user in users[:50]:
        history = recommender.history_of(user)
        rows = torch.tensor([[numbers[item] for item in history[-_LENGTH:]]])
        scores = recommender.network.score(recommender.network(rows, torch.tensor([rows.shape[1]])))[0]
        scores[[0, *(numbers[item] for item in history)]] = float("-inf")
        answer = recommender.recommend(history, 10)
        best = scores.topk(10).values.tolist()
        off = max(off, *(abs(score - want) for (_, score), want in zip(answer, best, strict=True)))
        off = max(off, *(abs(score - float(scores[numbers[item]])) for item, score in answer))
    return f"top 10 of 50 users = all scores sorted, off by {assert_close('score', off, 1e-4)}"


def after(recommender: Recommender, items: list[str]) -> UserState:
    """The state after these events."""
    state = recommender.start()
    for item in items:
        state = recommender.add(state, item)
    return state


@torch.no_grad()
def same_state(recommender: Recommender, numbers: list[int]) -> str:
    """Compares scores after events one by one with those of the whole history encoded in one pass."""
    one_by_one = after(recommender, [recommender.items[number - 1] for number in numbers]).output
    at_once = recommender.network(torch.tensor([numbers]), torch.tensor([len(numbers)]))
    scores = [recommender.network.score(states) for states in (one_by_one, at_once)]
    off = float((scores[0] - scores[1]).abs().max())
    return f"scores after {len(numbers)} events one by one = encoded at once, off by {assert_close('score', off, 1e-4)}"


if __name__ == "__main__":
    main(
        measure,
        against={"default": "history", "choices": ["history", "sasrec", "median", "pytorch"]},
        top={"action": "store_true", "help": "with scores and top 10 on both sides"},
    )
