"""The one ranking against brute force, against chance, and against RecBole's own metrics."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.worlds import Run, cluster_histories, write_domain

# isort: split
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer
from support.ndcg import ndcg_at

from recbole_metarec.errors import TrainingError
from recbole_metarec.evaluation import ranking
from recbole_metarec.evaluation.ranking import (
    both_ranks_of,
    chunk_sizes,
    rank_all,
    rank_both,
    ranks_by_share,
    ranks_of,
)
from recbole_metarec.evaluation.recbole_metrics import metrics_of


def brute_force(scores, targets, seen=None):
    """seen: for each row the items that are no candidates, a set; a target among them comes after all items."""
    ranks = []
    for n, (row, target) in enumerate(zip(scores.tolist(), targets.tolist(), strict=True)):
        if seen and target in seen[n]:
            ranks.append(len(row))
            continue
        rivals = [score for item, score in enumerate(row) if item not in {0, target} | (seen[n] if seen else set())]
        higher, equal = (sum(map(one, rivals)) for one in (row[target].__lt__, row[target].__eq__))
        ranks.append(1 + higher + -(-equal // 2))  # half of the ties, rounded up
    return ranks


@pytest.mark.parametrize("blocks", [None, (5, 7)])
@pytest.mark.parametrize("levels", [2, 10, None])
def test_ranks_by_share_are_those_of_the_mixed_scores(monkeypatch, levels, blocks):
    if blocks:
        monkeypatch.setattr(ranking, "_EXACT_IN_FLOAT32", blocks[0])
        monkeypatch.setattr(ranking, "_ROWS_IN_CACHE", blocks[1])
    experts = torch.randn(2, 50, 21) if levels is None else torch.randint(0, levels, (2, 50, 21)).float()
    targets, shares = torch.randint(1, 21, (50,)), (0.0, 0.1, 0.5, 0.7, 1.0)
    seen = ((torch.rand(50, 21) < 0.3) & (torch.arange(21) > 0)).scatter(1, targets[:, None], False)
    mixed = [torch.lerp(*experts, share) for share in shares]
    assert ranks_by_share(*experts, shares, targets).tolist() == [ranks_of(m, targets).tolist() for m in mixed]
    struck_out = seen.nonzero(as_tuple=True)
    expected = [both_ranks_of(scores, targets, *struck_out)[1].tolist() for scores in mixed]
    assert ranks_by_share(*experts, shares, targets, struck_out).tolist() == expected
    experts[1, 3, 5] = float("nan")
    with pytest.raises(TrainingError, match="NaN or infinity"):
        ranks_by_share(*experts, (0.0,), targets)


@pytest.mark.parametrize("blocks", [None, (5, 7)])
@pytest.mark.parametrize("levels", [2, 3, 10, None])
def test_ranks_are_those_of_a_double_loop(monkeypatch, levels, blocks):
    if blocks:
        monkeypatch.setattr(ranking, "_EXACT_IN_FLOAT32", blocks[0])
        monkeypatch.setattr(ranking, "_ROWS_IN_CACHE", blocks[1])
    scores = torch.randn(50, 21) if levels is None else torch.randint(0, levels, (50, 21)).float()
    scores[:, 0] = torch.randn(50) * 100  # padding, whatever its score, is no rival
    targets = torch.randint(1, 21, (50,))
    ranks = ranks_of(scores, targets)
    assert ranks.tolist() == brute_force(scores, targets) and ranks.dtype == torch.int64
    assert ranks.min() >= 1 and ranks.max() <= 20


def flat(seen):
    """(rows, items) int64 [N] of a list of sets."""
    pairs = [(row, item) for row, items in enumerate(seen) for item in items]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)


@pytest.mark.parametrize("blocks", [None, (5, 7)])
@pytest.mark.parametrize("levels", [2, 3, 10, None])
def test_ranks_among_unseen_items_are_those_of_scores_from_which_the_seen_are_removed(monkeypatch, levels, blocks):
    if blocks:
        monkeypatch.setattr(ranking, "_EXACT_IN_FLOAT32", blocks[0])
        monkeypatch.setattr(ranking, "_ROWS_IN_CACHE", blocks[1])
    scores = torch.randn(50, 21) if levels is None else torch.randint(0, levels, (50, 21)).float()
    targets = torch.randint(1, 21, (50,))
    seen = [set(torch.randperm(20)[: n % 20].add(1).tolist()) for n in range(50)]
    repeated = torch.tensor([target in items for target, items in zip(targets.tolist(), seen)])
    kept, removed = both_ranks_of(scores, targets, *flat(seen))
    assert torch.equal(kept, ranks_of(scores, targets))
    assert removed.tolist() == brute_force(scores, targets, seen) and removed.dtype == torch.int64
    assert (removed <= kept)[~repeated].all() and (removed < kept).any()
    assert (removed[repeated] == 21).all() and repeated.any()
    order = torch.randperm(sum(map(len, seen)))
    assert torch.equal(both_ranks_of(scores, targets, *(part[order] for part in flat(seen)))[1], removed)


def test_rows_that_have_seen_nothing_or_everything():
    scores, targets = torch.randn(3, 9), torch.tensor([4, 1, 8])
    nothing = both_ranks_of(scores, targets, *flat([set()] * 3))
    assert torch.equal(nothing[0], nothing[1])
    all_others = [set(range(1, 9)) - {target} for target in targets.tolist()]
    assert both_ranks_of(scores, targets, *flat(all_others))[1].tolist() == [1, 1, 1]
    assert both_ranks_of(scores, targets, *flat([set(range(1, 9))] * 3))[1].tolist() == [9, 9, 9]


def test_scores_whose_sum_overflows_are_ranked_all_the_same():
    scores = torch.tensor([[0.0, 3e38, 2e38, 3.1e38, -3e38], [0.0, -3e38, -3e38, -2e38, -3.2e38]])
    assert ranks_of(scores, torch.tensor([2, 1])).tolist() == [3, 3]


def test_ranks_beyond_what_float32_counts_exactly():
    """2^24 + 3 rivals, all scored higher: an odd number that float32 does not have."""
    scores = torch.ones(1, (1 << 24) + 5)
    scores[0, 3] = 0.0
    assert ranks_of(scores, torch.tensor([3])).item() == (1 << 24) + 4


def test_a_constant_scorer_gets_the_middle_of_the_list():
    for n in (2, 3, 100, 101):  # n - 1 items
        ranks = ranks_of(torch.full((4, n), 0.7), torch.tensor([1, 1, n - 1, n // 2]))
        assert ranks.tolist() == [1 + -(-(n - 2) // 2)] * 4
    for n, seen in ((101, 20), (101, 21), (12, 10)):
        rows = flat([set(range(2, 2 + seen))] * 3)
        _, ranks = both_ranks_of(torch.full((3, n), 0.7), torch.ones(3, dtype=torch.int64), *rows)
        assert ranks.tolist() == [1 + -(-(n - 2 - seen) // 2)] * 3
    # with 100 items that is rank 51: no hit at 10, where counting only the higher scores would say rank 1
    assert ndcg_at(ranks_of(torch.zeros(4, 101), torch.ones(4, dtype=torch.int64)).numpy(), 10).sum() == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_an_error(bad):
    scores, targets = torch.randn(3, 9), torch.tensor([1, 2, 3])
    scores[1, 8] = bad
    with pytest.raises(TrainingError, match="NaN or infinity"):
        ranks_of(scores, targets)
    scores[1, 8], scores[1, 0] = 0.0, bad  # padding may be masked by its model
    ranks_of(scores, targets)


def test_ndcg_is_the_gain_of_one_relevant_item():
    np.testing.assert_allclose(ndcg_at(np.array([1, 2, 3, 10, 11]), 10), [1, 1 / np.log2(3), 1 / 2, 1 / np.log2(11), 0])


class Scorer(torch.nn.Module):
    """A model whose scores depend on the row's history alone, without ties; notes what it is asked for."""

    def __init__(self, n_items):
        super().__init__()
        self.table = torch.randn(n_items, 8, generator=torch.Generator().manual_seed(3))
        self.asked, self.most, self.with_graph = 0, 0, False

    def full_sort_predict(self, interaction):
        self.asked, self.most = self.asked + len(interaction), max(self.most, len(interaction))
        self.with_graph |= torch.is_grad_enabled()
        rows = interaction["item_id_list"]
        weights = 0.5 ** torch.arange(rows.shape[1])
        return (self.table[rows] * weights[:, None] * (rows > 0)[..., None]).sum(dim=1) @ self.table.T


@pytest.fixture()
def shop(tmp_path):
    write_domain(tmp_path, "Target", cluster_histories(1, 60, 30, 5, 0.8))
    return tmp_path


def test_metrics_equal_recboles_own_where_there_are_no_ties(shop):
    metrics = ["NDCG", "Recall", "MRR", "Hit", "Precision", "MAP"]
    run = Run(shop, model="LRURec", embedding_size=8, metrics=metrics, topk=[1, 5, 10], valid_metric="NDCG@5")
    with torch.no_grad():  # an untrained model scores by its starting values; larger ones leave no rounding ties
        run.model.item_embedding.weight[1:].normal_()
    for loader in (run.valid, run.test):
        ours = run.trainer.evaluate(loader, load_best_model=False)
        theirs = Trainer.evaluate(run.trainer, loader, load_best_model=False)
        assert dict(ours) == pytest.approx(dict(theirs), abs=1e-6) and list(ours) == list(theirs)
        assert 0 < ours["ndcg@10"] < 1
        ranks = run.trainer.rank(loader)
        assert ours["ndcg@10"] == pytest.approx(ndcg_at(ranks, 10).mean(), abs=1e-6)
        assert ours["recall@5"] == pytest.approx((ranks <= 5).mean(), abs=1e-6)
        assert ours["mrr@10"] == pytest.approx(np.where(ranks <= 10, 1 / ranks, 0).mean(), abs=1e-6)


def test_metrics_equal_recboles_own_with_seen_items_masked(shop):
    """RecBole's collector over scores in which each row's seen items were set to minus infinity, repeats among them."""
    metrics = ["NDCG", "Recall", "MRR"]
    run = Run(shop, model="LRURec", embedding_size=8, metrics=metrics, topk=[1, 5, 10], valid_metric="NDCG@5")
    with torch.no_grad():
        run.model.item_embedding.weight[1:].normal_()
    plain = run.model.full_sort_predict
    histories = histories_of(run)
    for loader, held_out in ((run.valid, 2), (run.test, 1)):

        def masked(interaction, held_out=held_out):
            scores = plain(interaction).view(len(interaction), -1)
            for row, user in zip(scores, interaction["user_id"].tolist()):
                row[histories[user][:-held_out]] = -np.inf
            return scores

        seen = loader.dataset.seen
        ours = metrics_of(rank_both(run.model, loader, seen, torch.device("cpu"))[1], run.config)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run.model, "full_sort_predict", masked)
            theirs = Trainer.evaluate(run.trainer, loader, load_best_model=False)
        assert dict(ours) == pytest.approx(dict(theirs), abs=1e-6) and 0 < ours["ndcg@10"] < 1


def histories_of(run) -> dict[int, list[int]]:
    """Each user's items by id, from the file."""
    histories: dict[int, list[int]] = {}
    for line in (Path(run.dataset.dataset_path) / "Target.inter").read_text().splitlines()[1:]:
        user, item, _ = line.split("\t")
        ids = run.dataset.token2id("user_id", user), run.dataset.token2id("item_id", item)
        histories.setdefault(int(ids[0]), []).append(int(ids[1]))
    return histories


def seen_by_test(run):
    return run.test.dataset.seen


def test_ranks_do_not_depend_on_the_batch_size(shop, monkeypatch, capsys):
    found, both = [], []
    for size in (1, 7, 4096):
        run = Run(shop, model="LRURec", embedding_size=8, eval_batch_size=size)
        scorer = Scorer(run.dataset.item_num)
        found.append(rank_all(scorer, run.test, torch.device("cpu")).tolist())
        assert scorer.asked == len(run.test._dataset) and not scorer.with_graph and not scorer.training
        scorer.asked = 0
        both.append([ranks.tolist() for ranks in rank_both(scorer, run.test, seen_by_test(run), torch.device("cpu"))])
        assert scorer.asked == len(run.test._dataset) and not scorer.with_graph, "one scoring for both protocols"
    assert found[0] == found[1] == found[2] == both[0][0] and len(set(found[0])) > 5
    assert both[0] == both[1] == both[2] and both[0][1] != found[0]
    monkeypatch.setattr(
        "recbole_metarec.evaluation.ranking.tqdm", lambda *_, **__: pytest.fail("a bar that nobody asked for")
    )
    rank_all(scorer, run.test, torch.device("cpu"))
    monkeypatch.undo()
    scorer.most = 0
    monkeypatch.setattr(ranking, "_SCORES_PER_CHUNK", 100)
    monkeypatch.setattr(ranking, "_FEWEST_ROWS", 1)
    assert rank_all(scorer, run.test, torch.device("cpu"), show_progress=True).tolist() == found[0]
    assert scorer.most == 100 // run.dataset.item_num == 3
    chunked = rank_both(scorer, run.test, seen_by_test(run), torch.device("cpu"))
    assert [ranks.tolist() for ranks in chunked] == both[0] and scorer.most == 3
    assert capsys.readouterr().err == ""  # no terminal, no bar


def test_each_rank_is_its_own_rows(shop):
    """Rows are regrouped by length inside; every rank must come back to the row that it belongs to."""
    run = Run(shop, model="LRURec", embedding_size=8)
    scorer = Scorer(run.dataset.item_num)
    ranks, feat = rank_all(scorer, run.test, torch.device("cpu")), run.test._dataset.inter_feat
    for row in range(len(feat)):
        one = Interaction({name: feat[name][row : row + 1] for name in feat.columns})
        assert ranks[row] == ranks_of(scorer.full_sort_predict(one), one["item_id"]).item()


def test_metrics_of_ranks_by_hand(shop):
    names = ["Recall", "MRR", "NDCG"]
    run = Run(shop, model="LRURec", embedding_size=8, metrics=names, topk=[2, 4], valid_metric="MRR@4")
    result = metrics_of(np.array([1, 2, 3, 4, 5, 29]), run.config)
    expected = {
        "recall@2": 2 / 6,
        "recall@4": 4 / 6,
        "mrr@2": (1 + 1 / 2) / 6,
        "mrr@4": (1 + 1 / 2 + 1 / 3 + 1 / 4) / 6,
        "ndcg@2": (1 + 1 / np.log2(3)) / 6,
        "ndcg@4": (1 + 1 / np.log2(3) + 1 / 2 + 1 / np.log2(5)) / 6,
    }
    assert dict(result) == pytest.approx(expected, abs=1e-6)


def test_chunks_hold_every_row_once_within_their_bounds(monkeypatch):
    monkeypatch.setattr(ranking, "_POSITIONS_PER_CHUNK", 40)
    lengths = sorted([1] * 30 + [2, 3, 3, 5, 8, 13, 50, 50])
    sizes = chunk_sizes(lengths, 16)
    assert sum(sizes) == len(lengths) and max(sizes) == 16
    ends = np.cumsum(sizes)
    for size, end in zip(sizes, ends):
        assert size * lengths[end - 1] <= 40 or size == 1  # a row longer than the bound stands alone
        fits = end < len(lengths) and size < 16
        assert not fits or (size + 1) * lengths[end] > 40, "a chunk that could take one more row"
    assert ranking.rows_at_once(10**6) == 8 and ranking.rows_at_once(2**17) == 16
    assert chunk_sizes([1, 2, 3], 0) == [1, 1, 1]  # a row of scores may be longer than a chunk
