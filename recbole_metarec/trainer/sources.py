"""What training holds of the sources: item tables, biases, batch streams and their optimiser. None is deployed."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from recbole_metarec import processes
from recbole_metarec.data.batches import BatchStream, SequenceBatches
from recbole_metarec.data.source import Source
from recbole_metarec.model.losses import negatives_distribution
from recbole_metarec.model.metarec_network import SourceBatch, SourceItems
from recbole_metarec.randomness import torch_stream
from recbole_metarec.trainer.forms import COUNT, Dependent, optimizer_form
from recbole_metarec.trainer.lessons import Lessons
from recbole_metarec.trainer.meta_step import in_order
from recbole_metarec.trainer.optimizers import joined_states, part_of_state


def events_of_a_source(config, transfer: str, sources: int) -> int:
    """Events in a batch of one source, at least 1, where there are ``sources`` of them: ``source_batch_size``.

    auto: sources that are all in each step beside the target share ``train_batch_size``. In pre-training, which has no
    target beside them, each has all of it.
    """
    wanted, target = config["source_batch_size"], config["train_batch_size"]
    if wanted == "auto":
        return max(1, target // max(1, sources)) if transfer in ("meta", "joint") else target
    return target if wanted == "same" else wanted


class SourceSide:
    """One source while it takes part in training."""

    def __init__(
        self,
        source: Source,
        width: int,
        longest: int,
        budget: int,
        seed: int,
        device: torch.device,
        texts: np.ndarray | None = None,
        rows_only: bool = False,
        memory_neighbours: int = 0,
    ):
        """width: d. longest: L. budget: events in a batch. texts: float32 [n_i, w].

        rows_only: whether the gradient of its table is a sparse tensor of the rows that were read. memory_neighbours:
        most neighbours of an item in its lessons for an item memory; 0 for no lessons.
        """
        self.name = source.name
        windows = source.windows(longest)
        self.stream = BatchStream(SequenceBatches(source.store, windows, budget, seed, source.name))
        init = torch_stream("cpu", seed, "init", source.name)
        table = torch.empty(source.store.n_items, width)
        nn.init.trunc_normal_(table, std=0.02, a=-0.04, b=0.04, generator=init)
        table[0] = 0.0
        self.table = nn.Parameter(table.to(device))
        self.bias = nn.Parameter(torch.zeros(source.store.n_items, device=device))
        counts = source.store.item_counts(source.store.lengths)
        texts = None if texts is None else torch.from_numpy(texts).to(device)
        self.items = SourceItems(self.table, self.bias, negatives_distribution(counts, device), texts)
        self.rows_only = rows_only
        self.lessons = None
        if memory_neighbours:
            sizes = longest, budget, seed, memory_neighbours, device
            unit = None if texts is None else F.normalize(texts, dim=1)
            self.lessons = Lessons(source.store, source.name, *sizes, unit)

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """The source's parameters: item table [n_i, d], bias [n_i]."""
        return self.table, self.bias

    def next_batch(self) -> SourceBatch:
        """The next batch of its stream, on the CPU."""
        batch, lesson = next(self.stream), next(self.lessons) if self.lessons else None
        return SourceBatch(batch.inputs, batch.targets, lesson=lesson)

    def state_dict(self) -> dict:
        """Table, bias and the stream's position."""
        state = {"table": self.table.data, "bias": self.bias.data, **self.stream.state_dict()}
        return state | ({"lessons": self.lessons.state_dict()} if self.lessons else {})

    def form(self) -> dict:
        """The form of :meth:`state_dict`."""
        form = {"table": self.table, "bias": self.bias, **_stream_form(self.stream)}
        if self.lessons:
            form["lessons"] = {"given": COUNT, "streams": [_stream_form(stream) for stream in self.lessons.streams]}
        return form

    def load_state_dict(self, state: dict) -> None:
        """Continues where :meth:`state_dict` was taken."""
        self.table.data.copy_(state["table"])
        self.bias.data.copy_(state["bias"])
        self.stream.load_state_dict(state)
        if self.lessons:
            self.lessons.load_state_dict(state["lessons"])


def _stream_form(stream: BatchStream) -> dict:
    return {"passed": COUNT, "position": Dependent(lambda state: range(len(stream.batches.plan(state["passed"]))))}


class SourceSides:
    """This process's sources, and the optimiser that steps their tables once per outer step."""

    def __init__(self, sides: Sequence[SourceSide], optimizer_for: Callable, numbers: Sequence[int] | None = None):
        """optimizer_for: makes an optimiser for a list of tables and a list of biases. numbers: those of ``sides``
        among the sources of all processes; None in a single process, which has them all."""
        self.sides = tuple(sides)
        self.numbers = numbers
        self.optimizer = optimizer_for([s.table for s in sides], [s.bias for s in sides]) if sides else None

    def __len__(self) -> int:
        return len(self.sides)

    def __iter__(self):
        return iter(self.sides)

    def __getitem__(self, some: slice) -> tuple[SourceSide, ...]:
        return self.sides[some]

    @property
    def names(self) -> list[str]:
        """The sources' names, in order."""
        return [side.name for side in self.sides]

    def step(self, gradients: Sequence[tuple[Tensor, Tensor] | None]) -> None:
        """One optimiser step with each source's gradients of (table, bias); None leaves a source as it is."""
        for side, pair in zip(self.sides, gradients, strict=True):
            side.table.grad, side.bias.grad = map(in_order, pair or (None, None))
        self.optimizer.step()

    def state_dict(self) -> dict:
        """Tables, biases, streams and optimiser: tensors and plain values only.

        All processes must call it together: the first gets the state of all sources, the others that of none.
        """
        sides = {side.name: side.state_dict() for side in self.sides}
        state = {"sides": sides, "optimizer": self.optimizer.state_dict() if self.sides else {}}
        if self.numbers is None:
            return state
        parts = processes.gathered_by_first((list(self.numbers), _on_cpu(state)))
        by_number = {
            number: side for numbers, part in parts for number, side in zip(numbers, part["sides"].items(), strict=True)
        }
        optimizer = joined_states([(numbers, part["optimizer"]) for numbers, part in parts])
        return {"sides": dict(by_number[number] for number in sorted(by_number)), "optimizer": optimizer}

    def part_of(self, state: dict, n_sources: int) -> dict:
        """The part of the state of all sources, as a file has it, that :meth:`load_state_dict` takes here."""
        if self.numbers is None:
            return state
        sides = {name: side for name, side in state["sides"].items() if name in self.names}
        return {"sides": sides, "optimizer": part_of_state(state["optimizer"], self.numbers, n_sources)}

    def form(self, steps: int) -> dict:
        """The form of :meth:`state_dict` after at most ``steps`` steps."""
        sides = {side.name: side.form() for side in self.sides}
        return {"sides": sides, "optimizer": optimizer_form(self.optimizer, steps, moves_all=False)}

    def load_state_dict(self, state: dict) -> None:
        """Continues where :meth:`state_dict` was taken; the sources must be the same."""
        for side in self.sides:
            side.load_state_dict(state["sides"][side.name])
        if self.sides:
            self.optimizer.load_state_dict(state["optimizer"])


def _on_cpu(value):
    """A copy with all tensors on the CPU."""
    return tree_map(lambda leaf: leaf.cpu() if isinstance(leaf, Tensor) else leaf, value)
