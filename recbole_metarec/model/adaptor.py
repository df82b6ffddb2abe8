"""Maps text vectors to item vectors that mean the same in every domain (UniSRec, section 2.1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WhiteningAdaptor(nn.Module):
    """A mixture of G parametric whitenings, weighted for each item by a noisy softmax.

    v = sum_k g_k (x - b_k) W_k,   g = softmax(x W_gate + eps * softplus(x W_noise)), eps ~ N(0, 1) while training.
    Letters: w width of text vectors, d width of item vectors.
    """

    def __init__(self, text_width: int, width: int, experts: int, dropout_prob: float):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(experts, text_width))
        self.whitening = nn.Parameter(torch.empty(experts, text_width, width).normal_(std=0.02))
        self.gate = nn.Parameter(torch.zeros(text_width, experts))
        self.noise = nn.Parameter(torch.zeros(text_width, experts))
        self.dropout = nn.Dropout(dropout_prob)

    def forward(self, texts: Tensor) -> Tensor:
        """Text vectors [n, w] to item vectors [n, d]."""
        gates = self.gates(texts)
        experts, text_width, width = self.whitening.shape
        # one product for all experts, as (x - b) W = x W - b W; they share a dropout mask
        flat = self.whitening.transpose(0, 1).reshape(text_width, experts * width)
        whitened = (self.dropout(texts) @ flat).view(-1, experts, width)
        return torch.einsum("ng,ngd->nd", gates, whitened) - gates @ self._offsets()

    def gates(self, texts: Tensor) -> Tensor:
        """Weight of each expert for each item: [n, G], rows sum to 1."""
        logits = texts @ self.gate
        if self.training:
            logits = logits + torch.randn_like(logits) * F.softplus(texts @ self.noise)
        return logits.softmax(dim=1)

    def _offsets(self) -> Tensor:
        """b_k W_k of each expert: [G, d]."""
        return torch.einsum("gw,gwd->gd", self.shift, self.whitening)
