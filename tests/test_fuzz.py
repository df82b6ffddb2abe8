"""Anything at all, given to what reads files and values: a result that is right, or one clear error.

Every run draws the same examples; METAREC_FUZZ=N draws N new ones for each test.
"""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
import numpy as np
import torch
import yaml
from support.fuzzing import VALUES, damaged, fuzz, one_line, same
from support.worlds import TINY, cluster_histories, write_domain

from recbole_metarec.config.schema import known_keys
from recbole_metarec.config.yaml_files import parse_value, read_yaml
from recbole_metarec.data.batches import SequenceBatches
from recbole_metarec.data.reader import ReadSpec, read_domain
from recbole_metarec.data.sequences import HistorySplit, SequenceStore, prefix_windows, training_windows
from recbole_metarec.data.text_file import read_columns
from recbole_metarec.errors import CheckpointError, ConfigError, DataError, MetaRecError
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.runs.training import settled_config
from recbole_metarec.serve import Recommender
from recbole_metarec.trainer.checkpoint import read_checkpoint, write_checkpoint

# -- files of events -----------------------------------------------------------------------------------------------

HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"
_IDS = st.sampled_from(
    ["u", "v", "ü", "0", "00", "-1", "a b", "NA", "None", "", '"', 'x"', "1.0", "名", "\x85", "\u2028"]
)
_TIMES = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.integers(1_500_000_000, 1_500_000_200).map(str),
    st.floats().map(repr),
    st.sampled_from(["", " 5", "5 ", "+5", "007", "5.", ".5", "1e3", "1E-3", "0x10", "1_0", "inf", "٣", "１", "5\t"]),
)
_ROWS = st.lists(st.tuples(_IDS, _IDS, _TIMES), max_size=12)


@st.composite
def inter_files(draw) -> bytes:
    end = draw(st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"]))
    rows = draw(_ROWS)
    text = HEADER + "\n".join("\t".join(row) for row in rows) + draw(st.sampled_from(["", "\n", "\n\n"]))
    content = text.replace("\n", end).encode()
    return draw(st.sampled_from([0, 0, 1]).flatmap(lambda n: damaged(content) if n else st.just(content)))


def reference_store(content: bytes):
    """Users, items and histories as RecBole orders them, by the plainest reading there is."""
    lines = content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    names = [field.split(":")[0] for field in lines[0].split("\t")]
    rows = [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:] if line]
    users = list(dict.fromkeys(row["user_id"] for row in rows))
    items = list(dict.fromkeys(row["item_id"] for row in rows))
    with np.errstate(over="ignore"):
        rows.sort(key=lambda row: (users.index(row["user_id"]), np.float32(float(row["timestamp"]))))
    histories = [[items.index(row["item_id"]) + 1 for row in rows if row["user_id"] == user] for user in users]
    return users, items, histories


@fuzz(200)
@given(content=st.one_of(inter_files(), st.binary(max_size=80), st.binary(max_size=40).map(HEADER.encode().__add__)),
       block=st.sampled_from([1, 30, None]))  # fmt: skip
def test_a_file_of_events_is_refused_or_read_as_it_stands(content, block, tmp_path):
    file = tmp_path / "D.inter"
    file.write_bytes(content)
    try:
        domain = read_domain(file, ReadSpec(), block)
    except DataError as error:
        assert one_line(error).startswith(f"{file}:")
        with pytest.raises(DataError):  # as a whole, another fault of the file may be met first
            read_domain(file, ReadSpec())
        return
    users, items, histories = reference_store(content)
    assert (domain.summary.users, domain.summary.items) == (len(users), len(items))
    assert domain.summary.events == sum(map(len, histories))
    assert (domain.users.to_list(), domain.items.to_list()) == (users, items)
    store = domain.store
    assert [store.items[a:b].tolist() for a, b in zip(store.offsets, store.offsets[1:])] == histories


@fuzz(200)
@given(
    content=st.one_of(st.binary(max_size=60), damaged(b'item_id:token\ttext:token_seq\ni1\tred hat\ni2\t"blue" hat\n')),
    separator=st.sampled_from(["\t", ",", " "]),
    encoding=st.sampled_from(["utf-8", "latin-1", "utf-16", "ascii"]),
)
def test_columns_hold_what_stands_in_the_file(content, separator, encoding, tmp_path):
    file = tmp_path / "D.item"
    file.write_bytes(content)
    try:
        table = read_columns(file, separator, encoding)
    except DataError as error:
        one_line(error)
        return
    lines = content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    rows = [line.split(separator) for line in lines[1:] if line]
    assert [list(row) for row in table.frame.rows()] == rows


# -- values of config keys -----------------------------------------------------------------------------------------

_KEYS = sorted(key for key, whose in known_keys().items() if whose in ("ours", "recbole"))  # others do nothing here


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    for seed, name in enumerate(("Good", "Near")):
        write_domain(folder, name, cluster_histories(seed, 30, 12, 4, 0.8))
    return folder


@fuzz(200)
@given(model=st.sampled_from(["MetaRec", "LRURec", "UniSRec"]),
       values=st.dictionaries(st.sampled_from(_KEYS), VALUES, min_size=1, max_size=3))  # fmt: skip
def test_a_config_is_refused_or_settled_and_settled_again_is_the_same(model, values, shop):
    for key in ("model", "dataset", "data_path", "config_files", "config_file_list"):
        values.pop(key, None)
    values = {"data_path": str(shop)} | values
    try:
        settled = settled_config(model, "Good", values)
    except MetaRecError as error:
        one_line(error)
        return
    again = {key: value for key, value in settled.items() if key not in ("model", "dataset")}
    assert repr(settled_config(model, "Good", again)) == repr(settled)


@fuzz(300)
@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode),
                         st.dictionaries(st.text("abc_", min_size=1, max_size=4), VALUES, max_size=3).map(
                             lambda value: yaml.safe_dump(value, allow_unicode=True).encode()).flatmap(
                             lambda text: st.one_of(st.just(text), damaged(text)))))  # fmt: skip
def test_yaml_is_read_as_plain_yaml_or_refused(content, tmp_path):
    file = tmp_path / "some.yaml"
    file.write_bytes(content)
    try:
        values, lines = read_yaml(file)
    except ConfigError as error:
        assert one_line(error).startswith(f"{file}:")
        return
    assert set(lines) >= set(values) - {"<<"} and all(isinstance(key, str) for key in values)
    assert all(1 <= line <= content.count(b"\n") + content.count(b"\r") + 1 for line in lines.values())


@fuzz(300)
@given(text=st.one_of(st.text(max_size=20), VALUES.map(lambda value: yaml.safe_dump(value, default_flow_style=True))))
def test_a_typed_value_is_plain_or_refused(text):
    try:
        value = parse_value(text, "--key")
    except ConfigError as error:
        assert one_line(error).startswith("--key: ")
        return
    assert isinstance(value, (bool, int, float, str, list, dict, type(None)))


# -- checkpoints ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_file(shop):
    keys = {key: value for key, value in TINY.items() if key != "vq_heads"} | {"epochs": 1, "state": "ERROR"}
    keys |= {"data_path": str(shop), "checkpoint_dir": str(shop / "saved"), "device": "cpu"}
    return run_experiment("LRURec", "Good", overrides=keys).run_dir / "model.pth"


@fuzz(300)
@given(data=st.data())
def test_a_damaged_checkpoint_is_refused_or_holds_what_it_held(data, model_file, tmp_path):
    raw = model_file.read_bytes()
    file = tmp_path / "model.pth"
    file.write_bytes(data.draw(st.one_of(damaged(raw), damaged(raw), st.binary(max_size=100))))
    try:
        found = read_checkpoint(file)
    except CheckpointError as error:
        assert one_line(error).startswith(f"{file}: ")
        return
    assert same(found, read_checkpoint(model_file))


_TENSORS = st.sampled_from(
    [torch.zeros(0), torch.zeros(3, 2), torch.eye(4).to_sparse(), torch.zeros(2, dtype=torch.int8),
     torch.zeros(1).expand(10**9)]
)  # fmt: skip


@fuzz(60)
@given(data=st.data())
def test_any_content_makes_a_recommender_or_is_refused(data, model_file, tmp_path):
    content = read_checkpoint(model_file)
    spoilt = {
        name: data.draw(st.one_of(VALUES, _TENSORS)) for name in data.draw(st.sets(st.sampled_from(list(content))))
    }
    if data.draw(st.booleans()):
        names = list(content["state_dict"])
        weights = {name: data.draw(_TENSORS) for name in data.draw(st.sets(st.sampled_from(names), max_size=2))}
        spoilt["state_dict"] = content["state_dict"] | weights
    file = tmp_path / "model.pth"
    write_checkpoint(file, {**content, **spoilt})
    try:
        recommender = Recommender.load(file)
    except CheckpointError as error:
        one_line(error)
        return
    known = recommender.items[1:4]
    assert len(recommender.recommend(known, k=3)) == 3


ran = []


class Trap:
    """Runs what it was made with when it is unpickled."""

    def __init__(self, call, *arguments):
        self.made_of = call, arguments

    def __reduce__(self):
        return self.made_of


_CODE = "import test_fuzz; test_fuzz.ran.append(1)"
TRAPS = [Trap(exec, _CODE), Trap(eval, "__import__('test_fuzz').ran.append(1)"), Trap(ran.append, 1),
         Trap(os.system, "touch trapped"), Trap(__import__, "this"), Trap(open, "trapped", "w"),
         Trap(torch.load, "x"), Trap(type, "T", (), {}), Trap(getattr, "text", "join")]  # fmt: skip


@fuzz(40)
@given(trap=st.sampled_from(TRAPS), place=st.sampled_from(["config", "items", "state_dict", "epoch", "format", "more"]),
       wrap=st.sampled_from([lambda x: x, lambda x: [x], lambda x: {"a": x}, lambda x: (1, {"b": [x]})]),
       old=st.booleans())  # fmt: skip
def test_a_hostile_checkpoint_runs_nothing(trap, place, wrap, old, model_file, tmp_path):
    file = tmp_path / "model.pth"
    content = read_checkpoint(model_file) | {place: wrap(trap)}
    torch.save(content, file, _use_new_zipfile_serialization=not old)
    for read in (read_checkpoint, Recommender.load):
        with pytest.raises(CheckpointError) as refused:
            read(file)
        one_line(refused.value)
    assert not ran and not os.path.exists("trapped")


# -- histories and windows -----------------------------------------------------------------------------------------


@st.composite
def stores(draw):
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=8))
    users = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    return SequenceStore.from_events(users, np.arange(1, len(users) + 1), len(users) + 1)  # every event its own item


@fuzz(300)
@given(store=stores(), longest=st.integers(1, 20), every_position=st.booleans(), data=st.data())
def test_every_event_after_the_first_is_a_target_exactly_once(store, longest, every_position, data):
    kept = np.array([data.draw(st.integers(0, int(length))) for length in store.lengths])
    windows = (training_windows if every_position else prefix_windows)(store, kept, longest)
    batches = SequenceBatches(store, windows, data.draw(st.integers(1, 60)), data.draw(st.integers(0, 9)), "D", True)
    targets = []
    for rows in batches.plan(data.draw(st.integers(0, 3))):
        batch = batches.batch(rows)
        assert batch.inputs.shape == batch.targets.shape and batch.inputs.shape[1] <= longest
        for inputs, wanted in zip(batch.inputs.tolist(), batch.targets.tolist()):
            real = [item for item in inputs if item]
            assert inputs == real + [0] * (len(inputs) - len(real))  # padded on the right
            assert real == list(range(real[0], real[0] + len(real)))  # a piece of one history
            for position, target in enumerate(wanted):
                assert target in (0, inputs[position] + 1)
            targets += [target for target in wanted if target]
    expected = [
        int(item)
        for start, count in zip(store.offsets[:-1], kept)
        for item in store.items[start + 1 : start + max(int(count), 1)]
    ]
    assert sorted(targets) == sorted(expected)


@fuzz(200)
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_the_split_holds_every_event_once(lengths):
    lengths = np.array(lengths)
    split = HistorySplit.leave_one_out(lengths)
    held_out = np.bincount(split.valid, minlength=len(lengths)) + np.bincount(split.test, minlength=len(lengths))
    assert (split.trained + held_out == lengths).all() and (split.trained >= np.minimum(lengths, 2)).all()
    assert set(split.valid.tolist()) <= set(split.test.tolist())
