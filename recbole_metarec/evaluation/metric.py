"""The metrics by which models are compared. In a row with one relevant item each is a function of that item's rank.

So the ranks that a run keeps hold every metric of every user, at any depth. Measures of lists are no such metrics: they
have a name and a depth alone.
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
    """name: RecBole's, in small letters. depth: k, the places that count."""

    name: str
    depth: int

    @classmethod
    def named(cls, text: str) -> "Metric":
        """Of ``NDCG@10``, in letters of either size."""
        name, _, depth = text.lower().partition("@")
        return cls(name, int(depth))

    @property
    def key(self) -> str:
        """As RecBole prints it: ``ndcg@10``."""
        return f"{self.name}@{self.depth}"

    @property
    def is_of_lists(self) -> bool:
        """Whether it measures the lists of all users together, so that ranks do not tell it."""
        return self.name in LIST_MEASURES

    @property
    def label(self) -> str:
        """As people write it: ``NDCG@10``."""
        return f"{_NAMES.get(self.name, self.name)}@{self.depth}"

    def of(self, ranks: np.ndarray) -> np.ndarray:
        """Of each row by the rank of its item, 1 for the best; 0 beyond the depth. float64, of the shape of the ranks.

        Recall is a hit where one item is relevant, and the mean average precision the reciprocal rank.
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
