"""What a saved model is asked for: wrong requests are answered by one clear line."""

import numpy as np
import pytest
import torch
from support.tiny import tiny_metarec, tiny_unisrec

from recbole_metarec.errors import DataError
from recbole_metarec.serve import Recommender

ITEMS = ["[PAD]", *(f"i{number}" for number in range(1, 12))]


@pytest.fixture(scope="module")
def recommender():
    return Recommender(tiny_metarec(n_target=len(ITEMS))[0], ITEMS)


@pytest.mark.parametrize("k", [0, -1, 2.5, True, None, "10"])
def test_k_must_be_at_least_one(recommender, k):
    state = recommender.add(recommender.start(), "i3")
    for ask in (lambda: recommender.recommend(["i3"], k=k), lambda: recommender.top(state, k)):
        with pytest.raises(DataError, match="must be at least 1") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_k_beyond_the_catalogue_gives_all_of_it(recommender):
    assert sorted(item for item, _ in recommender.recommend(["i3"], k=100)) == sorted(ITEMS[1:])
    assert recommender.recommend(["i3"], k=np.int64(3)) == recommender.recommend(["i3"], k=3)


@pytest.mark.parametrize("text", ["i3", b"i3", ""])
def test_one_text_is_not_a_history(recommender, text):
    with pytest.raises(DataError, match=r"history is the one text .*; give a list of item names"):
        recommender.recommend(text)
    with pytest.raises(DataError, match=r"exclude is the one text .*; give a list of item names"):
        recommender.top(recommender.add(recommender.start(), "i3"), exclude=text)


def test_any_iterable_of_names_is_a_history(recommender):
    expected = recommender.recommend(["i1", "i2"])
    assert recommender.recommend(("i1", "i2")) == recommender.recommend(iter(["i1", "i2"])) == expected


@pytest.mark.parametrize("make", [lambda: tiny_metarec(n_target=len(ITEMS))[0], tiny_unisrec])
def test_the_history_step_by_step_gives_the_same(make):
    recommender, history = Recommender(make(), ITEMS), ["i5", "i1", "i5", "i7", "i2", "i9", "i1"]  # one more than L
    state = recommender.start()
    for item in history[1:]:
        state = recommender.add(state, item)
    step_by_step, at_once = recommender.top(state, 4), recommender.recommend(history, k=4)
    assert [item for item, _ in step_by_step] == [item for item, _ in at_once]
    assert dict(step_by_step) == pytest.approx(dict(at_once), rel=1e-12)
    output, memory = recommender.model.memory_of([3, 1, 4, 1, 5])
    after, one_by_one = None, recommender.model.first_memory()
    for item in [3, 1, 4, 1, 5]:
        after, one_by_one = recommender.model.next_memory(one_by_one, item)
    for mine, its in zip((output, *memory), (after, *one_by_one), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)


def test_unisrec_reads_a_whole_history_once():
    recommender, passes = Recommender(tiny_unisrec(), ITEMS), []
    recommender.model.encoder.register_forward_hook(lambda *_: passes.append(1))
    recommender.recommend(["i5", "i1", "i5", "i7"])
    assert len(passes) == 1
