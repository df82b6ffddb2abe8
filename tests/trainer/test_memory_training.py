"""Training with the item memory: what moves, what is chosen by validation, what sources teach, and exact resume."""

import functools

import numpy as np
import pytest
import torch
from support.worlds import TINY, Run, check_exact_resume, equal, write_shop

from recbole_metarec.data.sequences import HistorySplit
from recbole_metarec.errors import CheckpointError
from recbole_metarec.evaluation.metric import Metric
from recbole_metarec.evaluation.ranking import rank_all
from recbole_metarec.model.saved_network import network_maker
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.trainer.checkpoint import load_model, read_checkpoint, write_checkpoint
from recbole_metarec.trainer.lessons import Lessons
from recbole_metarec.trainer.mixing import SHARES, USUAL, best_share, chosen_share

MEMORY = {**TINY, "item_memory": True, "seen_offset": True, "memory_neighbours": 6}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return write_shop(tmp_path_factory.mktemp("domains"))


def run(shop, model="MetaRec", saved=False, fit=True, **given) -> Run:
    keys = MEMORY | ({"sources": ["Near", "Far"]} if model == "MetaRec" else {}) | given
    keys = {key: value for key, value in keys.items() if model == "MetaRec" or key != "vq_heads"}
    made = Run(shop, model=model, **keys)
    return made.fit(saved=saved) if fit else made


def parameters(made) -> dict:
    return {name: value.detach().clone() for name, value in made.model.named_parameters()}


WAYS = [
    {}, {"second_order": True}, {"meta_transfer": "joint"}, {"meta_transfer": "pretrain", "pretrain_epochs": 2},
    {"similarity_over": "encoder_and_memory"}, {"memory_form": "network", "second_order": True},
]  # fmt: skip


@pytest.mark.parametrize("given", WAYS, ids=str)
def test_every_part_is_trained_and_resumes_to_the_bit(shop, given):
    whole = run(shop, saved=True, epochs=4, **given)
    start = parameters(run(shop, fit=False, **given))
    for name, value in parameters(whole).items():
        assert bool(value.isfinite().all()) and not torch.equal(value, start[name]), name
    check_exact_resume(whole, functools.partial(run, shop, **given))


def test_sources_alone_move_the_head_by_a_tenth_of_its_rate(shop, monkeypatch):
    made, rates = run(shop, fit=False, meta_transfer="pretrain", pretrain_epochs=1, epochs=1), []
    of_groups = lambda *_: rates.append([group["lr"] for group in made.trainer.optimizer.param_groups])  # noqa: E731
    monkeypatch.setattr(made.trainer, "_apply", of_groups)
    made.fit(saved=False)
    assert rates[0] == pytest.approx([0.01, 0.01, 0.003, 0.0003]) and rates[-1] == pytest.approx(
        [0.01, 0.01, 0.03, 0.003]
    )


def test_the_encoder_is_trained_as_it_is_without_a_memory(shop):
    """The memory has a loss of its own: beside the same offsets the encoder's numbers are the same to the bit."""
    beside, alone = run(shop, "LRURec"), run(shop, "LRURec", item_memory=False)
    for name, value in parameters(alone).items():
        assert torch.equal(parameters(beside)[name], value), name


def test_metarec_without_sources_is_lrurec_to_the_bit(shop):
    assert equal(run(shop, meta_transfer="none").weights(), run(shop, "LRURec").weights())


@pytest.mark.parametrize("metric", ["ndcg@10", "mrr@20", "recall@5"])
def test_validation_chooses_the_share_and_reports_the_score_of_that_share(shop, metric):
    made = run(shop, "LRURec", epochs=5, valid_metric=metric, topk=[5, 10, 20])
    values = []
    for share in SHARES:
        made.model.lru_share.fill_(share)
        values.append(Metric.named(metric).of(rank_all(made.model, made.valid, made.trainer.device)))
    chosen = chosen_share(np.array(values))
    score, result = made.trainer._valid_epoch(made.valid)
    assert float(made.model.lru_share) == pytest.approx(SHARES[chosen])
    assert score == result[metric] == pytest.approx(values[chosen].mean(), abs=1e-4)


@pytest.mark.parametrize("rows, chosen", [(20, USUAL), (2000, 7)])
def test_another_share_than_the_usual_one_needs_evidence(rows, chosen):
    values = np.random.default_rng(0).random((1, rows)).repeat(len(SHARES), axis=0)
    lead = np.random.default_rng(1).normal(0.1, 1.0, rows)
    for share in (6, 7, 8):
        values[share] += lead
    assert chosen_share(values) == chosen
    assert chosen_share(values[:, :1]) == USUAL


def test_the_best_share_is_that_of_the_curve_not_of_a_single_lucky_point():
    assert best_share(np.array([0.0, 5.0, 0.0, 3.0, 4.0, 3.0])) == 4
    assert best_share(np.array([3.0, 2.0, 1.0])) == 0 and best_share(np.array([1.0, 2.0, 3.0])) == 2
    assert best_share(np.ones(5)) == 0


@pytest.fixture(scope="module")
def teacher(shop, tmp_path_factory) -> Run:
    """A finished run, with the weights that it saved."""
    made = run(shop, "LRURec", saved=True, epochs=4, checkpoint_dir=str(tmp_path_factory.mktemp("teacher")))
    made.trainer.load_best(made.trainer.saved_model_file)
    return made


def test_a_head_of_another_run_serves_without_training(shop, teacher):
    served = run(shop, "LRURec", epochs=0, memory_from=teacher.trainer.saved_model_file, saved=True)
    for name, value in teacher.model.memory.shared_weights().items():
        assert torch.equal(served.model.memory.shared_weights()[name], value), name
    assert float(served.model.lru_share) == 0 and not served.model.memory.item_bias.any()
    network = run(shop, "LRURec", fit=False, memory_from=teacher.trainer.saved_model_file, memory_form="network")
    assert torch.equal(network.model.memory.head.exponents, teacher.model.memory.head.exponents)


def test_a_head_that_knew_no_lift_still_teaches_and_scores(shop, teacher, tmp_path):
    """As versions wrote it that did not count how often people come back to an item."""
    content = read_checkpoint(teacher.trainer.saved_model_file)
    for name in ("memory.pairs.lift", "memory.seen.lift_weight"):
        del content["state_dict"][name]
    file = tmp_path / "old.pth"
    write_checkpoint(file, content)
    taught = run(shop, "LRURec", fit=False, memory_from=str(file)).model.memory
    assert torch.equal(taught.seen.by_lag, teacher.model.memory.seen.by_lag) and float(taught.seen.lift_weight) == 0
    served = load_model(network_maker(read_checkpoint(file), file), read_checkpoint(file), file)
    assert not served.memory.pairs.lift.any()
    assert torch.equal(served.memory.head.log_weights, teacher.model.memory.head.log_weights)


def test_a_run_without_a_memory_teaches_none(shop):
    teacher = run(shop, "LRURec", saved=True, epochs=1, item_memory=False)
    with pytest.raises(CheckpointError, match="holds no item memory"):
        run(shop, "LRURec", fit=False, memory_from=teacher.trainer.saved_model_file)


def test_a_run_that_is_not_there_is_told_before_anything_is_trained(shop, tmp_path):
    keys = MEMORY | {"memory_from": str(tmp_path / "nothing"), "data_path": str(shop), "checkpoint_dir": str(tmp_path)}
    with pytest.raises(CheckpointError, match="memory_from: .*nothing: no such file"):
        run_experiment("LRURec", "Target", overrides={key: v for key, v in keys.items() if key != "vq_heads"})
    assert not list(tmp_path.glob("LRURec-*"))


def test_lessons_are_shops_of_several_sizes_each_with_the_counts_of_its_own_users(shop):
    store = next(iter(run(shop, fit=False).train.dataset.sources)).store
    lessons = Lessons(store, "Near", 8, 64, 7, 100, torch.device("cpu"))
    sizes = [int(evidence.pairs.popularity.sum()) for evidence in lessons.evidence]
    assert sizes == sorted(sizes) and sizes[-1] == HistorySplit.leave_one_out(store.lengths).trained.sum()
    batches = [next(lessons) for _ in range(2 * len(sizes))]
    assert [evidence for _, evidence in batches[: len(sizes)]] == lessons.evidence
    again = Lessons(store, "Near", 8, 64, 7, 100, torch.device("cpu"), torch.arange(store.n_items)[:, None])
    histories = np.split(store.items, store.offsets[1:-1])
    for (batch, _), evidence in zip(batches, again.evidence, strict=False):  # texts are those of the same items
        read = evidence.texts[batch.inputs[0][batch.inputs[0] > 0], 0].numpy()
        assert any(np.array_equal(read, history[: len(read)]) for history in histories)
    again.load_state_dict(lessons.state_dict())
    assert torch.equal(next(again)[0].inputs, next(lessons)[0].inputs)
