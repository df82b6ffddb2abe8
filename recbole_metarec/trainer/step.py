"""One training step on the target alone, or on target and sources jointly. The meta step is in transfer_step."""

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
    """The gradients of a step, and what is recorded of it.

    loss: scalar, the training loss of the target. gradient: by shared parameter. Several processes all have the same
    two. The next two are of this process's sources. source_gradients: by (table, bias) of each source, None for one
    that was skipped. measured: name of a quantity -> float [M]. none_usable: whether all sources of all processes were
    skipped.
    """

    loss: Tensor
    gradient: Tensors
    source_gradients: list[tuple[Tensor, Tensor] | None] = field(default_factory=list)
    measured: dict[str, Tensor] = field(default_factory=dict)
    none_usable: bool = False


def plain_step(
    model, parameters: Tensors, batch: SequenceBatch, streams: Streams, rows_only: bool = False
) -> StepResult:
    """A step on the target alone: LRURec. rows_only: whether the gradient of its item table is a sparse tensor."""
    batch = model.prepared(BatchShare.of(batch))  # here, so that somebody's own loss reads it on the model's device
    loss = model.target_loss(parameters, batch, streams("target"), rows_only=rows_only)
    return StepResult(*of_all_processes(loss, meta.gradients(loss, parameters)))


def of_all_processes(loss: Tensor, gradient: Tensors) -> tuple[Tensor, Tensors]:
    """Loss and gradient of a step, summed over the processes, each of which has computed a part."""
    sums = dict(processes.summed({**gradient, "loss": loss.detach()}))
    return sums.pop("loss"), sums


def joint_step(
    model, parameters: Tensors, batch: SequenceBatch | None, sources: SourceSides, streams: Streams, weight: float
) -> StepResult:
    """L_tgt + weight * mean_i L_src(S_i) in one gradient; without a target batch (pre-training) the second term alone.

    A source whose loss or gradient is not finite is left out of the mean.
    """
    losses = []
    for side in sources:
        own = model.prepared_source(side.next_batch()), streams("source", side.name)
        losses.append(model.source_loss(parameters, side.items, *own, rows_only=side.rows_only))
    all_losses = torch.stack(losses).detach()
    usable = all_losses.isfinite().tolist()
    target = None
    if batch is not None:
        target = model.target_loss(parameters, model.prepared(BatchShare.of(batch)), streams("target"))
    tensors = {f"{kind}.{i}": t for i, side in enumerate(sources) for kind, t in zip("tb", side.tensors, strict=True)}
    moved = {**parameters, **tensors}
    total, gradient = _mean_gradient(losses, usable, weight, target, moved)
    if processes.total(bool(gradient) and not bool(meta.finite(gradient.values()))):  # find out which source it is
        for number in [number for number, ok in enumerate(usable) if ok]:
            alone = meta.gradients(losses[number], moved, keep_graph=True)
            usable[number] = bool(meta.finite(alone.values()))
        total, gradient = _mean_gradient(losses, usable, weight, target, moved)
    source_gradients = [(gradient[f"t.{i}"], gradient[f"b.{i}"]) if ok else None for i, ok in enumerate(usable)]
    measured = {"loss": all_losses, "skipped": ~torch.tensor(usable, device=all_losses.device)}
    loss, shared = of_all_processes(total, {name: gradient[name] for name in parameters if gradient})
    return StepResult(loss, shared, source_gradients, measured, none_usable=not gradient)


def _mean_gradient(
    losses: list[Tensor], usable: list[bool], weight: float, target: Tensor | None, moved: Tensors
) -> tuple[Tensor, Tensors]:
    """Loss and gradient of the target plus the mean over the usable sources; NaN and no gradient if none is usable.

    With several processes, only the part of this process's target rows and sources.
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
