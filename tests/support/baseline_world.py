"""A small random domain with texts and repeats, and a fitted baseline on it, whose rows are read by names."""

from pathlib import Path

import numpy as np
from support.worlds import Run, write_domain, write_items

# isort: split
from recbole.data.interaction import Interaction

from recbole_metarec.config.models import SHIPPED_SPECS

FITTED = [spec.name for spec in SHIPPED_SPECS if spec.is_fitted]
N_ITEMS = 14
WORDS = ["red", "green", "blue", "shoe", "hat", "scarf", "wool", "silk", "linen", "small", "large", "old"]


def random_histories(seed: int = 3, users: int = 30) -> list[list[int]]:
    """Of 2 to 9 events; an item may come again."""
    random = np.random.default_rng(seed)
    return [random.integers(N_ITEMS, size=random.integers(2, 10)).tolist() for _ in range(users)]


def write_world(folder: Path, histories=None) -> Path:
    random = np.random.default_rng(5)
    write_domain(folder, "Target", histories or random_histories())
    texts = {item: " ".join(random.choice(WORDS, size=3)) for item in range(N_ITEMS)}
    write_items(folder, "Target", {**texts, 0: ""})  # one item has no text
    return folder


def fitted(folder: Path, model: str, **given) -> Run:
    """The model, made from its training part."""
    keys = {"MAX_ITEM_LIST_LENGTH": 6} | ({"text_width": 5} if model == "TextKNN" else {})
    return Run(folder, model=model, **(keys | given))


def rows_of(run: Run, part: str = "test") -> Interaction:
    """All rows of a part, as the loader has them."""
    return getattr(run, part).dataset.inter_feat


def histories_of(rows: Interaction) -> list[list[int]]:
    """The history of each row, as ids."""
    lists = zip(rows["item_id_list"].tolist(), rows["item_length"].tolist(), strict=True)
    return [items[:length] for items, length in lists]


def training_of(run: Run) -> list[list[int]]:
    """Each user's training events, as ids, by a loop over the events of the training part."""
    events = run.train.dataset.inter_feat
    histories: dict[int, list[int]] = {}
    for user, item in zip(events["user_id"].tolist(), events["item_id"].tolist(), strict=True):
        histories.setdefault(user, []).append(item)
    return [histories.get(user, []) for user in range(run.dataset.user_num)]
