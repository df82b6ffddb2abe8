"""Item texts mapped into the space of item vectors by one linear map that all domains share."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from recbole_metarec.model.lru import dropout

_SPREAD = 0.06  # std of a mapped text at the start: three times that of an item's vector, which only corrects it


class TextMap(nn.Module):
    """Adds a domain's texts, mapped by a matrix [w, d], to its item vectors; the texts are dropped out in training.

    The texts of the target, float [n, w], are not saved with the model: the sum is deployed.
    """

    def __init__(self, n_items: int, text_width: int, width: int, dropout_prob: float):
        super().__init__()
        self.dropout_prob = dropout_prob
        # texts have the length sqrt(w)
        self.weight = nn.Parameter(torch.empty(text_width, width).normal_(std=_SPREAD / math.sqrt(text_width)))
        self.register_buffer("texts", torch.zeros(n_items, text_width), persistent=False)

    def set_texts(self, vectors: np.ndarray) -> None:
        """Text vectors of the target's items, float32 [n, w]; row 0 is padding and zero."""
        self.texts.copy_(torch.from_numpy(vectors))

    def added(self, table: Tensor, weight: Tensor, texts: Tensor, generator: torch.Generator | None) -> Tensor:
        """table [n, d] plus texts [n, w] times ``weight`` [w, d]: [n, d]. Without a generator nothing is dropped."""
        return table + dropout(texts, self.dropout_prob, generator) @ weight
