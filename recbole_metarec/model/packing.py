"""Several batches in one pass of the encoder, each under its own weights, without padding between rows.

M batches are packed as [M, T, d]: the real inputs of each, row after row, then filler up to the T of the longest.
The cost of a small batch is mostly per operation, so M of them in one pass cost little more than one.
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
    """Where the real inputs of a batch are, on the CPU.

    lengths: of its rows, int64 [B]. width: W, to which they are padded. positions: flat predicted ones, int64 [P].
    """

    lengths: np.ndarray
    width: int
    positions: np.ndarray


class Packing(NamedTuple):
    """How batches of different sizes are packed into [M, T, d].

    shape: (M, T). index: int64 [M * T], where in the padded batches, laid end to end, each input is read (filler: at
    the first input of the same batch, so that what is not finite stays in its batch). predicted: int64 [P], the
    predicted positions of all batches; counts: how many each has. order: int64 [S], the flat positions of the first
    input of every row, the longest row first, then of every second input, and so on; sizes: how many rows have a first
    input, a second one, ...; member: int64 [R], the batch of each row, the longest row first.
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
        """The packing of some batches, computed on the CPU, so that nothing waits for the device."""
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
        order = np.concatenate([start[by_length[:size]] + column for column, size in enumerate(sizes.tolist())])
        predicted = []
        for number, layout in enumerate(layouts):
            row, column = np.divmod(layout.positions, layout.width)
            predicted.append(start[first[number] + row] + column)
        counts = tuple(len(part) for part in predicted)
        tensors = (index, np.concatenate(predicted), order, member[by_length])
        index, predicted, order, member = (torch.from_numpy(part).to(device) for part in tensors)
        return cls((len(layouts), longest), index, predicted, counts, order, tuple(sizes.tolist()), member)

    def packed(self, batches: Sequence[Tensor]) -> Tensor:
        """Packs [B, W, d] of each batch into [M, T, d]."""
        flat = torch.cat([batch.flatten(0, 1) for batch in batches])
        return flat.index_select(0, self.index).unflatten(0, self.shape)

    def at_predicted(self, states: Tensor) -> tuple[Tensor, ...]:
        """From [M, T, d] the states at the predicted positions of each batch, [P, d] each."""
        return states.flatten(0, 1).index_select(0, self.predicted).split(self.counts)


class PackedDraws(NamedTuple):
    """The generators of several batches; each draws what it would for its batch alone. shapes: (B, W) of each batch."""

    generators: tuple[torch.Generator, ...]
    shapes: tuple[tuple[int, int], ...]
    packing: Packing


def packed_scan_reference(inputs: Tensor, eigenvalues: Tensor, packing: Packing) -> Tensor:
    """:func:`~recbole_metarec.model.lru.scan_reference` of every row, also by operations that can be differentiated
    repeatedly. inputs complex [M, T, n], eigenvalues complex [M, n]. Returns complex [M, T, n], 0 at filler."""
    states, power, shift = inputs.flatten(0, 1)[packing.order], eigenvalues, 1
    while shift < len(packing.sizes):
        later, earlier, row = _shifted(packing, shift)
        moved = states[later:] + power[packing.member[row]] * states[earlier]
        states, power, shift = torch.cat([states[:later], moved]), power * power, 2 * shift
    return torch.zeros_like(inputs).flatten(0, 1).index_put((packing.order,), states).view_as(inputs)


def _shifted(packing: Packing, shift: int) -> tuple[int, Tensor, Tensor]:
    """The inputs that have another one ``shift`` before them: (where they begin in the order, the indices of those
    others, int64, and their rows, int64)."""
    ends = np.cumsum(packing.sizes)
    row = np.concatenate([np.arange(size) for size in packing.sizes[shift:]])
    start = np.repeat(ends - packing.sizes, [*packing.sizes[shift:], *[0] * shift])
    indices = (torch.from_numpy(part).to(packing.order.device) for part in (row + start, row))
    return int(ends[shift - 1]), *indices


def packed_scan(inputs: Tensor, eigenvalues: Tensor, packing: Packing) -> Tensor:
    """As :func:`packed_scan_reference`, with a hand-written backward pass: differentiable once."""
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
    """For the second, third, ... inputs of the rows: where they are, where the ones before them are, and the rows."""
    steps, start = [], 0
    for before, size in pairwise(sizes):
        steps.append((slice(start + before, start + before + size), slice(start, start + size), slice(0, size)))
        start += before
    return steps


def _spread(flat: Tensor, like: Tensor, packing: Packing) -> Tensor:
    return torch.zeros_like(like).flatten(0, 1).index_copy_(0, packing.order, flat).view_as(like)
