"""Whole runs on small made-up domains: what must be equal to the bit, and what must differ."""

import logging
import math
import shutil

import pytest
import torch
from support.worlds import baseline, cluster_histories, distance, equal, run, without_seconds, write_domain

# isort: split
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer

from recbole_metarec.data.batches import SequenceBatch

# -- equal to the bit --------------------------------------------------------------------------------------------------


def test_without_transfer_metarec_is_lrurec_to_the_bit(shop):
    plain = run(shop, model="LRURec", saved=True)
    result = plain.trainer.evaluate(plain.test)
    for given in ({"meta_transfer": "none"}, {"sources": "none"}, {"sources": [], "meta_transfer": "joint"}):
        made = run(shop, saved=True, **given)
        assert equal(made.weights(), plain.weights())
        assert made.best_score == plain.best_score and dict(made.best_result) == dict(plain.best_result)
        assert dict(made.trainer.evaluate(made.test)) == dict(result)
        assert without_seconds(made.trainer.log.history) == without_seconds(plain.trainer.log.history)
    assert plain.best_score > 0


@pytest.mark.parametrize("given", [{}, {"meta_transfer": "joint"}, {"meta_transfer": "pretrain", "pretrain_epochs": 2}])
def test_the_same_seed_gives_the_same_run_and_another_seed_another(shop, given):
    one, two, other = (run(shop, seed=seed, **given) for seed in (7, 7, 8))
    assert equal(one.weights(), two.weights()) and one.best_score == two.best_score
    assert one.trainer.log.source_history == two.trainer.log.source_history
    assert distance(one.weights(), other.weights()) > 1e-3


def test_what_is_only_measured_changes_nothing(shop):
    for given in ({"diagnostics_every": 1}, {"diagnostics_every": 1000}):
        assert equal(run(shop, **given).weights(), baseline(shop))
    rare, often = (run(shop, gradient_rescaling="uniform", diagnostics_every=every).weights() for every in (1, 1000))
    assert equal(rare, often)


def test_another_source_leaves_the_streams_of_the_first_as_they_were(shop):
    alone, both = (run(shop, fit=False, sources=names) for names in (["Near"], ["Far", "Near"]))
    for made in (alone, both):
        made.trainer._set_up(made.train)
    one, other = alone.trainer.sources.sides[0], both.trainer.sources.sides[1]
    assert one.name == other.name == "Near" and torch.equal(one.table, other.table)
    for _ in range(20):
        mine, its = one.next_batch(), other.next_batch()
        assert torch.equal(mine.inputs, its.inputs) and torch.equal(mine.targets, its.targets)
    assert [r.tolist() for r in alone.train.batches.plan(2)] == [r.tolist() for r in both.train.batches.plan(2)]


# -- what every key does -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transfer", ["meta", "joint", "pretrain"])
def test_every_way_of_transfer_trains(shop, transfer):
    made = run(shop, fit=False, meta_transfer=transfer, pretrain_epochs=2)
    start = made.weights()
    made.fit(saved=False)
    after = made.weights()
    for name, before in start.items():
        assert bool(after[name].isfinite().all()) and (after[name] - before).abs().max() > 1e-4, name
    assert not after["item_embedding.weight"][0].any() and after["item_bias"][0] == 0
    assert distance(after, run(shop, meta_transfer="none").weights()) > 1e-3
    for side in made.trainer.sources:  # the sources' tables are trained, too, and their padding is not
        assert not side.table[0].any() and side.bias[0] == 0 and side.bias.abs().max() > 1e-3
    assert made.best_score > 0
    for row in made.trainer.log.source_history:
        assert all(math.isfinite(value) for key, value in row.items() if key != "source")


CHANGES = [
    {"second_order": True}, {"vq_heads": 0}, {"vq_heads": 1}, {"vq_codes": 5}, {"codebook_gradient": "loss"},
    {"codebook_weight": 5.0}, {"commitment_weight": 5.0}, {"quantize_output": True}, {"gradient_rescaling": "uniform"},
    {"rescale_sign": "paper"}, {"similarity_at": "phi"}, {"similarity_over": "all"},
    {"similarity_over": "encoder_and_codes"}, {"similarity_momentum": 0.0}, {"temperature": 5.0},
    {"target_batch": "shared"}, {"inner_steps": 2}, {"inner_learning_rate": 0.7}, {"learn_inner_learning_rate": 0.5},
    {"source_weight": 0.5}, {"source_negatives": 4}, {"target_negatives": 4}, {"clip_grad_norm": {"max_norm": 0.01}},
    {"dropout_prob": 0.0}, {"weight_decay": 0.5}, {"learner": "sgd"}, {"learning_rate": 0.02}, {"lru_r_min": 0.1},
    {"lru_r_max": 0.9}, {"train_batch_size": 32}, {"sources": ["Far"]}, {"sources": ["Far", "Near"], "seed": 8},
    {"MAX_ITEM_LIST_LENGTH": 4}, {"meta_transfer": "joint"},
    {"meta_transfer": "pretrain", "pretrain_epochs": 1},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_key_changes_something(shop, change):
    made = run(shop, **change).weights()
    assert distance(made, baseline(shop)) > 1e-6
    assert all(bool(value.isfinite().all()) for value in made.values())


@pytest.mark.parametrize("change", [{"source_weight": 3.0}, {"source_negatives": 4}, {"vq_heads": 0}], ids=str)
def test_keys_of_joint_training_change_something(shop, change):
    joint = {"meta_transfer": "joint"}
    assert distance(run(shop, **joint, **change).weights(), run(shop, **joint).weights()) > 1e-4


def test_more_codes_than_items_are_all_items_and_never_padding(shop):
    many = run(shop, vq_codes=1000)
    assert equal(many.weights(), baseline(shop))
    few = run(shop, fit=False, vq_codes=3).model.candidate_codes
    store, trained = many.train.dataset.store, many.train.dataset.trained
    counts = store.item_counts(trained)
    assert len(few) == 3 and few.min() >= 1 and few.tolist() == sorted(few.tolist())
    assert sorted(counts[few.numpy()].tolist()) == sorted(counts.tolist())[-3:]


def test_training_reads_no_held_out_event_of_the_target(shop, tmp_path):
    """With other items in the validation and test places the training is the same to the bit."""
    changed = tmp_path / "changed"
    shutil.copytree(shop, changed)
    histories = cluster_histories(1, 50, 24, 4, 0.8)
    # the first users stay, so that the catalogue is numbered alike; the others take each other's last two events
    late = [history[-2:] for history in histories[21:] + histories[20:21]]
    mixed = histories[:20] + [[*h[:-2], *last] for h, last in zip(histories[20:], late, strict=True)]
    write_domain(changed, "Target", mixed)
    one, other = run(shop, fit=False), run(changed, fit=False)
    assert one.dataset.field2id_token["item_id"].tolist() == other.dataset.field2id_token["item_id"].tolist()
    assert one.test._dataset.inter_feat["item_id"].tolist() != other.test._dataset.inter_feat["item_id"].tolist()
    for given in ({"target_negatives": 4, "vq_codes": 10}, {"meta_transfer": "joint"}):
        assert equal(run(changed, **given).weights(), run(shop, **given).weights())


# -- optimiser ---------------------------------------------------------------------------------------------------------


def test_every_parameter_is_in_one_group_and_the_recurrence_does_not_decay(shop):
    made = run(shop, fit=False)
    names = {id(parameter): name for name, parameter in made.model.named_parameters()}
    groups = made.trainer.optimizer.param_groups
    grouped = [(names[id(p)], group["weight_decay"]) for group in groups for p in group["params"]]
    assert sorted(name for name, _ in grouped) == sorted(names.values())
    for name, decay in grouped:
        spared = any(part in name for part in ("nu", "omega", "log_gamma", "bias", "norm"))
        assert decay == (0.0 if spared else 0.01), name
    made.trainer._set_up(made.train)
    groups = made.trainer.sources.optimizer.param_groups
    assert [len(group["params"]) for group in groups] == [2, 2] and [g["weight_decay"] for g in groups] == [0.01, 0.0]


# -- under RecBole's plain Trainer -------------------------------------------------------------------------------------


def test_metarec_trains_under_recboles_own_trainer_and_says_that_nothing_is_transferred(shop, caplog):
    made = run(shop, fit=False)
    start = made.weights()
    trainer = Trainer(made.config, made.model)
    with caplog.at_level(logging.WARNING):
        trainer.fit(made.train, made.valid, verbose=False, saved=False)
    assert caplog.text.count("learns from the target alone") == 1
    after = made.weights()
    assert distance(after, start) > 1e-2 and all(bool(value.isfinite().all()) for value in after.values())


@pytest.mark.parametrize("given", [{}, {"target_negatives": 5}])
def test_prefix_rows_count_their_last_position_alone(shop, given):
    made = run(shop, fit=False, **given)
    made.model.eval()
    with torch.no_grad():
        made.model.item_embedding.weight[1:].normal_()
    rows = Interaction({
        "item_id_list": torch.tensor([[3, 5, 2, 0], [4, 0, 0, 0], [1, 2, 3, 4]]),
        "item_length": torch.tensor([3, 1, 4]), "item_id": torch.tensor([7, 9, 7]),
    })  # fmt: skip
    targets = torch.tensor([[0, 0, 7, 0], [9, 0, 0, 0], [0, 0, 0, 7]])
    if not given:
        states = made.model.forward(rows["item_id_list"], rows["item_length"])
        scores = states @ made.model.item_embedding.weight[1:].T + made.model.item_bias[1:]
        expected = torch.nn.functional.cross_entropy(scores, rows["item_id"] - 1)
        torch.testing.assert_close(made.model.calculate_loss(rows), expected)
    batch = SequenceBatch(rows["item_id_list"], targets)
    torch.manual_seed(3)
    one = made.model.calculate_loss(rows)
    torch.manual_seed(3)
    torch.testing.assert_close(one, made.model.target_loss(dict(made.model.named_parameters()), batch))


def test_every_epoch_draws_masks_of_its_own(shop, monkeypatch):
    from recbole_metarec.trainer import trainer

    opened = []

    class Seen(trainer.Streams):
        def __call__(self, *name):
            fresh = name not in self._open
            generator = super().__call__(*name)
            if fresh:
                opened.append((name, torch.rand(3, generator=generator.clone_state()).tolist()))
            return generator

    monkeypatch.setattr(trainer, "Streams", Seen)
    run(shop, fit=True, epochs=3)
    for name in (("target",), ("source", "Near"), ("outer", "Near")):
        assert len({str(first) for other, first in opened if other == name}) == 3
    assert len({str(first) for _, first in opened}) == len(opened)
