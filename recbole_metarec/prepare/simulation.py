"""Domains with a known truth: a target, and sources that are related to it by a chosen degree.

Items fall into hidden clusters, which all domains have in common; an id says nothing of its cluster. A next item is
drawn in two steps. Its cluster: with probability ``noise`` any, else one of the few likely successors of the last
item's cluster. The item: by a Zipf law over the ranks in its cluster. So

    p(next item j | last item i) = T[c(i), c(j)] w(j),    T = (1 - noise) P + noise / K,    w(j) ~ rank(j)^-skew.

Relatedness r of a source: a share r of the clusters (rounded to whole ones) has the target's successors, the
successors of the others are dealt out anew among them, so that none keeps one of its successors where possible:
among few clusters it may not be, and a single one keeps all. :func:`unchanged` measures it. Every row of P
has the same probabilities and every cluster is as often a successor as any other, in every domain. Entropy, popularity
and the best possible ranking are then the same for every r, and do not tell how related a domain is.

In the target a cluster's likeliest successor is the cluster itself, as with interests that last. Without names, a
relation that only renames the clusters could not be seen by any model; that half of the clusters of a source last, as
all do in the target, can be.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from recbole_metarec.data.runs import runs
from recbole_metarec.randomness import numpy_stream


@dataclass(frozen=True)
class Size:
    """How large a domain is: users, items in its catalogue (some may never occur), mean length of a history."""

    users: int
    items: int
    mean_length: float


@dataclass(frozen=True)
class World:
    """What all simulated domains have in common.

    clusters: K hidden groups of items. successors: likely next clusters of each; every further one is half as likely.
    noise: share of events whose cluster is any. skew: exponent of the Zipf law within a cluster
    (over the items of whole domains of Amazon reviews it is 0.6 to 0.75).
    min_length: events of the shortest history; what is above it has a geometric distribution.
    """

    clusters: int = 20
    successors: int = 2
    noise: float = 0.1
    skew: float = 0.7
    min_length: int = 5
    seed: int = 0

    @property
    def weights(self) -> np.ndarray:
        """Probability of each likely successor, float64 [m], when the cluster is not noise."""
        halves = 0.5 ** np.arange(self.successors)
        return halves / halves.sum()

    def transitions(self, successors: np.ndarray) -> np.ndarray:
        """T, float64 [K, K], of successors int [K, m]: probability of the next cluster (columns), noise included."""
        matrix = np.full((self.clusters, self.clusters), self.noise / self.clusters)
        rows = np.arange(self.clusters)[:, None]
        np.add.at(matrix, (rows, successors), (1 - self.noise) * self.weights)
        return matrix


@dataclass(frozen=True)
class Simulated:
    """One domain and the truth about it.

    successors int [K, m]; transitions float64 [K, K]; cluster int [n] and share float64 [n]: of each item, its cluster
    and its probability within it. users int [events] and items int [events]: history by history, in order of time.
    """

    successors: np.ndarray
    transitions: np.ndarray
    cluster: np.ndarray
    share: np.ndarray
    users: np.ndarray
    items: np.ndarray

    def next_item(self, cluster: int) -> np.ndarray:
        """Probability of each item, float64 [n], to follow an item of that cluster."""
        return self.transitions[cluster, self.cluster] * self.share

    def oracle(self, k: int = 10) -> float:
        """Expected NDCG@k of the best possible scorer, which knows the truth: no model can be better on average.

        Exact: the cluster before the held-out item is any with equal probability, as at every position of a history.
        """
        clusters = range(len(self.transitions))
        return float(np.mean([_best_ndcg(self.next_item(cluster), k) for cluster in clusters]))

    def popularity(self, k: int = 10) -> float:
        """Expected NDCG@k of the best scorer that ignores the history."""
        return _best_ndcg(self.share / len(self.transitions), k)


def target_successors(world: World) -> np.ndarray:
    """Likely successors of each cluster in the target, int [K, m], the likeliest first."""
    every = np.arange(world.clusters)
    start = np.repeat(every[:, None], world.successors, axis=1)
    return _dealt_anew(start, every, numpy_stream(world.seed, "simulate", "target"), first=1)


def source_successors(world: World, target: np.ndarray, relatedness: float, name: str) -> np.ndarray:
    """Likely successors in a source: the target's in a share ``relatedness`` of the clusters, chosen by ``name``."""
    random = numpy_stream(world.seed, "simulate", "source", name)
    kept = round(relatedness * world.clusters)
    return _dealt_anew(target, np.sort(random.permutation(world.clusters)[kept:]), random)


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Share of probability that two transition matrices [K, K] have in common, mean over rows."""
    return float(np.minimum(one, other).sum(axis=1).mean())


def unchanged(source: np.ndarray, target: np.ndarray) -> float:
    """Share of the clusters that have the target's successors, in the same order, of both tables int [K, m]."""
    return float((source == target).all(axis=1).mean())


def simulate_domain(world: World, size: Size, successors: np.ndarray, name: str) -> Simulated:
    """Histories of one domain; the stream of its name decides all that is random."""
    random = numpy_stream(world.seed, "simulate", "events", name)
    cluster = random.permutation(np.arange(size.items) % world.clusters)
    by_cluster = np.argsort(cluster, kind="stable")
    rank = np.empty(size.items, dtype=np.int64)
    rank[by_cluster] = _ranks(cluster[by_cluster])
    share = (rank + 1.0) ** -world.skew
    share /= np.bincount(cluster, weights=share)[cluster]
    lengths = world.min_length + _geometric(random, size.mean_length - world.min_length, size.users)
    chain = _cluster_chain(random, world, successors, lengths)
    items = _draw_items(random, chain, by_cluster, cluster[by_cluster], share[by_cluster])
    users = np.repeat(np.arange(size.users), lengths)
    return Simulated(successors, world.transitions(successors), cluster, share, users, items)


def _dealt_anew(successors: np.ndarray, rows: np.ndarray, random: np.random.Generator, first: int = 0) -> np.ndarray:
    """The successors [K, m] of some rows dealt out among these rows, column by column.

    So that a cluster is a k-th successor once, before and after. No row gets the same successor twice; none gets
    itself or one of its old successors unless that is impossible, as with very few rows.
    """
    if len(rows) < 2:
        return successors
    dealt = successors.copy()
    n = len(rows)
    for column in range(first, successors.shape[1]):
        images = successors[rows, column]
        twice = (dealt[rows, :column, None] == images).any(axis=1)  # [n, n]: row by image
        unwanted = (successors[rows][:, :, None] == images).any(axis=1) | (rows[:, None] == images)
        cost = random.random((n, n)) + n * unwanted + n * (n + 1) * twice
        dealt[rows, column] = images[linear_sum_assignment(cost)[1]]
    ordered = np.sort(dealt[rows], axis=1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        dealt[rows] = successors[np.roll(rows, 1)]  # whole rows, which are free of repetition
    return dealt


def _ranks(ordered: np.ndarray) -> np.ndarray:
    """Rank from 0 of each element within its run of equal values."""
    return runs(np.bincount(ordered))[1]


def _geometric(random: np.random.Generator, mean: float, n: int) -> np.ndarray:
    """n draws, int64, from 0 upwards, of that mean."""
    return random.geometric(1.0 / (1.0 + mean), n) - 1


def _cluster_chain(random, world: World, successors: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Clusters of all events, int [events], history by history; all histories take a step at a time."""
    order = np.argsort(-lengths, kind="stable")
    starts = (np.cumsum(lengths) - lengths)[order]
    going = np.searchsorted(-lengths[order], -np.arange(lengths.max()), side="left")  # histories longer than t
    chain = np.empty(lengths.sum(), dtype=np.int64)
    now = random.integers(world.clusters, size=len(lengths))
    chain[starts] = now
    for step in range(1, lengths.max()):
        now = now[: going[step]]
        follower = successors[now, random.choice(world.successors, len(now), p=world.weights)]
        anything = random.integers(world.clusters, size=len(now))
        now = np.where(random.random(len(now)) < world.noise, anything, follower)
        chain[starts[: len(now)] + step] = now
    return chain


def _draw_items(random, chain, items: np.ndarray, cluster: np.ndarray, share: np.ndarray) -> np.ndarray:
    """An item for each event's cluster; items, with cluster and share, lie cluster by cluster."""
    upto = np.cumsum(share)
    ends = np.append(np.flatnonzero(np.diff(cluster)), len(cluster) - 1)
    upto[ends] = np.arange(1, len(ends) + 1)  # rounding must not reach into the next cluster
    return items[np.searchsorted(upto, chain + random.random(len(chain)), side="right")]


def _best_ndcg(probability: np.ndarray, k: int) -> float:
    """Expected NDCG@k of a ranking by ``probability`` [n] of an item that is drawn from it."""
    k = min(k, len(probability))
    best = -np.sort(np.partition(-probability, k - 1)[:k])
    return float((best / np.log2(np.arange(k) + 2)).sum())
