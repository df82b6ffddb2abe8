"""The ten best of a million items, by approximate search and by scoring every item: the time of each, and the recall.

The vectors are those of Scientific's items after some epochs, copied until there are a million, with noise of half
their length; the users are Scientific's. This keeps the geometry of a trained model, which random vectors would not
have. Times are processor time of one thread.
"""

import time
from functools import partial

import torch
from harness import Figure, Result, alternate, main, ratios
from sides import build

from recbole_metarec.model.lru_network import LRUNetwork
from recbole_metarec.serve import Recommender
from recbole_metarec.serving.search import ItemSearch

_EPOCHS, _USERS, _NOISE = 5, 200, 0.5


def measure(options) -> Result:
    ours = build("LRURec", options.data_path, item_memory=False)
    for epoch in range(_EPOCHS):
        ours.epoch(epoch)
    data, small = ours.train.dataset, ours.model
    copies = -(-options.items // (data.item_num - 1))
    network = LRUNetwork(**small.deployed_sizes() | {"n_items": copies * (data.item_num - 1) + 1})
    weights = small.deployed_weights()
    for name in ("item_embedding.weight", "item_bias"):
        first, rest = weights[name][:1], weights[name][1:]
        weights[name] = torch.cat([first, *[rest] * copies])
    table = weights["item_embedding.weight"]
    noise = torch.randn(table.shape, generator=torch.Generator().manual_seed(0))
    table += noise * table.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True) * _NOISE
    network.load_state_dict(weights)
    recommender = Recommender(network, [str(number) for number in range(network.n_items)])
    store = data.store
    histories = [store.items[store.offsets[user] : store.offsets[user + 1]].tolist() for user in range(_USERS)]
    histories = [[str(item) for item in history] for history in histories]
    started = time.process_time()
    search = ItemSearch(recommender, options.probes)
    built = time.process_time() - started
    recall = search.recall(histories)
    states = [_state(recommender, history) for history in histories[:50]]
    sides = {"every item": None, "approximate search": search}
    sides = {name: partial(_milliseconds, recommender, states, how) for name, how in sides.items()}
    times = alternate(sides, options.repeats)
    figures = {f"ten best by {name}": Figure("ms", values) for name, values in times.items()}
    figures |= {"recall of the ten best": Figure("", [recall]), "the index is made in": Figure("s", [built])}
    return Result(
        same=f"{recall:.1%} of the ten best of {_USERS} users are found; what is found has its exact score",
        reached=ratios(times["every item"], times["approximate search"]),
        figures=figures,
        notes=f"{network.n_items - 1} items, d = 64, {options.probes:.0%} of the catalogue looked into, recall over "
        f"{_USERS} users.",
    )


def _state(recommender: Recommender, history: list[str]):
    state = recommender.start()
    for item in history:
        state = recommender.add(state, item)
    return state


def _milliseconds(recommender: Recommender, states: list, search) -> float:
    started = time.process_time()
    for state in states:
        recommender.top(state, search=search)
    return (time.process_time() - started) / len(states) * 1000


if __name__ == "__main__":
    main(
        measure,
        items={"type": int, "default": 1_000_000},
        probes={"type": float, "default": 0.02, "help": "share of the catalogue that is looked into"},
    )
