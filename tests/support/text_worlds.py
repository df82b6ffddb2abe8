"""A small shop with item texts."""

from pathlib import Path

import numpy as np
from support.worlds import cluster_histories, write_domain, write_items


def cluster_texts(seed: int, items: int, clusters: int) -> dict[int, str]:
    """A word of the item's cluster and one that says nothing."""
    noise = np.random.default_rng(seed).integers(0, 12, items)
    return {i: f"kind{i % clusters} noise{noise[i]}" for i in range(items)}


def write_text_shop(folder: Path) -> Path:
    """A target and a source with texts, and a source without."""
    for seed, name, users, items in ((1, "Target", 50, 24), (2, "Near", 60, 28), (3, "Bare", 40, 20)):
        write_domain(folder, name, cluster_histories(seed, users, items, 4, 0.8))
        if name != "Bare":
            write_items(folder, name, cluster_texts(seed, items, 4))
    return folder
