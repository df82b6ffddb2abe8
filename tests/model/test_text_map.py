"""Item texts beside item vectors: losses against loops, what is aligned, and that the deployed model needs no text."""

import functools
import shutil

import numpy as np
import pytest
import torch
from support.text_worlds import cluster_texts, write_text_shop
from support.tiny import trial_update
from support.worlds import TINY, Run, check_exact_resume, equal, write_items
from torch.nn import functional as F

# isort: split
import recbole.quick_start

from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.errors import CheckpointError
from recbole_metarec.model.metarec_network import SourceItems
from recbole_metarec.model.quantizer import nearest_codes
from recbole_metarec.serve import Recommender
from recbole_metarec.trainer.checkpoint import read_checkpoint

ALIGNED = {**TINY, "text_alignment": True, "text_width": 8, "sources": ["Near", "Bare"]}
BATCH = SequenceBatch(torch.tensor([[3, 1, 4], [5, 9, 0]]), torch.tensor([[1, 4, 1], [9, 2, 0]]))


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return write_text_shop(tmp_path_factory.mktemp("domains"))


def run(shop, model="MetaRec", saved=False, fit=True, **given) -> Run:
    keys = {key: value for key, value in (ALIGNED | given).items()}
    if model == "LRURec":
        keys = {key: value for key, value in keys.items() if key not in ("vq_heads", "sources")}
    made = Run(shop, model=model, **keys)
    return made.fit(saved=saved) if fit else made


@pytest.fixture(scope="module")
def model(shop):
    """Untrained, in float64, with texts that count as much as the items' own vectors."""
    made = run(shop, fit=False)
    made.trainer._set_up(made.train)
    found = made.model.double().eval()
    with torch.no_grad():
        found.item_embedding.weight[1:].normal_()
        found.text_map.weight.normal_()
        found.text_map.texts[1:].normal_()
    return found


def parameters(model) -> dict:
    return dict(model.named_parameters())


def by_hand(model, table, targets_table, bias, batch=BATCH) -> torch.Tensor:
    """Mean cross-entropy, position by position, of items whose vectors are the rows of two tables."""
    losses = []
    states = model.encode(parameters(model), table[batch.inputs], None, False)
    for row, position in (batch.targets > 0).nonzero().tolist():
        scores = states[row, position] @ targets_table[1:].T + bias[1:]
        losses.append(torch.logsumexp(scores, 0) - scores[batch.targets[row, position] - 1])
    return torch.stack(losses).mean()


def test_the_targets_loss_reads_and_scores_the_sum_of_both(model):
    table = torch.stack(
        [model.item_embedding.weight[i] + model.text_map.texts[i] @ model.text_map.weight for i in range(model.n_items)]
    )
    expected = by_hand(model, table, table, model.item_bias)
    loss = model.target_loss(parameters(model), BATCH)
    torch.testing.assert_close(loss, expected)
    ours, hand = (torch.autograd.grad(value, list(model.parameters())) for value in (loss, expected))
    for one, other in zip(ours, hand, strict=True):
        torch.testing.assert_close(one, other)
    assert not table[0].any()


def test_a_sources_loss_moves_the_map_that_it_shares_with_the_target(model):
    torch.manual_seed(0)
    table = F.pad(torch.randn(11, 8, dtype=torch.float64), (0, 0, 1, 0)).requires_grad_()
    texts = F.pad(torch.randn(11, 8, dtype=torch.float64), (0, 0, 1, 0))
    source = SourceItems(table, torch.randn(12, dtype=torch.float64), None, texts)
    heads, model.vq_heads = model.vq_heads, 0
    try:
        loss = model.source_loss(parameters(model), source, BATCH)
        whole = table + texts @ model.text_map.weight
        expected = by_hand(model, whole, whole, source.bias)
        torch.testing.assert_close(loss, expected)
        wanted = [table, model.text_map.weight]
        for one, other in zip(torch.autograd.grad(loss, wanted), torch.autograd.grad(expected, wanted), strict=True):
            torch.testing.assert_close(one, other)
            assert one.abs().max() > 1e-6
    finally:
        model.vq_heads = heads


def test_at_the_start_an_item_is_read_as_the_target_item_of_the_same_text(shop):
    """Vectors of its own are small then: what decides is the text, which no id could tell."""
    made = run(shop, fit=False, text_width=24, embedding_size=32, vq_heads=1)
    made.trainer._set_up(made.train)
    weights, side = parameters(made.model), next(iter(made.trainer.sources))
    side.items.texts[1:] = made.model.text_map.texts[torch.arange(1, len(side.items.texts)) % 24 + 1]
    codes = nearest_codes(made.model.source_table(weights, side.items)[1:], made.model.item_table(weights), 1)
    meant, found = made.model.text_map.texts[torch.arange(1, 29) % 24 + 1], made.model.text_map.texts[codes[:, 0]]
    assert (F.cosine_similarity(meant, found) > 0.99).float().mean() > 0.8


def test_a_source_that_moves_nothing_leaves_the_model_without_sources(shop):
    """With alpha = 0 a source reaches the target through the texts' space alone, which is the target's own; with a
    space of all domains it does reach it."""
    kept = {"epochs": 2, "dropout_prob": 0.0, "text_dropout_prob": 0.0}
    alone = run(shop, "LRURec", **kept)
    own, shared = (
        run(shop, sources=["Near"], inner_learning_rate=0.0, transfer_guard=False, text_space=space, **kept)
        for space in ("target", "all")
    )
    weights = parameters(alone.model)
    for name, value in weights.items():
        torch.testing.assert_close(parameters(own.model)[name], value, rtol=1e-4, atol=1e-6)
    gaps = [(parameters(shared.model)[name] - value).abs().max() for name, value in weights.items()]
    assert max(gaps) > 1e-3


def test_a_source_without_texts_takes_part_by_its_events(shop, caplog):
    made = run(shop, epochs=1)
    assert made.trainer.sources.names == ["Near", "Bare"]
    near, bare = made.trainer.sources
    assert near.items.texts[1:].any() and not bare.items.texts.any()
    assert any("Bare is aligned by its events alone" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("model", ["LRURec", "MetaRec"])
def test_what_is_saved_is_a_model_without_text_that_scores_the_same(shop, model):
    made = run(shop, model, saved=True, epochs=2)
    file = made.trainer.saved_model_file
    content = read_checkpoint(file)
    assert set(content["state_dict"]) == set(run(shop, model, text_alignment=False, epochs=0).model.state_dict())
    made.trainer.load_best(file)
    with torch.no_grad():
        rows = next(iter(made.test))[0]
        expected = made.model.full_sort_predict(rows)
        config, bare, *_ = recbole.quick_start.load_data_and_model(file)
        assert config["text_alignment"] is False and bare.text_map is None
        torch.testing.assert_close(bare.eval().full_sort_predict(rows), expected)
    length = int(rows["item_length"][0])
    recommender, history = Recommender.load(file), [made.trainer._items[i] for i in rows["item_id_list"][0, :length]]
    best = [name for name, _ in recommender.recommend(history, k=5, include_seen=True)]
    assert best == [made.trainer._items[i] for i in (expected[0, 1:].topk(5).indices + 1).tolist()]


@pytest.mark.parametrize("given", [{}, {"meta_transfer": "none"}, {"source_negatives": 6, "second_order": True}])
def test_a_resumed_run_equals_the_uninterrupted_one_to_the_bit(shop, given):
    whole = run(shop, saved=True, epochs=4, **given)
    check_exact_resume(whole, functools.partial(run, shop, **given))


def test_without_sources_metarec_is_lrurec_with_texts_to_the_bit(shop):
    assert equal(run(shop, sources="none").weights(), run(shop, "LRURec").weights())
    assert not np.array_equal(run(shop, "LRURec").best_score, run(shop, "LRURec", text_alignment=False).best_score)


@pytest.mark.parametrize("given", [{}, {"meta_transfer": "none"}])
def test_a_run_is_not_resumed_in_another_space_of_texts(shop, given, tmp_path):
    first = run(shop, saved=True, epochs=1, **given)
    shutil.copytree(shop, tmp_path / "shop")
    write_items(tmp_path / "shop", "Target", cluster_texts(9, 24, 3))
    rest = run(tmp_path / "shop", fit=False, epochs=2, **given)
    rest.trainer.resume_checkpoint(first.trainer.saved_model_file)
    with pytest.raises(CheckpointError, match="text_vectors is"):
        rest.fit(saved=True)


def test_a_trial_moves_an_item_by_its_text_as_far_as_by_its_own_vector(shop):
    """For a loss that is linear in one item's vector, whose text is the only one of its kind."""
    made = run(shop, fit=False)
    made.trainer._set_up(made.train)
    weights, direction = parameters(made.model), torch.randn(made.model.item_embedding.weight.shape[1])
    texts = made.model.text_map.texts
    assert texts[3].square().sum() == pytest.approx(texts.shape[1], rel=1e-4)

    def loss(phi):
        return (made.model.item_table(phi)[3] * direction).sum()

    trial = trial_update(weights, [loss], (), made.trainer.transfer_state.log_rates, second_order=False)
    own = trial.moved["item_embedding.weight"][3]
    torch.testing.assert_close(texts[3] @ trial.moved["text_map.weight"], own)
    torch.testing.assert_close(own, made.config["inner_learning_rate"] * direction)
