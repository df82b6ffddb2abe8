"""How much the encoder counts beside an item memory: validation chooses, in every epoch."""

import numpy as np
import torch

from recbole_metarec.evaluation.ranking import rank_shares
from recbole_metarec.evaluation.recbole_metrics import metrics_of

SHARES = tuple(number / 10 for number in range(11))  # of the encoder in a score; the rest is the item memory's


def choose_share(model, valid_data, config, device: torch.device, metric: str) -> tuple:
    """Sets the model's share to the best on validation, and returns RecBole's (score, result) of that share."""
    results = [metrics_of(ranks, config) for ranks in rank_shares(model, valid_data, SHARES, device)]
    best = best_share(np.array([result[metric] for result in results]))
    model.lru_share.fill_(SHARES[best])
    return results[best][metric], results[best]


def best_share(scores: np.ndarray) -> int:
    """Which of SHARES has the best score, float [S], averaged with its neighbours: on few rows a single lucky one does
    not win."""
    ends = np.r_[scores[0], scores, scores[-1]]
    return int(np.argmax(ends[:-2] + 2 * ends[1:-1] + ends[2:]))
