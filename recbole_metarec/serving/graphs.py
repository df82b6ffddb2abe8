"""What serves, as modules that an ONNX graph can hold: real arithmetic, fixed lengths, no shape that data decide.

Histories are int64 [B, L] with L the ``longest`` of the network, padded in front with 0, so that the last column is the
latest event. Letters: B batch, L length, d width, n catalogue size with padding in row 0, K layers, m = 2d state size.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_metarec.data.pair_lags import LAGS, REACH
from recbole_metarec.data.repeats import LAG_STARTS
from recbole_metarec.model.item_memory import ItemMemory
from recbole_metarec.model.lru import RecurrentBlock
from recbole_metarec.model.lru_network import LRUNetwork
from recbole_metarec.model.memory_cells import Entries
from recbole_metarec.model.network import SequenceNetwork
from recbole_metarec.model.seen_offset import SeenOffset
from recbole_metarec.model.unisrec_network import UniSRecNetwork


class Graph(NamedTuple):
    """A module, and the names and example values of what it reads; the names of what it returns."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]


def graphs_of(network: SequenceNetwork) -> dict[str, Graph]:
    """By name: ``step`` (one more event), ``history`` (a whole one) and ``scores`` (of every item).

    Raises TypeError for a network that has none.
    """
    items = torch.arange(1, 2 * network.longest + 1).view(2, -1) % network.n_items
    for kind, graphs in _GRAPHS.items():
        if type(network) is kind:
            return graphs(network.eval(), items)
    raise TypeError(type(network).__name__)


# -- LRURec and MetaRec ------------------------------------------------------------------------------------------------


class RealBlock(nn.Module):
    """A block whose complex states are real [..., 2m]: all real parts, then all imaginary ones."""

    def __init__(self, block: RecurrentBlock, longest: int):
        super().__init__()
        self.block, recurrence = block, block.recurrence
        gamma = torch.exp(recurrence.log_gamma).repeat_interleave(2)
        self.drive = _linear(
            _parts_apart(recurrence.into_state.weight * gamma[:, None]),
            _parts_apart(recurrence.into_state.bias * gamma),
        )
        self.read = _linear(_parts_apart(recurrence.out_of_state.weight.t()).t(), recurrence.out_of_state.bias)
        power, self.shifts = recurrence.eigenvalues(), []
        while 2 ** len(self.shifts) < max(2, longest):  # the first one is a step's, too
            self.register_buffer(f"same{len(self.shifts)}", torch.cat([power.real, power.real]))
            self.register_buffer(f"crossed{len(self.shifts)}", torch.cat([-power.imag, power.imag]))
            self.shifts.append(2 ** len(self.shifts))
            power = power * power

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`RecurrentBlock.step`: x [B, d], state [B, 2m]."""
        state = self._turned(state, 0) + self.drive(x)
        return self.block._after_recurrence(x, self.read(state), None), state

    def forward(self, x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, L, d]; real, float [B, L, 1]: 1 for events. Returns x [B, L, d] and the last state [B, 2m]."""
        states = self.drive(x) * real
        for number, shift in enumerate(self.shifts):
            if shift < x.shape[1]:
                states = states + F.pad(self._turned(states[:, :-shift], number), (0, 0, shift, 0))
        return self.block._after_recurrence(x, self.read(states), None), states[:, -1]

    def _turned(self, states: Tensor, number: int) -> Tensor:
        """Times the eigenvalues to the power of ``shifts[number]``."""
        real, imaginary = states.chunk(2, dim=-1)
        crossed = torch.cat([imaginary, real], dim=-1) * getattr(self, f"crossed{number}")
        return states * getattr(self, f"same{number}") + crossed


def _parts_apart(rows: Tensor) -> Tensor:
    """Rows of real and imaginary parts in turn, as all real ones and then all imaginary ones."""
    return torch.cat([rows[0::2], rows[1::2]])


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    layer.weight.data, layer.bias.data = weight.detach().contiguous(), bias.detach().clone()
    return layer


class RealEncoder(nn.Module):
    """The item table and an encoder whose state is real [B, 2mK], one layer after the other."""

    def __init__(self, network: LRUNetwork):
        super().__init__()
        self.register_buffer("table", network.encoder.norm(network.table).detach())
        self.blocks = nn.ModuleList(RealBlock(block, network.longest) for block in network.encoder.blocks)

    def step(self, item: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One more event: item int64 [B] to the output [B, d] and the state after it."""
        x, after = F.embedding(item, self.table), []
        for block, before in zip(self.blocks, state.chunk(len(self.blocks), dim=1), strict=True):
            x, now = block.step(x, before)
            after.append(now)
        return x, torch.cat(after, dim=1)

    def forward(self, history: Tensor) -> tuple[Tensor, Tensor]:
        """A history [B, L] to the output [B, d] and the state after it."""
        x, after, real = F.embedding(history, self.table), [], (history > 0)[..., None].to(self.table.dtype)
        for block in self.blocks:
            x, last = block(x, real)
            after.append(last)
        return x[:, -1], torch.cat(after, dim=1)


class LRUStep(nn.Module):
    """item int64 [B], the state [B, 2mK] and, where scores read it, the history [B, L] before it to the output [B, d],
    the state and the history after it."""

    def __init__(self, encoder: RealEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, item: Tensor, state: Tensor, history: Tensor | None = None):
        output, state = self.encoder.step(item, state)
        return (output, state) if history is None else (output, state, _shifted(history, item))


def _shifted(history: Tensor, item: Tensor) -> Tensor:
    return torch.cat([history[:, 1:], item[:, None]], dim=1)


class LRUScores(nn.Module):
    """output [B, d] and, where scores read it, the history [B, L] to scores [B, n], padding at minus infinity."""

    def __init__(self, network: LRUNetwork):
        super().__init__()
        self.register_buffer("table", network.table.detach())
        self.register_buffer("bias", network.item_bias.detach())
        self.register_buffer("share", network.lru_share)
        self.seen = network.seen and DenseSeenOffset(network.seen)
        self.memory = network.memory and DenseMemory(network.memory)
        self.register_buffer("real", _real_items(network))

    def forward(self, output: Tensor, history: Tensor | None = None) -> Tensor:
        scores = F.linear(output, self.table, self.bias)
        if self.seen is not None:
            scores = scores.scatter_add(1, history, self.seen(history))
        if self.memory is not None:
            scores = torch.lerp(self.memory(history), scores, self.share)
        return torch.where(self.real, scores, float("-inf"))


def _real_items(network: SequenceNetwork) -> Tensor:
    return torch.arange(network.n_items) > 0


class DenseSeenOffset(nn.Module):
    """rho of each event of a history [B, L] that is the latest of its item, 0 for any other: [B, L]."""

    def __init__(self, offset: SeenOffset, lift: Tensor | None = None):
        super().__init__()
        by_lag = offset.by_lag if lift is None else offset.by_lag + offset.lift_weight * lift
        self.register_buffer("by_lag", by_lag.detach())
        self.register_buffer("starts", torch.tensor(LAG_STARTS[1:]))

    def forward(self, history: Tensor) -> Tensor:
        length = history.shape[1]
        lags = torch.arange(length - 1, -1, -1)
        values = self.by_lag[(lags[:, None] >= self.starts).sum(dim=1)]
        repeats = (history[:, :, None] == history[:, None, :]) & torch.ones(length, length).triu(1).bool()
        return values * (~repeats.any(dim=2) & (history > 0))


class DenseMemory(nn.Module):
    """Scores [B, n] of the item memory after histories [B, L]: every item is a cell of the head, with evidence or not.

    As many neighbours of each of the latest R items are read, S, as the item with most of them has.
    """

    def __init__(self, memory: ItemMemory):
        super().__init__()
        self.memory, self.seen = memory, DenseSeenOffset(memory.seen, memory.pairs.lift)
        most = int((memory.pairs.starts[1:] - memory.pairs.starts[:-1]).max())
        self.register_buffer("slots", torch.arange(most))

    def forward(self, history: Tensor) -> Tensor:
        memory, pairs, head = self.memory, self.memory.pairs, self.memory.head
        latest = history[:, -REACH:].flip(1)
        latest = F.pad(latest, (0, REACH - latest.shape[1]))
        start = pairs.starts[latest]
        there = self.slots < (pairs.starts[latest + 1] - start)[..., None]  # [B, R, S]
        pair = torch.where(there, start[..., None] + self.slots, 0)
        item = pairs.neighbours[pair].long()
        counts = pairs.counts[pair].int() * there[..., None] - own_counts(history, latest, item)
        row = torch.arange(history.shape[0])[:, None, None]
        place = row * REACH + torch.arange(REACH)[:, None] + torch.zeros_like(item)
        cell = row * pairs.n_items + item
        entries = Entries(place.flatten(), item.flatten(), counts.clamp(min=0).flatten(0, 2))
        popularity = pairs.popularity.expand(history.shape[0], -1)
        left = popularity.scatter_add(1, history, -(history > 0).long()).clamp(min=0)
        near = pairs.popularity[latest.flatten()]
        evidence = head(entries, near, cell.flatten(), left.flatten()).view(popularity.shape)
        scores = head.logit(evidence) + head.base(left) + memory.item_bias
        if memory.texts is not None:
            scores = scores + F.linear(memory.texts(latest, memory.text_vectors), memory.text_vectors)
        return scores.scatter_add(1, history, self.seen(history))


def own_counts(history: Tensor, latest: Tensor, item: Tensor) -> Tensor:
    """How often a history [B, L] has its latest items [B, R] and items [B, R, S] as pairs: int [B, R, S, 4]."""
    place = torch.arange(history.shape[1])
    behind = place - place[:, None]
    groups = [(behind >= nearest) & (behind <= furthest) for nearest, furthest in LAGS]
    groups = torch.stack([*groups, (behind <= -1) & (behind >= -REACH)])  # [4, L, L]: second item against first
    first = (latest[..., None] == history[:, None, :]) & (latest > 0)[..., None]  # [B, R, L]
    seconds = (first.float()[:, :, None, None, :] @ groups.float())[:, :, :, 0, :]  # [B, R, 4, L]
    same = (item[..., None] == history[:, None, None, :]).float()  # [B, R, S, L]
    return (same @ seconds.transpose(2, 3)).int()


def _lru_graphs(network: LRUNetwork, items: Tensor) -> dict[str, Graph]:
    with torch.no_grad():
        encoder, scores = RealEncoder(network), LRUScores(network)
        output, state = encoder(items)
    read = {"history": items} if network.reads_history else {}
    after = ("next_history",) if network.reads_history else ()
    return {
        "step": Graph(
            LRUStep(encoder), {"item": items[:, 0], "state": state, **read}, ("output", "next_state", *after)
        ),
        "history": Graph(encoder, {"history": items}, ("output", "state")),
        "scores": Graph(scores, {"output": output, **read}, ("scores",)),
    }


# -- UniSRec -----------------------------------------------------------------------------------------------------------


class TransformerHistory(nn.Module):
    """A history [B, L] to the output [B, d] after it."""

    def __init__(self, network: UniSRecNetwork):
        super().__init__()
        self.encoder = network.encoder
        self.register_buffer("table", network.catalogue()[0].detach())

    def forward(self, history: Tensor) -> Tensor:
        real = history > 0
        position = (real.cumsum(dim=1) - 1).clamp(min=0)  # the first event stands at 0, wherever it is
        x = self.encoder.norm(self.table[history] + self.encoder.position.weight[position])
        seen = real[:, None, None, :] & torch.ones(history.shape[1], history.shape[1]).tril().bool()
        return self.encoder.layers(x, torch.where(seen, 0.0, -10000.0))[:, -1]


class TransformerStep(nn.Module):
    """item int64 [B] and the history [B, L] before it to the output [B, d] and the history after it."""

    def __init__(self, whole: TransformerHistory):
        super().__init__()
        self.whole = whole

    def forward(self, item: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        history = _shifted(history, item)
        return self.whole(history), history


class TransformerScores(nn.Module):
    """output [B, d] to scores [B, n], padding at minus infinity."""

    def __init__(self, network: UniSRecNetwork):
        super().__init__()
        self.temperature = network.temperature
        self.register_buffer("directions", network.catalogue()[1].detach())
        self.register_buffer("real", _real_items(network))

    def forward(self, output: Tensor) -> Tensor:
        scores = F.normalize(output, dim=1) @ self.directions.t() / self.temperature
        return torch.where(self.real, scores, float("-inf"))


def _unisrec_graphs(network: UniSRecNetwork, items: Tensor) -> dict[str, Graph]:
    with torch.no_grad():
        whole, scores = TransformerHistory(network), TransformerScores(network)
        output = whole(items)
    return {
        "step": Graph(TransformerStep(whole), {"item": items[:, 0], "history": items}, ("output", "next_history")),
        "history": Graph(whole, {"history": items}, ("output",)),
        "scores": Graph(scores, {"output": output}, ("scores",)),
    }


_GRAPHS = {LRUNetwork: _lru_graphs, UniSRecNetwork: _unisrec_graphs}
