"""Which rows of the target batch each source is tried on."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.trainer import meta_step as meta


@dataclass(frozen=True)
class Shares:
    """A target batch per source. events: how many each predicts, float [M]; None where all sources have the same."""

    batches: list[SequenceBatch]
    events: Tensor | None = None

    def of(self, numbers: Iterable[int]) -> list[SequenceBatch]:
        """Those of some sources."""
        return [self.batches[number] for number in numbers]

    def counted(self, weights: Tensor, usable: Tensor) -> Tensor:
        """What each share counts in the update, float [M]: as the source's weight.

        Rows that were dealt out by weight count by their number instead, so that every target event counts alike.
        """
        return weights if self.events is None else meta.renormalised(self.events, usable)


def deal(batch: SequenceBatch, weights: Tensor, generator: torch.Generator) -> Shares:
    """Random disjoint rows of the batch for each source, in proportion to its weight (float [M]), drawn anew each time.

    So none of the target's events is wasted on a source that hardly counts; each source gets one row at least, so that
    it is still measured. A batch of few long histories cannot be dealt out: every source gets the whole of it.
    """
    count = len(weights)
    if len(batch) < 2 * count:
        return Shares([batch] * count)
    # drawn where the generator is, and brought here with the weights: the one time that a GPU is waited for
    drawn = torch.rand(1, generator=generator, device=weights.device)
    order = torch.randperm(len(batch), generator=generator, device=weights.device)
    known = torch.cat([weights.double(), drawn.double(), order.double()]).cpu()
    shown, start, order = known[:count].to(weights.dtype), known[count].to(drawn.dtype), known[count + 1 :].long()
    shown = torch.where(shown.any(), shown, 1.0)  # where no source is usable, the step will say so
    # systematic sampling: the expected number of rows is exactly in proportion
    dealt = len(batch) - count
    ends = (start + shown.cumsum(0) / shown.sum() * dealt).floor().long().clamp(max=dealt).tolist()
    sizes = [1 + end - before for before, end in zip([0, *ends[:-1]], ends, strict=True)]
    sizes[-1] = len(batch) - sum(sizes[:-1])
    batches = [batch.rows(rows) for rows in order.split(sizes)]
    events = torch.stack([(share.targets > 0).sum() for share in batches])
    return Shares(batches, events.to(weights.device, weights.dtype))
