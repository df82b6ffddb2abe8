"""One new event for a known user, served from the kept state.

--against history: after 1,000 events against after 10. --against sasrec: against encoding the last 50 items again with
RecBole's SASRec of the same width on the same catalogue; both without scoring, or with ``--top`` both with the top 10.
"""

import torch
from harness import Figure, Result, alternate, assert_close, main, medians, ratios, seconds
from sides import build

from recbole_metarec.serve import Recommender, UserState

_LENGTH = 50
_BLOCK, _BLOCKS = 20, 40  # a repeat is the median of so many alternating blocks of so many events
_BLOCK_NOTE = f"A repeat is the median of {_BLOCKS} alternating blocks of {_BLOCK} events."


def measure(options) -> Result:
    ours = build("LRURec", options.data_path)
    data = ours.train.dataset
    names = [str(name) for name in data.id2token(data.iid_field, range(data.item_num))]
    recommender = Recommender(ours.model, names)
    picked = torch.randint(1, len(names), (1010,), generator=torch.Generator().manual_seed(0)).tolist()
    proof = same_state(recommender, picked[:_LENGTH])
    items = [names[number] for number in picked]
    if options.against == "history":
        return against_history(recommender, items, proof, options.repeats)
    return against_sasrec(recommender, picked[:_LENGTH], proof, options)


def against_history(recommender: Recommender, items: list[str], proof: str, repeats: int) -> Result:
    """The cost of an event after 1,000 events and after 10."""
    new = items[-1]

    early, late = (after(recommender, items[:count]) for count in (10, 1000))
    sides = {"1,000": lambda: recommender.add(late, new), "10": lambda: recommender.add(early, new)}
    found = microseconds(sides, repeats)
    figures = {f"an event after {name}": Figure("µs", values) for name, values in found.items()}
    return Result(proof, ratios(found["1,000"], found["10"]), figures, _BLOCK_NOTE)


def microseconds(sides: dict, repeats: int) -> dict[str, list[float]]:
    """What each side costs, one value per repeat."""

    def block(work):
        return lambda: 1e6 * seconds(lambda: [work() for _ in range(_BLOCK)]) / _BLOCK

    found = alternate({name: block(work) for name, work in sides.items()}, repeats * _BLOCKS)
    return {name: medians(values, _BLOCKS) for name, values in found.items()}


def against_sasrec(recommender: Recommender, picked: list[int], proof: str, options) -> Result:
    """The cost of an event against that of encoding the last 50 items again."""
    theirs = build("SASRec", options.data_path)
    assert theirs.config["hidden_size"] == recommender.model.encoder.width
    assert theirs.train._dataset.item_num == len(recommender.items)
    network, rows = theirs.model.eval(), torch.tensor([picked])
    lengths, new = torch.tensor([_LENGTH]), recommender.items[picked[-1]]
    state = after(recommender, [recommender.items[number] for number in picked[:-1]])

    def ours():
        now = recommender.add(state, new)
        return recommender.top(now, 10) if options.top else now

    @torch.no_grad()
    def sasrec():
        encoded = network(rows, lengths)
        return (encoded @ network.item_embedding.weight.t())[:, 1:].topk(10) if options.top else encoded

    found = microseconds({"ours": ours, "sasrec": sasrec}, options.repeats)
    n_items = len(recommender.items) - 1
    scoring = "with scores and top 10" if options.top else "without scoring"
    return Result(
        same=proof,
        reached=ratios(found["sasrec"], found["ours"]),
        figures={
            f"our event, {scoring}": Figure("µs", found["ours"]),
            f"SASRec on {_LENGTH} items, {scoring}": Figure("µs", found["sasrec"]),
        },
        notes=f"One user at a time, d = {theirs.config['hidden_size']}, {n_items} items. {_BLOCK_NOTE}",
    )


def after(recommender: Recommender, items: list[str]) -> UserState:
    """The state after these events."""
    state = recommender.start()
    for item in items:
        state = recommender.add(state, item)
    return state


@torch.no_grad()
def same_state(recommender: Recommender, numbers: list[int]) -> str:
    """The state after events one by one against the whole history encoded at once."""
    one_by_one = after(recommender, [recommender.items[number] for number in numbers]).output
    at_once = recommender.model(torch.tensor([numbers]), torch.tensor([len(numbers)]))
    off = float((one_by_one - at_once).abs().max())
    return f"state after {len(numbers)} events one by one = encoded at once, off by {assert_close('state', off, 1e-4)}"


if __name__ == "__main__":
    main(
        measure,
        against={"default": "history", "choices": ["history", "sasrec"]},
        top={"action": "store_true", "help": "with scores and top 10 on both sides"},
    )
