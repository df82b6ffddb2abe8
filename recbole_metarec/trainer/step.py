"""One training step on the target alone, or on the target and the sources at once. The meta step: transfer_step."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from recbole_metarec import processes
from recbole_metarec.data.batches import BatchShare, SequenceBatch
from recbole_metarec.randomness import Streams
from recbole_metarec.trainer import meta_step as meta
from recbole_metarec.trainer.meta_step import Tensors
from recbole_metarec.trainer.sources import SourceSides


@dataclass
class StepResult:
    """The result of a step: the gradient of theta, and per source what is worth recording.

    loss: scalar, the target's training loss. gradient: of every shared parameter. Both are the same in each of several
    processes; the next is of the process's own sources. source_gradients: per source those of (table, bias), None where
    it was skipped. measured: name of a quantity -> float [M] of these sources. none_usable: whether every source of all
    was skipped.
    """

    loss: Tensor
    gradient: Tensors
    source_gradients: list[tuple[Tensor, Tensor] | None] = field(default_factory=list)
    measured: dict[str, Tensor] = field(default_factory=dict)
    none_usable: bool = False


def plain_step(
    model, parameters: Tensors, batch: SequenceBatch, streams: Streams, rows_only: bool = False
) -> StepResult:
    """The target alone: LRURec. rows_only: the gradient of its item table is a sparse tensor."""
    loss = model.target_loss(parameters, BatchShare.of(batch), streams("target"), rows_only=rows_only)
    return StepResult(*of_all_processes(loss, meta.gradients(loss, parameters)))


def of_all_processes(loss: Tensor, gradient: Tensors) -> tuple[Tensor, Tensors]:
    """Loss and gradient of a step, of which each process has computed a part."""
    found = dict(processes.summed({**gradient, "loss": loss.detach()}))
    return found.pop("loss"), found


def joint_step(
    model, parameters: Tensors, batch: SequenceBatch | None, sources: SourceSides, streams: Streams, weight: float
) -> StepResult:
    """L_tgt + weight * mean_i L_src(S_i) in one gradient; without a target batch (pre-training) the second term alone.

    A source whose loss or gradient is not finite is left out of the mean.
    """
    losses = [
        model.source_loss(
            parameters, side.items, side.next_batch(), streams("source", side.name), rows_only=side.rows_only
        )
        for side in sources
    ]
    all_losses = torch.stack(losses).detach()
    usable = all_losses.isfinite().tolist()
    target = None if batch is None else model.target_loss(parameters, BatchShare.of(batch), streams("target"))
    tensors = {f"{kind}.{i}": t for i, side in enumerate(sources) for kind, t in zip("tb", side.tensors, strict=True)}
    moved = {**parameters, **tensors}
    total, gradient = _mean_gradient(losses, usable, weight, target, moved)
    if processes.total(bool(gradient) and not bool(meta.finite(gradient.values()))):  # which one it is must be asked
        for number in [number for number, ok in enumerate(usable) if ok]:
            alone = meta.gradients(losses[number], moved, keep_graph=True)
            usable[number] = bool(meta.finite(alone.values()))
        total, gradient = _mean_gradient(losses, usable, weight, target, moved)
    own_gradients = [(gradient[f"t.{i}"], gradient[f"b.{i}"]) if ok else None for i, ok in enumerate(usable)]
    measured = {"loss": all_losses, "skipped": ~torch.tensor(usable, device=all_losses.device)}
    loss, shared = of_all_processes(total, {name: gradient[name] for name in parameters if gradient})
    return StepResult(loss, shared, own_gradients, measured, none_usable=not gradient)


def _mean_gradient(
    losses: list[Tensor], usable: list[bool], weight: float, target: Tensor | None, moved: Tensors
) -> tuple[Tensor, Tensors]:
    """Loss and gradient of the target and the mean of the usable sources; no gradient where none is usable.

    Of several processes each gives its part, that of its own sources.
    """
    kept = [loss for loss, ok in zip(losses, usable, strict=True) if ok]
    in_all = processes.total(len(kept))
    if not in_all:
        return torch.full_like(losses[0], float("nan")), {}
    parts = [] if target is None else [target]
    if kept:
        parts.append(weight * torch.stack(kept).mean() * (len(kept) / in_all))
    if not parts:
        return torch.zeros_like(losses[0]), {name: torch.zeros_like(value) for name, value in moved.items()}
    total = sum(parts[1:], start=parts[0])
    return total, meta.gradients(total, moved, keep_graph=True)
