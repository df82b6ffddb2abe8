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
Losses = Callable[[Sequence[Tensors]], Sequence[Tensor]]  # of each of several sources, under weights of its own


@dataclass(frozen=True)
class TrialUpdate:
    """What K trial updates on a source did. phi = theta - moved.

    theta, rates: the shared parameters and log(alpha) as this trial alone has read them. phi, moved: every shared
    parameter. own: gradients of the source's own tensors, and source_gradient: of the shared
    ones, both in the first inner step. loss: the source's loss in the first inner step, detached.
    """

    theta: Tensors
    rates: Tensors
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


def gradients_of_each(
    losses: Sequence[Tensor], parameters: Sequence[Tensors], create_graph: bool = False
) -> list[Tensors]:
    """As :func:`gradients` of each of several losses, by parameters that no other of them reads."""
    every = {(number, name): value for number, each in enumerate(parameters) for name, value in each.items()}
    found = gradients(torch.stack([*losses]).sum(), every, create_graph)
    return [{name: found[number, name] for name in each} for number, each in enumerate(parameters)]


def trial_updates(
    parameters: Tensors,
    losses: Sequence[Losses],
    own: Sequence[Sequence[Tensor]],
    log_rates: Tensors,
    second_order: bool,
) -> list[TrialUpdate]:
    """phi = theta - alpha * grad for each source, once for each of the K losses (each on fresh batches of all sources).

    parameters: theta, the same for all sources. own: each source's item table and bias, constant during the K steps.
    log_rates: log(alpha), a scalar for each parameter. second_order keeps the graph of phi on theta.
    """
    thetas, rates = ([_leaves(values) for _ in own] for values in (parameters, log_rates))
    alphas = [dict(zip(rate, torch.stack([*rate.values()]).exp().unbind(), strict=True)) for rate in rates]
    tables = [{f"own.{number}": tensor for number, tensor in enumerate(each)} for each in own]
    phis, moves, first = thetas, [None] * len(own), None
    for losses_of in losses:
        found = losses_of(phis)
        wanted = phis if first else [phi | table for phi, table in zip(phis, tables, strict=True)]
        gradient = gradients_of_each(found, wanted, create_graph=second_order)
        first = first or [_first_step(*each) for each in zip(thetas, tables, gradient, found, strict=True)]
        moves = [_further(*each) for each in zip(moves, alphas, gradient, strict=True)]
        phis = [_less(*each, second_order) for each in zip(thetas, moves, strict=True)]
    moves = [{name: value.detach() for name, value in moved.items()} for moved in moves]
    return [TrialUpdate(*each, **kept) for *each, kept in zip(thetas, rates, phis, moves, first, strict=True)]


def _leaves(values: Tensors) -> Tensors:
    """The same numbers with gradients of their own."""
    return {name: value.detach().requires_grad_(value.requires_grad) for name, value in values.items()}


def _first_step(theta: Tensors, table: Tensors, gradient: Tensors, loss: Tensor) -> dict:
    return {
        "source_gradient": {name: gradient[name].detach() for name in theta},
        "own": tuple(gradient[name].detach() for name in table),
        "loss": loss.detach(),
    }


def _further(moved: Tensors | None, alpha: Tensors, gradient: Tensors) -> Tensors:
    step = {name: rate * gradient[name] for name, rate in alpha.items()}
    return step if moved is None else {name: moved[name] + value for name, value in step.items()}


def _less(theta: Tensors, moved: Tensors, second_order: bool) -> Tensors:
    differences = torch._foreach_sub([theta[name] for name in moved], list(moved.values()))
    phi = dict(zip(moved, differences, strict=True))
    return phi if second_order else {name: value.detach().requires_grad_() for name, value in phi.items()}


def outer_gradients(trials: Sequence[TrialUpdate], target_losses: Losses, second_order: bool) -> list[Outer]:
    """g = (d phi / d theta) grad L_target(phi) of each trial: exact through its updates, or with d phi / d theta = 1.

    Rates that require gradients receive theirs, exact or of first order as well:
    phi = theta - sum_k alpha * grad_k, hence dL / d log(alpha) = -<grad L_target(phi), theta - phi>.
    """
    losses = target_losses([trial.phi for trial in trials])
    learned = [{name: rate for name, rate in trial.rates.items() if rate.requires_grad} for trial in trials]
    if second_order:
        rates = [{f"rate.{name}": rate for name, rate in each.items()} for each in learned]
        found = gradients_of_each(losses, [trial.theta | rate for trial, rate in zip(trials, rates, strict=True)])
        rates = [{name: one.pop(f"rate.{name}") for name in each} for one, each in zip(found, learned, strict=True)]
    else:
        found = gradients_of_each(losses, [trial.phi for trial in trials])
        rates = [
            {name: -(one[name] * trial.moved[name]).sum() for name in each}
            for one, trial, each in zip(found, trials, learned, strict=True)
        ]
    return [Outer(one, loss.detach(), rate) for one, loss, rate in zip(found, losses, rates, strict=True)]


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


def in_order(gradient: Tensor | None) -> Tensor | None:
    """A gradient as a fused optimiser must be given it: such a kernel reads it as it lies in memory, whatever its
    strides."""
    return gradient if gradient is None or gradient.is_sparse else gradient.contiguous()


def weighted_sum(weights: Tensor, terms: Sequence[Tensors]) -> Tensors:
    """sum_i weights[i] * terms[i]; a term of weight 0 is left out even where it is not finite."""
    total = {name: torch.zeros_like(value) for name, value in terms[0].items()}
    for weight, term in zip(weights.tolist(), terms, strict=True) if total else ():
        if weight > 0:
            torch._foreach_add_(list(total.values()), [term[name] for name in total], alpha=weight)
    return total
