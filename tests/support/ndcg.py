"""NDCG worked out beside the program, to hold its figures against."""

import numpy as np


def ndcg_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k of each row, float64 [R]: one relevant item, so 1 / log2(rank + 1) within the cut-off, else 0."""
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)
