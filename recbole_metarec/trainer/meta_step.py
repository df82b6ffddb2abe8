"""The meta transfer step of MetaRec (section 4) as functions of parameters and batches; nothing is written in place.

Signs, once and for all. theta - phi is what the trial update took away: it points *up* the source's loss, as a
gradient does. g is the gradient of the target's loss, so it points up, too. cos(g, theta - phi) = +1 therefore means
that source and target want the same step. The paper prints Sim(g, phi - theta), whose sign is the opposite of its
own words; ``rescale_sign: paper`` keeps that literal form.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_TINY, _HUGE = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max

Tensors = dict[str, Tensor]
Loss = Callable[[Tensors], Tensor]


@dataclass(frozen=True)
class TrialUpdate:
    """What K trial updates on a source did. phi = theta - moved.

    phi, moved: every shared parameter. own: gradients of the source's own tensors, and source_gradient: of the shared
    ones, both in the first inner step. loss: the source's loss in the first inner step, detached.
    """

    phi: Tensors
    moved: Tensors
    source_gradient: Tensors
    own: tuple[Tensor, ...]
    loss: Tensor


@dataclass(frozen=True)
class Outer:
    """gradient: (d phi / d theta) applied to the target's gradient at phi, per shared parameter.

    loss: the target's loss at phi, detached. rates: gradient of the target's loss by log(alpha) of each tensor.
    """

    gradient: Tensors
    loss: Tensor
    rates: Tensors


def gradients(loss: Tensor, parameters: Tensors, create_graph: bool = False, keep_graph: bool = False) -> Tensors:
    """Gradient by every parameter, zeros for those that the loss does not touch. keep_graph: there is more to ask."""
    found = torch.autograd.grad(
        loss,
        tuple(parameters.values()),
        retain_graph=create_graph or keep_graph,
        create_graph=create_graph,
        allow_unused=True,
    )
    pairs = zip(parameters.items(), found, strict=True)
    return {name: torch.zeros_like(value) if grad is None else grad for (name, value), grad in pairs}


def trial_update(
    parameters: Tensors, losses: Sequence[Loss], own: Sequence[Tensor], log_rates: Tensors, second_order: bool
) -> TrialUpdate:
    """phi = theta - alpha * grad, once for each of the K losses (each the source's loss on a fresh batch).

    parameters: theta, leaves that require gradients. own: the source's item table and bias, constant during the K
    steps. log_rates: log(alpha), a scalar for each parameter. second_order keeps the graph of phi on theta.
    """
    phi, moved, first = parameters, None, None
    alphas = dict(zip(log_rates, torch.stack([*log_rates.values()]).exp().unbind(), strict=True))
    for loss_of in losses:
        loss = loss_of(phi)
        wanted = {**phi, **{f"own.{i}": tensor for i, tensor in enumerate(own if first is None else ())}}
        found = gradients(loss, wanted, create_graph=second_order)
        gradient = {name: found[name] for name in phi}
        if first is None:
            own_gradients = tuple(found[f"own.{i}"].detach() for i in range(len(own)))
            first = {name: value.detach() for name, value in gradient.items()}, own_gradients, loss.detach()
        step = {name: alphas[name] * value for name, value in gradient.items()}
        moved = step if moved is None else {name: moved[name] + value for name, value in step.items()}
        differences = torch._foreach_sub([parameters[name] for name in moved], list(moved.values()))
        phi = dict(zip(moved, differences, strict=True))
        if not second_order:
            phi = {name: value.detach().requires_grad_() for name, value in phi.items()}
    return TrialUpdate(phi, {name: value.detach() for name, value in moved.items()}, *first)


def outer_gradient(
    parameters: Tensors, trial: TrialUpdate, target_loss: Loss, log_rates: Tensors, second_order: bool
) -> Outer:
    """g = (d phi / d theta) grad L_target(phi): exact through the trial update, or with d phi / d theta = identity.

    log_rates that require gradients receive theirs, exact or of first order as well:
    phi = theta - sum_k alpha * grad_k, hence dL / d log(alpha) = -<grad L_target(phi), theta - phi>.
    """
    loss = target_loss(trial.phi)
    learned = {name: rate for name, rate in log_rates.items() if rate.requires_grad}
    if second_order:
        found = gradients(loss, {**parameters, **{f"rate.{name}": rate for name, rate in learned.items()}})
        rates = {name: found.pop(f"rate.{name}") for name in learned}
        return Outer(found, loss.detach(), rates)
    found = gradients(loss, trial.phi)
    rates = {name: -(found[name] * trial.moved[name]).sum() for name in learned}
    return Outer(found, loss.detach(), rates)


def similarity(gradient: Tensors, moved: Tensors, names: Iterable[str]) -> Tensor:
    """cos(gradient, theta - phi) over the named parameters, concatenated: +1 agrees, -1 opposes.

    A vector that is zero or not finite has the similarity 0 to every other. One cosine over all of them: a cosine per
    tensor would let a bias weigh as much as a weight matrix.
    """
    names = tuple(names)
    ones = [torch.cat([tensors[name].flatten() for name in names]) for tensors in (gradient, moved)]
    # the largest element becomes 1: with an extreme alpha the squares would leave float32
    ones = [vector / vector.abs().max().clamp(min=_TINY) for vector in ones]
    product, lengths = (ones[0] * ones[1]).sum(), [vector.square().sum().sqrt() for vector in ones]
    return (product / lengths[0].clamp(min=_TINY) / lengths[1].clamp(min=_TINY)).nan_to_num(0.0)


def source_weights(scores: Tensor, usable: Tensor, temperature: float) -> Tensor:
    """softmax(scores / tau) over the usable sources: float [M], bool [M]. Zeros where nothing is usable."""
    scores = scores.masked_fill(~usable, float("-inf"))
    # below the best one: a tiny tau would make infinities of positive scores, and no weights of them
    logits = (scores - scores.max()) / min(max(temperature, _TINY), _HUGE)
    return torch.softmax(logits, dim=0).nan_to_num(0.0)


def entropy(weights: Tensor) -> Tensor:
    """Of weights float [M] that sum to 1, in nats: log M where all are equal, 0 where one has all. Scalar."""
    return -torch.special.xlogy(weights, weights).sum()


def renormalised(weights: Tensor, usable: Tensor) -> Tensor:
    """Weights float [M] of the usable sources, bool [M], scaled to sum 1; zeros where nothing is usable."""
    kept = torch.where(usable, weights, torch.zeros_like(weights))
    return kept / kept.sum().clamp(min=_TINY)


def finite_trial(trial: TrialUpdate) -> Tensor:
    """bool scalar: whether the passes over this source have produced neither an infinity nor a NaN."""
    return finite((*trial.moved.values(), *trial.own, trial.loss))


def finite_outer(outer: Outer) -> Tensor:
    """bool scalar: the same of the target's pass after a trial."""
    return finite((*outer.gradient.values(), outer.loss, *outer.rates.values()))


def finite(values: Iterable[Tensor]) -> Tensor:
    """bool scalar: whether there is neither an infinity nor a NaN in them, nor a sum of squares that overflows: an
    optimiser's second moment would be infinite from then on, and what it belongs to would never move again."""
    dense = [value._values() if value.is_sparse else value for value in values]
    return torch.stack(torch._foreach_norm(dense)).isfinite().all()


def weighted_sum(weights: Tensor, terms: Sequence[Tensors]) -> Tensors:
    """sum_i weights[i] * terms[i]; a term of weight 0 is left out even where it is not finite."""
    total = {name: torch.zeros_like(value) for name, value in terms[0].items()}
    for weight, term in zip(weights.tolist(), terms, strict=True) if total else ():
        if weight > 0:
            torch._foreach_add_(list(total.values()), [term[name] for name in total], alpha=weight)
    return total
