"""Next-item losses over a catalogue: full softmax, the same in one pass that saves memory, and sampled softmax.

Letters: T predicted positions, d width, n catalogue size with padding in row 0, which is outside every softmax.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_LOGITS_PER_CHUNK = 1 << 20  # 4 MiB of float32: the logits of a chunk stay in cache
_FEWEST_ROWS = 32  # with fewer, the matrix product loses more than logits in cache save
_CACHE_LINE = 16  # float32 numbers
_LARGEST_EXPONENT = 80.0  # exp(88.7) is the largest float32
_LOG2_E = 1.0 / math.log(2.0)  # exp2 is much faster than exp on a CPU, and as accurate


class Places(NamedTuple):
    """A few places of logits [R, n], each once: rows int64 [E] ascending, items int64 [E].

    starts: int64 [R + 1], where the places of each row start. answered: int64, the indices of the places that are their
    row's target; None without targets. Compute both before the places go to a GPU: then nothing waits for it.
    """

    rows: Tensor
    items: Tensor
    starts: np.ndarray
    answered: Tensor | None = None

    @classmethod
    def of(cls, keys: Tensor, n: int, count: int, targets: Tensor | None = None) -> "Places":
        """The places of ``count`` rows by ascending keys row * n + item, each once, int64 [E]. targets: int64 [R]."""
        first = torch.arange(count + 1, device=keys.device) * n
        starts = torch.searchsorted(keys, first)
        rows = torch.repeat_interleave(starts.diff())
        answered = None
        if targets is not None and len(keys):
            wanted = first[:-1] + targets
            at = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
            answered = at[keys[at] == wanted]
        elif targets is not None:
            answered = keys
        return cls(rows, keys - first.index_select(0, rows), starts.cpu().numpy(), answered)


class Offsets(NamedTuple):
    """What is added to a few logits: values [E]."""

    places: Places
    values: Tensor

    def added_to(self, logits: Tensor) -> Tensor:
        """Adds the offsets to the logits [R, n], contiguous, in place, and returns them."""
        places = self.places.rows * logits.shape[1] + self.places.items
        logits.view(-1).index_add_(0, places, self.values.to(logits.dtype))
        return logits

    def at_targets(self, count: int) -> Tensor:
        """The offset of each row's target, 0 where it has none: [R]. count: R."""
        hit = self.places.answered
        return self.values.new_zeros(count).index_put((self.places.rows[hit],), self.values[hit])

    def at_columns(self, items: Tensor, n_items: int) -> Tensor:
        """The offsets of these items, int64 [m] in any order, in every row: [R, m]."""
        rows = len(self.places.starts) - 1
        # of columns with the same item one gets the offsets, and the others read it
        column = items.new_full((n_items,), -1)
        column[items] = torch.arange(len(items), device=items.device)
        at = column[self.places.items]
        values = torch.where(at >= 0, self.values, 0.0)
        dense = values.new_zeros(rows, len(items)).index_put((self.places.rows, at.clamp(min=0)), values, True)
        return dense.index_select(1, column[items])


def softmax_loss_reference(
    states: Tensor, table: Tensor, bias: Tensor, targets: Tensor, offsets: Offsets | None = None
) -> Tensor:
    """Mean cross-entropy of states . table^T + bias + offsets, by operations that can be differentiated twice.

    states [T, d], table [n, d], bias [n], targets int64 [T] with values 1 .. n - 1. Returns a scalar.
    """
    logits = F.linear(states, table[1:], bias[1:])
    if offsets is not None:
        logits = Offsets(offsets.places._replace(items=offsets.places.items - 1), offsets.values).added_to(logits)
    return F.cross_entropy(logits, targets - 1)


def softmax_loss(
    states: Tensor, table: Tensor, bias: Tensor, targets: Tensor, offsets: Offsets | None = None
) -> Tensor:
    """As :func:`softmax_loss_reference`, but never holds [T, n] logits and can be differentiated only once.

    Only the gradients that are asked for are computed: a detached table saves a third of the work.
    """
    places, values = (None, None) if offsets is None else offsets
    if not torch.is_grad_enabled():
        states, table, bias = states.detach(), table.detach(), bias.detach()
        values = None if values is None else values.detach()
    return _ChunkedSoftmax.apply(states, table, bias, targets, values, places)


class _ChunkedSoftmax(torch.autograd.Function):
    """The gradient is computed beside the loss, chunk by chunk, while the logits are in cache.

    Logits are read and written as rarely as possible. The bias is never added to them: exp(s . e + b) =
    exp(s . e) exp(b), so exp(b) weights items, not logits. The 1 / partition of a row scales its d-vector instead of
    its n probabilities, and the -1 at the answer is added to the answers' rows alone.
    """

    @staticmethod
    def forward(ctx, states: Tensor, table: Tensor, bias: Tensor, targets: Tensor, values, places) -> Tensor:
        ctx.wanted = ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:3]), ctx.needs_input_grad[4]
        count, rows = len(targets), max(_FEWEST_ROWS, _LOGITS_PER_CHUNK // len(table))
        items, shift = table[1:], _row_shift(states, table[1:], bias[1:], values)
        prior = bias[1:].exp() if shift is None else torch.ones_like(bias[1:])
        weighted = items * prior[:, None]
        scaled = (items * _LOG2_E).t()
        into_states = torch.empty_like(states) if ctx.wanted[0] else None
        into_table, into_bias = (torch.zeros_like(x) if ctx.wanted[1] else None for x in (table, bias))
        # rows that start at a cache line are written faster
        buffer = states.new_empty(min(rows, count), len(items) + -len(items) % _CACHE_LINE)[:, : len(items)]
        partitions = states.new_empty(count)
        starts = range(0, count, rows)
        if values is not None:
            cuts = places.starts[[*starts, count]]
            into_values = torch.empty_like(values) if ctx.wanted[2] else None
        for number, part in enumerate(slice(start, start + rows) for start in starts):
            chunk = states[part]
            masses = torch.mm(chunk, scaled, out=buffer[: len(chunk)])
            if values is not None:
                few = slice(cuts[number], cuts[number + 1])
                at = places.rows[few] - part.start, places.items[few] - 1
                masses.index_put_(at, values[few] * _LOG2_E, accumulate=True)
            if shift is not None:
                masses.add_(bias[1:], alpha=_LOG2_E)
                shift[part] = masses.amax(dim=1)
                masses.sub_(shift[part, None])
            masses.exp2_()
            share = 1.0 / (torch.mv(masses, prior, out=partitions[part]) * count)
            if values is not None and ctx.wanted[2]:
                into_values[few] = masses[at] * prior[at[1]] * share[at[0]]
            if ctx.wanted[0]:
                torch.mm(masses, weighted, out=into_states[part]).mul_(share[:, None])
            if ctx.wanted[1]:
                into_table[1:].addmm_(masses.t(), chunk * share[:, None])
                into_bias[1:].addmv_(masses.t(), share)
        answers = table[targets]
        if ctx.wanted[0]:
            into_states.sub_(answers, alpha=1.0 / count)
        if ctx.wanted[1]:
            into_table[1:].mul_(prior[:, None])
            into_bias[1:].mul_(prior)
            into_table.index_add_(0, targets, states, alpha=-1.0 / count)
            into_bias.index_add_(0, targets, torch.full_like(states[:, 0], -1.0 / count))
        log_partitions = partitions.log() if shift is None else partitions.log() + shift / _LOG2_E
        losses = log_partitions - (states * answers).sum(dim=1) - bias[targets]
        if values is not None:
            answered = places.answered
            losses.index_add_(0, places.rows[answered], values[answered], alpha=-1.0)
            if ctx.wanted[2]:
                into_values[answered] -= 1.0 / count
        ctx.save_for_backward(into_states, into_table, into_bias, into_values if values is not None else None)
        return losses.mean()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # once_differentiable checks only the incoming gradient: here that is a constant 1, and the Hessian of
        # whatever comes before the loss would be dropped silently
        if torch.is_grad_enabled():
            raise RuntimeError(
                "softmax_loss can be differentiated once; use softmax_loss_reference for second derivatives"
            )
        into_states, into_table, into_bias, into_values = ctx.saved_tensors
        items = (gradient * into_table, gradient * into_bias) if ctx.wanted[1] else (None, None)
        values = gradient * into_values if ctx.wanted[2] else None
        return gradient * into_states if ctx.wanted[0] else None, *items, None, values, None


def _row_shift(states: Tensor, items: Tensor, bias: Tensor, values: Tensor | None = None) -> Tensor | None:
    """None where no sum of exponentials can overflow (Cauchy-Schwarz bounds the logits): no logit need be shifted.

    Otherwise an empty [T] for the largest logit of each row: always on a GPU, where the check would have to wait.
    """
    if not states.is_cuda:
        longest = states.square().sum(dim=1).amax() * items.square().sum(dim=1).amax()
        bound = float(longest.sqrt() + bias.abs().amax()) + math.log(len(items)) + math.log(len(states))
        if values is not None and len(values):
            bound += float(values.abs().amax())
        if bound < _LARGEST_EXPONENT:  # false for NaN, too
            return None
    return torch.empty_like(states[:, 0])


def sampled_softmax_loss(
    states: Tensor,
    table: Tensor,
    bias: Tensor,
    targets: Tensor,
    probabilities: Tensor,
    count: int,
    generator: torch.Generator | None = None,
    rows_only: bool = False,
    offsets: Offsets | None = None,
) -> Tensor:
    """logsumexp(s_y, {s_j - log(m Q_j)}) - s_y, with m = ``count`` negatives j ~ Q shared by the whole batch.

    Draws are with replacement. A draw that equals a position's target is masked there and Q is renormalised without the
    target, so that the expected partition function is the full one. Tends to the full softmax as m grows.
    probabilities: Q, float [n], sums to 1 with row 0 at zero; the rest as in :func:`softmax_loss_reference`.
    rows_only: whether the table's gradient is a sparse tensor of the rows that were read. offsets: added to s.
    """
    negatives = torch.multinomial(probabilities, count, replacement=True, generator=generator)
    positive = (states * F.embedding(targets, table, sparse=rows_only)).sum(dim=1) + bias[targets]
    shown = bias[negatives] - torch.log(probabilities[negatives])
    logits = F.linear(states, F.embedding(negatives, table, sparse=rows_only), shown)
    if offsets is not None:
        positive = positive + offsets.at_targets(len(targets))
        logits = logits + offsets.at_columns(negatives, len(table))
    meets = targets[:, None] == negatives
    logits = logits.masked_fill_(meets, float("-inf"))
    # some of the m draws are the target itself: the mean over the others estimates the rest of the sum
    others = (count - meets.sum(dim=1)).to(positive.dtype)
    rest = torch.logsumexp(logits, dim=1) + torch.log1p(-probabilities[targets]) - torch.log(others.clamp(min=1))
    return F.softplus(rest - positive).mean()


def negatives_distribution(counts: np.ndarray, device: torch.device) -> Tensor:
    """Q, proportional to training counts^0.75: counts int [n], row 0 is padding. Returns float32 [n] that sums to 1."""
    weights = torch.from_numpy(np.power(counts.astype(np.float64), 0.75))
    weights[0] = 0.0
    return (weights / weights.sum()).to(torch.float32).to(device)
