"""The ranking behind every number, for every model: in two protocols, from the same scores.

RecBole ranks all items; the other protocol removes the items that the user has seen, see :mod:`.seen`.
rank = 1 + items scored higher + half of the other items scored equally, rounded up. If only higher items counted, a
constant scorer would get a perfect NDCG. A score that is not finite is an error for the same reason.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from recbole_metarec import processes
from recbole_metarec.errors import TrainingError
from recbole_metarec.evaluation.seen import SeenItems

_SCORES_PER_CHUNK = 1 << 21  # 8 MiB of float32 held at once, whatever the batch size
_FEWEST_ROWS = 8  # scored at once, however large the catalogue: with fewer, reading the table takes most of the time
_POSITIONS_PER_CHUNK = 1 << 12  # rows times the length of the longest: keeps a model's activations in cache
_EXACT_IN_FLOAT32 = 1 << 24
_ROWS_IN_CACHE = 64  # rows of scores compared at once


def ranks_of(scores: Tensor, targets: Tensor) -> Tensor:
    """Rank of each row's target among all items: scores [B, n] (column 0 is padding), targets int64 [B].

    Returns int64 [B], values 1 .. n - 1. Raises TrainingError if a score is NaN or infinite.
    """
    return _ranks(_leads(scores, targets), scores.shape[1] - 1)


def both_ranks_of(scores: Tensor, targets: Tensor, rows: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`ranks_of`, and the ranks among the items that a row has not seen, in one pass over the catalogue.

    rows, seen: int64 [N], row rows[k] has seen item seen[k]; each pair once. Returns int64 [B] twice. A target that its
    row has seen is not among the unseen items; it gets rank n there, one more than the number of items.
    """
    leads, candidates = _leads(scores, targets), scores.shape[1] - 1
    target_scores = scores.gather(1, targets[:, None])[:, 0]
    signs = (scores[rows, seen] - target_scores[rows]).sign_().to(torch.int64)
    unseen_leads = leads.index_add(0, rows, signs, alpha=-1)
    unseen = candidates - torch.bincount(rows, minlength=len(scores))
    removed = _ranks(unseen_leads, unseen)
    removed[rows[seen == targets[rows]]] = scores.shape[1]
    return _ranks(leads, candidates), removed


def _leads(scores: Tensor, targets: Tensor) -> Tensor:
    """Items scored higher than each row's target minus those scored lower, int64 [B]."""
    target_scores = scores.gather(1, targets[:, None])
    rows = max(1, len(scores)) if scores.is_cuda else _ROWS_IN_CACHE
    parts = zip(scores[:, 1:].split(rows), target_scores.split(rows))
    return torch.cat([_leads_among(items, score) for items, score in parts])


def _leads_among(items: Tensor, target_scores: Tensor) -> Tensor:
    _check_finite(items)
    return _sums_of_signs(items - target_scores)


def _check_finite(items: Tensor) -> None:
    # an infinity or NaN shows in the sum of its row; very rarely the sum of large numbers overflows, too
    if not bool(items.sum(dim=1).isfinite().all()) and not bool(items.isfinite().all()):
        raise TrainingError("the model's scores: NaN or infinity; lower the learning rate or check the data")


def _sums_of_signs(differences: Tensor) -> Tensor:
    """Sum of each row's signs, int64 [B]. Overwrites the differences [B, n]."""
    # one pass instead of two counts; in blocks of items, since float32 holds whole numbers exactly only up to 2^24
    return sum(block.sign_().sum(dim=1).to(torch.int64) for block in differences.split(_EXACT_IN_FLOAT32, dim=1))


def _ranks(leads: Tensor, candidates) -> Tensor:
    """Ranks from :func:`_leads`. candidates: int or int64 [B], how many items are ranked, the target included."""
    return torch.div(candidates + leads + 2, 2, rounding_mode="floor")


def rows_at_once(n_items: int) -> int:
    """How many rows are scored at once with a catalogue of ``n_items``."""
    return max(_FEWEST_ROWS, _SCORES_PER_CHUNK // n_items)


def chunk_sizes(lengths: list[int], most_rows: int) -> list[int]:
    """Sizes of consecutive chunks of rows, each of at most ``most_rows`` and of a bounded padded area.

    lengths: of the rows, ascending. A chunk has at least one row, however long.
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
    """Rank of the held-out item of every row of a RecBole full-sort loader: int64 [R], in its dataset's order.

    Items that the loader strikes out are not ranked: with ``repeatable: False`` those that a row's user has seen.
    """
    ranks = torch.zeros(len(eval_data._dataset.inter_feat), dtype=torch.int64)
    for part, scores, targets, struck_out in _scored(model, eval_data, device, show_progress):
        ranks[part] = _ranks_without(struck_out, scores, targets).cpu()
    return _of_all_processes(ranks)


def _ranks_without(struck_out: tuple[Tensor, Tensor] | None, scores: Tensor, targets: Tensor) -> Tensor:
    if struck_out is None:
        return ranks_of(scores, targets)
    return both_ranks_of(scores, targets, *(each.to(scores.device) for each in struck_out))[1]


@torch.no_grad()
def rank_both(model, eval_data, seen: SeenItems, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Ranks among all items, and among those that a row's user has not seen: int64 [R] each. Scores each row once."""
    ranks = torch.zeros(2, len(eval_data._dataset.inter_feat), dtype=torch.int64)
    for part, scores, targets, _ in _scored(model, eval_data, device):
        rows, items = (torch.from_numpy(numbers).to(device) for numbers in seen.of_rows(part.numpy()))
        ranks[:, part] = torch.stack(both_ranks_of(scores, targets, rows, items)).cpu()
    return tuple(_of_all_processes(ranks))


def _of_all_processes(ranks: Tensor) -> np.ndarray:
    """The ranks of all rows. ranks: those that this process has computed, 0 for the others."""
    return processes.summed({"ranks": ranks})["ranks"].numpy()


@torch.no_grad()
def top_both(model, eval_data, k: int, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """The k best items for each row's user, best first: of all, and of those that the user has not seen.

    int64 [R, k] each. If fewer than k unseen items are left, seen ones follow.
    """
    seen = eval_data.dataset.seen
    lists = torch.empty(2, len(eval_data._dataset.inter_feat), k, dtype=torch.int64)
    for part, scores, _, _ in _scored(model, eval_data, device):
        scores = scores.clone()
        scores[:, 0] = float("-inf")
        lists[0, part] = scores.topk(k).indices.cpu()
        scores[tuple(torch.from_numpy(numbers).to(device) for numbers in seen.of_rows(part.numpy()))] = float("-inf")
        lists[1, part] = scores.topk(k).indices.cpu()
    return tuple(lists.numpy())


def _scored(model, eval_data, device: torch.device, show_progress: bool = False) -> Iterator[tuple]:
    """(rows int64 [B], scores [B, n], targets int64 [B], what the loader strikes out) of chunks that cover all rows."""
    for part, interaction, targets, struck_out in _parts(model, eval_data, device, show_progress):
        yield part, model.full_sort_predict(interaction).view(len(part), -1), targets, struck_out


def _parts(model, eval_data, device: torch.device, show_progress: bool = False) -> Iterator[tuple]:
    model.eval()
    dataset = eval_data._dataset
    # rows of similar length together: a model that trims padding then has little of it
    lengths, order = dataset.inter_feat[dataset.item_list_length_field].sort(stable=True)
    parts = order.split(chunk_sizes(lengths.tolist(), rows_at_once(dataset.item_num)))
    parts = parts[processes.number() :: processes.count()]
    for part in tqdm(parts, ncols=100, desc="Evaluate   ", disable=None) if show_progress else parts:
        interaction, struck_out, _, positives = eval_data.collate_fn(part.numpy())
        yield part, interaction.to(device), positives.to(device), struck_out


@torch.no_grad()
def rank_shares(model, eval_data, shares: Sequence[float], device: torch.device) -> np.ndarray:
    """As :func:`rank_all` for a model of two experts, for each share of the second one in the scores: int64 [S, R]."""
    ranks = torch.zeros(len(shares), len(eval_data._dataset.inter_feat), dtype=torch.int64)
    for part, interaction, targets, struck_out in _parts(model, eval_data, device):
        first, second = model.expert_scores(model(interaction[model.ITEM_SEQ], interaction[model.ITEM_SEQ_LEN]))
        ranks[:, part] = ranks_by_share(first, second, shares, targets, struck_out).cpu()
    return _of_all_processes(ranks)


def ranks_by_share(first: Tensor, second: Tensor, shares: Sequence[float], targets: Tensor, struck_out=None) -> Tensor:
    """Ranks by ``torch.lerp(first, second, share)`` of two experts' scores [B, n], for each share: int64 [S, B].

    Goes through all shares for a few rows at a time, so that their scores stay in cache. struck_out: rows and items,
    int64 [N] each, that are not ranked. Raises TrainingError if a score is NaN or infinite.
    """
    by_expert = [scores.gather(1, targets[:, None]) for scores in (first, second)]
    of_targets = torch.stack([torch.lerp(*by_expert, share) for share in shares])  # [S, B, 1]
    rows = max(1, len(first)) if first.is_cuda else max(1, _ROWS_IN_CACHE // 4)
    leads = []
    for one, other, target_scores in zip(
        first[:, 1:].split(rows), second[:, 1:].split(rows), of_targets.split(rows, dim=1)
    ):
        _check_finite(one)
        _check_finite(other)
        mixed = torch.empty_like(one)
        sums = []
        for share, score in zip(shares, target_scores, strict=True):
            sums.append(_sums_of_signs(torch.lerp(one, other, share, out=mixed).sub_(score)))
        leads.append(torch.stack(sums))
    leads, candidates = torch.cat(leads, dim=1), first.shape[1] - 1
    if struck_out is None:
        return _ranks(leads, candidates)
    at = tuple(each.to(first.device) for each in struck_out)
    signs = [torch.lerp(first[at], second[at], share) - score[at[0], 0] for share, score in zip(shares, of_targets)]
    leads = leads.index_add(1, at[0], torch.stack(signs).sign_().to(torch.int64), alpha=-1)
    ranks = _ranks(leads, candidates - torch.bincount(at[0], minlength=len(first)))
    ranks[:, at[0][at[1] == targets[at[0]]]] = first.shape[1]  # a target that is struck out: as in both_ranks_of
    return ranks
