"""The meta transfer step of MetaRec (section 4) as functions of parameters and batches; nothing is written in place.

Signs: theta - phi is what the trial update subtracted. It points *up* the source's loss, as a gradient does. g is the
gradient of the target's loss, so it points up, too. cos(g, theta - phi) = +1 therefore means that source and target
want the same step. The paper prints Sim(g, phi - theta), whose sign contradicts its text; ``rescale_sign: paper`` keeps
that literal form.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_TINY, _HUGE = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max

Tensors = dict[str, Tensor]
Losses = Callable[[Sequence[Tensors]], Sequence[Tensor]]  # the weights for each source -> the loss of each


@dataclass(frozen=True)
class TrialUpdate:
    """The result of K trial updates on a source: phi = theta - moved.

    theta, rates: this trial's own leaves of the shared parameters and of log(alpha). phi, moved: by shared parameter.
    source_gradient, table_gradients, loss: of the first inner step, detached: the gradient by each shared parameter,
    the gradients by the source's item table and bias, and the source's loss.
    """

    theta: Tensors
    rates: Tensors
    phi: Tensors
    moved: Tensors
    source_gradient: Tensors
    table_gradients: tuple[Tensor, ...]
    loss: Tensor


@dataclass(frozen=True)
class Outer:
    """The target's answer to a trial.

    gradient: (d phi / d theta) applied to the target's gradient at phi, by shared parameter. loss: the target's loss at
    phi, detached. rates: gradient of the target's loss by each parameter's log(alpha).
    """

    gradient: Tensors
    loss: Tensor
    rates: Tensors


def gradients(loss: Tensor, parameters: Tensors, create_graph: bool = False, keep_graph: bool = False) -> Tensors:
    """Gradient by every parameter, zeros for those that the loss does not read. keep_graph: for a further call."""
    values = torch.autograd.grad(
        loss,
        tuple(parameters.values()),
        retain_graph=create_graph or keep_graph,
        create_graph=create_graph,
        allow_unused=True,
    )
    pairs = zip(parameters.items(), values, strict=True)
    return {name: torch.zeros_like(value) if grad is None else grad for (name, value), grad in pairs}


def gradients_of_each(
    losses: Sequence[Tensor], parameters: Sequence[Tensors], create_graph: bool = False, keep_graph: bool = False
) -> list[Tensors]:
    """As :func:`gradients`, for several losses in one pass. Each has parameters that no other loss reads."""
    every = {(number, name): value for number, each in enumerate(parameters) for name, value in each.items()}
    values = gradients(torch.stack([*losses]).sum(), every, create_graph, keep_graph)
    return [{name: values[number, name] for name in each} for number, each in enumerate(parameters)]


def trial_updates(
    parameters: Tensors,
    losses: Sequence[Losses],
    tables: Sequence[Sequence[Tensor]],
    log_rates: Tensors,
    second_order: bool,
) -> list[TrialUpdate]:
    """phi = theta - alpha * grad for each source, once for each of the K losses (each on fresh batches of all sources).

    parameters: theta, the same for all sources. tables: each source's item table and bias, constant during the K steps.
    log_rates: log(alpha), a scalar for each parameter. second_order: whether phi keeps its graph back to theta.
    """
    thetas, rates = ([_leaves(values) for _ in tables] for values in (parameters, log_rates))
    alphas = [dict(zip(rate, torch.stack([*rate.values()]).exp().unbind(), strict=True)) for rate in rates]
    named = [{f"table.{number}": tensor for number, tensor in enumerate(each)} for each in tables]
    phis, moves, first = thetas, [None] * len(tables), None
    for losses_of in losses:
        values = losses_of(phis)
        wanted = phis if first else [phi | table for phi, table in zip(phis, named, strict=True)]
        gradient = gradients_of_each(values, wanted, create_graph=second_order)
        first = first or [_first_step(*each) for each in zip(thetas, named, gradient, values, strict=True)]
        moves = [_further(*each) for each in zip(moves, alphas, gradient, strict=True)]
        phis = [_less(*each, second_order) for each in zip(thetas, moves, strict=True)]
    moves = [{name: value.detach() for name, value in moved.items()} for moved in moves]
    return [TrialUpdate(*each, **kept) for *each, kept in zip(thetas, rates, phis, moves, first, strict=True)]


def _leaves(values: Tensors) -> Tensors:
    """The same values as new leaves of the graph, with gradients of their own."""
    return {name: value.detach().requires_grad_(value.requires_grad) for name, value in values.items()}


def _first_step(theta: Tensors, table: Tensors, gradient: Tensors, loss: Tensor) -> dict:
    return {
        "source_gradient": {name: gradient[name].detach() for name in theta},
        "table_gradients": tuple(gradient[name].detach() for name in table),
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
    """g = (d phi / d theta) grad L_target(phi) of each trial: exact through its updates, or with d phi / d theta = I.

    Rates that require gradients get theirs the same way, exact or of first order:
    phi = theta - sum_k alpha * grad_k, hence dL / d log(alpha) = -<grad L_target(phi), theta - phi>.
    """
    losses = target_losses([trial.phi for trial in trials])
    learned = [{name: rate for name, rate in trial.rates.items() if rate.requires_grad} for trial in trials]
    if second_order:
        rates = [{f"rate.{name}": rate for name, rate in each.items()} for each in learned]
        wanted = [trial.theta | rate for trial, rate in zip(trials, rates, strict=True)]
        # the trials of one pass share its graph, and further calls may ask for the others
        outer = gradients_of_each(losses, wanted, keep_graph=True)
        rates = [{name: one.pop(f"rate.{name}") for name in each} for one, each in zip(outer, learned, strict=True)]
    else:
        outer = gradients_of_each(losses, [trial.phi for trial in trials])
        rates = [
            {name: -(one[name] * trial.moved[name]).sum() for name in each}
            for one, trial, each in zip(outer, trials, learned, strict=True)
        ]
    return [Outer(one, loss.detach(), rate) for one, loss, rate in zip(outer, losses, rates, strict=True)]


def similarity(gradient: Tensors, moved: Tensors, names: Iterable[str]) -> Tensor:
    """cos(gradient, theta - phi) over the named parameters, concatenated: +1 agrees, -1 opposes.

    A scalar; 0 where one of the two vectors is zero or not finite. It is one cosine over all parameters: a cosine per
    tensor would let a bias weigh as much as a weight matrix.
    """
    names = tuple(names)
    vectors = [torch.cat([tensors[name].flatten() for name in names]) for tensors in (gradient, moved)]
    # scaled to a largest element of 1: with an extreme alpha the squares would overflow float32
    vectors = [vector / vector.abs().max().clamp(min=_TINY) for vector in vectors]
    product, lengths = (vectors[0] * vectors[1]).sum(), [vector.square().sum().sqrt() for vector in vectors]
    return (product / lengths[0].clamp(min=_TINY) / lengths[1].clamp(min=_TINY)).nan_to_num(0.0)


def source_weights(scores: Tensor, usable: Tensor, temperature: float) -> Tensor:
    """softmax(scores / tau) over the usable sources: float [M], bool [M] to float [M]. All zeros if none is usable."""
    scores = scores.masked_fill(~usable, float("-inf"))
    # relative to the best score: divided by a tiny tau, a positive one would be infinite and all weights NaN
    logits = (scores - scores.max()) / min(max(temperature, _TINY), _HUGE)
    return torch.softmax(logits, dim=0).nan_to_num(0.0)


def entropy(weights: Tensor) -> Tensor:
    """Entropy of weights float [M] that sum to 1, in nats: log M if all are equal, 0 if one has all. A scalar."""
    return -torch.special.xlogy(weights, weights).sum()


def renormalised(weights: Tensor, usable: Tensor) -> Tensor:
    """Weights float [M] scaled so that those of the usable sources, bool [M], sum to 1; all zeros if none is usable."""
    kept = torch.where(usable, weights, torch.zeros_like(weights))
    return kept / kept.sum().clamp(min=_TINY)


def finite_trial(trial: TrialUpdate) -> Tensor:
    """bool scalar: whether the passes over this source produced neither an infinity nor a NaN."""
    return finite((*trial.moved.values(), *trial.table_gradients, trial.loss))


def finite_outer(outer: Outer) -> Tensor:
    """bool scalar: the same for the target's pass after a trial."""
    return finite((*outer.gradient.values(), outer.loss, *outer.rates.values()))


def finite(values: Iterable[Tensor]) -> Tensor:
    """bool scalar: whether they hold neither an infinity nor a NaN, and no sum of squares overflows. After an overflow
    the optimiser's second moment would stay infinite, and its parameter would never move again."""
    dense = [value._values() if value.is_sparse else value for value in values]
    return torch.stack(torch._foreach_norm(dense)).isfinite().all()


def in_order(gradient: Tensor | None) -> Tensor | None:
    """The gradient in contiguous memory: the kernel of a fused optimiser ignores strides. Sparse ones stay as they
    are."""
    return gradient if gradient is None or gradient.is_sparse else gradient.contiguous()


def weighted_sum(weights: Tensor, terms: Sequence[Tensors]) -> Tensors:
    """sum_i weights[i] * terms[i], float [M] and M terms. A term of weight 0 is left out, even if it is not finite."""
    total = {name: torch.zeros_like(value) for name, value in terms[0].items()}
    for weight, term in zip(weights.tolist(), terms, strict=True) if total else ():
        if weight > 0:
            torch._foreach_add_(list(total.values()), [term[name] for name in total], alpha=weight)
    return total
