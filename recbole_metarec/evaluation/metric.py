"""The metrics by which models are compared. With one relevant item per row, each is a function of that item's rank.

So the ranks that a run keeps give every metric for every user at any depth. Measures of lists are not functions of
ranks: here they only have a name and a depth.
"""

from dataclasses import dataclass

import numpy as np

from recbole_metarec.config.rules import LIST_MEASURES

_NAMES = {
    "ndcg": "NDCG", "recall": "Recall", "mrr": "MRR", "hit": "Hit", "precision": "Precision", "map": "MAP",
    "itemcoverage": "ItemCoverage", "averagepopularity": "AveragePopularity", "shannonentropy": "ShannonEntropy",
    "giniindex": "GiniIndex", "tailpercentage": "TailPercentage",
}  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """name: RecBole's, in lower case. depth: k, the number of places that count."""

    name: str
    depth: int

    @classmethod
    def named(cls, text: str) -> "Metric":
        """The metric of a text such as ``NDCG@10``, in any case."""
        name, _, depth = text.lower().partition("@")
        return cls(name, int(depth))

    @property
    def key(self) -> str:
        """As RecBole prints it: ``ndcg@10``."""
        return f"{self.name}@{self.depth}"

    @property
    def is_of_lists(self) -> bool:
        """Whether it measures the lists of all users together, which ranks do not determine."""
        return self.name in LIST_MEASURES

    @property
    def label(self) -> str:
        """As people write it: ``NDCG@10``."""
        return f"{_NAMES.get(self.name, self.name)}@{self.depth}"

    def of(self, ranks: np.ndarray) -> np.ndarray:
        """The metric of each row from the rank of its item, 1 = best: float64 in the shape of ``ranks``.

        It is 0 beyond the depth. With one relevant item recall equals hit, and average precision the reciprocal rank.
        """
        gains = {
            "ndcg": lambda: 1.0 / np.log2(ranks + 1.0),
            "mrr": lambda: 1.0 / ranks,
            "map": lambda: 1.0 / ranks,
            "precision": lambda: np.full(ranks.shape, 1.0 / self.depth),
            "recall": lambda: np.ones(ranks.shape),
            "hit": lambda: np.ones(ranks.shape),
        }
        return np.where(ranks <= self.depth, gains[self.name](), 0.0)


NDCG_10 = Metric("ndcg", 10)
