"""All that a model of some hundred items answers in float32, and how like two such answers are."""

import copy
from dataclasses import dataclass, replace
from itertools import count

import torch
from support.tiny import meta_gradient, random_batch, tiny_metarec
from torch import Tensor

from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.evaluation.ranking import ranks_of
from recbole_metarec.model.losses import softmax_loss, softmax_loss_reference
from recbole_metarec.model.lru import scan, scan_reference
from recbole_metarec.model.metarec import MetaRec
from recbole_metarec.model.metarec_network import SourceItems
from recbole_metarec.model.quantizer import nearest_codes
from recbole_metarec.trainer import meta_step as meta

_CLEAR = 1e-4  # how much further than the nearest code the second one is at least, of the vector's squared length


@dataclass(frozen=True)
class World:
    """A MetaRec with one source, a batch of each domain, and states for a scan. Large enough for threads to share."""

    model: MetaRec
    source: SourceItems
    source_batch: SequenceBatch
    batch: SequenceBatch
    drive: Tensor

    @classmethod
    def make(cls) -> "World":
        """The first one in which no code is a toss-up: another code would be another gradient, however near it is."""
        for seed in count():
            torch.manual_seed(seed)
            model, source, *_ = tiny_metarec(n_target=500, n_source=200, embedding_size=32, n_layers=2)
            lengths = [20] * 20 + list(range(1, 20))
            batches = [random_batch(n, lengths) for n in (200, 500)]
            if margin(source.table[1:], model.item_embedding.weight[1:], model.vq_heads) > _CLEAR:
                own = (x.detach().float() for x in (source.table, source.bias))
                return cls(model.float(), SourceItems(*own), *batches, torch.randn(30, 40, 64, dtype=torch.complex64))

    def on(self, device: str) -> "World":
        """The same on another device."""
        own = (x.to(device).requires_grad_() for x in (self.source.table, self.source.bias))
        batches = {name: getattr(self, name).to(torch.device(device)) for name in ("source_batch", "batch")}
        model = copy.deepcopy(self.model).to(device)
        return replace(self, model=model, source=SourceItems(*own), drive=self.drive.to(device), **batches)

    def double(self) -> "World":
        """The same in float64."""
        own = (x.double() for x in (self.source.table, self.source.bias))
        drive, model = self.drive.to(torch.complex128), copy.deepcopy(self.model).double()
        return replace(self, model=model, source=SourceItems(*own), drive=drive)


def margin(vectors: Tensor, table: Tensor, n_heads: int) -> float:
    """How much further than the nearest code the second one is, at least, relative to the length of the vectors."""
    gaps = []
    for own, codes in zip(vectors.chunk(n_heads, 1), table.chunk(n_heads, 1), strict=True):
        best, second = torch.cdist(own, codes).square().topk(2, largest=False).values.unbind(1)
        gaps.append(((second - best).min() / own.square().sum(1).max()).detach())
    return min(map(float, gaps))


def answers(world: World, device: str = "cpu") -> dict[str, Tensor]:
    """Losses, gradients, trial and meta gradient, similarity, scan, softmax, codes, scores and ranks, on the CPU."""
    world = world.on(device)
    model, source, batch = world.model, world.source, world.batch
    parameters = dict(model.named_parameters())
    found = {}
    for name, loss, own in (
        ("target", model.target_loss(parameters, batch), {}),
        (
            "source",
            model.source_loss(parameters, source, world.source_batch),
            {"table": source.table, "bias": source.bias},
        ),
    ):
        found[f"{name} loss"] = loss
        found |= {f"{name} by {key}": value for key, value in meta.gradients(loss, parameters | own).items()}
    for exact in (False, True):
        step = meta_gradient(model, source, [world.source_batch], batch, 0.1, exact, parameters)
        trial, outer = step
        found |= {f"outer {exact} by {name}": value for name, value in outer.gradient.items()}
        found[f"outer {exact} loss"] = outer.loss
    found["similarity"] = meta.similarity(outer.gradient, trial.moved, parameters)
    eigenvalues = model.encoder.blocks[0].recurrence.eigenvalues()
    for run in (scan, scan_reference):
        states = run(world.drive, eigenvalues)
        found[run.__name__] = torch.view_as_real(states)
        into = torch.autograd.grad(states.abs().square().sum(), eigenvalues, retain_graph=True)[0]
        found[f"{run.__name__} by eigenvalues"] = torch.view_as_real(into)
    lengths = batch.lengths
    with torch.no_grad():
        states = model(batch.inputs, lengths)
        targets = batch.targets.gather(1, lengths[:, None] - 1)[:, 0].clamp(min=1)
        for loss in (softmax_loss, softmax_loss_reference):
            found[loss.__name__] = loss(states, model.table, model.item_bias, targets)
        found["scores"] = model.score(states)
        found["targets"], found["ranks"] = targets, ranks_of(found["scores"], targets)
        found["codes"] = nearest_codes(source.table, model.table, model.vq_heads)
    return {name: value.detach().cpu() for name, value in found.items()}


WHOLE = ("codes", "targets", "ranks")  # numbers of items and places, which are the same or not


def difference(found: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, float]:
    """Of each tensor the largest difference, relative to its largest number."""
    assert found.keys() == other.keys()
    return {
        name: float((value.double() - other[name].double()).abs().max() / value.double().abs().max().clamp(min=1e-30))
        for name, value in found.items()
        if name not in WHOLE
    }


def assert_same(found: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> None:
    """Tensors within ``tolerance`` of their largest number, codes equal, ranks as unlike as the scores explain."""
    far = {name: value for name, value in difference(found, other).items() if not value <= tolerance}
    assert not far, far
    assert torch.equal(found["codes"], other["codes"])
    slack = 2 * float((found["scores"].double() - other["scores"].double()).abs().max())
    assert_ranks(found["scores"], found["targets"], other["ranks"], slack)


def assert_ranks(scores: Tensor, targets: Tensor, ranks: Tensor, slack: float) -> float:
    """Each rank is one that the scores could give if each were off by half of ``slack``; the share of rows in doubt.

    scores [B, n], targets, ranks int64 [B].
    """
    items, own = scores[:, 1:], scores.gather(1, targets[:, None])
    low = 1 + (items > own + slack).sum(dim=1)
    high = (items >= own - slack).sum(dim=1)
    assert bool(((low <= ranks) & (ranks <= high)).all())
    in_doubt = float((low < high).double().mean())
    assert in_doubt < 0.05, "ranks of which nearly all would do prove nothing"
    return in_doubt
