"""Several batches in one pass of the encoder, each under weights of its own, without padding between them.

M batches lie as [M, T, d]: the real inputs of each, row after row, and behind them filler up to the T of the longest.
Small batches cost what their number of operations costs, and so M of them in one pass little more than one.
Letters: S real inputs of all batches, R rows of all batches.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_metarec.data.runs import runs


class Layout(NamedTuple):
    """Where a batch has its real inputs: widths of its rows, int64 [B], and W, to which they are padded; and its flat
    predicted positions, int64 [P]. Known where the batch was made, on the CPU."""

    lengths: np.ndarray
    width: int
    positions: np.ndarray


class Packing(NamedTuple):
    """How batches of different sizes lie in [M, T, d].

    shape: (M, T). index: int64 [M * T], the place in the padded batches, laid end to end, that each input is read from
    (filler: the first of the same batch, so that what is not finite stays there). predicted: int64 [P], the predicted
    positions of all batches; counts: how many each has. order: int64 [S], the flat places of the first input of every
    row, the longest row first, then of every second one, and so on; sizes: how many rows have a first input, a second
    one, ...; member: int64 [R], the batch of each row.
    """

    shape: tuple[int, int]
    index: Tensor
    predicted: Tensor
    counts: tuple[int, ...]
    order: Tensor
    sizes: tuple[int, ...]
    member: Tensor

    @classmethod
    def of(cls, layouts: Sequence[Layout], device: torch.device) -> "Packing":
        """Of some batches. Nothing of it asks the device for anything."""
        lengths = np.concatenate([layout.lengths for layout in layouts])
        rows = np.array([len(layout.lengths) for layout in layouts])
        member = np.repeat(np.arange(len(layouts)), rows)
        tokens = np.bincount(member, lengths, len(layouts)).astype(np.int64)
        longest = int(tokens.max())
        padded = np.repeat([layout.width for layout in layouts], rows)
        from_start = np.cumsum(padded) - padded
        start = np.cumsum(lengths) - lengths + (longest - tokens).cumsum()[member] - (longest - tokens)[member]
        row, column = runs(lengths)
        first = np.cumsum(rows) - rows
        index = np.repeat(from_start[first], longest)
        index[start[row] + column] = from_start[row] + column
        by_length = np.argsort(-lengths, kind="stable")
        sizes = np.bincount(lengths)[::-1].cumsum()[::-1][1:]
        order = np.concatenate([start[by_length[:size]] + place for place, size in enumerate(sizes.tolist())])
        predicted = []
        for number, layout in enumerate(layouts):
            row, column = np.divmod(layout.positions, layout.width)
            predicted.append(start[first[number] + row] + column)
        counts = tuple(len(part) for part in predicted)
        tensors = (index, np.concatenate(predicted), order, member[by_length])
        index, predicted, order, member = (torch.from_numpy(part).to(device) for part in tensors)
        return cls((len(layouts), longest), index, predicted, counts, order, tuple(sizes.tolist()), member)

    def packed(self, batches: Sequence[Tensor]) -> Tensor:
        """[B, W, d] of each batch to [M, T, d]."""
        flat = torch.cat([batch.flatten(0, 1) for batch in batches])
        return flat.index_select(0, self.index).unflatten(0, self.shape)

    def at_predicted(self, states: Tensor) -> tuple[Tensor, ...]:
        """[M, T, d] to [P, d] of each batch."""
        return states.flatten(0, 1).index_select(0, self.predicted).split(self.counts)


class PackedDraws(NamedTuple):
    """The generators of several batches, which draw for each what they would draw for it alone; shapes: its (B, W)."""

    generators: tuple[torch.Generator, ...]
    shapes: tuple[tuple[int, int], ...]
    packing: Packing


def packed_scan_reference(inputs: Tensor, eigenvalues: Tensor, packing: Packing) -> Tensor:
    """The states of every row, as :func:`~recbole_metarec.model.lru.scan_reference` has them, by differentiable
    operations of any order: inputs complex [M, T, n], eigenvalues complex [M, n] of each batch. Filler becomes 0."""
    states, power, shift = inputs.flatten(0, 1)[packing.order], eigenvalues, 1
    while shift < len(packing.sizes):
        later, earlier, row = _shifted(packing, shift)
        moved = states[later:] + power[packing.member[row]] * states[earlier]
        states, power, shift = torch.cat([states[:later], moved]), power * power, 2 * shift
    return torch.zeros_like(inputs).flatten(0, 1).index_put((packing.order,), states).view_as(inputs)


def _shifted(packing: Packing, shift: int) -> tuple[int, Tensor, Tensor]:
    """Of the inputs that have another one ``shift`` before them: where they begin, all those others, and their rows."""
    ends = np.cumsum(packing.sizes)
    row = np.concatenate([np.arange(size) for size in packing.sizes[shift:]])
    place = np.repeat(ends - packing.sizes, [*packing.sizes[shift:], *[0] * shift])
    found = (torch.from_numpy(part).to(packing.order.device) for part in (row + place, row))
    return int(ends[shift - 1]), *found


def packed_scan(inputs: Tensor, eigenvalues: Tensor, packing: Packing) -> Tensor:
    """As :func:`packed_scan_reference`, with a hand-written backward pass; once differentiable."""
    return _PackedScan.apply(inputs, eigenvalues, packing)


class _PackedScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs: Tensor, eigenvalues: Tensor, packing: Packing) -> Tensor:
        states = inputs.flatten(0, 1).index_select(0, packing.order)
        of_row = eigenvalues.index_select(0, packing.member)
        for now, before, rows in _steps(packing.sizes):
            states[now].addcmul_(of_row[rows], states[before])
        ctx.save_for_backward(states, eigenvalues)
        ctx.packing = packing
        return _spread(states, inputs, packing)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        states, eigenvalues = ctx.saved_tensors
        packing = ctx.packing
        flat = gradient.flatten(0, 1).index_select(0, packing.order)
        states, of_row = states.conj().resolve_conj(), eigenvalues.conj().resolve_conj().index_select(0, packing.member)
        into_rows = torch.zeros_like(of_row)
        for now, before, rows in reversed(_steps(packing.sizes)):
            flat[before].addcmul_(of_row[rows], flat[now])
            into_rows[rows].addcmul_(flat[now], states[before])
        into_eigenvalues = torch.zeros_like(eigenvalues).index_add_(0, packing.member, into_rows)
        return _spread(flat, gradient, packing), into_eigenvalues, None


def _steps(sizes: Sequence[int]) -> list[tuple[slice, slice, slice]]:
    """For every second, third, ... input of the rows: where they stand, where those before them stand, and the rows."""
    found, start = [], 0
    for before, size in pairwise(sizes):
        found.append((slice(start + before, start + before + size), slice(start, start + size), slice(0, size)))
        start += before
    return found


def _spread(flat: Tensor, like: Tensor, packing: Packing) -> Tensor:
    return torch.zeros_like(like).flatten(0, 1).index_copy_(0, packing.order, flat).view_as(like)
