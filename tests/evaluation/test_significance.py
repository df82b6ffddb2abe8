"""The statistics of a comparison, against hand-computed values, planted differences and simulated coverage."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from support.made_up import made_up_run

import recbole_metarec  # noqa: F401

# isort: split
from recbole_metarec.errors import DataError
from recbole_metarec.evaluation import significance
from recbole_metarec.evaluation.metric import Metric
from recbole_metarec.evaluation.results import RunResult, UnseenResult
from recbole_metarec.evaluation.significance import align, best_baseline, differences, holm, pair_tests, spread, tiers


def run(model="A", seed=1, users=("a", "b", "c"), ranks=(1, 2, 11), **fields) -> RunResult:
    plain = {"valid": {}, "test": {}, "seconds": 1.0, "peak_memory_mib": 1.0, "parameters": 1, "command": ""}
    ranks = np.array(ranks)
    plain |= {"unseen": UnseenResult({}, {}, ranks), "valid_ranks": ranks}
    return RunResult(model, seed, test_users=np.array(users), test_ranks=ranks, **(plain | fields))


def test_holm_by_hand():
    # 3 * .01, 2 * .03 and 1 * .04, which is raised to the one before it
    assert holm(np.array([0.04, 0.01, 0.03])) == pytest.approx([0.06, 0.03, 0.06])
    assert holm(np.array([0.5, 0.9, 0.6])) == pytest.approx([1.0, 1.0, 1.0])
    assert len(holm(np.array([]))) == 0


def test_holm_rejects_what_its_step_down_rule_rejects():
    rng = np.random.default_rng(5)
    for _ in range(200):
        p = rng.choice([0.001, 0.01, 0.012, 0.0166, 0.0251, 0.04, 0.3], size=rng.integers(1, 7))
        level = rng.choice([0.01, 0.05, 0.1])
        rejected = set()
        for k, number in enumerate(np.argsort(p, kind="stable")):  # Holm 1979: until the first that does not
            if p[number] > level / (len(p) - k):
                break
            rejected.add(int(number))
        assert set(np.flatnonzero(holm(p) <= level + 1e-12).tolist()) == rejected


def test_holm_follows_its_inputs_order():
    p = np.array([0.2, 0.001, 0.03, 0.009])
    for order in itertools.permutations(range(4)):
        assert holm(p[list(order)]) == pytest.approx(holm(p)[list(order)])


def test_users_are_aligned_by_token():
    scores = align([run("B", 1), run("A", 1, users=("c", "a", "b"), ranks=(11, 1, 2))])
    assert scores.models == ("A", "B") and scores.users.tolist() == ["a", "b", "c"]
    assert scores.means == pytest.approx(np.array([[1.0, 1 / np.log2(3), 0.0]] * 2))
    found = differences(scores.means)
    assert np.all(found.mean == 0) and np.all(found.p == 1)
    assert align([run(ranks=(9, 10, 11))]).means == pytest.approx(np.array([[1 / np.log2(10), 1 / np.log2(11), 0]]))


def test_a_users_value_is_the_mean_of_its_seeds():
    assert align([]).models == () and align([]).users.tolist() == []
    scores = align([run(seed=2, ranks=(1, 1, 3)), run(seed=1, ranks=(3, 20, 20))])
    assert scores.by_seed["A"] == pytest.approx(np.array([[0.5, 0, 0], [1, 1, 0.5]]))
    assert scores.means == pytest.approx(np.array([[0.75, 0.5, 0.25]]))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            run("B", 3, users=("a", "b", "d")),
            "B, seed 3: its test users are not those of A, seed 1 (2 differ, such as c)",
        ),
        (run("B", 3, users=("a", "b"), ranks=(1, 2)), "such as c"),
        (run("B", 3, users=("a", "b", "b")), "B, seed 3: test user b has two rows"),
        (run("B", 3, users=("c", "b", "c", "b"), ranks=(1, 2, 3, 4)), "B, seed 3: test user b has two rows"),
        (run("B", 3, ranks=(1, 2)), "B, seed 3: 2 ranks for 3 test users"),
        (run("A", 1), "A, seed 1: two results of one run"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(other, words):
    with pytest.raises(DataError) as raised:
        align([run("A", 1), other])
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_one_seed_has_no_deviation():
    assert spread([0.3]).std is None
    two = spread([0.1, 0.3])
    assert two.std == pytest.approx(0.2 / np.sqrt(2)) and two.mean == pytest.approx(0.2) and two.seeds == 2


def test_no_difference_is_p_one_and_a_constant_one_is_certain():
    base = np.random.default_rng(0).random(50)
    found = differences(np.stack([base, base, base + 0.25]))
    assert pair_tests(np.stack([base, base]), np.array([[0, 1]])).p.tolist() == [1.0], "before any correction"
    assert found.p[0, 1] == 1 and found.low[0, 1] == found.high[0, 1] == 0
    assert found.low[2, 0] == pytest.approx(0.25) and found.high[2, 0] == pytest.approx(0.25)
    assert found.p[2, 0] == found.p[0, 2] < 0.01
    assert np.all(np.diag(found.p) == 1)
    assert np.array_equal(found.low, -found.high.T) and np.array_equal(found.p, found.p.T)
    assert found.certain.tolist() == [[False, False, True], [False, False, True], [True, True, False]]
    assert found.mean == pytest.approx(np.array([[0, 0, -0.25], [0, 0, -0.25], [0.25, 0.25, 0]]))


def test_p_is_twice_the_smaller_tail_of_the_draws():
    """Two users, one of whom prefers each model: all of C(2, k) / 4 is known of their resamples."""
    scores, pairs = np.array([[1.0, 0.0], [0.0, 0.25]]), np.array([[0, 1], [1, 0]])
    found = pair_tests(scores, pairs)
    # both users the second: -0.25, both the first: 1, else 0.375; so a quarter of the draws is below zero
    tail = found.p * 10000 / 2 - 1
    assert tail[0] == tail[1] and abs(tail[0] / 9999 - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 9999)
    assert found.low.tolist() == [-0.25, -1.0] and found.high.tolist() == [1.0, 0.25]
    assert found.mean == pytest.approx([0.375, -0.375]) and not found.certain.any()


def test_the_smallest_p_is_that_of_the_number_of_draws():
    apart = np.stack([np.zeros(9), np.ones(9)])
    assert differences(apart).p[0, 1] == pytest.approx(2 / 10000)
    many = np.arange(20.0)[:, None] + np.zeros((20, 9))  # 190 pairs, 100 draws for each
    assert differences(many).p[np.triu_indices(20, 1)] == pytest.approx(190 * 2 / 19000)


def test_the_draws_are_the_same_in_every_call_whatever_their_chunks(monkeypatch):
    scores = np.random.default_rng(3).random((3, 40))
    monkeypatch.setattr(significance, "_RESAMPLES", 399)
    first = differences(scores)
    for chunk in (1, 100, 1 << 20):
        monkeypatch.setattr(significance, "_CHUNK", chunk)
        again = differences(scores)
        assert np.array_equal(again.p, first.p) and again.low == pytest.approx(first.low, abs=1e-12)


def test_rounding_is_no_difference():
    base = np.random.default_rng(0).random(1000)
    almost = np.nextafter(base, 1)
    assert differences(np.stack([base, almost])).p[0, 1] == 1


def test_a_difference_in_the_mean_counts_even_where_most_users_go_the_other_way():
    """A signed-rank test would call the second one better: it wins more often, by little."""
    first, second = np.zeros(400), np.full(400, 0.02)
    first[:100] = 0.9
    found = differences(np.stack([first, second]))
    assert found.low[0, 1] > 0 and found.p[0, 1] < 0.01


@pytest.mark.parametrize("n_models", [0, 1])
def test_nothing_to_compare(n_models):
    found = differences(np.ones((n_models, 7)))
    assert found.p.tolist() == np.ones((n_models, n_models)).tolist() and not found.certain.any()
    assert tiers(np.ones(n_models), found.p).tolist() == [1] * n_models


def test_many_models_can_still_be_told_apart():
    """Holm's factor is the number of pairs; p must be able to fall below 0.05 after it."""
    scores = np.random.default_rng(0).normal(0, 0.01, (24, 40)) + np.arange(24)[:, None]
    assert differences(scores).p[np.triu_indices(24, 1)].max() < 0.05


def test_intervals_cover_and_p_is_uniform_under_no_difference():
    """Normal differences: the mean of 50 is inside its 95 % interval as often as that says, coarsely."""
    rng = np.random.default_rng(11)
    covered, below = 0, 0
    for _ in range(60):
        scores = np.stack([rng.normal(0.3, 1, 50), np.zeros(50)])
        found = differences(scores)
        covered += found.low[0, 1] <= 0.3 <= found.high[0, 1]
        below += differences(scores - np.array([[0.3], [0]])).p[0, 1] < 0.5
    # four standard errors of a binomial share with 60 trials
    assert abs(covered / 60 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 60)
    assert abs(below / 60 - 0.5) < 4 * np.sqrt(0.25 / 60)


def test_the_interval_is_the_normal_one_for_many_users():
    rng = np.random.default_rng(2)
    scores = rng.random((2, 2000))
    found = differences(scores)
    apart = scores[0] - scores[1]
    error = apart.std(ddof=1) / np.sqrt(2000)
    assert found.high[0, 1] == pytest.approx(apart.mean() + 1.96 * error, abs=0.1 * error)
    assert found.low[0, 1] == pytest.approx(apart.mean() - 1.96 * error, abs=0.1 * error)


def test_tiers_of_planted_cases():
    different, alike = 0.01, 0.5
    p = np.full((4, 4), different)
    np.fill_diagonal(p, 1)
    means = np.array([0.1, 0.4, 0.2, 0.3])
    assert (found := tiers(means, p)).tolist() == [4, 1, 3, 2] and found.dtype == np.int64
    p[1, 3] = p[3, 1] = p[3, 2] = p[2, 3] = alike
    # 1 ~ 3 and 3 ~ 2, but 1 and 2 differ: model 3 stands with the best leader, model 2 is measured against that leader
    assert tiers(means, p).tolist() == [3, 1, 2, 1]
    assert tiers(means, np.ones((4, 4))).tolist() == [1, 1, 1, 1]


def test_a_p_of_exactly_the_level_does_not_tell_apart():
    p = np.array([[1, 0.05], [0.05, 1]])
    assert tiers(np.array([1.0, 2.0]), p).tolist() == [1, 1]


def test_planted_models_fall_into_their_tiers():
    runs = [made_up_run(model, seed, 800) for model in ("Pop", "SASRec", "MetaRec") for seed in (1, 2)]
    same = [RunResult(**{**vars(one), "model": "Twin"}) for one in runs if one.model == "MetaRec"]
    scores = align(runs + same)
    found = tiers(scores.means.mean(axis=1), differences(scores.means).p)
    by_name = dict(zip(scores.models, found.tolist()))
    assert by_name == {"MetaRec": 1, "Twin": 1, "SASRec": 2, "Pop": 3}


def test_the_best_baseline_is_chosen_on_validation():
    runs = [
        run("A", 1, valid={"ndcg@10": 0.2}, test={"ndcg@10": 0.9}),
        run("B", 1, valid={"ndcg@10": 0.1}, test={"ndcg@10": 0.1}),
        run("B", 2, valid={"ndcg@10": 0.5}, test={"ndcg@10": 0.1}),
        run("Ours", 1, valid={"ndcg@10": 0.9}),
    ]
    assert best_baseline(runs, ("A", "B", "C")) == "B"
    assert best_baseline(runs[:2], ("B", "A")) == "A"
    assert best_baseline(runs, ("C",)) is None
    tied = [run(name, valid={"ndcg@10": 0.3}) for name in ("D", "B", "C")]
    assert best_baseline(tied, ("D", "C", "B")) == "B"
    with pytest.raises(DataError, match="A, seed 1: no ndcg@10 on validation"):
        best_baseline([run("A", 1)], ("A",))


def test_scores_and_the_best_baseline_are_of_the_metric_that_is_asked_for():
    ranks = (1, 3, 20)
    assert align([run(ranks=ranks)], Metric.named("MRR@5")).means == pytest.approx(np.array([[1, 1 / 3, 0]]))
    one, other = (replace(run(model, 1), valid=valid) for model, valid in (
        ("A", {"ndcg@10": 0.2, "mrr@5": 0.1}), ("B", {"ndcg@10": 0.1, "mrr@5": 0.2})))  # fmt: skip
    assert best_baseline([one, other], ("A", "B")) == "A"
    assert best_baseline([one, other], ("A", "B"), Metric.named("MRR@5")) == "B"
