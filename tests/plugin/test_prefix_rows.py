"""RecBole's own models on trimmed prefix rows: RecBole's rows, losses, scores and masks, RecBole's loaders beside."""

import copy
import random
from collections import Counter

import numpy as np
import pytest
import torch
from support.item_worlds import OF_MODEL, ONE_LAYER, TRIMMED, named_rows, write_shop_with_kinds
from support.worlds import write_domain

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole.data import create_dataset, data_preparation
from recbole.data.dataset import SequentialDataset
from recbole.data.transform import MaskItemSequence
from recbole.utils import get_model, get_trainer, init_seed

from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.evaluation.ranking import rank_all
from recbole_metarec.plugin.config import recbole_config
from recbole_metarec.plugin.dataset import TransferDataset
from recbole_metarec.plugin.prefix_rows import BatchMask, can_trim, trimmed_loaders

L = 12
SMALL = ONE_LAYER | {"MAX_ITEM_LIST_LENGTH": L}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return write_shop_with_kinds(tmp_path_factory.mktemp("shop"))


def config_of(shop, model, **given):
    values = SMALL | OF_MODEL.get(model, {}) | {"data_path": str(shop)} | given
    return recbole_config(RunConfig.read(model, "Target", (), values))


class Both:
    """A model with random weights, RecBole's own loaders and the trimmed ones over the same data."""

    def __init__(self, shop, model, **given):
        self.config = config_of(shop, model, **given)
        self.whole = create_dataset(self.config)
        assert type(self.whole) is SequentialDataset
        self.train, self.valid, self.test = data_preparation(self.config, self.whole)
        assert can_trim(self.config)
        self.ours = TransferDataset(self.config)
        self.trimmed = trimmed_loaders(self.config, self.ours)
        init_seed(1, True)
        self.model = get_model(model)(self.config, self.train.dataset)
        for weights in self.model.parameters():
            torch.nn.init.normal_(weights, std=0.4)
        self.trainer = get_trainer(self.config["MODEL_TYPE"], model)(self.config, self.model)

    def loss(self, rows) -> torch.Tensor:
        return self.model.eval().calculate_loss(rows)


def widened(rows, width):
    """The same rows as RecBole holds them: histories and masked histories padded to ``width``."""
    whole = copy.copy(rows.interaction)
    for name in ("item_id_list", "Mask_item_id_list"):
        if name in whole:
            whole[name] = torch.nn.functional.pad(whole[name], (0, width - whole[name].shape[1]))
    return type(rows)(whole)


@pytest.mark.parametrize("longest", [4, 50])
def test_training_rows_are_recboles(shop, longest):
    both = Both(shop, "SASRec", MAX_ITEM_LIST_LENGTH=longest)
    ours, theirs = named_rows(both.trimmed[0]), named_rows(both.train)
    assert ours == theirs and sum(ours.values()) > 300
    assert both.ours.num("item_id") == both.whole.num("item_id")
    assert len(both.trimmed[0]) == pytest.approx(len(both.train), abs=1)


def test_rows_without_loss_stay_out_of_bert4rec_and_its_steps_stay(shop):
    both = Both(shop, "BERT4Rec")
    expected = Counter({row: n for row, n in named_rows(both.train).items() if len(row[1]) > 1})
    assert named_rows(both.trimmed[0]) == expected
    assert len(both.trimmed[0]) == pytest.approx(len(both.train), abs=1)
    one_event = both.train._dataset.inter_feat["item_length"] == 1
    rows = both.train.transform(both.whole, both.train._dataset.inter_feat[one_event])
    assert len(rows) > 10 and torch.isnan(both.loss(rows)), "RecBole counts a loss at position 0: keep these rows"


def test_batches_hold_rows_of_like_length_and_no_column_of_padding(shop):
    loader = Both(shop, "SASRec").trimmed[0]
    batches = list(loader)
    for batch in batches:
        assert batch["item_id_list"].shape[1] == int(batch["item_length"].max()) <= L
        assert torch.equal((batch["item_id_list"] > 0).sum(dim=1), batch["item_length"])
    assert len({batch["item_id_list"].shape[1] for batch in batches}) > 3


def members(loader) -> list[frozenset]:
    return [
        frozenset(zip(batch["user_id"].tolist(), map(tuple, batch["item_id_list"].tolist()), strict=True))
        for batch in loader
    ]


@pytest.mark.parametrize("model", ["SASRec", "BERT4Rec"])
def test_epochs_differ_and_a_seed_repeats_them(shop, model):
    both = Both(shop, model)
    first, second = (list(both.trimmed[0]) for _ in range(2))
    assert set(members(first)) != set(members(second)), "membership"
    assert [len(b["item_id_list"][0]) for b in first] != [len(b["item_id_list"][0]) for b in second], "order"
    again = Both(shop, model).trimmed[0]
    again.epoch = 1
    for batch, expected in zip(again, second, strict=True):
        assert all(torch.equal(batch[name], expected[name]) for name in expected.columns)
    other = Both(shop, model, seed=8).trimmed[0]
    assert members(other) != members(first)


@pytest.mark.parametrize("model", TRIMMED)
def test_losses_are_those_of_recboles_full_width_rows(shop, model):
    stage = {"train_stage": "pretrain"} if model == "S3Rec" else {}
    both = Both(shop, model, **stage)
    both.model.train_stage, both.model.loss_fct = "finetune", torch.nn.CrossEntropyLoss()
    for batch in both.trimmed[0]:
        for rows in (batch, *(batch[torch.tensor([k])] for k in range(3))):
            if "MASK_INDEX" in rows and not (rows["MASK_INDEX"] > 0).any():
                continue
            torch.testing.assert_close(both.loss(rows), both.loss(widened(rows, L)), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "FDSA", "S3Rec"])
def test_gradients_of_an_epoch_are_recboles(shop, model):
    """Summed over all rows, whatever the batches: both loaders train on the same thing."""
    both = Both(shop, model)
    both.model.double()
    both.model.train_stage, both.model.loss_fct = "finetune", torch.nn.CrossEntropyLoss()
    found = []
    for loader in (both.train, both.trimmed[0]):
        both.model.zero_grad()
        for batch in loader:
            (both.loss(batch) * len(batch)).backward()
        found.append({name: p.grad.clone() for name, p in both.model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("model", TRIMMED)
def test_evaluation_finds_the_same_metrics_and_ranks(shop, model):
    both = Both(shop, model)
    for theirs, ours in ((both.valid, both.trimmed[1]), (both.test, both.trimmed[2])):
        expected = both.trainer.evaluate(theirs, load_best_model=False)
        assert both.trainer.evaluate(ours, load_best_model=False) == expected
        assert 0 < expected["ndcg@10"] < 1
        ranks = rank_all(both.model, ours, torch.device("cpu"))
        whole = rank_all(both.model, theirs, torch.device("cpu"))
        assert len(set(ranks)) > 5
        by_user = [
            dict(zip(data.id2token("user_id", part._dataset.inter_feat["user_id"]), found, strict=True))
            for data, part, found in ((both.ours, ours, ranks), (both.whole, theirs, whole))
        ]
        assert by_user[0] == by_user[1]


def test_rows_in_file_order_are_masked_anew_in_every_epoch(shop):
    loader = Both(shop, "BERT4Rec", shuffle=False).trimmed[0]
    first, second = (list(loader) for _ in range(2))
    assert all(torch.equal(a["item_id_list"], b["item_id_list"]) for a, b in zip(first, second, strict=True))
    assert any(a["Mask_item_id_list"].tolist() != b["Mask_item_id_list"].tolist() for a, b in zip(first, second))


# --- BERT4Rec's mask -----------------------------------------------------------------------------------------------


def masked_rows(both, rows, ours: bool, draws: int):
    """Rows as drawn by our mask or by RecBole's, the latter on rows as wide as they come."""
    mask = BatchMask(both.config) if ours else MaskItemSequence(both.config)
    stream = np.random.default_rng(3)
    random.seed(3)
    for _ in range(draws):
        fresh = copy.deepcopy(rows)
        yield mask.drawn(both.ours, fresh, stream) if ours else mask(both.whole, fresh)


def test_slots_come_from_the_longest_history_not_from_the_batch(shop):
    """0.5 of L = 12 are six slots; a batch of eight columns could have at most four by its own width."""
    both = Both(shop, "BERT4Rec", mask_ratio=0.5, ft_ratio=0.0)
    assert both.model.mask_item_length == 6
    (rows,) = [b for b in both.trimmed[0] if b["item_id_list"].shape[1] == 8][:1]
    found = max(batch["MASK_INDEX"].shape[1] for batch in masked_rows(both, rows, ours=True, draws=30))
    assert found == 6


@pytest.mark.parametrize("ft_ratio", [0.0, 1.0])
def test_a_mask_is_built_as_recbole_builds_it(shop, ft_ratio):
    """Slot for slot: RecBole's rule, read off the masked sequence, gives the slots that were drawn."""
    both = Both(shop, "BERT4Rec", mask_ratio=0.5, ft_ratio=ft_ratio)
    token, slots, over = both.ours.num("item_id"), 6, 0
    for batch in both.trimmed[0]:
        used = batch["MASK_INDEX"].shape[1]
        columns = zip(*(batch[key].tolist() for key in (
            "item_id_list", "Mask_item_id_list", "MASK_INDEX", "Pos_item_id", "item_length")), strict=True)  # fmt: skip
        for items, masked, index, positives, length in columns:
            at = [k for k, item in enumerate(masked) if item == token]
            assert all(masked[k] == items[k] for k in range(len(items)) if k not in at) and all(k < length for k in at)
            over += len(at) > slots
            expected = at[-slots:]
            assert index == [0] * (used - len(expected)) + expected
            assert positives == [0] * (used - len(expected)) + [items[k] for k in expected]
            assert ft_ratio == 0.0 or at == [length - 1]
        assert used <= slots and (batch["Pos_item_id"] > 0).any(dim=0).all(), "a slot that nobody uses"
    assert ft_ratio == 1.0 or over > 3


def test_masks_are_as_frequent_as_recboles(shop):
    """How often each position is masked and predicted, against RecBole's own transform on the same rows."""
    both = Both(shop, "BERT4Rec", mask_ratio=0.5, ft_ratio=0.4)
    rows = max(both.trimmed[0], key=lambda batch: batch["item_id_list"].shape[1])
    token, draws, found = both.ours.num("item_id"), 400, []
    for ours in (True, False):
        masked, predicted = torch.zeros(L), torch.zeros(L)
        for batch in masked_rows(both, rows, ours, draws):
            masked += (batch["Mask_item_id_list"] == token).float().sum(dim=0)
            predicted += torch.bincount(batch["MASK_INDEX"].flatten(), minlength=L)[:L]
        # position 0 is also what an empty slot holds
        found.append(torch.stack([masked, predicted])[:, 1:] / (draws * len(rows)))
    # a batch is one draw of the mode, so a frequency near p has about the deviation sqrt(p (1 - p) / draws) at most
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=5 * float(np.sqrt(2 * 0.25 / draws)))


def test_the_slots_left_out_carry_no_loss(shop):
    both = Both(shop, "BERT4Rec", mask_ratio=0.5)
    for batch in both.trimmed[0]:
        padded = widened(batch, L)
        for name in ("MASK_INDEX", "Pos_item_id", "Neg_item_id"):
            missing = both.model.mask_item_length - batch[name].shape[1]
            padded.interaction[name] = torch.nn.functional.pad(batch[name], (missing, 0))
        torch.testing.assert_close(both.loss(batch), both.loss(padded), rtol=2e-6, atol=2e-6)


def test_what_bert4rec_cannot_train_on_is_said(shop, tmp_path):
    config = config_of(shop, "BERT4Rec", mask_ratio=0.05)
    with pytest.raises(ConfigError, match="mask_ratio"):
        trimmed_loaders(config, TransferDataset(config))
    write_domain(tmp_path, "Target", [[1, 2, 3, 4], [2, 3, 4, 1]])
    config = config_of(tmp_path, "BERT4Rec", topk=[3], valid_metric="NDCG@3")
    with pytest.raises(DataError, match="BERT4Rec"):
        trimmed_loaders(config, TransferDataset(config))


@pytest.mark.parametrize("model, given", [("STAMP", {}), ("SASRec", {"transform": "crop_itemseq"}),
                                          ("SASRec", {"worker": 1})])  # fmt: skip
def test_anything_else_is_left_to_recbole(shop, model, given):
    assert not can_trim(config_of(shop, model, **given))
