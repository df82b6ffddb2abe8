"""The one ranking that every number comes from, whichever model it is.

rank = 1 + items scored higher + half of the other items scored equally, rounded up. Counting only the higher ones
would give a constant scorer a perfect NDCG; a score that is not finite is an error for the same reason.
"""

from collections import OrderedDict

import numpy as np
import torch
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct
from torch import Tensor
from tqdm import tqdm

from recbole_metarec.errors import TrainingError

_SCORES_PER_CHUNK = 1 << 22  # 16 MiB of float32 held at once, whatever the catalogue and the batch size


def ranks_of(scores: Tensor, targets: Tensor) -> Tensor:
    """Rank of each row's target among all items but padding: scores [B, n] (row 0 is padding), targets int64 [B].

    Returns int64 [B], values 1 .. n - 1. Raises TrainingError if a score is NaN or infinite.
    """
    items = scores[:, 1:]
    if not bool(items.isfinite().all()):
        raise TrainingError("the model's scores: NaN or infinity; lower the learning rate or check the data")
    own = scores.gather(1, targets[:, None])
    higher = (items > own).sum(dim=1)
    equal_others = (items == own).sum(dim=1) - 1
    return 1 + higher + (equal_others + 1) // 2


@torch.no_grad()
def rank_all(model, eval_data, device: torch.device, show_progress: bool = False) -> np.ndarray:
    """Rank of the held-out item of every row of a RecBole full-sort loader: int64 [R], in the dataset's order."""
    model.eval()
    rows = (
        tqdm(eval_data, total=len(eval_data), ncols=100, desc="Evaluate   ", disable=None)
        if show_progress
        else eval_data
    )
    length_field = eval_data._dataset.item_list_length_field
    step = max(1, _SCORES_PER_CHUNK // eval_data._dataset.item_num)
    ranks = []
    for interaction, _, _, positives in rows:
        found = torch.empty(len(interaction), dtype=torch.int64)
        # rows of like length together: a model that trims its padding then has little of it
        for part in interaction[length_field].argsort(stable=True).split(step):
            scores = model.full_sort_predict(interaction[part].to(device)).view(len(part), -1)
            found[part] = ranks_of(scores, positives[part].to(device)).cpu()
        ranks.append(found)
    found = torch.cat(ranks).numpy()
    order = getattr(eval_data, "row_order", None)  # RecBole's own loader goes through the rows as they stand
    return found if order is None else found[np.argsort(order)]


def metrics_of(ranks: np.ndarray, config) -> OrderedDict:
    """RecBole's metrics, by RecBole's evaluator, of ranks int64 [R]; keys as RecBole prints them (``ndcg@10``)."""
    deepest = max(config["topk"])
    hits = np.zeros((len(ranks), deepest + 1), dtype=np.int64)
    hits[:, deepest] = 1  # one relevant item in each row
    found = ranks <= deepest
    hits[np.flatnonzero(found), ranks[found] - 1] = 1
    struct = DataStruct()
    struct.set("rec.topk", torch.from_numpy(hits))
    return Evaluator(config).evaluate(struct)


def ndcg_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k of each row, float64 [R]: one relevant item, so 1 / log2(rank + 1) within the cut-off, else 0."""
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)
