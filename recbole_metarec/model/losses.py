"""Next-item losses over a catalogue: full softmax, the same in one memory-saving pass, and a sampled softmax.

Letters: T predicted positions, d width, n catalogue size with padding in row 0, which is outside every softmax.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_LOGITS_PER_CHUNK = 1 << 19  # 2 MiB of float32: the logits of a chunk stay in cache


def softmax_loss_reference(states: Tensor, table: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of states . table^T + bias, by operations that can be differentiated twice.

    states [T, d], table [n, d], bias [n], targets int64 [T] with values 1 .. n - 1. Returns a scalar.
    """
    return F.cross_entropy(F.linear(states, table[1:], bias[1:]), targets - 1)


def softmax_loss(states: Tensor, table: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """As :func:`softmax_loss_reference`, but never holds [T, n] logits and is once differentiable."""
    return _ChunkedSoftmax.apply(states, table, bias, targets)


class _ChunkedSoftmax(torch.autograd.Function):
    """The gradient is computed beside the loss, chunk by chunk, while the logits are in cache.

    Logits are touched as rarely as possible: the 1 / partition of a row scales its d-vector instead of its n
    probabilities, and the -1 at the answer is added to the answers' rows alone.
    """

    @staticmethod
    def forward(ctx, states: Tensor, table: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        count, rows = len(targets), max(1, _LOGITS_PER_CHUNK // len(table))
        into_states = torch.empty_like(states)
        into_table, into_bias = torch.zeros_like(table), torch.zeros_like(bias)
        total = states.new_zeros(())
        for part in (slice(start, start + rows) for start in range(0, count, rows)):
            answer = (targets[part] - 1)[:, None]
            logits = torch.addmm(bias[1:], states[part], table[1:].t())
            peak = logits.amax(dim=1, keepdim=True)
            total -= (logits.gather(1, answer) - peak).sum()
            masses = logits.sub_(peak).exp_()
            partition = masses.sum(dim=1, keepdim=True)
            total += partition.log().sum()
            share = 1.0 / (partition * count)
            torch.mm(masses, table[1:], out=into_states[part]).mul_(share)
            into_table[1:].addmm_(masses.t(), states[part] * share)
            into_bias[1:].addmv_(masses.t(), share[:, 0])
        into_states.sub_(table[targets], alpha=1.0 / count)
        into_table.index_add_(0, targets, states, alpha=-1.0 / count)
        into_bias.index_add_(0, targets, torch.full_like(states[:, 0], -1.0 / count))
        ctx.save_for_backward(into_states, into_table, into_bias)
        return total / count

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        # once_differentiable looks at the incoming gradient alone: behind a loss it is a constant 1, and the Hessian
        # of whatever comes before would be dropped without a word
        if torch.is_grad_enabled():
            raise RuntimeError("softmax_loss is once differentiable; use softmax_loss_reference for a second time")
        into_states, into_table, into_bias = ctx.saved_tensors
        return gradient * into_states, gradient * into_table, gradient * into_bias, None


def sampled_softmax_loss(
    states: Tensor,
    table: Tensor,
    bias: Tensor,
    targets: Tensor,
    probabilities: Tensor,
    count: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """logsumexp(s_y, {s_j - log(m Q_j)}) - s_y, with m = ``count`` negatives j ~ Q shared by the whole batch.

    Draws are with replacement. A draw that equals a position's target is masked there and Q renormalised without the
    target, so that the expected partition function is the full one. Tends to the full softmax as m grows.
    probabilities float [n] sums to 1 with row 0 at zero; the rest as in :func:`softmax_loss_reference`.
    """
    negatives = torch.multinomial(probabilities, count, replacement=True, generator=generator)
    positive = (states * table[targets]).sum(dim=1) + bias[targets]
    correction = torch.log(probabilities[negatives]) - torch.log1p(-probabilities[targets])[:, None]
    logits = F.linear(states, table[negatives], bias[negatives]) - correction
    # m draws include some of the target itself: the mean over the others is what estimates the rest of the sum
    hit = negatives == targets[:, None]
    others = (count - hit.sum(dim=1, keepdim=True)).clamp(min=1)
    logits = (logits - torch.log(others)).masked_fill(hit, float("-inf"))
    return (torch.logsumexp(torch.cat([positive[:, None], logits], dim=1), dim=1) - positive).mean()


def negatives_distribution(counts: np.ndarray, device: torch.device) -> Tensor:
    """Q, proportional to train counts^0.75: counts int [n] with padding in row 0. Returns float32 [n], sums to 1."""
    weights = torch.from_numpy(np.power(counts.astype(np.float64), 0.75))
    weights[0] = 0.0
    return (weights / weights.sum()).to(torch.float32).to(device)
