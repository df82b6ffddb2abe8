"""What the item memory costs: an epoch with it against one without, or counting the pairs of five million events.

``--of pairs`` counts a simulated shop, in which the popularity of the r-th item is proportional to r^-0.8.
"""

from collections import Counter

import numpy as np
import torch
from harness import Figure, Result, alternate, main, ratios, seconds
from sides import build

from recbole_metarec.data.pair_counts import PairCounts
from recbole_metarec.data.pair_lags import GROUPS, LAGS
from recbole_metarec.data.sequences import SequenceStore

_USERS, _EVENTS, _ITEMS, _CHECKED = 600_000, 5_000_000, 50_000, 25


def measure(options) -> Result:
    return of_training(options) if options.of == "training" else of_pairs(options)


def of_training(options) -> Result:
    with_memory, without = (build("LRURec", options.data_path, item_memory=memory) for memory in (True, False))
    for side in (with_memory, without):
        side.epoch()
    times = alternate({"with": with_memory.epoch, "without": without.epoch}, options.repeats)
    return Result(
        same=same_encoder(with_memory, without),
        reached=ratios(times["with"], times["without"]),
        figures={
            "epoch with the item memory": Figure("s", times["with"]),
            "epoch without": Figure("s", times["without"]),
        },
    )


def same_encoder(with_memory, without) -> str:
    """Checks that the encoders are equal after the same number of epochs, since the memory has its own loss."""
    encoder = dict(with_memory.model.named_parameters())
    for name, value in without.model.named_parameters():
        assert torch.equal(encoder[name], value), f"{name} was trained otherwise beside the memory"
    return "both encoders are equal to the bit after their epochs"


def of_pairs(options) -> Result:
    store = simulated_shop()
    made = PairCounts.of(store, store.lengths, 500)
    proof = same_counts(store, PairCounts.of(store, store.lengths, store.n_items))
    times = [seconds(lambda: PairCounts.of(store, store.lengths, 500)) for _ in range(options.repeats)]
    held = sum(numbers.nbytes for numbers in (made.starts, made.neighbours, made.counts, made.popularity, made.lift))
    return Result(
        same=proof,
        reached=times,
        figures={"a kept pair": Figure("bytes", [held / len(made.neighbours)])},
        notes=f"{_EVENTS:,} events of {_USERS:,} users on {_ITEMS:,} items: {len(made.neighbours):,} pairs kept "
        f"at 500 neighbours an item, {made.cut:,} cut.",
    )


def simulated_shop() -> SequenceStore:
    rng = np.random.default_rng(0)
    popularity = np.arange(1, _ITEMS + 1) ** -0.8
    items = rng.choice(np.arange(1, _ITEMS + 1), _EVENTS, p=popularity / popularity.sum())
    users = np.sort(rng.integers(0, _USERS, _EVENTS))
    return SequenceStore.from_events(users, items, _ITEMS + 1)


def same_counts(store: SequenceStore, made: PairCounts) -> str:
    """Compares the counts of some items with those of a loop over the events of all histories that hold them."""
    checked = np.random.default_rng(1).choice(np.flatnonzero(made.popularity), _CHECKED, replace=False)
    for item in checked[made.popularity[checked] < 1000].tolist():
        plain = Counter()
        for user in np.unique(np.searchsorted(store.offsets, np.flatnonzero(store.items == item), side="right")) - 1:
            history = store.items[store.offsets[user] : store.offsets[user + 1]].tolist()
            for at in np.flatnonzero(np.array(history) == item).tolist():
                for group, (nearest, furthest) in enumerate(LAGS):
                    plain.update((near, group) for near in history[at + nearest : at + furthest + 1])
                reach = LAGS[-1][1]
                plain.update((near, GROUPS - 1) for near in history[max(0, at - reach) : at])
        part = slice(made.starts[item], made.starts[item + 1])
        counts = dict(zip(made.neighbours[part].tolist(), made.counts[part].tolist(), strict=True))
        assert Counter({(near, g): row[g] for near, row in counts.items() for g in range(GROUPS) if row[g]}) == plain
    return f"{_CHECKED} items: the counts are those of their histories, gone through event by event"


if __name__ == "__main__":
    main(measure, of={"choices": ["training", "pairs"], "default": "training", "help": "what is measured"})
