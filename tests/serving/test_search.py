"""Approximate search against the scores of all items."""

import builtins

import numpy as np
import pytest
import torch
from support.tiny import tiny_unisrec

from recbole_metarec.data.pair_counts import PairCounts
from recbole_metarec.data.sequences import SequenceStore
from recbole_metarec.errors import DataError
from recbole_metarec.model.lru_network import LRUNetwork
from recbole_metarec.serve import Recommender
from recbole_metarec.serving.search import ItemSearch

N_ITEMS = 4000
FORMS = {"plain": {}, "offsets": {"seen_offset": True}, "memory": {"seen_offset": True, "item_memory": True},
         "texts": {"seen_offset": True, "item_memory": True, "memory_text_width": 6}}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def faiss():
    return pytest.importorskip("faiss", reason="approximate search needs faiss: pip install -e '.[search]'")


def recommender_of(form: str, seed: int = 0) -> Recommender:
    """Items of a thousand clusters, whose neighbours are what the cluster's histories have."""
    random, given = np.random.default_rng(seed), dict(FORMS[form])
    pairs = None
    if given.pop("item_memory", False):
        items = random.integers(1, N_ITEMS, 6000).astype(np.int32)
        store = SequenceStore(items, np.arange(0, 6001, 6), np.arange(1000), N_ITEMS)
        pairs = PairCounts.of(store, store.lengths, 50)
        given["memory_pairs"] = len(pairs.neighbours)
    network = LRUNetwork(N_ITEMS, 16, 1, 8, **given)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("item_bias") or "by_lag" in name:
                parameter.normal_(std=0.5)
        centres = torch.randn(100, 16)
        network.item_embedding.weight[1:] = (
            centres[torch.randint(100, (N_ITEMS - 1,))] + torch.randn(N_ITEMS - 1, 16) / 4
        )
        if pairs is not None:
            network.memory.pairs.fill(pairs)
            network.lru_share.fill_(0.6)
        if given.get("memory_text_width"):
            network.memory.set_texts(torch.randn(N_ITEMS, 6))
    return Recommender(network, ["[PAD]", *(f"i{number}" for number in range(1, N_ITEMS))])


def histories(count: int, seed: int = 1):
    random = np.random.default_rng(seed)
    return [[f"i{item}" for item in random.integers(1, N_ITEMS, random.integers(1, 12))] for _ in range(count)]


@pytest.mark.parametrize("include_seen", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_search_of_all_cells_is_exact(form, include_seen):
    recommender = recommender_of(form)
    search = ItemSearch(recommender, probes=1)
    for history in histories(20):
        exact = recommender.recommend(history, 10, include_seen)
        found = recommender.recommend(history, 10, include_seen, search)
        assert [item for item, _ in found] == [item for item, _ in exact]
        assert [score for _, score in found] == pytest.approx([score for _, score in exact], abs=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_a_search_of_some_cells_finds_most_and_scores_nothing_wrongly(form):
    recommender = recommender_of(form)
    few, many = (ItemSearch(recommender, probes) for probes in (0.1, 0.6))
    made = histories(30)
    assert few.recall(made) < 1, "or nothing was left out"
    assert few.recall(made) < many.recall(made) > 0.8
    for history in made[:5]:
        exact = dict(recommender.recommend(history, N_ITEMS))
        assert all(
            exact[item] == pytest.approx(score, abs=1e-4)
            for item, score in recommender.recommend(history, 10, search=few)
        )


def test_neighbours_that_the_memory_knows_are_always_candidates():
    recommender = recommender_of("memory")
    recommender.network.lru_share.fill_(0.0)
    with torch.no_grad():
        recommender.network.memory.item_bias.zero_()
        recommender.network.memory.head.popularity_weight.zero_()
    search = ItemSearch(recommender, probes=0.01)
    for history in histories(10):
        best = [score for _, score in recommender.recommend(history, 3) if score > 0]
        found = [score for _, score in recommender.recommend(history, 3, search=search)]
        assert found[: len(best)] == pytest.approx(best, abs=1e-5)


def test_an_excluded_item_is_never_found_and_small_catalogues_run_out():
    network = LRUNetwork(5, 4, 1, 8)
    recommender = Recommender(network, ["[PAD]", "a", "b", "c", "d"])
    search = ItemSearch(recommender)
    assert {item for item, _ in recommender.recommend(["a", "b"], 10, search=search)} == {"c", "d"}
    assert len(recommender.recommend(["a"], 10, include_seen=True, search=search)) == 4


def test_what_cannot_be_searched_is_told(monkeypatch):
    with pytest.raises(DataError, match="approximate search is for LRURec and MetaRec"):
        ItemSearch(Recommender(tiny_unisrec(), ["[PAD]", *map(str, range(1, 12))]))
    recommender = recommender_of("plain")
    for probes in (0, 1.5, -1):
        with pytest.raises(DataError, match="give a share of the catalogue above 0"):
            ItemSearch(recommender, probes)
    real = builtins.__import__

    def without(name, *args, **keys):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *args, **keys)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"pip install 'recbole-metarec\[search\]'"):
        ItemSearch(recommender)
