"""The one ranking that every number comes from, whichever model it is.

rank = 1 + items scored higher + half of the other items scored equally, rounded up. Counting only the higher ones
would give a constant scorer a perfect NDCG; a score that is not finite is an error for the same reason.
"""

from bisect import bisect_right

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from recbole_metarec.errors import TrainingError

_SCORES_PER_CHUNK = 1 << 21  # 8 MiB of float32 held at once, whatever the catalogue and the batch size
_POSITIONS_PER_CHUNK = 1 << 12  # rows times the length of the longest: what a model's layers hold stays in cache
_EXACT_IN_FLOAT32 = 1 << 24
_ROWS_IN_CACHE = 64  # rows of scores compared at once


def ranks_of(scores: Tensor, targets: Tensor) -> Tensor:
    """Rank of each row's target among all items but padding: scores [B, n] (row 0 is padding), targets int64 [B].

    Returns int64 [B], values 1 .. n - 1. Raises TrainingError if a score is NaN or infinite.
    """
    target_scores = scores.gather(1, targets[:, None])
    rows = max(1, len(scores)) if scores.is_cuda else _ROWS_IN_CACHE
    parts = zip(scores[:, 1:].split(rows), target_scores.split(rows))
    return torch.cat([_ranks_among(items, score) for items, score in parts])


def _ranks_among(items: Tensor, target_scores: Tensor) -> Tensor:
    # an infinity or NaN shows in its row's sum, and so, very rarely, do large numbers
    if not bool(items.sum(dim=1).isfinite().all()) and not bool(items.isfinite().all()):
        raise TrainingError("the model's scores: NaN or infinity; lower the learning rate or check the data")
    # signs add up to higher - lower, and higher + lower + equal is known: one pass instead of a count of each.
    # Counted in blocks of items, since whole numbers are exact in float32 up to 2^24 alone
    lead = sum(
        (block - target_scores).sign_().sum(dim=1).to(torch.int64) for block in items.split(_EXACT_IN_FLOAT32, dim=1)
    )
    return torch.div(items.shape[1] + lead + 2, 2, rounding_mode="floor")


def chunk_sizes(lengths: list[int], most_rows: int) -> list[int]:
    """Sizes of consecutive chunks of rows, shortest first: of at most ``most_rows`` and a bounded padded area each.

    One row is always taken, whatever its length.
    """
    sizes, start = [], 0
    while start < len(lengths):
        ends = range(start + 1, min(start + most_rows, len(lengths)) + 1)
        area = bisect_right(ends, _POSITIONS_PER_CHUNK, key=lambda end: (end - start) * lengths[end - 1])
        sizes.append(max(1, area))
        start += sizes[-1]
    return sizes


@torch.no_grad()
def rank_all(model, eval_data, device: torch.device, show_progress: bool = False) -> np.ndarray:
    """Rank of the held-out item of every row of a RecBole full-sort loader: int64 [R], in its dataset's order."""
    model.eval()
    dataset = eval_data._dataset
    # rows of like length together: a model that trims its padding then has little of it
    lengths, order = dataset.inter_feat[dataset.item_list_length_field].sort(stable=True)
    parts = order.split(chunk_sizes(lengths.tolist(), _SCORES_PER_CHUNK // dataset.item_num))
    bar = tqdm(parts, ncols=100, desc="Evaluate   ", disable=None) if show_progress else parts
    ranks = torch.empty(len(order), dtype=torch.int64)
    for part in bar:
        interaction, _, _, positives = eval_data.collate_fn(part.numpy())
        scores = model.full_sort_predict(interaction.to(device)).view(len(part), -1)
        ranks[part] = ranks_of(scores, positives.to(device)).cpu()
    return ranks.numpy()


def ndcg_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k of each row, float64 [R]: one relevant item, so 1 / log2(rank + 1) within the cut-off, else 0."""
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)
