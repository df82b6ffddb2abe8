"""Metrics of a rank: RecBole's evaluator finds the same means, and a rank beyond the depth counts nothing."""

import numpy as np
import pytest

from recbole_metarec.config.rules import RANKING_METRICS
from recbole_metarec.evaluation.metric import NDCG_10, Metric
from recbole_metarec.evaluation.recbole_metrics import metrics_of


@pytest.mark.parametrize("name", RANKING_METRICS)
def test_every_metric_is_what_recbole_finds(name):
    ranks = np.random.default_rng(3).integers(1, 40, 200)
    config = {"metrics": [name], "topk": [1, 5, 20], "metric_decimal_place": 9}
    for key, value in metrics_of(ranks, config).items():
        assert Metric.named(key).of(ranks).mean() == pytest.approx(value, abs=1e-8)


def test_by_hand_and_by_every_name():
    ranks = np.array([1, 3, 10, 11])
    assert NDCG_10.of(ranks).tolist() == pytest.approx([1, 1 / 2, 1 / np.log2(11), 0])
    assert Metric.named("MRR@3").of(ranks).tolist() == pytest.approx([1, 1 / 3, 0, 0])
    assert Metric.named("Precision@10").of(ranks).tolist() == pytest.approx([1 / 10] * 3 + [0])
    assert Metric.named("hit@3").of(ranks).tolist() == Metric.named("Recall@3").of(ranks).tolist() == [1, 1, 0, 0]
    assert (Metric.named("ndcg@10"), NDCG_10.label, NDCG_10.key) == (NDCG_10, "NDCG@10", "ndcg@10")
