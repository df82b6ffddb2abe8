"""One training step in each way that sources can help: which losses are taken where, and what the step moves."""

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.randomness import Streams
from recbole_metarec.trainer import meta_step as meta
from recbole_metarec.trainer.meta_step import Tensors
from recbole_metarec.trainer.sources import SourceSide, SourceSides
from recbole_metarec.trainer.state_checks import CheckedState


@dataclass(frozen=True)
class TransferSettings:
    """The config keys of the meta transfer, each by its own name."""

    inner_steps: int
    second_order: bool
    target_batch: str
    gradient_rescaling: str
    rescale_sign: str
    similarity_at: str
    similarity_over: str
    similarity_momentum: float
    temperature: float
    source_weight: float
    diagnostics_every: int

    def compared(self, names: list[str]) -> list[str]:
        """Names of the parameters that the similarity runs over."""
        if self.similarity_over == "all":
            return list(names)
        codes = ["item_embedding.weight"] if self.similarity_over == "encoder_and_codes" else []
        return [name for name in names if name.startswith("encoder.") or name in codes]


@dataclass
class TransferState:
    """What the meta transfer carries from step to step; all of it belongs to the checkpoint.

    log_rates: log(alpha) of each parameter tensor. smoothed: float [M], running mean of the similarities.
    steps: outer steps done. rate_optimizer: None keeps alpha fixed.
    """

    log_rates: Tensors
    smoothed: Tensor
    steps: int = 0
    rate_optimizer: torch.optim.Optimizer | None = None

    @classmethod
    def initial(cls, alphas: dict[str, float], learning_rate: float, n_sources: int, device) -> "TransferState":
        """alphas: of each named parameter, where it starts; a learning rate above 0 lets each go its own way."""
        rates = {name: torch.tensor(float(alpha), device=device).log() for name, alpha in alphas.items()}
        rates = {name: rate.requires_grad_(learning_rate > 0) for name, rate in rates.items()}
        learner = torch.optim.Adam(rates.values(), lr=learning_rate) if learning_rate > 0 else None
        return cls(rates, torch.zeros(n_sources, device=device), rate_optimizer=learner)

    def state_dict(self) -> dict:
        """Tensors and plain values only; a copy, which further steps leave as it is."""
        rates = {name: value.detach().clone() for name, value in self.log_rates.items()}
        learner = copy.deepcopy(self.rate_optimizer.state_dict()) if self.rate_optimizer else None
        return {"log_rates": rates, "smoothed": self.smoothed.clone(), "steps": self.steps, "rate_optimizer": learner}

    def checked(self, state: CheckedState, most: int) -> dict:
        """What :meth:`state_dict` gave after at most so many steps. Raises CheckpointError if it is anything else."""
        steps, learner = state.count("steps", most=most), None
        if self.rate_optimizer:
            learner = state.optimizer("rate_optimizer", self.rate_optimizer, steps, "all" if steps else "none")
        elif state["rate_optimizer"] is not None:
            state.refuse("rate_optimizer", "this run learns no rates")
        rates, smoothed = state.tensors("log_rates", self.log_rates), state.tensor("smoothed", self.smoothed)
        return {"log_rates": rates, "smoothed": smoothed, "steps": steps, "rate_optimizer": learner}

    def load_state_dict(self, state: dict) -> None:
        """Restores what :meth:`checked` has given."""
        for name, value in state["log_rates"].items():
            self.log_rates[name].data.copy_(value)
        self.smoothed, self.steps = state["smoothed"].clone(), state["steps"]
        if self.rate_optimizer:
            self.rate_optimizer.load_state_dict(state["rate_optimizer"])


@dataclass
class StepResult:
    """What a step found: the gradient of theta, and per source what is worth recording.

    loss: scalar, the target's training loss. gradient: of every shared parameter. own: per source its gradients of
    (table, bias), None where it was skipped. measured: name of a quantity -> float [M].
    """

    loss: Tensor
    gradient: Tensors
    own: list[tuple[Tensor, Tensor] | None] = field(default_factory=list)
    measured: dict[str, Tensor] = field(default_factory=dict)


def plain_step(
    model, parameters: Tensors, batch: SequenceBatch, streams: Streams, rows_only: bool = False
) -> StepResult:
    """The target alone: LRURec. rows_only: the gradient of its item table is a sparse tensor."""
    loss = model.target_loss(parameters, batch, streams("target"), rows_only=rows_only)
    return StepResult(loss.detach(), meta.gradients(loss, parameters))


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
    target = None if batch is None else model.target_loss(parameters, batch, streams("target"))
    own = {f"{kind}.{i}": t for i, side in enumerate(sources) for kind, t in zip("tb", side.own, strict=True)}
    moved = {**parameters, **own}
    total, found = _mean_gradient(losses, usable, weight, target, moved)
    if found and not bool(meta.finite(found.values())):  # which one it is must be asked of each
        for place in [place for place, ok in enumerate(usable) if ok]:
            alone = meta.gradients(losses[place], moved, keep_graph=True)
            usable[place] = bool(meta.finite(alone.values()))
        total, found = _mean_gradient(losses, usable, weight, target, moved)
    own_gradients = [(found[f"t.{i}"], found[f"b.{i}"]) if ok else None for i, ok in enumerate(usable)]
    measured = {"loss": all_losses, "skipped": ~torch.tensor(usable, device=all_losses.device)}
    return StepResult(total.detach(), {name: found[name] for name in parameters if found}, own_gradients, measured)


def _mean_gradient(
    losses: list[Tensor], usable: list[bool], weight: float, target: Tensor | None, moved: Tensors
) -> tuple[Tensor, Tensors]:
    """Loss and gradient of the target and the mean of the usable sources; no gradient where none is usable."""
    kept = [loss for loss, ok in zip(losses, usable, strict=True) if ok]
    if not kept:
        return torch.full_like(losses[0], float("nan")), {}
    total = weight * torch.stack(kept).mean()
    total = total if target is None else total + target
    return total, meta.gradients(total, moved, keep_graph=True)


class MetaStep:
    """The bi-level step (MetaRec, section 4): try an update on each source, ask the target if it helped, rescale."""

    def __init__(self, model, sources: SourceSides, settings: TransferSettings, state: TransferState):
        self.model, self.sources, self.settings, self.state = model, sources, settings, state

    def __call__(self, parameters: Tensors, batch: SequenceBatch, streams: Streams) -> StepResult:
        """Gradient of theta and of the sources' tables; moves the smoothed similarities, nothing else."""
        settings, state = self.settings, self.state
        diagnose = state.steps % settings.diagnostics_every == 0
        trials = [self._try(parameters, side, streams) for side in self.sources]
        usable = torch.stack([meta.finite_trial(trial) for trial in trials])
        rescaled_at = settings.similarity_at if settings.gradient_rescaling == "similarity" else None
        at_theta = self._at_theta(parameters, batch, streams) if diagnose or rescaled_at == "theta" else None
        measured = {}
        if rescaled_at == "theta":
            measured["similarity_theta"] = self._similarities(trials, [at_theta] * len(trials))
            self._smooth(measured["similarity_theta"], usable)
        shares, events = self._shares(batch, self._weights(usable), streams)
        outers = [self._ask(parameters, *three, streams) for three in zip(self.sources, trials, shares, strict=True)]
        usable = usable & torch.stack([meta.finite_outer(outer) for outer in outers])
        if rescaled_at == "phi":
            measured["similarity_phi"] = self._similarities(trials, outers)
            self._smooth(measured["similarity_phi"], usable)
        weights = self._weights(usable)
        # dealt out by weight, shares count by their size: every target event counts alike
        shown = weights if events is None else meta.renormalised(events, usable)
        gradient = meta.weighted_sum(shown, [outer.gradient for outer in outers])
        if settings.source_weight:
            along = meta.weighted_sum(weights, [trial.source_gradient for trial in trials])
            gradient = {name: value + settings.source_weight * along[name] for name, value in gradient.items()}
        self._learn_rates(shown, outers)
        state.steps += 1
        outer_losses = torch.stack([outer.loss for outer in outers])
        # a source of weight 0 may have a loss that is not finite: it must not touch the sum
        loss = at_theta.loss if rescaled_at == "theta" else torch.where(shown > 0, shown * outer_losses, 0.0).sum()
        measured |= {"weight": weights, "share": shown, "entropy": meta.entropy(weights).expand(len(trials))}
        measured |= {"loss": torch.stack([trial.loss for trial in trials]), "skipped": ~usable}
        if diagnose:
            measured |= self._diagnose(parameters, trials, outers, at_theta, shares, streams)
        own = [trial.own if ok else None for trial, ok in zip(trials, usable.tolist(), strict=True)]
        return StepResult(loss, gradient, own, measured)

    def _try(self, parameters: Tensors, side: SourceSide, streams: Streams) -> meta.Trial:
        plain = self.settings.second_order

        def loss_on(batch):
            generator = streams("source", side.name)
            return lambda phi: self.model.source_loss(phi, side.items, batch, generator, plain, side.rows_only)

        losses = [loss_on(side.next_batch()) for _ in range(self.settings.inner_steps)]
        return meta.trial_update(parameters, losses, side.own, self.state.log_rates, plain)

    def _at_theta(self, parameters: Tensors, batch: SequenceBatch, streams: Streams) -> StepResult:
        """The target's loss before any trial, and its gradient by the compared parameters: nothing else is needed."""
        compared = {name: parameters[name] for name in self.settings.compared(list(parameters))}
        spared = {name: value.detach() for name, value in parameters.items()}
        loss = self.model.target_loss(spared | compared, batch, streams("target"))
        return StepResult(loss.detach(), meta.gradients(loss, compared))

    def _ask(self, parameters: Tensors, side: SourceSide, trial: meta.Trial, share: SequenceBatch, streams: Streams):
        plain = self.settings.second_order

        def target_loss(phi):
            return self.model.target_loss(phi, share, streams("outer", side.name), plain)

        return meta.outer_gradient(parameters, trial, target_loss, self.state.log_rates, plain)

    def _shares(self, batch: SequenceBatch, weights: Tensor, streams: Streams) -> tuple[list[SequenceBatch], Tensor]:
        """One target batch per source: the same for all, or random disjoint rows of it, drawn anew every step.

        Rows are dealt out in proportion to the weights, so that none of the target's events is wasted on a source that
        hardly counts; each source gets one at least, so that it goes on being measured. Returns the shares and how
        many events each predicts, float [M], or None where all have the same.
        """
        count = len(self.sources)
        # a batch of few long histories cannot be dealt out; every source then gets the whole of it
        if self.settings.target_batch == "shared" or len(batch) < 2 * count:
            return [batch] * count, None
        generator, device = streams("share"), batch.inputs.device
        if not bool(weights.any()):  # no source is usable: the step will say so
            weights = torch.ones_like(weights)
        start = torch.rand(1, generator=generator, device=device)
        # systematic sampling: the expected number of rows is exactly in proportion
        dealt = len(batch) - count
        ends = (start + weights.cumsum(0) / weights.sum() * dealt).floor().long().clamp(max=dealt).tolist()
        sizes = [1 + end - before for before, end in zip([0, *ends[:-1]], ends, strict=True)]
        sizes[-1] = len(batch) - sum(sizes[:-1])
        order = torch.randperm(len(batch), generator=generator, device=device)
        shares = [batch.rows(rows) for rows in order.split(sizes)]
        return shares, torch.stack([(share.targets > 0).sum() for share in shares]).to(weights.dtype)

    def _smooth(self, scores: Tensor, usable: Tensor) -> None:
        state = self.state
        momentum = self.settings.similarity_momentum if state.steps else 0.0
        moved = momentum * state.smoothed + (1.0 - momentum) * scores
        state.smoothed = torch.where(usable & scores.isfinite(), moved, state.smoothed)

    def _weights(self, usable: Tensor) -> Tensor:
        if self.settings.gradient_rescaling == "uniform":
            return meta.source_weights(torch.zeros_like(self.state.smoothed), usable, 1.0)
        sign = -1.0 if self.settings.rescale_sign == "paper" else 1.0
        return meta.source_weights(sign * self.state.smoothed, usable, self.settings.temperature)

    def _similarities(self, trials: list[meta.Trial], asked: list) -> Tensor:
        """float [M]; asked: what holds the target's gradient for each source."""
        names = self.settings.compared(list(trials[0].moved))
        pairs = zip(asked, trials, strict=True)
        return torch.stack([meta.similarity(found.gradient, trial.moved, names) for found, trial in pairs])

    def _learn_rates(self, weights: Tensor, outers) -> None:
        if self.state.rate_optimizer is None:
            return
        found = meta.weighted_sum(weights, [outer.rates for outer in outers])
        for name, rate in self.state.log_rates.items():
            rate.grad = found[name]
        self.state.rate_optimizer.step()

    @torch.no_grad()
    def _diagnose(self, parameters, trials, outers, at_theta, shares, streams) -> dict[str, Tensor]:
        """Both similarities of each source, and the gain L_tgt(theta) - L_tgt(phi) on the same share and masks."""
        gains = []
        for side, trial, share in zip(self.sources, trials, shares, strict=True):
            generator = streams("gain", side.name)
            before = generator.get_state()
            at_phi = self.model.target_loss(trial.phi, share, generator)
            generator.set_state(before)
            gains.append(self.model.target_loss(parameters, share, generator) - at_phi)
        return {
            "gain": torch.stack(gains),
            "similarity_phi": self._similarities(trials, outers),
            "similarity_theta": self._similarities(trials, [at_theta] * len(trials)),
        }
