"""Simulated histories follow the law that the truth beside them states, and that law does not betray relatedness."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import chisquare

from recbole_metarec.prepare.simulation import (
    Size,
    World,
    agreement,
    simulate_domain,
    source_successors,
    target_successors,
    unchanged,
)

LARGE = World(clusters=8, successors=3, noise=0.2, skew=0.8, seed=3)
RELATEDNESS = (1.0, 0.75, 0.5, 0.0)


def steps(made):
    """(cluster before, cluster after) of all neighbours in a history."""
    same = made.users[1:] == made.users[:-1]
    clusters = made.cluster[made.items]
    return clusters[:-1][same], clusters[1:][same]


@pytest.fixture(scope="module")
def large():
    return simulate_domain(LARGE, Size(20_000, 97, 8.0), target_successors(LARGE), "sim-target")


@pytest.fixture(scope="module")
def worlds():
    return [World(clusters=20, successors=m, seed=seed) for m in (1, 2, 3, 5) for seed in range(6)]


def test_clusters_follow_the_planted_transitions(large):
    before, after = steps(large)
    counts = np.zeros((8, 8))
    np.add.at(counts, (before, after), 1)
    for row, planted in zip(counts, large.transitions, strict=True):
        assert chisquare(row, planted * row.sum()).pvalue > 1e-4
    assert large.transitions.sum(axis=1) == pytest.approx(np.ones(8))
    # the likely successors have what the noise leaves, each half as much as the one before
    for row, successors in zip(large.transitions, large.successors, strict=True):
        expected = np.full(8, 0.2 / 8)
        for successor, weight in zip(successors, (4 / 7, 2 / 7, 1 / 7), strict=True):
            expected[successor] += 0.8 * weight
        assert row == pytest.approx(expected)


def test_every_place_of_a_history_finds_every_cluster_as_often(large):
    starts = np.flatnonzero(np.append(True, large.users[1:] != large.users[:-1]))
    clusters = large.cluster[large.items]
    for place in (0, 1, 4):
        assert chisquare(np.bincount(clusters[starts + place], minlength=8)).pvalue > 1e-4


def test_items_of_a_cluster_follow_zipf_and_forget_the_past(large):
    counts = np.bincount(large.items, minlength=97)
    for cluster in range(8):
        members = np.flatnonzero(large.cluster == cluster)
        assert len(members) in (12, 13)
        assert chisquare(counts[members], large.share[members] * counts[members].sum()).pvalue > 1e-4
        law = np.sort(large.share[members])[::-1]
        assert np.log(law[0] / law) == pytest.approx(0.8 * np.log(np.arange(len(law)) + 1))
    # an item's share in its cluster is the same after each cluster: chi-square of a table of independent draws
    before, after = steps(large)
    inside = after == 0
    following = large.items[1:][large.users[1:] == large.users[:-1]][inside]
    members = np.flatnonzero(large.cluster == 0)
    table = np.array([[np.sum((following == j) & (before[inside] == c)) for j in members] for c in range(8)])
    expected = table.sum(axis=1, keepdims=True) * large.share[members]
    assert chisquare(table.ravel(), expected.ravel() * table.sum() / expected.sum(), ddof=7).pvalue > 1e-4


def test_sizes_and_lengths_are_as_asked(large):
    lengths = np.bincount(large.users)
    assert len(lengths) == 20_000
    assert lengths.min() == LARGE.min_length
    spread = math.sqrt(3.0 * 4.0)  # a geometric law of mean 3 above the minimum
    assert abs(lengths.mean() - 8.0) < 4 * spread / math.sqrt(20_000)
    assert lengths.std() == pytest.approx(spread, rel=0.05)
    assert len(large.cluster) == len(large.share) == 97 and large.items.max() < 97
    assert (np.diff(large.users) >= 0).all()
    shortest = simulate_domain(LARGE, Size(50, 20, 5.0), large.successors, "x")
    assert set(np.bincount(shortest.users)) == {5}


def test_entropy_popularity_and_the_best_ranking_do_not_tell_the_relatedness(worlds):
    for world in worlds:
        target = target_successors(world)
        made = [
            simulate_domain(world, Size(5, 200, 6.0), source_successors(world, target, r, "s"), "s")
            for r in RELATEDNESS
        ]
        reference = np.sort(world.transitions(target), axis=1)
        for domain in made:
            assert np.sort(domain.transitions, axis=1) == pytest.approx(reference)  # so each row's entropy is the same
            assert domain.transitions.sum(axis=0) == pytest.approx(np.ones(20))  # so clusters are equally popular
            assert domain.oracle() == pytest.approx(made[0].oracle(), abs=1e-12)
            assert domain.popularity() == pytest.approx(made[0].popularity(), abs=1e-12)


def test_a_source_shares_exactly_the_asked_part_of_the_rows(worlds):
    for world in worlds:
        target = target_successors(world)
        for r in RELATEDNESS:
            source = source_successors(world, target, r, "s")
            kept = (source == target).all(axis=1)
            assert kept.sum() == round(20 * r) == round(20 * unchanged(source, target))
            others = [set(a) & set(b) for a, b in zip(source[~kept], target[~kept], strict=True)]
            if len(others) >= 4 * world.successors:  # with fewer rows to deal among, a meeting may be unavoidable
                assert not any(others)
                planted = agreement(world.transitions(source), world.transitions(target))
                assert planted == pytest.approx(world.noise + (1 - world.noise) * r)
        assert agreement(world.transitions(target), world.transitions(target)) == pytest.approx(1.0)


def test_no_row_has_a_successor_twice_and_every_cluster_is_a_kth_successor_once():
    for clusters, successors in ((2, 1), (4, 2), (6, 3), (7, 3), (10, 5)):
        for seed in range(20):
            world = World(clusters=clusters, successors=successors, seed=seed)
            target = target_successors(world)
            assert (target[:, 0] == np.arange(clusters)).all()  # the likeliest next cluster is the same one
            for table in [target, *(source_successors(world, target, r, "s") for r in (0.0, 0.3, 0.5, 0.8))]:
                assert all(len(set(row)) == successors for row in table)
                assert all(sorted(column) == list(range(clusters)) for column in table.T)


def test_sources_are_independent_of_each_other():
    """Two sources without relation to the target agree by chance only: their later successors, which nothing fixes."""
    common, chance = [], []
    for seed in range(60):
        world = World(clusters=20, successors=2, seed=seed)
        target = target_successors(world)
        one, other = (source_successors(world, target, 0.0, name) for name in ("s", "t"))
        common.append(np.mean(one == other))
        chance.append(1 / 18)  # any but itself and the target's, about
    assert np.mean(common) == pytest.approx(np.mean(chance), abs=4 * math.sqrt(1 / 18 / (60 * 40)))


def brute_force(made, k: int) -> float:
    """Over all clusters and all held-out items: probability times the gain of its place in the best ranking."""
    total, clusters, items = 0.0, len(made.transitions), range(len(made.cluster))
    for cluster in range(clusters):
        likely = [made.transitions[cluster][made.cluster[j]] * made.share[j] for j in items]
        assert sum(likely) == pytest.approx(1.0)
        ranking = sorted(items, key=lambda j: -likely[j])
        total += sum(likely[j] / math.log2(place + 2) for place, j in enumerate(ranking[:k])) / clusters
    return total


def test_the_oracle_is_the_best_of_all_rankings():
    world = World(clusters=3, successors=1, noise=0.3, skew=0.5)
    made = simulate_domain(world, Size(10, 6, 6.0), target_successors(world), "s")
    assert made.oracle(4) == pytest.approx(brute_force(made, 4))
    assert made.oracle(10) == pytest.approx(brute_force(made, 6))
    best = 0.0
    for cluster in range(3):
        likely = made.next_item(cluster)
        gains = 1 / np.log2(np.arange(4) + 2)
        best += max(gains @ likely[list(order[:4])] for order in itertools.permutations(range(6))) / 3
    assert made.oracle(4) == pytest.approx(best)
    marginal = sum(made.next_item(cluster) for cluster in range(3)) / 3
    by_rank = np.sort(marginal)[::-1][:4]
    assert made.popularity(4) == pytest.approx(float((by_rank / np.log2(np.arange(4) + 2)).sum()))


def test_the_oracle_is_what_the_knowing_scorer_gets_on_simulated_users(large):
    """The closed form against the histories: the last item of each, ranked by one who knows the truth."""
    last = np.flatnonzero(np.append(large.users[1:] != large.users[:-1], True))
    likely = np.stack([large.next_item(cluster) for cluster in range(8)])
    places = np.argsort(np.argsort(-likely, axis=1, kind="stable"), axis=1)
    place = places[large.cluster[large.items[last - 1]], large.items[last]]
    gains = np.where(place < 10, 1 / np.log2(place + 2), 0.0)
    assert abs(gains.mean() - large.oracle()) < 4 * gains.std() / math.sqrt(len(gains))
    assert large.oracle() > 1.5 * large.popularity()


def test_equal_seeds_give_equal_domains_and_other_sources_change_nothing():
    def events(seed, name="s"):
        world = World(clusters=6, successors=2, seed=seed)
        target = target_successors(world)
        return simulate_domain(world, Size(40, 30, 7.0), source_successors(world, target, 0.5, name), name)

    assert np.array_equal(events(1).items, events(1).items) and np.array_equal(events(1).users, events(1).users)
    assert not np.array_equal(events(1).cluster, events(2).cluster)
    assert not np.array_equal(events(1).cluster, events(1, "t").cluster)  # an item's number tells nothing elsewhere


def test_without_noise_and_with_nothing_but_noise():
    still = World(clusters=5, successors=1, noise=0.0)
    made = simulate_domain(still, Size(200, 50, 7.0), target_successors(still), "s")
    before, after = steps(made)
    assert (before == after).all()
    blind = World(clusters=5, successors=1, noise=1.0)
    made = simulate_domain(blind, Size(200, 50, 7.0), target_successors(blind), "s")
    assert made.oracle() == pytest.approx(made.popularity())
