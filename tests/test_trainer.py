"""Whole runs on small made-up domains: what must be equal to the bit, what must differ, what must stop a run."""

import logging
import math
import shutil

import pytest
import torch
from worlds import Run, cluster_histories, write_domain

# isort: split
import recbole.quick_start
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer

from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.errors import CheckpointError, TrainingError
from recbole_metarec.trainer.checkpoint import read_checkpoint

TINY = {
    "embedding_size": 8, "n_layers": 1, "train_batch_size": 64, "epochs": 3, "stopping_step": 50, "seed": 7,
    "vq_heads": 2, "learning_rate": 0.01, "topk": [5, 10], "MAX_ITEM_LIST_LENGTH": 8, "dropout_prob": 0.2,
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("domains")
    write_domain(folder, "Target", cluster_histories(1, 50, 24, 4, 0.8))
    write_domain(folder, "Near", cluster_histories(2, 60, 28, 4, 0.8))
    write_domain(folder, "Far", cluster_histories(3, 40, 20, 4, 0.0))
    return folder


def run(shop, model="MetaRec", fit=True, saved=False, **given) -> Run:
    sources = {"sources": ["Near", "Far"]} if model == "MetaRec" else {}
    keys = {key: value for key, value in TINY.items() if model == "MetaRec" or key != "vq_heads"}
    made = Run(shop, model=model, **(keys | sources | given))
    return made.fit(saved=saved) if fit else made


_baselines: dict = {}


def baseline(shop) -> dict:
    if not _baselines:
        _baselines.update(run(shop).weights())
    return _baselines


def equal(one: dict, other: dict) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def distance(one: dict, other: dict) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def without_seconds(rows: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


# -- equal to the bit --------------------------------------------------------------------------------------------------


def test_without_transfer_metarec_is_lrurec_to_the_bit(shop):
    plain = run(shop, model="LRURec", saved=True)
    result = plain.trainer.evaluate(plain.test)
    for given in ({"meta_transfer": "none"}, {"sources": "none"}, {"sources": [], "meta_transfer": "joint"}):
        made = run(shop, saved=True, **given)
        assert equal(made.weights(), plain.weights())
        assert made.best_score == plain.best_score and dict(made.best_result) == dict(plain.best_result)
        assert dict(made.trainer.evaluate(made.test)) == dict(result)
        assert without_seconds(made.trainer.history) == without_seconds(plain.trainer.history)
    assert plain.best_score > 0


@pytest.mark.parametrize("given", [{}, {"meta_transfer": "joint"}, {"meta_transfer": "pretrain", "pretrain_epochs": 2}])
def test_the_same_seed_gives_the_same_run_and_another_seed_another(shop, given):
    one, two, other = (run(shop, seed=seed, **given) for seed in (7, 7, 8))
    assert equal(one.weights(), two.weights()) and one.best_score == two.best_score
    assert one.trainer.source_history == two.trainer.source_history
    assert distance(one.weights(), other.weights()) > 1e-3


def test_what_is_only_measured_changes_nothing(shop):
    for given in ({"diagnostics_every": 1}, {"diagnostics_every": 1000}):
        assert equal(run(shop, **given).weights(), baseline(shop))
    rare, often = (
        run(shop, gradient_rescaling="uniform", diagnostics_every=every).weights() for every in (1, 1000)
    )
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


RESUMED = [
    {"meta_transfer": "none"},
    {"learn_inner_learning_rate": 0.05, "inner_steps": 2},
    {"meta_transfer": "joint", "source_negatives": 6},
    {"meta_transfer": "pretrain", "pretrain_epochs": 2},
    {"learner": "sgd", "learning_rate": 0.1, "second_order": True, "similarity_at": "phi"},
]


@pytest.mark.parametrize("given", RESUMED)
@pytest.mark.parametrize("after", [1, 3])
def test_a_resumed_run_equals_the_uninterrupted_one_to_the_bit(shop, given, after):
    whole = run(shop, saved=True, epochs=5, **given)
    first = run(shop, saved=True, epochs=after, **given)
    rest = run(shop, fit=False, epochs=5, **given)
    rest.trainer.resume_checkpoint(first.trainer.saved_model_file)
    rest.fit(saved=True)
    assert equal(rest.weights(), whole.weights())
    assert rest.best_score == whole.best_score and dict(rest.best_result) == dict(whole.best_result)
    assert without_seconds(rest.trainer.history) == without_seconds(whole.trainer.history)
    assert rest.trainer.source_history == whole.trainer.source_history
    for mine, its in zip(rest.trainer.sources, whole.trainer.sources, strict=True):
        assert torch.equal(mine.table, its.table) and torch.equal(mine.bias, its.bias)
    files = [read_checkpoint(made.trainer.saved_model_file) for made in (rest, whole)]
    assert equal(files[0]["state_dict"], files[1]["state_dict"]) and files[0]["epoch"] == files[1]["epoch"]


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
    other = run(shop, saved=True, embedding_size=4, epochs=1)
    with pytest.raises(CheckpointError, match="embedding_size"):
        made.trainer.resume_checkpoint(other.trainer.saved_model_file)


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
    for row in made.trainer.source_history:
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
    {"MAX_ITEM_LIST_LENGTH": 4}, {"meta_transfer": "joint"}, {"meta_transfer": "pretrain", "pretrain_epochs": 1},
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


def test_transfer_reads_no_held_out_event_of_the_target(shop, tmp_path):
    """With other items in the validation and test places the training is the same to the bit."""
    changed = tmp_path / "changed"
    shutil.copytree(shop, changed)
    histories = cluster_histories(1, 50, 24, 4, 0.8)
    everything = [[*h[:-2], h[-1], h[-2]] for h in histories]  # the same items, so the same catalogue
    write_domain(changed, "Target", everything)
    tokens = [run(folder, fit=False).dataset.field2id_token["item_id"].tolist() for folder in (shop, changed)]
    place = [tokens[0].index(token) for token in tokens[1]]
    if tokens[0] != tokens[1]:
        pytest.skip(f"the catalogue is numbered anew: {place}")
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


# -- what is not finite ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [{}, {"similarity_at": "phi"}, {"gradient_rescaling": "uniform"}, {"meta_transfer": "joint"}]
)
def test_a_source_that_is_not_finite_is_left_out_and_said(shop, caplog, given):
    made = run(shop, fit=False, **given)
    made.trainer._set_up(made.train)
    far = made.trainer.sources.sides[1]
    with torch.no_grad():
        far.bias[3] = float("nan")
    with caplog.at_level(logging.WARNING):
        made.fit(saved=False)
    assert "steps of Far were left out" in caplog.text
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


def test_predict_and_full_sort_predict_agree_and_ignore_padding(shop):
    made = run(shop)
    made.model.eval()
    for interaction, *_ in made.test:
        scores = made.model.full_sort_predict(interaction).view(len(interaction), -1)
        own = scores.gather(1, interaction["item_id"][:, None])[:, 0]
        torch.testing.assert_close(made.model.predict(interaction), own)
        longer = Interaction({name: interaction[name] for name in interaction.columns})
        padding = torch.zeros(len(interaction), 5, dtype=torch.int64)
        longer.update(Interaction({"item_id_list": torch.cat([interaction["item_id_list"], padding], dim=1)}))
        torch.testing.assert_close(made.model.full_sort_predict(longer).view_as(scores), scores)


# -- the guard ---------------------------------------------------------------------------------------------------------


def test_the_guard_deploys_what_wins_on_validation(shop):
    plain = run(shop, model="LRURec", saved=True)
    # a trial step and weights that ruin the model, so that the guard must fire
    bad = run(shop, saved=True, transfer_guard=True, meta_transfer="joint", source_weight=1000.0)
    guard = bad.trainer.guard
    assert guard.no_transfer_valid == plain.best_score and guard.fired == (guard.transfer_valid <= plain.best_score)
    deployed = read_checkpoint(bad.trainer.saved_model_file)["state_dict"]
    winner = guard.no_transfer_file if guard.fired else guard.transfer_file
    assert equal(deployed, read_checkpoint(winner)["state_dict"])
    assert equal(read_checkpoint(guard.no_transfer_file)["state_dict"],
                 read_checkpoint(plain.trainer.saved_model_file)["state_dict"])  # fmt: skip
