"""The bi-level step of MetaRec: try an update on each source, ask the target whether it helped, weigh, update."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_metarec import processes
from recbole_metarec.data.batches import BatchShare, SequenceBatch
from recbole_metarec.model.metarec_network import SourceBatch
from recbole_metarec.randomness import Streams
from recbole_metarec.trainer import meta_step as meta
from recbole_metarec.trainer.measuring import StepMeasurer
from recbole_metarec.trainer.meta_step import Tensors
from recbole_metarec.trainer.shares import Shares, deal
from recbole_metarec.trainer.sources import SourceSides
from recbole_metarec.trainer.step import StepResult, of_all_processes
from recbole_metarec.trainer.transfer_state import TransferSettings, TransferState
from recbole_metarec.trainer.weighting import weighting_of

INPUTS_A_PASS = 2048  # inputs of several batches that go through the encoder together on a CPU


class Passes(list):
    """The result of a pass for each source of this process. usable: bool per source, whether all of it is finite."""

    def __init__(self, passes: Iterable, is_finite: Callable[..., Tensor]):
        super().__init__(passes)
        self.usable = torch.stack([is_finite(one) for one in self])


def in_groups(batches: Sequence[SequenceBatch], device: torch.device) -> list[slice]:
    """Which batches go through the encoder in one pass: as many as keep the activations of its layers in cache.

    On a GPU all of them, since there few kernels matter most.
    """
    if device.type == "cuda":
        return [slice(0, len(batches))]
    groups, start, inputs = [], 0, 0
    for number, batch in enumerate(batches):
        inputs += int((batch.inputs > 0).sum())
        if inputs > INPUTS_A_PASS and number > start:
            groups.append(slice(start, number))
            start, inputs = number, int((batch.inputs > 0).sum())
    return [*groups, slice(start, len(batches))]


@dataclass(frozen=True)
class SourceWeights:
    """values: float [M], 0 for a source that is not usable (bool [M]). scores: of this step, float [M], or None."""

    values: Tensor
    usable: Tensor
    scores: Tensor | None = None


class TransferStep:
    """The core of the paper (MetaRec, section 4). With theta the shared parameters, S_i fresh batches of source i and T
    a batch of the target:

        trials   phi_i = theta - alpha grad L_src(theta; S_i)          once for each of K batches
        shares   T_i, the rows of T that source i is tried on          all of T, or disjoint rows
        outers   g_i = (d phi_i / d theta) grad L_tgt(phi_i; T_i)      exact, or with d phi_i / d theta = I
        weights  w = softmax(s / tau), s_i = Sim(g_i, theta - phi_i)   s_i smoothed over steps
        update   sum_i c_i g_i + source_weight sum_i w_i grad L_src(theta; S_i)

    c = w where each source is tried on all of T (``target_batch: shared``). Where T is dealt out (``split``), source i
    gets rows in proportion to w_i, and c_i is its share of the events: every event of T counts alike.
    With ``similarity_at: theta`` the scores use grad L_tgt(theta; T) instead of g_i. They are computed before T is
    dealt out; the second call of ``_weigh`` then only leaves out sources whose g_i is not finite.

    Each of several processes computes the trials and outers of its own sources, and its rows of T at theta. The
    processes exchange the scores, and sum the update.
    """

    def __init__(
        self,
        model,
        sources: SourceSides,
        settings: TransferSettings,
        state: TransferState,
        numbers: Sequence[int] | None = None,
    ):
        """numbers: those of ``sources`` among the M of all processes; None for all."""
        self.model, self.sources, self.settings, self.state = model, sources, settings, state
        self.numbers = range(len(sources)) if numbers is None else numbers
        self._rows = slice(None) if numbers is None else list(numbers)  # their index in a tensor [M]
        self.weighting = weighting_of(settings.gradient_rescaling)(settings)
        self.device = state.smoothed.device
        self.measurer = StepMeasurer(model, sources, settings)

    def __call__(self, parameters: Tensors, batch: SequenceBatch, streams: Streams) -> StepResult:
        """Gradients by theta and by the sources' tables. Moves the smoothed scores and alpha, nothing else."""
        trials = self._trials(parameters, streams)
        at_theta = self._target_at_theta(parameters, batch, streams)
        prior = self._weigh("theta", trials, [at_theta] * len(trials), trials.usable)
        shares = self._shares(batch, prior, streams)
        batches = self._prepared(shares.of(self.numbers))
        outers = self._outers(trials, batches, streams)
        weights = self._weigh("phi", trials, outers, trials.usable & outers.usable)
        counted = shares.counted(weights.values, weights.usable)
        scores = {"theta": prior.scores, "phi": weights.scores}
        measured = self.measurer.of_step(trials, weights, counted, scores, self._rows)
        if self.measurer.is_due(self.state.steps):
            rare = self.measurer.of_trials(parameters, trials, batches, outers, at_theta, streams)
            measured = measured | {name: value for name, value in rare.items() if name not in measured}
        # what the CPU must know of the weights, in one copy: the only wait for a GPU after they are computed
        known = torch.stack([counted, weights.values, weights.usable.to(counted.dtype)]).cpu()
        loss, gradient = self._update(*known[:2, self._rows], trials, outers)
        loss = at_theta.loss if self.weighting.scores_at == "theta" else loss
        self.state.steps += 1
        usable = known[2].bool().tolist()
        source_gradients = [
            trial.table_gradients if usable[number] else None
            for number, trial in zip(self.numbers, trials, strict=True)
        ]
        return StepResult(loss, gradient, source_gradients, measured, none_usable=not any(usable))

    def _trials(self, parameters: Tensors, streams: Streams) -> Passes:
        steps = range(self.settings.inner_steps)
        fresh = [[self.model.prepared_source(side.next_batch()) for _ in steps] for side in self.sources]
        groups = in_groups([batches[0] for batches in fresh], self.device)
        trials = [trial for group in groups for trial in self._trials_on(group, fresh, parameters, streams)]
        return Passes(trials, meta.finite_trial)

    def _trials_on(
        self, group: slice, fresh: list[list[SourceBatch]], parameters: Tensors, streams: Streams
    ) -> list[meta.TrialUpdate]:
        """The trials on some of the sources. fresh: K batches of every source."""
        sides, exact = self.sources[group], self.settings.second_order
        items, generators = [side.items for side in sides], [streams("source", side.name) for side in sides]
        rows_only = sides[0].rows_only  # as all others: see TransferTrainer.sources_by_rows

        def losses_on(batches):
            return lambda phis: self.model.source_losses(phis, items, batches, generators, exact, rows_only)

        losses = [losses_on(batches) for batches in zip(*fresh[group], strict=True)]
        tables = [side.tensors for side in sides]
        return meta.trial_updates(parameters, losses, tables, self.state.log_rates, exact)

    def _target_at_theta(self, parameters: Tensors, batch: SequenceBatch, streams: Streams) -> StepResult | None:
        """The target's loss at theta, and its gradient by the compared parameters; None if this step needs neither."""
        if self.weighting.scores_at != "theta" and not self.measurer.is_due(self.state.steps):
            return None
        compared = {name: parameters[name] for name in self.settings.compared(list(parameters))}
        spared = {name: value.detach() for name, value in parameters.items()}
        batch = self.model.prepared(BatchShare.of(batch))
        loss = self.model.target_loss(spared | compared, batch, streams("target"))
        return StepResult(*of_all_processes(loss, meta.gradients(loss, compared)))

    def _weigh(self, point: str, trials: Passes, target: list, usable: Tensor) -> SourceWeights:
        """Weighs the sources by the smoothed scores; computes and smooths new ones first if they belong to ``point``.

        point: "theta" or "phi". target: for each source an object whose ``gradient`` is the target's at that point.
        usable: bool for each source of this process.
        """
        scores, usable = None, self._of_all(usable)
        if self.weighting.scores_at == point:
            scores = self._of_all(self.weighting.scores(trials, [one.gradient for one in target]))
            self.state.smooth(scores, usable, self.settings.similarity_momentum)
        values = self.weighting.weights(self.state.smoothed, usable, self.state.steps)
        return SourceWeights(values, usable, scores)

    def _of_all(self, values: Tensor) -> Tensor:
        """The values [M] of all sources. values: those of this process's sources."""
        return processes.of_all(values, self.numbers, len(self.state.smoothed))

    def _shares(self, batch: SequenceBatch, weights: SourceWeights, streams: Streams) -> Shares:
        if self.settings.target_batch == "shared":
            return Shares([batch] * len(self.state.smoothed))
        return deal(batch, weights.values, streams("share"))

    def _prepared(self, shares: list[SequenceBatch]) -> list[SequenceBatch]:
        prepared = {id(share): self.model.prepared(share) for share in shares}  # once, where all sources share one
        return [prepared[id(share)] for share in shares]

    def _outers(self, trials: Passes, shares: list[SequenceBatch], streams: Streams) -> Passes:
        exact = self.settings.second_order
        generators = [streams("outer", side.name) for side in self.sources]
        outers = []
        for group in in_groups(shares, self.device):

            def target_losses(phis, group=group):
                return self.model.target_losses(phis, shares[group], generators[group], exact)

            outers += meta.outer_gradients(trials[group], target_losses, exact)
        return Passes(outers, meta.finite_outer)

    def _update(self, counted: Tensor, weights: Tensor, trials: Passes, outers: Passes) -> tuple[Tensor, Tensors]:
        """Loss and gradient by theta; also steps alpha. counted, weights: of this process's sources, on the CPU."""
        gradient = self.weighting.combined(counted, [outer.gradient for outer in outers])
        if self.settings.source_weight:
            along = meta.weighted_sum(weights, [trial.source_gradient for trial in trials])
            gradient = {name: value + self.settings.source_weight * along[name] for name, value in gradient.items()}
        rates = meta.weighted_sum(counted, [outer.rates for outer in outers])
        loss, gradient = of_all_processes(
            _weighted_loss(counted, outers), gradient | {f"rate.{name}": value for name, value in rates.items()}
        )
        self.state.learn_rates({name: gradient.pop(f"rate.{name}") for name in rates})
        return loss, gradient


def _weighted_loss(counted: Tensor, outers: Passes) -> Tensor:
    """sum_i counted_i L_tgt(phi_i; T_i). The loss of a source that counts 0 may be anything, even NaN."""
    losses = torch.stack([outer.loss for outer in outers])
    counted = counted.to(losses.device)
    return torch.where(counted > 0, counted * losses, 0.0).sum()
