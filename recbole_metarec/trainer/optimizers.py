"""Which parameters are decayed, and how a table is stepped when a loss has read only some of its rows."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, SparseAdam

MANY = ("memory.item_bias", "memory.head.network.")  # the parts of an item memory that are no few numbers


def parameter_groups(model: torch.nn.Module, memory_rate: float = 0.0) -> list[dict]:
    """Every parameter once: matrices with weight decay; recurrence, biases and LayerNorm (all vectors) without.

    memory_rate: learning rate of the item memory and of the offsets of seen items, which are few numbers of size 1; a
    tenth of it for what is many numbers, the memory's item bias and the network of its head.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    memory = [(name, p) for name, p in named if name.startswith(("memory.", "seen."))]
    many = [p for name, p in memory if name.startswith(MANY)]
    few = [p for name, p in memory if not name.startswith(MANY)]
    others = [p for name, p in named if not name.startswith(("memory.", "seen."))]
    groups = [
        {"params": [p for p in others if p.dim() > 1]},
        {"params": [p for p in others if p.dim() <= 1], "weight_decay": 0.0},
        {"params": few, "weight_decay": 0.0, "lr": memory_rate},
        {"params": many, "weight_decay": 0.0, "lr": memory_rate / 10},
    ]
    return groups[:2] + [group for group in groups[2:] if group["params"]]


def slow_memory(optimizer: Optimizer) -> None:
    """A tenth of the rate for the memory's groups of :func:`parameter_groups`: a few sources know less of the next
    domain than the many that the head's start values come from."""
    for group in optimizer.param_groups[2:]:
        group["lr"] /= 10


def steps_by_rows(config, negatives: str) -> bool:
    """Whether a table that a loss with ``config[negatives]`` reads is stepped by the rows that were read.

    The full softmax reads every row; other learners and clipping know no sparse gradient; and a table that is read
    through a text map gets a dense one.
    """
    is_plain_adamw = config["learner"] == "adamw" and not config["clip_grad_norm"]
    return bool(config[negatives]) and is_plain_adamw and not config["text_alignment"]


def fused(optimizer: Optimizer) -> Optimizer:
    """The same optimiser, stepping all its parameters in one kernel where it can.

    Only optimisers that make their state in the first step: others have made it for the kernel they were built for.
    """
    if isinstance(optimizer, (Adam, AdamW, SGD)):
        for group in optimizer.param_groups:
            group["fused"] = True
    return optimizer


class RowwiseOptimizer:
    """An AdamW, and beside it SparseAdam for those of its tables whose gradient is a sparse tensor of some rows.

    The table's part of a step then costs what the rows cost, whatever its size: values and moments of the other rows
    stay as they are (AdamW would continue to move and decay them). The decay is AdamW's, decoupled from the gradient.
    """

    def __init__(self, dense: Optimizer, tables: Sequence[Tensor]):
        group = dense.param_groups[0]
        self.dense, self.tables = dense, tuple(tables)
        self.decay = group["weight_decay"]
        self.rows = SparseAdam(self.tables, lr=group["lr"], betas=group["betas"], eps=group["eps"])

    @torch.no_grad()
    def step(self) -> None:
        """One step of every parameter that has a gradient; the sparse ones are used up."""
        kept = 1.0 - self.rows.param_groups[0]["lr"] * self.decay
        sparse = [table for table in self.tables if table.grad is not None and table.grad.is_sparse]
        for table in sparse:
            table.grad = table.grad.coalesce()
            rows = table.grad.indices()[0]
            table[rows] = table[rows] * kept
        if sparse:
            self.rows.step()
        for table in sparse:
            table.grad = None
        self.dense.step()

    def state_dict(self) -> dict:
        """Of both optimisers: tensors and plain values only."""
        return {"dense": self.dense.state_dict(), "rows": self.rows.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restores :meth:`state_dict`."""
        self.dense.load_state_dict(state["dense"])
        self.rows.load_state_dict(state["rows"])


# -- several processes, each with some of the tables -------------------------------------------------------------------


def joined_states(parts: Sequence[tuple[Sequence[int], dict]]) -> dict:
    """The state that one optimiser of all tables would have, of optimisers that have some of them each.

    parts: numbers of an optimiser's tables, and its ``state_dict``: each of its groups has one tensor of each table.
    """
    if not parts:
        return {}
    first, things = parts[0][1], sum(len(numbers) for numbers, _ in parts)
    if "state" not in first:  # of a RowwiseOptimizer
        return {name: joined_states([(numbers, state[name]) for numbers, state in parts]) for name in first}
    states = {}
    for numbers, state in parts:
        places = _places(numbers, things, len(state["param_groups"]))
        states |= {places[index]: moments for index, moments in state["state"].items()}
    return {"state": dict(sorted(states.items())), "param_groups": _numbered(first["param_groups"], things)}


def part_of_state(state: dict, numbers: Sequence[int], things: int) -> dict:
    """What the optimiser of the tables ``numbers``, of so many, has of the state of an optimiser of all."""
    if "state" not in state:
        return {name: part_of_state(part, numbers, things) for name, part in state.items()}
    groups = _numbered(state["param_groups"], len(numbers))
    indices = {place: index for index, place in _places(numbers, things, len(groups)).items()}
    kept = {indices[place]: moments for place, moments in state["state"].items() if place in indices}
    return {"state": kept, "param_groups": groups}


def _places(numbers: Sequence[int], things: int, groups: int) -> dict[int, int]:
    """Index of each tensor among those of its optimiser -> its index among those of an optimiser of all tables."""
    pairs = [(group, number) for group in range(groups) for number in numbers]
    return {index: group * things + number for index, (group, number) in enumerate(pairs)}


def _numbered(groups: list[dict], things: int) -> list[dict]:
    return [group | {"params": list(range(n * things, (n + 1) * things))} for n, group in enumerate(groups)]
