"""Which rows of the target's batch each source is tried on."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.trainer import meta_step as meta


@dataclass(frozen=True)
class Shares:
    """A batch of the target for each source. events: targets in each, float [M]; None if all are the same batch."""

    batches: list[SequenceBatch]
    events: Tensor | None = None

    def of(self, numbers: Iterable[int]) -> list[SequenceBatch]:
        """The batches of these sources."""
        return [self.batches[number] for number in numbers]

    def counted(self, weights: Tensor, usable: Tensor) -> Tensor:
        """The factor of each share in the update, float [M]: the weight of its source.

        Rows that were dealt out by weight count by their number of events instead, so that all events of the target
        count alike.
        """
        return weights if self.events is None else meta.renormalised(self.events, usable)


def deal(batch: SequenceBatch, weights: Tensor, generator: torch.Generator) -> Shares:
    """Random disjoint rows of the batch for each source, in proportion to its weight (float [M]), drawn anew each time.

    So no event of the target is wasted on a source that hardly counts. Each source gets at least one row, so that it is
    still measured. A batch with fewer than two rows per source is not dealt out: every source gets all of it.
    """
    count = len(weights)
    if len(batch) < 2 * count:
        return Shares([batch] * count)
    # drawn where the generator is, and copied to the CPU with the weights: the only wait for a GPU
    drawn = torch.rand(1, generator=generator, device=weights.device)
    order = torch.randperm(len(batch), generator=generator, device=weights.device)
    known = torch.cat([weights.double(), drawn.double(), order.double()]).cpu()
    shown, start, order = known[:count].to(weights.dtype), known[count].to(drawn.dtype), known[count + 1 :].long()
    shown = torch.where(shown.any(), shown, 1.0)  # even if no source is usable, which the step reports
    # systematic sampling: the expected number of rows is exactly proportional
    dealt = len(batch) - count
    ends = (start + shown.cumsum(0) / shown.sum() * dealt).floor().long().clamp(max=dealt).tolist()
    sizes = [1 + end - before for before, end in zip([0, *ends[:-1]], ends, strict=True)]
    sizes[-1] = len(batch) - sum(sizes[:-1])
    batches = [batch.rows(rows) for rows in order.split(sizes)]
    events = torch.stack([(share.targets > 0).sum() for share in batches])
    return Shares(batches, events.to(weights.device, weights.dtype))
