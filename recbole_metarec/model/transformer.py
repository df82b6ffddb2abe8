"""A causal Transformer over item vectors: post-LayerNorm, GELU, learned positions. Letters: H heads.

It equals RecBole's, number for number: its layers have RecBole's names, draw the same weights and dropout masks from
the global generator, and compute in the same order, so that a checkpoint serves without RecBole.
"""

import copy
import math

import torch
from torch import Tensor, nn

_MASKED = -10000.0  # added to the logit of an event that must not be seen
_EPSILON = 1e-12


class SelfAttention(nn.Module):
    """Multi-head attention with dropout, residual and LayerNorm: [B, L, d] to [B, L, d]."""

    def __init__(self, width: int, n_heads: int, dropout_prob: float):
        super().__init__()
        if width % n_heads:
            raise ValueError(f"n_heads {n_heads} does not divide the width {width}")
        self.n_heads = n_heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attn_dropout = nn.Dropout(dropout_prob)
        self.dense = nn.Linear(width, width)
        self.LayerNorm = nn.LayerNorm(width, eps=_EPSILON)
        self.out_dropout = nn.Dropout(dropout_prob)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """mask [B, 1, L, L] is added to the logits."""
        query, key, value = (layer(x).unflatten(-1, (self.n_heads, -1)) for layer in (self.query, self.key, self.value))
        logits = query.permute(0, 2, 1, 3) @ key.permute(0, 2, 3, 1) / math.sqrt(query.shape[-1]) + mask  # [B, H, L, L]
        shares = self.attn_dropout(logits.softmax(dim=-1))
        context = (shares @ value.permute(0, 2, 1, 3)).permute(0, 2, 1, 3).flatten(2)  # [B, L, d]
        return self.LayerNorm(self.out_dropout(self.dense(context)) + x)


class FeedForward(nn.Module):
    """Position-wise feed-forward of four times the width, with dropout, residual and LayerNorm."""

    def __init__(self, width: int, dropout_prob: float):
        super().__init__()
        self.dense_1 = nn.Linear(width, 4 * width)
        self.dense_2 = nn.Linear(4 * width, width)
        self.LayerNorm = nn.LayerNorm(width, eps=_EPSILON)
        self.dropout = nn.Dropout(dropout_prob)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, d] to [B, L, d]."""
        hidden = self.dense_1(x)
        hidden = hidden * 0.5 * (1.0 + torch.erf(hidden / math.sqrt(2.0)))  # F.gelu rounds differently
        return self.LayerNorm(self.dropout(self.dense_2(hidden)) + x)


class TransformerLayer(nn.Module):
    """Attention, then feed-forward."""

    def __init__(self, width: int, n_heads: int, dropout_prob: float):
        super().__init__()
        self.multi_head_attention = SelfAttention(width, n_heads, dropout_prob)
        self.feed_forward = FeedForward(width, dropout_prob)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, L, d] to [B, L, d]."""
        return self.feed_forward(self.multi_head_attention(x, mask))


class TransformerLayers(nn.Module):
    """Layers that start as copies of the same layer."""

    def __init__(self, n_layers: int, width: int, n_heads: int, dropout_prob: float):
        super().__init__()
        layer = TransformerLayer(width, n_heads, dropout_prob)
        self.layer = nn.ModuleList(copy.deepcopy(layer) for _ in range(n_layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, L, d] to [B, L, d]."""
        for layer in self.layer:
            x = layer(x, mask)
        return x


class TransformerEncoder(nn.Module):
    """Positions, LayerNorm, dropout and the layers, as SASRec has them."""

    def __init__(self, width: int, longest: int, n_layers: int, n_heads: int, dropout_prob: float):
        super().__init__()
        self.position = nn.Embedding(longest, width)
        self.norm = nn.LayerNorm(width, eps=_EPSILON)
        self.dropout = nn.Dropout(dropout_prob)
        self.layers = TransformerLayers(n_layers, width, n_heads, dropout_prob)
        self.apply(_normal_weights)

    def forward(self, vectors: Tensor, real: Tensor) -> Tensor:
        """vectors [B, L, d] of the events, real bool [B, L], False at padding. Returns states [B, L, d]."""
        x = self.dropout(self.norm(vectors + self.position.weight[: vectors.shape[1]]))
        return self.layers(x, _causal_mask(real))


def _causal_mask(real: Tensor) -> Tensor:
    """[B, 1, L, L]: 0 where the row's event may see the column's, which is real and not later, else very low."""
    length = real.shape[1]
    seen = real[:, None, None, :].expand(-1, -1, length, -1).tril()
    return torch.where(seen, 0.0, _MASKED)


def _normal_weights(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
