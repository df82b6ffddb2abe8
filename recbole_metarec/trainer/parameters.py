"""Which parameters are decayed."""

import torch


def parameter_groups(model: torch.nn.Module) -> list[dict]:
    """Every parameter once: matrices with weight decay; recurrence, biases and LayerNorm (all vectors) without."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    spared = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    return [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]
