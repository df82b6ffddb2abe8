"""A target read by column against RecBole's own reading: whatever a user of RecBole can see of it is the same."""

import copy
import random

import numpy as np
import pandas as pd
import pytest
import torch

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole.data.dataset import Dataset, SequentialDataset

from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.errors import DataError
from recbole_metarec.plugin.config import recbole_config
from recbole_metarec.plugin.dataset import TransferDataset
from recbole_metarec.plugin.held_out_rows import HeldOutRows

INTER = "user_id:token\titem_id:token\ttimestamp:float\trating:float\tshop:token\tfriend:token\twords:token_seq\n"
THREE = {"inter": ["user_id", "item_id", "timestamp"]}
ALL = {"inter": [*THREE["inter"], "rating", "shop", "friend", "words"]}
WITH_ITEMS = {**ALL, "item": ["item_id", "price", "brand"], "user": ["user_id", "age"]}


class ReadByRecBole(TransferDataset):
    """Filled, filtered and numbered by RecBole's own code, which goes through pandas token by token."""

    _load_feat, _filter_by_inter_num, _remap = Dataset._load_feat, Dataset._filter_by_inter_num, Dataset._remap


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    (folder / "World").mkdir()
    (folder / "World" / "World.inter").write_text(INTER + "u\ti\t1\t1\ta\tv\t\n")
    values = {"data_path": str(folder), "state": "ERROR", "device": "cpu", "MAX_ITEM_LIST_LENGTH": 4, "topk": [1]}
    return recbole_config(RunConfig.read("LRURec", "World", (), {**values, "valid_metric": "NDCG@1"}))


def config_for(base, folder, **given):
    config = copy.copy(base)
    config.final_config_dict = {**base.final_config_dict, "data_path": str(folder), "load_col": THREE, **given}
    return config


def write(tmp_path, seed: int):
    """Events in no order, with repeated rows, equal times and names that other readers would quote or take for numbers;
    every user and item with events has a line of its own."""
    rng = random.Random(seed)
    users = rng.sample(["u", "ü", "0", "00", "a user", "it's", "1.0", "e1", "[PAD]", "u u", "v"], 9)
    items = rng.sample(["i", "i i", "i'i", "#", "5", "05", "名前", "item\\n", "I", "nan?", "1e5"], 9)
    some = lambda names: rng.choices(names, weights=range(1, 10))  # noqa: E731, so that filters find rare ones
    rows = [
        [*some(users), *some(items), str(1_500_000_000 + 100 * rng.randrange(40)), rng.choice("12345"),
         rng.choice(["a", "b", "", "null"]), rng.choice(users), rng.choice(["", "red", "red hat"])]
        for _ in range(160)
    ]  # fmt: skip
    rows += rng.sample(rows, 4)
    folder = tmp_path / "World"
    folder.mkdir(exist_ok=True)
    (folder / "World.inter").write_text(INTER + "".join("\t".join(row) + "\n" for row in rows))
    for kind, header, names in (("item", "price:float\tbrand:token", items), ("user", "age:float\tsex:token", users)):
        met = {row[kind == "item"] for row in rows}
        lines = [f"{name}\t{rng.choice(['', '1', '2.5'])}\t{rng.choice('xy')}\n" for name in names if name in met]
        rng.shuffle(lines)
        (folder / f"World.{kind}").write_text(f"{kind}_id:token\t{header}\n" + "".join(lines))
    return folder


COUNTS = {"user_inter_num_interval": "[8,inf)", "item_inter_num_interval": "[10,inf)"}
FEWER = {"item_inter_num_interval": "[5,inf)"}
ASKED = {
    "nothing": {},
    "core": COUNTS,
    "several intervals": {"item_inter_num_interval": "(2,8];[10,20)"},
    "an interval that RecBole passes over": {"user_inter_num_interval": "5,inf"},
    "values": {"load_col": ALL, "val_interval": {"rating": "[2,5]", "shop": ["a", "b"]}, **FEWER},
    "names": {"val_interval": {"item_id": ["i", "5", "05", "#", "名前", "I"]}, **FEWER},
    "repeated events": {"rm_dup_inter": "first", **FEWER},
    "their last": {"rm_dup_inter": "last"},
    "all columns": {"load_col": ALL},
    "labels": {"load_col": ALL, "threshold": {"rating": 3}},
    "squeezed": {"load_col": ALL, "normalize_field": ["rating"]},
    "left out": {"load_col": None, "unload_col": {"inter": ["words", "shop", "friend"]}},
    "an alias": {"load_col": ALL, "alias_of_user_id": ["friend"], "user_inter_num_interval": "[9,inf)"},
    "lines of users and items": {"load_col": WITH_ITEMS, **COUNTS},
    "values of lines": {
        "load_col": WITH_ITEMS,
        "val_interval": {"price": "[1,3]"},
        "item_inter_num_interval": "[2,90)",
    },
}
WHOLE = ("nothing", "an interval that RecBole passes over", "all columns", "labels", "squeezed", "left out")


def same_interaction(ours, theirs):
    assert list(ours.columns) == list(theirs.columns) and len(ours) == len(theirs)
    for name in theirs.columns:
        assert ours[name].dtype == theirs[name].dtype
        assert torch.equal(ours[name], theirs[name]), name


def same_frame(ours, theirs):
    assert list(ours) == list(theirs)
    for name in theirs:
        assert ours[name].dtype == theirs[name].dtype
        for one, other in zip(ours[name], theirs[name], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("asked", ASKED)
def test_a_target_read_by_column_is_the_one_that_recbole_reads(asked, seed, base, tmp_path):
    config = config_for(base, write(tmp_path, seed), **ASKED[asked])
    ours, theirs = TransferDataset(config), ReadByRecBole(config)
    for part in ("inter_feat", "user_feat", "item_feat"):
        if getattr(theirs, part) is None:
            assert getattr(ours, part) is None
        else:
            same_frame(getattr(ours, part), getattr(theirs, part))
    assert (len(ours.inter_feat) < 164) == (asked not in WHOLE), "or the filters had nothing to do"
    for noted in ("field2type", "field2source", "field2seqlen", "field2bucketnum"):
        assert getattr(ours, noted) == getattr(theirs, noted), noted
    assert ours.field2id_token.keys() == theirs.field2id_token.keys()
    for field, names in theirs.field2id_token.items():
        assert ours.field2id_token[field].dtype == names.dtype and ours.field2id_token[field].tolist() == names.tolist()
        assert ours.field2token_id[field] == theirs.field2token_id[field]
        some = names[1:4].tolist()
        assert ours.token2id(field, some).tolist() == theirs.token2id(field, some).tolist()
        with pytest.raises(ValueError, match="is not existed"):
            ours.token2id(field, "nobody")
    assert str(ours) == str(theirs) and ours.user_counter == theirs.user_counter
    parts = zip(ours.build(), ReadByRecBole(config).build(), strict=True)
    for one, other in parts:
        same_interaction(one.inter_feat, other.inter_feat)


def test_it_is_read_by_column(base, tmp_path, monkeypatch):
    """Names stand in categories until they are numbered, and RecBole's loops over all of them are not entered."""
    seen = []
    monkeypatch.setattr(TransferDataset, "_filter_by_field_value", lambda self: seen.append(self.inter_feat.dtypes))
    for loop in ("_remap", "_filter_by_inter_num"):
        monkeypatch.setattr(SequentialDataset, loop, lambda *_: pytest.fail("token by token"))
    TransferDataset(config_for(base, write(tmp_path, 0), **COUNTS))
    assert all(isinstance(seen[0][field], pd.CategoricalDtype) for field in ("user_id", "item_id"))


def test_where_nothing_is_left_it_is_told(base, tmp_path):
    with pytest.raises(DataError, match="Some feat is empty"):
        TransferDataset(config_for(base, write(tmp_path, 0), user_inter_num_interval="[99,inf)"))


class TestHeldOutRows:
    @pytest.fixture
    def both(self, base, tmp_path):
        """Twice the same validation rows: with nothing gathered so far, and as RecBole's class holds them."""
        make = lambda: TransferDataset(config_for(base, write(tmp_path, 1))).build()[1].inter_feat  # noqa: E731
        rows = make()
        return rows, type(rows).__base__(make().interaction)

    @pytest.mark.parametrize(
        "index", [0, -1, 3, slice(2, 5), [4, 1, 1], np.array([2, 0]), torch.tensor([1, 3])], ids=str
    )
    def test_some_rows_are_gathered_alone(self, index, both):
        rows, whole = both
        same = rows[index], whole[index]
        assert "interaction" not in vars(rows), "not all were gathered"
        assert same[0].columns == same[1].columns
        assert all(torch.equal(same[0][name], same[1][name]) for name in same[1].columns)

    def test_a_batch_costs_its_own_rows_alone(self):
        """A trillion rows: not even their numbers could be held."""
        held = torch.zeros(1).expand(10**12)
        rows = HeldOutRows(["a", "b"], {"a": held}, lambda rows: {"b": torch.from_numpy(rows)})
        assert rows[[3, 10**11]]["b"].tolist() == [3, 10**11]

    def test_a_mask_chooses_rows(self, both):
        mask = both[0]["item_id"] > 3
        same_interaction(both[0][mask], both[1][mask])

    def test_what_every_row_has_one_of_is_held(self, both):
        rows, whole = both
        assert rows.columns == whole.columns and list(rows) == list(whole) and len(rows) == len(whole)
        assert "item_id_list" in rows and "price" not in rows
        for name in ("user_id", "item_id", "timestamp", "item_length"):
            assert torch.equal(rows[name], whole[name]) and torch.equal(getattr(rows, name), whole[name])
        assert "interaction" not in vars(rows)
        with pytest.raises(AttributeError, match="price"):
            _ = rows.price

    @pytest.mark.parametrize("work", [lambda x: x.to("cpu"), lambda x: x.repeat(2), lambda x: x.cpu()])
    def test_all_columns_are_made_where_they_are_asked_for(self, work, both):
        same_interaction(*map(work, both))

    def test_it_can_be_changed_in_place_as_recbole_s_can(self, both):
        for rows in both:
            rows.sort(["item_length", "item_id"])
            rows.drop("timestamp_list")
            rows["more"] = torch.arange(len(rows))
        same_interaction(*both)
        same_interaction(both[0][:3], both[1][:3])
        assert both[0].more.tolist() == both[1]["more"].tolist()
