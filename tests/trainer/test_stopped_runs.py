"""Runs that stop: resumed to the bit, loaded without their sources, guarded, or ended by what is not finite."""

import functools
import logging
import math
import shutil

import pytest
import torch
from support.worlds import equal, run, without_seconds

# isort: split
import recbole.quick_start

from recbole_metarec.errors import CheckpointError, TrainingError
from recbole_metarec.evaluation.transfer_guard import LEVEL
from recbole_metarec.trainer.checkpoint import read_checkpoint

RESUMED = [
    {"meta_transfer": "none"},
    {"meta_transfer": "none", "target_negatives": 6},
    {"learn_inner_learning_rate": 0.05, "inner_steps": 2},
    {"meta_transfer": "joint", "source_negatives": 6},
    {"meta_transfer": "pretrain", "pretrain_epochs": 2},
    {"source_negatives": 6, "second_order": True},
    {"learner": "sgd", "learning_rate": 0.1, "second_order": True, "similarity_at": "phi"},
]


@pytest.fixture(scope="module")
def whole_of():
    """The uninterrupted run of each of RESUMED, trained once, and its file's content."""

    @functools.cache
    def whole(shop, number):
        made = run(shop, saved=True, epochs=5, **RESUMED[number])
        return made, read_checkpoint(made.trainer.saved_model_file)

    return whole


@pytest.mark.parametrize("number", range(len(RESUMED)))
@pytest.mark.parametrize("after", [1, 3])
def test_a_resumed_run_equals_the_uninterrupted_one_to_the_bit(shop, whole_of, number, after):
    (whole, its_file), given = whole_of(shop, number), RESUMED[number]
    first = run(shop, saved=True, epochs=after, **given)
    rest = run(shop, fit=False, epochs=5, **given)
    rest.trainer.resume_checkpoint(first.trainer.saved_model_file)
    rest.fit(saved=True)
    assert equal(rest.weights(), whole.weights())
    assert rest.best_score == whole.best_score and dict(rest.best_result) == dict(whole.best_result)
    assert without_seconds(rest.trainer.log.history) == without_seconds(whole.trainer.log.history)
    assert rest.trainer.log.source_history == whole.trainer.log.source_history
    for mine, its in zip(rest.trainer.sources, whole.trainer.sources, strict=True):
        assert torch.equal(mine.table, its.table) and torch.equal(mine.bias, its.bias)
    file = read_checkpoint(rest.trainer.saved_model_file)
    assert equal(file["state_dict"], its_file["state_dict"]) and file["epoch"] == its_file["epoch"]


def test_resuming_a_finished_run_leaves_its_best_model_alone(shop):
    first = run(shop, saved=True, learning_rate=0.5, epochs=4)  # so fast that the last epoch is not the best
    before = read_checkpoint(first.trainer.saved_model_file)
    again = run(shop, fit=False, learning_rate=0.5, epochs=4)
    again.trainer.resume_checkpoint(first.trainer.saved_model_file)
    again.fit(saved=True)
    after = read_checkpoint(first.trainer.saved_model_file)
    assert equal(after["state_dict"], before["state_dict"]) and again.best_score == first.best_score


def test_resuming_from_nothing_or_from_another_model_is_refused(shop, tmp_path):
    made = run(shop, fit=False)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        made.trainer.resume_checkpoint(tmp_path / "absent.pth")
    others = {"embedding_size": 4, "meta_transfer": "joint", "sources": ["Far"]}
    named = {
        "embedding_size": r"state_dict\.item_bias|state_dict\.item_embedding",
        "meta_transfer": "meta_transfer is joint",
    }
    for key, value in others.items():
        file = run(shop, saved=True, epochs=1, **{key: value}).trainer.saved_model_file
        made.trainer.resume_checkpoint(file)
        start = made.weights()
        with pytest.raises(CheckpointError, match=named.get(key, f"{key} is")) as refused:
            made.fit()
        assert str(made.trainer.training_state_file) in str(refused.value) and "\n" not in str(refused.value)
        assert equal(made.weights(), start)


def test_a_saved_model_loads_and_scores_without_its_sources(shop, tmp_path):
    here = tmp_path / "domains"
    shutil.copytree(shop, here)
    made = run(here, saved=True)
    expected, file = made.trainer.evaluate(made.test), made.trainer.saved_model_file
    for name in ("Near", "Far"):
        shutil.rmtree(here / name)
    assert not any("Near" in key or "source" in key for key in read_checkpoint(file)["state_dict"])
    _, model, _, _, _, test = recbole.quick_start.load_data_and_model(file)
    assert equal(model.state_dict(), read_checkpoint(file)["state_dict"])
    assert dict(made.trainer.evaluate(test, load_best_model=False)) == dict(expected)
    for interaction, *_ in test:
        model.eval()
        torch.testing.assert_close(model.full_sort_predict(interaction), made.model.full_sort_predict(interaction))


# -- what is not finite ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [{}, {"similarity_at": "phi"}, {"gradient_rescaling": "uniform"}, {"meta_transfer": "joint"}]
)
def test_a_source_that_is_not_finite_is_left_out_and_said(shop, caplog, given):
    made = run(shop, fit=False, epochs=2, **given)  # a source that stays lost for longer ends the run
    made.trainer._set_up(made.train)
    far = made.trainer.sources.sides[1]
    with torch.no_grad():
        far.bias[3] = float("nan")
    with caplog.at_level(logging.WARNING):
        made.fit(saved=False)
    assert f"steps of Far ({len(made.train)} of {len(made.train)}) were left out" in caplog.text
    assert all(bool(value.isfinite().all()) for value in made.weights().values())
    assert not torch.equal(made.trainer.sources.sides[0].bias, torch.zeros_like(made.trainer.sources.sides[0].bias))
    for row in made.source_rows("Far"):
        assert row["skipped"] == len(made.train) and row.get("weight", 0.0) == 0.0
    for row in made.source_rows("Near"):
        assert row["skipped"] == 0 and row.get("weight", 1.0) == pytest.approx(1.0)
        assert all(math.isfinite(value) for key, value in row.items() if key != "source")


@pytest.mark.parametrize("given", [{}, {"meta_transfer": "joint"}, {"meta_transfer": "pretrain"}])
def test_a_run_stops_where_every_source_fails(shop, given):
    made = run(shop, fit=False, **given)
    made.trainer._set_up(made.train)
    with torch.no_grad():
        for side in made.trainer.sources:
            side.bias[3] = float("nan")
    with pytest.raises(TrainingError, match="Near, Far"):
        made.fit(saved=False)
    assert all(bool(value.isfinite().all()) for value in made.weights().values())


@pytest.mark.parametrize("model, given", [("LRURec", {}), ("MetaRec", {}), ("MetaRec", {"meta_transfer": "joint"})])
def test_a_run_stops_where_the_target_fails_and_keeps_its_best_model(shop, model, given):
    made = run(shop, model=model, fit=False, **given)
    kept = {}

    def break_it(epoch, score):
        kept.update(read_checkpoint(made.trainer.saved_model_file)["state_dict"])
        with torch.no_grad():
            made.model.item_bias[2] = float("nan")

    with pytest.raises(TrainingError) as error:
        made.trainer.fit(made.train, made.valid, verbose=False, saved=True, callback_fn=break_it)
    for part in ("epoch 1", f"step {len(made.train) + 1} ", "target", str(made.trainer.saved_model_file)):
        assert part in str(error.value)
    assert equal(read_checkpoint(made.trainer.saved_model_file)["state_dict"], kept)
    assert all(bool(value.isfinite().all()) for value in kept.values())


# -- the guard ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [None, LEVEL])
def test_the_guard_deploys_transfer_only_where_the_evidence_is_enough(shop, monkeypatch, p):
    plain = run(shop, model="LRURec", saved=True)
    if p is not None:
        monkeypatch.setattr("recbole_metarec.trainer.guard.p_of_gain", lambda ours, theirs, metric: p)
    # a trial step and weights that ruin the model, so that the guard must fire
    bad = run(shop, saved=True, transfer_guard=True, meta_transfer="joint", source_weight=1000.0)
    guard = bad.trainer.guard
    assert guard.no_transfer_valid == plain.best_score > guard.transfer_valid
    assert guard.fired == (p is None) == (guard.p > LEVEL)
    deployed = read_checkpoint(bad.trainer.saved_model_file)["state_dict"]
    winner = guard.no_transfer_file if guard.fired else guard.transfer_file
    assert equal(deployed, read_checkpoint(winner)["state_dict"])
    assert equal(read_checkpoint(guard.no_transfer_file)["state_dict"],
                 read_checkpoint(plain.trainer.saved_model_file)["state_dict"])  # fmt: skip


@pytest.mark.parametrize("key", ["target_negatives", "source_negatives", "learner"])
def test_a_run_with_other_optimisers_cannot_be_resumed(shop, key):
    first = run(shop, saved=True, epochs=1)
    other = run(shop, fit=False, epochs=2, **{key: "sgd" if key == "learner" else 6})
    other.trainer.resume_checkpoint(first.trainer.saved_model_file)
    with pytest.raises(CheckpointError, match=f"{key} is"):
        other.fit()
