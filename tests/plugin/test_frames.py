"""RecBole's datasets filled from our reader: what RecBole's own reader gives, but nothing is lost or swallowed."""

import copy
import random

import numpy as np
import pandas as pd
import pytest

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole.data.dataset import Dataset, SequentialDataset

from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.errors import DataError
from recbole_metarec.plugin.config import recbole_config
from recbole_metarec.plugin.dataset import TransferDataset
from recbole_metarec.plugin.frames import check_counts, filled_by_our_reader

INTER = "user_id:token\titem_id:token\ttimestamp:float\trating:float\tshop:token\twords:token_seq\n"
ITEM = "item_id:token\ttext:token_seq\tbrand:token\tprice:float\tshape:float_seq\n"
LOADED = {"inter": ["user_id", "item_id", "timestamp", "rating", "shop", "words"],
          "item": ["item_id", "text", "brand", "price", "shape"]}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    (folder / "World").mkdir()
    (folder / "World" / "World.inter").write_text(INTER + "u\ti\t1\t1\ta\t\n")
    values = {"data_path": str(folder), "state": "ERROR", "device": "cpu"}
    return recbole_config(RunConfig.read("LRURec", "World", (), values))


def config_for(base, folder, **given):
    config = copy.copy(base)
    config.final_config_dict = {**base.final_config_dict, "data_path": str(folder), "load_col": LOADED, **given}
    return config


def write(tmp_path, events, items, item_header=ITEM):
    folder = tmp_path / "World"
    folder.mkdir(exist_ok=True)
    (folder / "World.inter").write_text(INTER + "".join("\t".join(row) + "\n" for row in events))
    (folder / "World.item").write_text(item_header + "".join("\t".join(row) + "\n" for row in items))
    return folder


def some_rows(rng):
    words = ["", "NA", "red", "red hat", " two  spaces ", "ü", "null"]
    events = [
        (f"u{rng.randrange(8)}", f"i{rng.randrange(9)}", str(time), rng.choice(["", "1", "4.5", "NA", " 3"]),
         rng.choice(["a", "b", "", "None"]), rng.choice(words))
        for time in rng.sample(range(100), 50)
    ]  # fmt: skip
    items = [
        (f"i{item}", rng.choice(words), rng.choice(["x", "y", "", "nan"]), rng.choice(["", "0.5", "1e2", "-3", "NA"]),
         rng.choice(["", "1 2.5", "3", "1e3 0 -1"]))
        for item in rng.sample(range(12), 12)
    ]  # fmt: skip
    return events, items


def same_feature(ours, theirs):
    assert list(ours.columns) == list(theirs.columns)
    for name in theirs.columns:
        if theirs[name].dtype == object:
            for one, other in zip(ours[name], theirs[name], strict=True):
                np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_array_equal(ours[name].to_numpy(), theirs[name].to_numpy())


FORMS = [{}, {"seq_len": {"text": 1, "shape": 2}}, {"user_inter_num_interval": "[3,inf)"}, {"rm_dup_inter": "last"},
         {"val_interval": {"price": "[-5,60]"}}, {"unload_col": {"inter": ["rating"]}, "load_col": None},
         {"normalize_all": True}, {"threshold": {"rating": 2}}]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_filled_datasets_are_those_that_recbole_reads(seed, form, base, tmp_path):
    events, items = some_rows(random.Random(seed))
    config = config_for(base, write(tmp_path, events, items), **form)
    with filled_by_our_reader():
        ours = Dataset(config)
    check_counts(ours)
    used = set(ours.field2id_token["item_id"])
    write(tmp_path, events, [row for row in items if row[0] in used])  # RecBole counts items that nobody has met
    theirs = Dataset(config)
    for part in ("inter_feat", "item_feat"):
        same_feature(getattr(ours, part), getattr(theirs, part))
    for noted in ("field2type", "field2source", "field2bucketnum"):
        assert getattr(ours, noted) == getattr(theirs, noted)
    longest = theirs.field2seqlen
    assert all(longest[name] <= length <= 3 for name, length in ours.field2seqlen.items()), "a line left out may count"
    for field, names in theirs.field2id_token.items():
        assert ours.field2id_token[field].tolist() == names.tolist()
    assert Dataset._load_feat.__module__ == Dataset.__module__, "RecBole is left as it was"


def plain_rows(n_items=6):
    return [(f"u{user}", f"i{(user + at) % n_items}", str(at), "1", "a", "w") for user in range(5) for at in range(6)]


def test_items_without_a_line_keep_their_events(base, tmp_path, caplog):
    items = [("i0", "red hat", "x", "2", "1"), ("i1", "blue hat", "y", "4", "1 2")]
    data = TransferDataset(config_for(base, write(tmp_path, plain_rows(), items)))
    assert len(data.inter_feat) == 30 and data.item_num - 1 == 6
    assert "4 of 6 item_ids with events have no line" in caplog.text
    known = data.item_feat.set_index("item_id").loc[data.token2id("item_id", ["i0", "i1"])]
    assert known["price"].tolist() == [2, 4] and [len(text) for text in known["text"]] == [2, 2]
    absent = data.item_feat.set_index("item_id").loc[data.token2id("item_id", ["i4"])]
    assert absent["price"].tolist() == [3], "the mean, as RecBole fills it in"
    assert len(absent["text"].iloc[0]) == 0 and absent["brand"].tolist() == [0]
    filtered = config_for(base, data.dataset_path, val_interval={"price": "[3,9]"})
    assert len(TransferDataset(filtered).inter_feat) == 5, "a price that nobody knows lies in no interval"


@pytest.mark.parametrize("model", [TransferDataset, SequentialDataset])
def test_a_quotation_mark_is_a_character(model, base, tmp_path):
    texts = ["plain", '"Large hammer', "tool", 'pipe 3"', '"', 'a "b" c']
    items = [(f"i{number}", text, '"', "1", "1") for number, text in enumerate(texts)]
    config = config_for(base, write(tmp_path, plain_rows(), items))
    with filled_by_our_reader():
        data = model(config)
    assert (len(data.inter_feat), data.item_num - 1) == (30, 6)
    words = {word for text in texts for word in text.split()}
    assert set(data.field2id_token["text"][1:]) == words and list(data.field2id_token["brand"]) == ["[PAD]", '"']


GOOD = ("i0", "hat", "x", "1", "1 2")
BAD_ITEMS = {
    "price": ([GOOD, ("i1", "hat", "x", "-", "1")], "World.item:3: price '-' is not a finite number"),
    "infinite": ([("i1", "hat", "x", "inf", "1"), GOOD], "World.item:2: price 'inf'"),
    "list": ([GOOD, ("i1", "hat", "x", "1", "1 two")], "World.item:3: shape '1 two' is no list of numbers"),
    "no name": ([GOOD, ("", "hat", "x", "1", "1")], "World.item:3: item_id is empty"),
    "quoted name": ([GOOD, ('"i1"', "hat", "x", "1", "1")], "World.item:3: item_id .* quotation mark"),
    "ragged": ([GOOD, ("i1", "hat")], "World.item:3: 2 fields where the header has 5"),
    "twice": ([GOOD, GOOD, ("i1", "", "", "", ""), ("i0", "cap", "x", "1", "1")], "World.item:5: item_id 'i0' appears"),
    "late": ([GOOD, GOOD, GOOD, ("i1", "hat", "x", "?", "1")], "World.item:5: price '\\?'"),
}


@pytest.mark.parametrize("case", BAD_ITEMS)
def test_a_malformed_item_file_is_told_with_its_line(case, base, tmp_path):
    items, told = BAD_ITEMS[case]
    with pytest.raises(DataError, match=told):
        TransferDataset(config_for(base, write(tmp_path, plain_rows(), items)))


def test_encodings_and_byte_order_marks_of_an_item_file(base, tmp_path):
    folder = write(tmp_path, plain_rows(), [GOOD])
    file = folder / "World.item"
    file.write_bytes(file.read_bytes() + "i1\tchapeau d'été\tx\t1\t1\n".encode("latin-1"))
    with pytest.raises(DataError, match="World.item:3: byte .* is not utf-8"):
        TransferDataset(config_for(base, folder))
    data = TransferDataset(config_for(base, folder, encoding="latin-1"))
    assert "d'été" in data.field2id_token["text"]
    file.write_text(ITEM)
    with pytest.raises(DataError, match="World.item:1: no rows after the header"):
        TransferDataset(config_for(base, folder))
    file.write_bytes(b"\xef\xbb\xbf" + ITEM.encode())
    with pytest.raises(DataError, match="World.item:1: the file starts with a byte order mark"):
        TransferDataset(config_for(base, folder))
    file.write_text(ITEM.replace("item_id", "item"))
    with pytest.raises(DataError, match="World.item:1: no column item_id"):
        TransferDataset(config_for(base, folder))


def without_items(folder):
    return {"load_col": {"inter": LOADED["inter"]}, "data_path": str(folder)}


def test_items_without_an_event_are_no_items_of_a_model_that_reads_them(base, tmp_path):
    items = [(f"i{number}", f"hat {number}", "x", str(number), "1") for number in range(50)]
    folder = write(tmp_path, [*plain_rows(), ("u7", "i40", "1", "9", "a", "w")], items)
    (folder / "World.user").write_text("user_id:token\tage:float\nu0\t20\nu99\t40\n")
    for given in ({}, {"val_interval": {"rating": "[0,5]"}}, {"user_inter_num_interval": "[3,inf)"}):
        plain = TransferDataset(config_for(base, folder, **without_items(folder), **given))
        with_features = {**LOADED, "user": ["user_id", "age"]}
        for model in (TransferDataset, SequentialDataset):
            with filled_by_our_reader():
                data = model(config_for(base, folder, **given, load_col=with_features))
            counts = (data.inter_num, data.user_num, data.item_num)
            assert counts == (plain.inter_num, plain.user_num, plain.item_num)
            assert data.field2id_token["item_id"].tolist() == plain.field2id_token["item_id"].tolist()
            assert len(data.item_feat) == data.item_num and len(data.user_feat) == data.user_num


def test_a_dataset_with_other_events_than_we_read_stops_the_run(base, tmp_path, monkeypatch):
    config = config_for(base, write(tmp_path, plain_rows(), [GOOD]))
    drop = TransferDataset._filter_by_inter_num

    def swallow(self):
        self.inter_feat = self.inter_feat[self.inter_feat["item_id"] != "i3"]
        drop(self)

    monkeypatch.setattr(TransferDataset, "_filter_by_inter_num", swallow)
    told = "RecBole's dataset has 25 events, 5 users, 5 items, the file has 30 events, 5 users, 6 items"
    with pytest.raises(DataError, match=told):
        TransferDataset(config)


def test_users_without_a_line_keep_their_events(base, tmp_path):
    folder = write(tmp_path, plain_rows(), [GOOD])
    (folder / "World.user").write_text("user_id:token\tage:float\nu0\t20\nu1\t40\nu9\t60\n")
    config = config_for(base, folder, load_col={**LOADED, "user": ["user_id", "age"]})
    data = TransferDataset(config)
    assert len(data.inter_feat) == 30
    ages = data.user_feat.set_index("user_id")["age"]
    assert pd.Series(ages.loc[data.token2id("user_id", ["u1", "u3"])]).tolist() == [40, 30]


def test_a_folder_that_is_not_there_ends_without_a_question(base, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        TransferDataset(config_for(base, tmp_path / "nowhere"))


FILTERS = {
    "not loaded": ({"weight": "[1,2]"}, "filters by weight, which no file has"),
    "no interval": ({"price": "3"}, "no interval"),
    "interval of names": ({"brand": "[1,2]"}, "list of names"),
    "numbers for names": ({"brand": [1, 2]}, "list of names"),
}


@pytest.mark.parametrize("case", FILTERS)
def test_a_filter_by_value_that_cannot_be_read_is_refused(case, base, tmp_path):
    values, told = FILTERS[case]
    config = config_for(base, write(tmp_path, plain_rows(), [GOOD]), val_interval=values)
    with pytest.raises(DataError, match=told) as refused:
        TransferDataset(config)
    assert next(iter(values)) in str(refused.value)
