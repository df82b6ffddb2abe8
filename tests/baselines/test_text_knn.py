"""Neighbours by text against loops over histories and vectors."""

import numpy as np
import pytest
from support.baseline_world import fitted, histories_of, rows_of, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    sizes = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / sizes) if sizes else 0.0


@pytest.mark.parametrize("decay", [0.6, 1.0])
def test_decayed_cosines_with_all_other_items_by_loops(decay, world):
    run = fitted(world, "TextKNN", history_decay=decay)
    vectors = run.train.dataset.text_vectors.target.astype(np.float64)
    assert sum(not row.any() for row in vectors) == 2  # padding, and the item without a text
    rows = rows_of(run)
    for history, scores in zip(histories_of(rows), run.model.full_sort_predict(rows).tolist(), strict=True):
        for j in range(1, run.dataset.item_num):
            near = [decay**age * cosine(vectors[i], vectors[j]) for age, i in enumerate(reversed(history)) if i != j]
            assert scores[j] == pytest.approx(sum(near), rel=1e-4, abs=1e-5)


def test_equal_texts_are_nearest(world, tmp_path):
    """An item with the text of the last event comes first, unlike the event itself."""
    write_world(tmp_path, [[1, 2, 3, 4, 5], [5, 6, 7, 8, 3], [1, 9, 8, 4, 2]])
    texts = ["item_id:token\ttext:token_seq", *(f"Target-{i}\tword{i} thing" for i in range(1, 10) if i != 9)]
    (tmp_path / "Target" / "Target.item").write_text("\n".join([*texts, "Target-9\tword4 thing"]) + "\n")
    run = fitted(tmp_path, "TextKNN", history_decay=0.01, text_width=20)
    number = {name: i for i, name in enumerate(run.dataset.id2token("item_id", range(run.dataset.item_num)))}
    rows = rows_of(run)
    row = [history[-1] for history in histories_of(rows)].index(number["Target-4"])
    assert run.model.full_sort_predict(rows)[row].argmax() == number["Target-9"]
