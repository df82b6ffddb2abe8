"""How much of the catalogue is shown and how popular it is, against RecBole's own evaluation and by hand."""

import json

import numpy as np
import pytest
import torch
from support.worlds import TINY, Run, cluster_histories, write_domain

# isort: split
from recbole.trainer import Trainer

from recbole_metarec.evaluation.ranking import top_both
from recbole_metarec.evaluation.recbole_metrics import catalogue_of, list_measures
from recbole_metarec.quick_start import run_experiment

MEASURES = ["ItemCoverage", "AveragePopularity", "ShannonEntropy", "GiniIndex", "TailPercentage"]
ASKED = {"metrics": [*MEASURES[:2], "NDCG", *MEASURES[2:]], "topk": [1, 5], "valid_metric": "NDCG@5"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    write_domain(folder, "Target", cluster_histories(1, 50, 30, 5, 0.8))
    return folder


def run_of(shop, model, **given) -> Run:
    run = Run(shop, model=model, **ASKED, **given)
    with torch.no_grad():  # larger weights leave no ties
        for weights in run.model.parameters():
            weights.normal_()
    run.trainer.eval_collector.data_collect(run.train)  # as RecBole's fit begins
    return run


def test_recbole_still_takes_numbers_for_tensors(shop):
    """Else the mend can go; the next test shows that it works."""
    run = run_of(shop, "LRURec")
    with pytest.raises(AttributeError, match="has no attribute 'cpu'"):
        type(run.trainer.eval_collector).get_data_struct.__wrapped__(run.trainer.eval_collector)


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("model", ["LRURec", "EASEDecay"])
def test_measures_equal_recboles_own_in_both_rankings(shop, model, repeatable):
    run = run_of(shop, model, repeatable=repeatable)
    for loader in (run.valid, run.test):
        ours = run.trainer.evaluate(loader, load_best_model=False)
        theirs = Trainer.evaluate(run.trainer, loader, load_best_model=False)
        assert dict(ours) == pytest.approx(dict(theirs), abs=1e-6) and len(ours) == 12
        both = list_measures(run.model, loader, run.config, catalogue_of(run.train.dataset))
        assert both[0] != both[1] and all(ours[key] == value for key, value in both[not repeatable].items())


def test_what_is_shown_is_never_padding_and_without_seen_items_none_of_them(shop):
    run = run_of(shop, "LRURec")
    seen = run.test.dataset.seen
    for number, lists in enumerate(top_both(run.model, run.test, 5, torch.device("cpu"))):
        assert lists.min() >= 1 and all(len(set(row)) == 5 for row in lists.tolist())
        rows = [set(seen.of_rows(np.array([row]))[1].tolist()) for row in range(len(lists))]
        assert any(own & set(row) for own, row in zip(rows, lists.tolist())) == (number == 0)


def test_measures_of_popularity_by_hand(shop):
    """Everybody is shown the same items: k of them, each as often as any other."""
    run = run_of(shop, "SequentialPop")
    counts = np.bincount(run.train.dataset.inter_feat["item_id"].numpy(), minlength=31)
    kept = list_measures(run.model, run.test, run.config, catalogue_of(run.train.dataset))[0]
    top = np.sort(counts)[::-1][:5]
    assert kept["itemcoverage@5"] == pytest.approx(5 / 31, abs=1e-6)  # RecBole counts the padding, too
    assert kept["averagepopularity@5"] == pytest.approx(top.mean(), abs=1e-6)
    assert kept["shannonentropy@5"] == pytest.approx(np.log(5) / 5, abs=1e-6)
    assert kept["tailpercentage@5"] == 0


def test_a_run_reports_them_in_both_rankings_and_in_its_table(shop, without_pictures):
    sizes = TINY | ASKED | {"data_path": str(shop), "epochs": 1, "show_progress": False}
    for model in ("LRURec", "BPR"):
        keys = {key: value for key, value in sizes.items() if key not in ("vq_heads", "item_memory", "seen_offset")}
        experiment = run_experiment(model, "Target", overrides=keys)
        metrics = json.loads((experiment.run_dir / "metrics.json").read_text())
        for part in ("valid", "test", "valid_unseen", "test_unseen"):
            assert {f"{name.lower()}@{k}" for name in MEASURES for k in (1, 5)} <= metrics[part].keys()
        assert all(f"{name}@5" in experiment.table() for name in MEASURES)
        assert f"{metrics['test']['averagepopularity@5']:.4f}" in experiment.table()
