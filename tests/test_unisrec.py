"""UniSRec's losses and scores on a handful of items, against brute force."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole.data.interaction import Interaction

from recbole_metarec.config import default_values
from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.data.dataset import TARGET_LIST
from recbole_metarec.model.unisrec import UniSRec

MODES = ("text", "text_and_id")
INPUTS = torch.tensor([[3, 1, 4, 1], [5, 9, 2, 0], [6, 0, 0, 0]])
TARGETS = torch.tensor([[0, 4, 1, 5], [9, 2, 6, 0], [5, 0, 0, 0]])  # the first input of row 0 carries no loss


def tiny_unisrec(mode: str = "text_and_id", n_items: int = 12, **given) -> UniSRec:
    """In float64, with weights large enough for every term to count."""
    fields = {"USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "LIST_SUFFIX": "_list", "NEG_PREFIX": "neg_",
              "ITEM_LIST_LENGTH_FIELD": "item_length", "device": torch.device("cpu"), "seed": 1}  # fmt: skip
    sizes = {"embedding_size": 8, "n_layers": 2, "text_width": 6, "adaptor_experts": 3, "MAX_ITEM_LIST_LENGTH": 6}
    config = default_values("UniSRec") | fields | sizes | {"item_vectors": mode} | given
    model = UniSRec(config, SimpleNamespace(num=lambda field: n_items)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
        if mode == "text_and_id":
            model.item_embedding.weight[0] = 0.0
        model.texts[1:].normal_()
    return model.eval()


def rows_of(inputs, **more) -> Interaction:
    return Interaction({"item_id_list": inputs, "item_length": (inputs > 0).sum(dim=1), **more})


def prefixes():
    """RecBole's prefix rows of the batch above: (history, next item)."""
    return [(INPUTS[b, : t + 1], TARGETS[b, t]) for b in range(3) for t in range(4) if TARGETS[b, t] > 0]


def cosines(model, state) -> torch.Tensor:
    """Cosine of a state [d] with every item but padding, one by one, over the temperature."""
    found = []
    for item in range(1, model.n_items):
        vector = model.adaptor(model.texts[item : item + 1])[0]
        if model.item_embedding is not None:
            vector = vector + model.item_embedding.weight[item]
        found.append((state * vector).sum() / state.norm() / vector.norm() / model.temperature)
    return torch.stack(found)


@pytest.mark.parametrize("mode", MODES)
def test_the_loss_of_every_position_at_once_is_that_of_recboles_prefix_rows(mode):
    model = tiny_unisrec(mode)
    by_prefix = []
    for history, item in prefixes():
        state = model.forward(history[None], torch.tensor([len(history)]))[0]
        by_prefix.append(torch.logsumexp(cosines(model, state), 0) - cosines(model, state)[item - 1])
    expected = torch.stack(by_prefix).mean()
    torch.testing.assert_close(model.next_item_loss(SequenceBatch(INPUTS, TARGETS)), expected)
    torch.testing.assert_close(model.calculate_loss(rows_of(INPUTS, **{TARGET_LIST: TARGETS})), expected)
    padded = torch.nn.utils.rnn.pad_sequence([history for history, _ in prefixes()], batch_first=True)
    last = rows_of(padded, item_id=torch.stack([item for _, item in prefixes()]))
    torch.testing.assert_close(model.calculate_loss(last), expected)


@pytest.mark.parametrize("mode", MODES)
def test_scores_are_cosines_over_the_temperature(mode):
    model = tiny_unisrec(mode, score_temperature=0.3)
    with torch.no_grad():
        scores = model.full_sort_predict(rows_of(INPUTS))
        states = model.forward(INPUTS, (INPUTS > 0).sum(dim=1))
        for row in range(3):
            torch.testing.assert_close(scores[row, 1:], cosines(model, states[row]))
        items = torch.tensor([4, 11, 1])
        one = model.predict(rows_of(INPUTS, item_id=items))
    torch.testing.assert_close(one, scores.gather(1, items[:, None])[:, 0])
    assert scores.abs().max() <= 1 / 0.3 + 1e-9


@pytest.mark.parametrize("mode", MODES)
def test_padding_is_never_scored_nor_read(mode):
    model = tiny_unisrec(mode)
    batch = SequenceBatch(INPUTS, TARGETS)
    loss = model.next_item_loss(batch)
    loss.backward()
    if mode == "text_and_id":
        assert not model.item_embedding.weight.grad[0].any() and model.item_embedding.weight.grad[7].any()
    with torch.no_grad():
        scores = model.full_sort_predict(rows_of(INPUTS))
        assert not scores[:, 0].any()
        wider = model.full_sort_predict(rows_of(F.pad(INPUTS, (0, 2))))
        torch.testing.assert_close(wider, scores)
        model.texts[0] = 100.0
        model.eval()
        torch.testing.assert_close(model.full_sort_predict(rows_of(INPUTS)), scores)
    torch.testing.assert_close(model.next_item_loss(batch), loss.detach())


def test_what_is_kept_of_the_catalogue_follows_every_change():
    model, other = tiny_unisrec(), tiny_unisrec()
    with torch.no_grad():
        before = model.full_sort_predict(rows_of(INPUTS))
        assert torch.equal(model.full_sort_predict(rows_of(INPUTS)), before)
        model.load_state_dict(other.state_dict())
        assert torch.equal(model.full_sort_predict(rows_of(INPUTS)), other.full_sort_predict(rows_of(INPUTS)))
        model.set_texts(torch.randn(12, 6).numpy())
        assert not torch.equal(model.full_sort_predict(rows_of(INPUTS)), other.full_sort_predict(rows_of(INPUTS)))
        model.train()
        model.adaptor.whitening.mul_(-1.0)
        model.eval()
        assert torch.equal(model.score(before[:, :8]), F.normalize(before[:, :8], dim=1)
                           @ F.normalize(model.item_vectors(), dim=1).t() / model.temperature)  # fmt: skip


def test_the_inductive_model_has_nothing_of_its_own_for_an_item():
    few, many = tiny_unisrec("text", n_items=12), tiny_unisrec("text", n_items=90)
    assert {n: p.shape for n, p in few.named_parameters()} == {n: p.shape for n, p in many.named_parameters()}
    own = tiny_unisrec("text_and_id").named_parameters()
    assert {name for name, _ in own} - {n for n, _ in few.named_parameters()} == {"item_embedding.weight"}
    # so an item that was never met is scored like the one that has its text
    few.texts[11] = few.texts[4]
    with torch.no_grad():
        scores = few.full_sort_predict(rows_of(INPUTS))
    torch.testing.assert_close(scores[:, 11], scores[:, 4])


def test_pretraining_reads_texts_alone_and_takes_every_other_position_for_a_negative():
    model = tiny_unisrec(contrast_weight=0.0)
    texts, dropped = torch.randn(2, 20, 6, dtype=torch.float64)
    vectors = model.adaptor(texts)
    losses = []
    items = [int(item) for _, item in prefixes()]
    for history, item in prefixes():
        states = model.states(history[None], vectors[history][None])[0, -1]
        logits = F.cosine_similarity(states[None], vectors) / model.temperature
        others = torch.stack([logits[other] for other in items if other != item])
        losses.append(torch.logsumexp(torch.cat([logits[item][None], others]), 0) - logits[item])
    found = model.pretraining_loss(SequenceBatch(INPUTS, TARGETS), texts, dropped)
    torch.testing.assert_close(found, torch.stack(losses).mean())
    shared = model.shared_parameters()
    assert set(shared) == {name for name, _ in model.named_parameters()} - {"item_embedding.weight"}
    found.backward()
    assert all(value.grad is not None for name, value in shared.items() if name != "adaptor.noise")
    assert model.item_embedding.weight.grad is None


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_second_view_lacks_items_or_words(share):
    """With nothing to drop, a view by items is the sequence itself; by words it is read from the other texts."""
    model = tiny_unisrec(contrast_weight=1.0, drop_ratio=0.0, word_drop_share=share, score_temperature=0.5)
    batch, ends = SequenceBatch(INPUTS, TARGETS), [5, 6, 5]
    texts, dropped = torch.randn(2, 20, 6, dtype=torch.float64)
    read = model.adaptor(dropped if share else texts)
    own = model.adaptor(texts)
    rows = [row[row > 0] for row in INPUTS]
    states = [model.states(row[None], own[row][None])[0, -1] for row in rows]
    views = [model.states(row[None], read[row][None])[0, -1] for row in rows]
    losses = []
    for j in range(3):
        logits = {k: F.cosine_similarity(states[j], views[k], dim=0) / 0.5 for k in range(3)}
        kept = [logits[k] for k in range(3) if k == j or ends[k] != ends[j]]
        losses.append(torch.logsumexp(torch.stack(kept), 0) - logits[j])
    found = model.pretraining_loss(batch, texts, dropped)
    model.contrast_weight = 0.0
    torch.testing.assert_close(found - model.pretraining_loss(batch, texts, dropped), torch.stack(losses).mean())


def test_a_frozen_encoder_does_not_move_once_it_was_pretrained():
    model = tiny_unisrec(frozen_encoder=True)
    names = {name for name, _ in model.named_parameters()}
    assert set(model.target_parameters(pretrained=True)) == {n for n in names if not n.startswith("encoder.")}
    assert set(model.target_parameters(pretrained=False)) == names
    assert set(tiny_unisrec().target_parameters(pretrained=True)) == names


def test_histories_step_by_step_give_the_same_state():
    model = tiny_unisrec()
    memory = model.first_memory()
    with torch.no_grad():
        for item in (3, 1, 4, 1, 5, 9, 2, 6):  # two more than the model sees
            state, memory = model.next_memory(memory, item)
        expected = model.forward(torch.tensor([[4, 1, 5, 9, 2, 6]]), torch.tensor([6]))
    torch.testing.assert_close(state, expected)
