"""What holds of every baseline that is fitted at once: who asks, beside whom and in which order changes no score."""

import json

import numpy as np
import pytest
import torch
from support.baseline_world import FITTED, N_ITEMS, fitted, random_histories, rows_of, write_world
from support.worlds import Run
from torch.nn.functional import pad

# isort: split
import recbole.model.general_recommender
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.utils import get_model

from recbole_metarec.baselines import base
from recbole_metarec.config.models import model_spec
from recbole_metarec.errors import ConfigError
from recbole_metarec.jobs.competitors import COMPETITORS, default_models
from recbole_metarec.quick_start import run_experiment

NEAR = {"rtol": 1e-5, "atol": 1e-6}
QUIET = {"state": "ERROR", "show_progress": False, "device": "cpu", "topk": [5, 10]}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(params=FITTED)
def run(request, world) -> Run:
    return fitted(world, request.param)


def by_name(run: Run) -> dict[tuple[str, str], float]:
    """(user, item) -> score in the test rows."""
    rows = rows_of(run)
    users = run.dataset.id2token("user_id", rows["user_id"])
    items = run.dataset.id2token("item_id", range(run.dataset.item_num))
    scores = run.model.full_sort_predict(rows)
    return {
        (user, item): score
        for user, row in zip(users, scores.tolist(), strict=True)
        for item, score in zip(items[1:], row[1:], strict=True)
    }


def test_rows_know_nothing_of_each_other_and_padding_says_nothing(run):
    rows = rows_of(run)
    scores = run.model.full_sort_predict(rows)
    assert scores.dtype == torch.float32 and scores.shape == (len(rows), N_ITEMS + 1)
    assert scores[:, 1:].std(dim=1).min() > 0
    turned = torch.arange(len(rows)).flip(0)
    torch.testing.assert_close(run.model.full_sort_predict(rows[turned]), scores[turned], **NEAR)
    padded = rows[torch.arange(3)]
    padded.interaction["item_id_list"] = pad(padded["item_id_list"], (0, 4))
    torch.testing.assert_close(run.model.full_sort_predict(padded), scores[:3], **NEAR)


def test_chunks_and_single_items_are_scored_as_all_at_once(run, monkeypatch):
    rows = rows_of(run)
    scores = run.model.full_sort_predict(rows)
    monkeypatch.setattr(base, "_SCORES_PER_CHUNK", 2 * scores.shape[1])
    torch.testing.assert_close(run.model.full_sort_predict(rows), scores, **NEAR)
    own = scores.gather(1, rows["item_id"][:, None])[:, 0]
    torch.testing.assert_close(run.model.predict(rows), own, **NEAR)


def test_numbers_of_users_and_items_decide_nothing(run, world, tmp_path):
    """The same events, the lines of the file in reverse order: other numbers for all."""
    file = world / "Target" / "Target.inter"
    head, *lines = file.read_text().splitlines()
    (tmp_path / "Target").mkdir()
    (tmp_path / "Target" / "Target.inter").write_text("\n".join([head, *lines[::-1]]) + "\n")
    (tmp_path / "Target" / "Target.item").write_bytes((world / "Target" / "Target.item").read_bytes())
    # RecBole's own choice among equally similar neighbours follows their numbers: keep all
    keys = {"k": 1000} if "k" in run.config.final_config_dict else {}
    one, other = (by_name(fitted(folder, run.config["model"], **keys)) for folder in (world, tmp_path))
    assert one.keys() == other.keys()
    assert [other[pair] for pair in one] == pytest.approx(list(one.values()), rel=1e-4, abs=1e-6)


def test_a_held_out_event_changes_nothing_that_was_learned(run, world, tmp_path):
    """Another test item: every row has the scores that it had."""
    histories = random_histories()
    for history in histories:
        if len(history) > 2:
            history[-1] = histories[0][0]
    changed = fitted(write_world(tmp_path, histories), run.config["model"])
    before, after = by_name(run), by_name(changed)
    common = before.keys() & after.keys()
    assert len(common) > 100
    assert [after[pair] for pair in common] == pytest.approx([before[pair] for pair in common], rel=1e-4, abs=1e-6)


def test_a_run_is_trained_resumed_and_read_again_as_any_other_and_no_seed_matters(run, world, tmp_path):
    keys = {**QUIET, "data_path": str(world), "checkpoint_dir": str(tmp_path), "MAX_ITEM_LIST_LENGTH": 6}
    if run.config["model"] == "TextKNN":
        keys["text_width"] = 5
    first, second = (run_experiment(run.config["model"], "Target", overrides={**keys, "seed": s}) for s in (1, 2))
    assert first.metrics["test"] == second.metrics["test"] and first.metrics["parameters"] == 0
    again = run_experiment(resume=first.run_dir)
    assert again.metrics == json.loads((first.run_dir / "metrics.json").read_text())
    np.testing.assert_array_equal(again.parts[0].test_ranks, first.parts[0].test_ranks)
    model = load_data_and_model(first.run_dir / "model.pth")[1]
    torch.testing.assert_close(model.full_sort_predict(rows_of(run)), run.model.full_sort_predict(rows_of(run)))
    assert set(first.run_dir.glob("*.pth")) and max(f.stat().st_size for f in first.run_dir.glob("*.pth")) < 1 << 20


def test_recbole_s_own_models_keep_their_names(world):
    for name in ("Pop", "ItemKNN", "EASE"):
        assert get_model(name) is getattr(recbole.model.general_recommender, name)
        assert COMPETITORS[name].experiment == f"Sequential{name}"
    split = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"}
    given = {**QUIET, "data_path": str(world), "eval_args": split, "load_col": {"inter": ["user_id", "item_id"]}}
    assert run_recbole("ItemKNN", "Target", config_dict=given, saved=False)["test_result"]["ndcg@10"] > 0


def test_all_are_in_the_default_comparison_and_texts_only_where_there_are_some():
    with_text, without = ({line.experiment for line in default_models(has)} for has in (True, False))
    assert with_text >= set(FITTED)
    assert set(FITTED) - without == {name for name in FITTED if model_spec(name).requires_texts}


@pytest.mark.parametrize("name", ["SequentialEASE", "EASEDecay", "SLIST"])
def test_weights_that_cannot_be_held_are_refused_in_one_line(name, world, monkeypatch):
    monkeypatch.setattr(base.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 100}))
    with pytest.raises(ConfigError, match=f"^{name}: .*15 items .* GiB .*leave {name} out"):
        fitted(world, name)
