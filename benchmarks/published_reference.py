"""The published LRURec training step (Yue et al., WSDM 2024), rewritten from the paper as the side to beat.

Histories are padded on the left to L and then, inside the encoder, to a power of two. The recurrence runs over complex
tensors by the paper's recursive halving. Every row of a batch has full width, and the logits of all positions are held
at once. It takes its weights from our model, so that losses and gradients of both can be compared.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def left_padded(inputs: Tensor, targets: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Rows padded on the right, int64 [B, W], to rows padded on the left, int64 [B, ``length``]."""
    shift = length - (inputs > 0).sum(dim=1, keepdim=True)
    column = torch.arange(length, device=inputs.device) - shift
    real = column >= 0
    column = column.clamp(min=0)
    return inputs.gather(1, column) * real, targets.gather(1, column) * real


def recursive_scan(drive: Tensor, eigenvalues: Tensor) -> Tensor:
    """h_k = eigenvalues * h_(k-1) + drive_k: complex [B, 2^m, n], complex [n].

    Level by level, segments of twice the size: the last state of the first half, times lambda^1, lambda^2, ..., is
    added to the second half (paper, "recursive parallelization").
    """
    batch, length, width = drive.shape
    states, powers, half = drive, eigenvalues[None], 1
    while half < length:
        first, second = states.reshape(-1, 2, half, width).unbind(dim=1)
        states = torch.cat([first, second + powers * first[:, -1:]], dim=1)
        powers, half = torch.cat([powers, powers * powers[-1]]), 2 * half
    return states.reshape(batch, length, width)


class PublishedBlock(nn.Module):
    """Recurrence over complex weights and feed-forward, each with dropout, residual and post-LayerNorm."""

    # the layers that are the same in our model
    SAME = ("recurrence_norm", "widen", "narrow", "feed_forward_norm")

    def __init__(self, state: Mapping[str, Tensor], dropout_prob: float):
        super().__init__()
        self.nu, self.omega, self.log_gamma = (
            nn.Parameter(state[f"recurrence.{name}"].clone()) for name in ("nu", "omega", "log_gamma")
        )
        self.into_state = nn.Parameter(_complex(state["recurrence.into_state.weight"].t()).t().contiguous())
        self.into_state_bias = nn.Parameter(_complex(state["recurrence.into_state.bias"]))
        self.out_of_state = nn.Parameter(_complex(state["recurrence.out_of_state.weight"]).conj().resolve_conj())
        self.out_of_state_bias = nn.Parameter(state["recurrence.out_of_state.bias"].clone())
        width = state["recurrence.out_of_state.bias"].numel()
        self.recurrence_norm, self.feed_forward_norm = (nn.LayerNorm(width, eps=1e-5) for _ in range(2))
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.to(state["recurrence.nu"].dtype)
        for name in self.SAME:
            getattr(self, name).load_state_dict({key: state[f"{name}.{key}"] for key in ("weight", "bias")})
        self.dropout = nn.Dropout(dropout_prob)

    def to(self, dtype):
        """Converts only the real layers: complex weights keep their dtype."""
        for name in self.SAME:
            getattr(self, name).to(dtype)
        return self

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """x [B, 2^m, d], real bool [B, 2^m, 1], where there is an event. Returns [B, 2^m, d]."""
        eigenvalues = torch.exp(torch.complex(-torch.exp(self.nu), torch.exp(self.omega)))
        drive = F.linear(x.to(self.into_state.dtype), self.into_state, self.into_state_bias)
        states = recursive_scan(torch.exp(self.log_gamma) * drive * real, eigenvalues)
        y = (states @ self.out_of_state.t()).real + self.out_of_state_bias
        x = self.recurrence_norm(self.dropout(y) + x)
        hidden = self.dropout(F.gelu(self.widen(x)))
        return self.feed_forward_norm(self.dropout(self.narrow(hidden)) + x)

    def gradients(self) -> dict[str, Tensor]:
        """Gradients by our names, in our layout (real and imaginary parts side by side)."""
        named = {f"recurrence.{name}": getattr(self, name).grad for name in ("nu", "omega", "log_gamma")}
        named["recurrence.into_state.weight"] = _real(self.into_state.grad.t()).t()
        named["recurrence.into_state.bias"] = _real(self.into_state_bias.grad)
        named["recurrence.out_of_state.weight"] = _real(self.out_of_state.grad.conj().resolve_conj())
        named["recurrence.out_of_state.bias"] = self.out_of_state_bias.grad
        for name in self.SAME:
            named |= {f"{name}.{key}": parameter.grad for key, parameter in getattr(self, name).named_parameters()}
        return named


class PublishedLRURec(nn.Module):
    """Embedding, blocks and scores, with the weights of ``LRURec.state_dict()``."""

    def __init__(self, state: Mapping[str, Tensor], dropout_prob: float):
        super().__init__()
        table = state["item_embedding.weight"]
        self.items = nn.Embedding.from_pretrained(table.clone(), freeze=False, padding_idx=0)
        self.item_bias = nn.Parameter(state["item_bias"].clone())
        self.dropout = nn.Dropout(dropout_prob)
        self.norm = nn.LayerNorm(table.shape[1], eps=1e-5, dtype=table.dtype)
        self.norm.load_state_dict({key: state[f"encoder.norm.{key}"] for key in ("weight", "bias")})
        layers = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.blocks."))
        self.blocks = nn.ModuleList(
            PublishedBlock(_below(state, f"encoder.blocks.{number}."), dropout_prob) for number in range(layers)
        )

    def encode(self, inputs: Tensor) -> Tensor:
        """int64 [B, L], padded on the left, to user states [B, L, d]."""
        length = inputs.shape[1]
        inputs = F.pad(inputs, (_power_of_two(length) - length, 0))
        real = (inputs > 0).unsqueeze(-1)
        x = self.norm(self.dropout(self.items(inputs)))
        for block in self.blocks:
            x = block(x, real)
        return x[:, -length:]

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy over the predicted positions of rows padded on the left; padding is no candidate."""
        logits = F.linear(self.encode(inputs), self.items.weight[1:], self.item_bias[1:])
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten() - 1, ignore_index=-1)

    def gradients(self) -> dict[str, Tensor]:
        """Gradients after ``loss(...).backward()``, by our names, in our layout."""
        named = {"item_embedding.weight": self.items.weight.grad, "item_bias": self.item_bias.grad}
        named |= {f"encoder.norm.{key}": parameter.grad for key, parameter in self.norm.named_parameters()}
        for number, block in enumerate(self.blocks):
            named |= {f"encoder.blocks.{number}.{name}": value for name, value in block.gradients().items()}
        return named


def _power_of_two(length: int) -> int:
    return 1 << (length - 1).bit_length()


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}


def _complex(pairs: Tensor) -> Tensor:
    """[..., 2n], real and imaginary parts alternating, to complex [..., n]."""
    return torch.view_as_complex(pairs.unflatten(-1, (-1, 2)).contiguous()).clone()


def _real(values: Tensor) -> Tensor:
    """The inverse of :func:`_complex`."""
    return torch.view_as_real(values.contiguous()).flatten(-2)
