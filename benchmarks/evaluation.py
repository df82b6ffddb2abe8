"""One validation pass (the whole catalogue ranked for every user) against one training epoch of LRURec.

With ``--memory`` both have the item memory, and the pass tries eleven shares of the encoder beside it.
"""

import numpy as np
import torch
from harness import Figure, Result, alternate, main, ratios, seconds
from sides import build

from recbole_metarec.evaluation.ranking import rank_all, rank_both

_CHECKED = 512


def measure(options) -> Result:
    side = build("LRURec", options.data_path, item_memory=options.memory, seen_offset=options.memory)
    side.epoch()
    side.trainer._valid_epoch(side.valid)
    proof = same_ranks(side)
    valid = side.valid.dataset

    def both_protocols():  # includes finding the seen items
        valid.__dict__.pop("seen", None)
        rank_both(side.model, side.valid, valid.seen, side.trainer.device)

    times = alternate(
        {
            "epoch": side.epoch,
            "evaluation": lambda: seconds(lambda: side.trainer._valid_epoch(side.valid)),
            "both": lambda: seconds(both_protocols),
        },
        options.repeats,
    )
    return Result(
        same=proof,
        reached=ratios(times["evaluation"], times["epoch"]),
        figures={
            "validation pass": Figure("s", times["evaluation"]),
            "with the second ranking, seen items removed": Figure("s", times["both"]),
            "LRURec epoch": Figure("s", times["epoch"]),
        },
    )


@torch.no_grad()
def same_ranks(side) -> str:
    """Compares the ranks of some users with those by all their scores at once, in float64."""
    ranks = rank_all(side.model, side.valid, side.trainer.device)
    side.model.eval()
    rows = side.valid._dataset.inter_feat[torch.arange(min(_CHECKED, len(ranks)))]
    scores = side.model.full_sort_predict(rows).double().numpy()[:, 1:]
    of_targets = np.take_along_axis(scores, rows["item_id"].numpy()[:, None] - 1, axis=1)
    # scores that differ by rounding may swap places: the rank lies between those with and without near ties
    least = 1 + (scores > of_targets + 1e-5).sum(axis=1)
    most = (scores >= of_targets - 1e-5).sum(axis=1)
    ranks = ranks[: len(rows)]
    assert ((least <= ranks) & (ranks <= most)).all(), "ranks differ from those of plainly sorted scores"
    exact = np.mean(ranks == 1 + (scores > of_targets).sum(axis=1))
    assert exact > 0.99
    return f"{len(rows)} users: same rank as among all scores compared at once"


if __name__ == "__main__":
    main(measure, memory={"action": "store_true", "help": "with the item memory and the offsets of seen items"})
