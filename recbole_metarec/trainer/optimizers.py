"""Which parameters get weight decay, and how a table is stepped when a loss has read only some of its rows."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, SparseAdam

MANY = ("memory.item_bias", "memory.head.network.")  # the large parts of an item memory


def parameter_groups(model: torch.nn.Module, memory_rate: float = 0.0) -> list[dict]:
    """Each trainable parameter once: matrices with weight decay; recurrence, biases and LayerNorm (vectors) without.

    memory_rate: learning rate of the item memory and of the offsets of seen items, which are few numbers of size 1. Its
    large parts, the item bias and the network of its head, get a tenth of it.
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
    """Divides the rate of the memory's groups of :func:`parameter_groups` by ten: a few sources know less of the next
    domain than the many that the head's start values come from."""
    for group in optimizer.param_groups[2:]:
        group["lr"] /= 10


def steps_by_rows(config, negatives: str) -> bool:
    """Whether only the rows that a loss has read of a table are stepped. negatives: the config key of that loss.

    Not with the full softmax, which reads every row; not with other learners or clipping, which take no sparse
    gradient; and not with a text map, through which the table's gradient is dense.
    """
    is_plain_adamw = config["learner"] == "adamw" and not config["clip_grad_norm"]
    return bool(config[negatives]) and is_plain_adamw and not config["text_alignment"]


def fused(optimizer: Optimizer) -> Optimizer:
    """The same optimiser, set to step all its parameters in one kernel where it can.

    Only for optimisers that create their state in the first step: others have created it for another kernel already.
    """
    if isinstance(optimizer, (Adam, AdamW, SGD)):
        for group in optimizer.param_groups:
            group["fused"] = True
    return optimizer


class RowwiseOptimizer:
    """AdamW, with SparseAdam for those of its tables whose gradient is a sparse tensor of some rows.

    A step then costs what the rows cost, however large the table. The values and moments of the other rows stay as they
    are (AdamW would go on moving and decaying them). The decay is AdamW's, decoupled from the gradient.
    """

    def __init__(self, dense: Optimizer, tables: Sequence[Tensor]):
        group = dense.param_groups[0]
        self.dense, self.tables = dense, tuple(tables)
        self.decay = group["weight_decay"]
        self.rows = SparseAdam(self.tables, lr=group["lr"], betas=group["betas"], eps=group["eps"])

    @torch.no_grad()
    def step(self) -> None:
        """Steps every parameter that has a gradient. Sparse gradients are set to None."""
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
        """The states of both optimisers: tensors and plain values only."""
        return {"dense": self.dense.state_dict(), "rows": self.rows.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restores :meth:`state_dict`."""
        self.dense.load_state_dict(state["dense"])
        self.rows.load_state_dict(state["rows"])


# -- several processes, each with some of the tables -------------------------------------------------------------------


def joined_states(parts: Sequence[tuple[Sequence[int], dict]]) -> dict:
    """The state that one optimiser of all tables would have, from those of optimisers that have some of them each.

    parts: the numbers of an optimiser's tables, and its ``state_dict``. Each of its groups has one tensor per table.
    """
    if not parts:
        return {}
    first, n_tables = parts[0][1], sum(len(numbers) for numbers, _ in parts)
    if "state" not in first:  # of a RowwiseOptimizer
        return {name: joined_states([(numbers, state[name]) for numbers, state in parts]) for name in first}
    states = {}
    for numbers, state in parts:
        whole = _indices_in_whole(numbers, n_tables, len(state["param_groups"]))
        states |= {whole[index]: moments for index, moments in state["state"].items()}
    return {"state": dict(sorted(states.items())), "param_groups": _numbered(first["param_groups"], n_tables)}


def part_of_state(state: dict, numbers: Sequence[int], n_tables: int) -> dict:
    """The inverse: from the state of an optimiser of all tables that of an optimiser of the tables ``numbers``."""
    if "state" not in state:
        return {name: part_of_state(part, numbers, n_tables) for name, part in state.items()}
    groups = _numbered(state["param_groups"], len(numbers))
    indices = {whole: index for index, whole in _indices_in_whole(numbers, n_tables, len(groups)).items()}
    kept = {indices[whole]: moments for whole, moments in state["state"].items() if whole in indices}
    return {"state": kept, "param_groups": groups}


def _indices_in_whole(numbers: Sequence[int], n_tables: int, n_groups: int) -> dict[int, int]:
    """Index of each tensor in an optimiser of the tables ``numbers`` -> its index in an optimiser of all tables."""
    pairs = [(group, number) for group in range(n_groups) for number in numbers]
    return {index: group * n_tables + number for index, (group, number) in enumerate(pairs)}


def _numbered(groups: list[dict], n_tables: int) -> list[dict]:
    return [group | {"params": list(range(n * n_tables, (n + 1) * n_tables))} for n, group in enumerate(groups)]
