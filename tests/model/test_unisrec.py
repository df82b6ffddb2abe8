"""UniSRec's losses and scores on a handful of items, against brute force."""

from types import SimpleNamespace

import pytest
import torch
from support.tiny import FIELDS, tiny_unisrec
from torch.nn import functional as F

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import SASRec

from recbole_metarec.data.batches import TARGET_LIST, SequenceBatch

MODES = ("text", "text_and_id")
INPUTS = torch.tensor([[3, 1, 4, 1], [5, 9, 2, 0], [6, 0, 0, 0]])
TARGETS = torch.tensor([[0, 4, 1, 5], [9, 2, 6, 0], [5, 0, 0, 0]])  # the first input of row 0 carries no loss


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
        model.full_sort_predict(rows_of(INPUTS))
        model.float()
        assert torch.equal(model.catalogue()[0], model.item_vectors())
        model.double()
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


def random_texts() -> tuple[torch.Tensor, torch.Tensor]:
    """Texts of 20 source items, as they are and without some words; item 2 has none."""
    texts, dropped = torch.randn(2, 20, 6, dtype=torch.float64)
    texts[2] = dropped[2] = 0.0
    return texts, dropped


def read_by_hand(model, texts) -> torch.Tensor:
    """Vectors [n, d] of source items; one without text has none."""
    return model.adaptor(texts) * torch.tensor([[float(text.abs().sum() > 0)] for text in texts])


def sequence_item_by_hand(model, texts) -> torch.Tensor:
    vectors, losses = read_by_hand(model, texts), []
    rows = [(history, item) for history, item in prefixes() if texts[item].any()]
    for history, item in rows:
        states = model.states(history[None], vectors[history][None])[0, -1]
        logits = F.cosine_similarity(states[None], vectors) / model.temperature
        others = torch.stack([logits[other] for _, other in rows if other != item])
        losses.append(torch.logsumexp(torch.cat([logits[item][None], others]), 0) - logits[item])
    return torch.stack(losses).mean()


def sequence_sequence_by_hand(model, own, views) -> torch.Tensor:
    """own, views: (history, vectors of all items) of each row. Rows 0 and 2 lead to one item."""
    states, others = (
        [model.states(row[None], vectors[row][None])[0, -1] for row, vectors in side] for side in (own, views)
    )
    losses, ends = [], [5, 6, 5]
    for j in range(3):
        logits = {k: F.cosine_similarity(states[j], others[k], dim=0) / model.temperature for k in range(3)}
        kept = [logits[k] for k in range(3) if k == j or ends[k] != ends[j]]
        losses.append(torch.logsumexp(torch.stack(kept), 0) - logits[j])
    return torch.stack(losses).mean()


def assert_same_with_gradients(model, found, expected):
    """Two losses and their gradients by every shared parameter."""
    torch.testing.assert_close(found, expected)
    shared = {name: value for name, value in model.shared_parameters().items() if name != "adaptor.noise"}
    mine, its = (torch.autograd.grad(loss, list(shared.values())) for loss in (found, expected))
    for name, one, other in zip(shared, mine, its, strict=True):
        assert other.any(), name
        torch.testing.assert_close(one, other, msg=lambda text, name=name: f"{name}: {text}")


def test_pretraining_reads_texts_alone_and_takes_every_other_position_for_a_negative():
    """Item 2 is read and is an answer, but has no text: it is neither predicted nor a negative."""
    model = tiny_unisrec(contrast_weight=0.0)
    texts, dropped = random_texts()
    found = model.pretraining_loss(SequenceBatch(INPUTS, TARGETS), texts, dropped)
    assert_same_with_gradients(model, found, sequence_item_by_hand(model, texts))
    assert set(model.shared_parameters()) == {n for n, _ in model.named_parameters()} - {"item_embedding.weight"}
    model.pretraining_loss(SequenceBatch(INPUTS, TARGETS), texts, dropped).backward()
    assert model.item_embedding.weight.grad is None


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_second_view_lacks_items_or_words(share):
    """With nothing to drop, a view by items is the sequence itself; by words it is read from the other texts."""
    how = {"drop_ratio": 0.0, "word_drop_share": share}
    model = tiny_unisrec(contrast_weight=0.37, score_temperature=0.5, **how)
    texts, dropped = random_texts()
    own, read = read_by_hand(model, texts), read_by_hand(model, dropped if share else texts)
    rows = [row[row > 0] for row in INPUTS]
    second = sequence_sequence_by_hand(model, [(row, own) for row in rows], [(row, read) for row in rows])
    found = model.pretraining_loss(SequenceBatch(INPUTS, TARGETS), texts, dropped)
    assert_same_with_gradients(model, found, sequence_item_by_hand(model, texts) + 0.37 * second)


@pytest.mark.parametrize("seed", range(4))
def test_what_the_second_view_lacks_is_drawn(seed):
    """The masks by hand: which rows lack words, then which events the others lack, never their last."""
    model = tiny_unisrec(contrast_weight=0.37, score_temperature=0.5, drop_ratio=0.5, word_drop_share=0.5)
    texts, dropped = random_texts()
    own, read = read_by_hand(model, texts), read_by_hand(model, dropped)
    torch.manual_seed(seed)
    by_words, stays = torch.rand(3) < 0.5, torch.rand(3, 4) >= 0.5
    rows, views = [row[row > 0] for row in INPUTS], []
    for row, words, kept in zip(rows, by_words.tolist(), stays.tolist(), strict=True):
        left = [item for t, item in enumerate(row.tolist()) if kept[t] or t == len(row) - 1]
        views.append((row, read) if words else (torch.tensor(left), own))
    second = sequence_sequence_by_hand(model, [(row, own) for row in rows], views)
    torch.manual_seed(seed)
    found = model.pretraining_loss(SequenceBatch(INPUTS, TARGETS), texts, dropped)
    assert_same_with_gradients(model, found, sequence_item_by_hand(model, texts) + 0.37 * second)


@pytest.mark.parametrize("mode", MODES)
def test_an_item_without_text_moves_the_adaptor_no_more_than_the_others(mode):
    """The adaptor's shift starts at zero, where a zero text would have a vector without direction."""
    batch = SequenceBatch(INPUTS, TARGETS)
    texts, dropped = random_texts()
    for shift in (0.0, 1e-7):
        model = tiny_unisrec(mode, contrast_weight=1.0)
        with torch.no_grad():
            model.adaptor.shift.fill_(shift)
            model.texts[2] = 0.0
        largest = []
        for loss in (model.next_item_loss(batch), model.pretraining_loss(batch, texts, dropped)):
            gradients = torch.autograd.grad(loss, [*model.adaptor.parameters()], allow_unused=True)
            largest.append(max(float(own.abs().max()) for own in gradients if own is not None))
        assert 0.0 < max(largest) < 100.0
    assert not model.item_vectors()[2].any() or mode == "text_and_id"
    texts[1:] = 0.0
    with torch.no_grad():
        assert model.pretraining_loss(batch, texts, dropped) >= 0.0, "finite where nothing can be predicted"


def in_training(model, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(item vectors, states of given vectors) as one seed draws them. A mixture of one has no noisy gate."""
    model.train()
    torch.manual_seed(seed)
    vectors = torch.linspace(-1, 1, 3 * 4 * 8, dtype=torch.float64).view(3, 4, 8)
    return model.item_vectors(), model.states(INPUTS, vectors)


def test_each_dropout_has_its_key():
    none = tiny_unisrec(adaptor_experts=1, adaptor_dropout_prob=0.0, dropout_prob=0.0)
    texts = tiny_unisrec(adaptor_experts=1, adaptor_dropout_prob=0.5, dropout_prob=0.0)
    layers = tiny_unisrec(adaptor_experts=1, adaptor_dropout_prob=0.0, dropout_prob=0.5)
    for model, moves in ((none, (False, False)), (texts, (True, False)), (layers, (False, True))):
        one, other = in_training(model, 1), in_training(model, 2)
        assert [not torch.equal(a, b) for a, b in zip(one, other, strict=True)] == list(moves)


@pytest.mark.parametrize("training", [False, True])
def test_the_encoder_is_that_of_recboles_sasrec(training):
    """With the same weights, and while training with the same dropout masks."""
    config = {"hidden_size": 8, "inner_size": 32, "hidden_dropout_prob": 0.3, "attn_dropout_prob": 0.3,
              "hidden_act": "gelu", "layer_norm_eps": 1e-12, "initializer_range": 0.02, "loss_type": "CE"}  # fmt: skip
    model = tiny_unisrec(n_heads=2, dropout_prob=0.3)
    theirs = SASRec(FIELDS | config | {"n_layers": 2, "n_heads": 2}, SimpleNamespace(num=lambda field: 12)).double()
    names = {"position.": "position_embedding.", "norm.": "LayerNorm.", "layers.": "trm_encoder."}
    weights = {"item_embedding.weight": theirs.item_embedding.weight}
    for name, value in model.encoder.state_dict().items():
        ours = next(start for start in names if name.startswith(start))
        weights[names[ours] + name.removeprefix(ours)] = value
    theirs.load_state_dict(weights)
    model.train(training), theirs.train(training)
    torch.manual_seed(5)
    expected = theirs.forward(INPUTS, (INPUTS > 0).sum(dim=1))
    torch.manual_seed(5)
    states = model.states(INPUTS, theirs.item_embedding(INPUTS))
    torch.testing.assert_close(states[torch.arange(3), (INPUTS > 0).sum(dim=1) - 1], expected)


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
        whole, remembered = model.memory_of([3, 1, 4, 1, 5, 9, 2, 6])
    torch.testing.assert_close(state, expected)
    assert torch.equal(whole, expected) and torch.equal(remembered[0], memory[0])
