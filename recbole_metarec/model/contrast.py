"""The two contrastive losses of UniSRec's pre-training (section 2.2.2), and the second view that one of them needs.

Similarities are cosines over a temperature. Negatives come from the batch, which mixes domains. A false negative, which
is in fact a positive, is left out of the softmax: its logit is -inf.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def directions(vectors: Tensor) -> Tensor:
    """Vectors [n, d] scaled to length 1. A zero vector has no direction: it stays zero and gets no gradient."""
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / lengths.masked_fill(lengths == 0.0, float("inf"))


def sequence_item_loss(states: Tensor, vectors: Tensor, answers: Tensor, counts: Tensor, temperature: float) -> Tensor:
    """-log of exp(s_j v_j / tau) over the sum of exp(s_j v_k / tau), k = j or any position with another item; mean.

    states [T, d] at the predicted positions; vectors [U, d] of the batch's distinct answers; answers int64 [T], indices
    into them; counts [U], how often each is an answer. Every position's item is a negative for every other position, so
    a distinct item counts as often as it occurs; a position's own item counts once, as the positive. Returns a scalar,
    0 if nothing is predicted.
    """
    logits = directions(states) @ directions(vectors).t() / temperature
    often = counts.to(logits.dtype).log().expand_as(logits)
    total = F.cross_entropy(logits + often.scatter(1, answers[:, None], 0.0), answers, reduction="sum")
    return total / max(1, len(answers))


def sequence_sequence_loss(states: Tensor, views: Tensor, ends: Tensor, temperature: float) -> Tensor:
    """-log of exp(s_j z_j / tau) over the sum of exp(s_j z_k / tau), k = j or any row that ends otherwise; mean.

    states, views [B, d]: each sequence and its second view z. ends int64 [B]: the item that each sequence leads to;
    rows that lead to the same item are not negatives of each other. Returns a scalar.
    """
    logits = directions(states) @ directions(views).t() / temperature
    same = ends[:, None] == ends[None, :]
    same.fill_diagonal_(False)
    return F.cross_entropy(logits.masked_fill(same, float("-inf")), torch.arange(len(states), device=states.device))


def drop_items(inputs: Tensor, ratio: float) -> Tensor:
    """Drops each item with probability ``ratio``, never the last of a row, and closes the gaps to the left.

    inputs int64 [B, W], padded on the right with 0. Returns the same shape.
    """
    real = inputs > 0
    last = real & ~F.pad(real[:, 1:], (0, 1))
    kept = real & ((torch.rand(inputs.shape, device=inputs.device) >= ratio) | last)
    order = (~kept).to(torch.int8).argsort(dim=1, stable=True)
    return (inputs * kept).gather(1, order)
