"""Which parameters are decayed, and how a table is stepped when a loss has read only some of its rows."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, SparseAdam


def parameter_groups(model: torch.nn.Module) -> list[dict]:
    """Every parameter once: matrices with weight decay; recurrence, biases and LayerNorm (all vectors) without."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    spared = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    return [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]


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
