"""Windows and leave-one-out rows against plain loops, and against the rows that RecBole's own dataset makes."""

from collections import Counter

import numpy as np
import pytest
import torch
from support.worlds import Run, write_domain

# isort: split
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.dataset import SequentialDataset

from recbole_metarec.data.sequences import HistorySplit, SequenceStore, training_windows

KEEP_ALL = {"user_inter_num_interval": None, "item_inter_num_interval": None}


def random_store(seed: int, lengths=None) -> SequenceStore:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 40, size=25) if lengths is None else np.asarray(lengths)
    users = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    return SequenceStore.from_events(users, random.integers(1, 1000, size=lengths.sum()), 1000)


def test_a_store_is_the_events_of_each_user_in_turn():
    store = SequenceStore.from_events(np.array([3, 3, 5, 9, 9, 9]), np.array([4, 1, 2, 7, 7, 3]), 8)
    assert store.offsets.tolist() == [0, 2, 3, 6] and store.users.tolist() == [3, 5, 9]
    assert store.lengths.tolist() == [2, 1, 3] and store.items.dtype == np.int32
    assert store.item_counts(np.array([1, 1, 2])).tolist() == [0, 0, 1, 0, 1, 0, 0, 2]
    assert store.item_counts(store.lengths).sum() == 6


@pytest.mark.parametrize("longest", [2, 3, 4, 7, 10])
@pytest.mark.parametrize("seed", range(3))
def test_every_event_after_the_first_is_a_target_exactly_once(longest, seed):
    store = random_store(seed)
    kept = np.maximum(store.lengths - np.random.default_rng(seed).integers(0, 3, size=25), 0)
    windows = training_windows(store, kept, longest)
    found = Counter()
    for start, length, context in zip(windows.start, windows.length, windows.context, strict=True):
        user = np.searchsorted(store.offsets, start, side="right") - 1
        inside = start - store.offsets[user]
        assert 1 <= length <= longest and 0 <= context < length
        # a window that does not begin a history sees at least half of L before its first target
        assert context == (0 if inside == 0 else longest // 2)
        assert inside + length < kept[user]  # the last target is still a training event
        found.update((user, inside + position + 1) for position in range(context, length))
    expected = Counter((user, event) for user in range(25) for event in range(1, kept[user]))
    assert found == expected and sum(found.values()) > 100
    assert windows.targets.sum() == sum(found.values())


def test_a_history_that_fits_is_one_window_and_one_event_more_makes_two():
    for length, rows in ((1, 0), (2, 1), (11, 1), (12, 2), (16, 2), (17, 3)):
        store = random_store(0, [length])
        assert len(training_windows(store, store.lengths, 10)) == rows


def test_prefix_rows_are_the_most_recent_events_oldest_first():
    store = random_store(1)
    which = np.flatnonzero(store.lengths >= 3)
    index, real = store.prefix_rows(which, store.lengths[which] - 1, 5)
    for row, user in enumerate(which):
        history = store.items[store.offsets[user] : store.offsets[user + 1]]
        assert store.items[index[row][real[row]]].tolist() == history[:-1][-5:].tolist()
        assert real[row].tolist() == sorted(real[row], reverse=True)  # padded on the right


def test_leave_one_out_by_hand():
    split = HistorySplit.leave_one_out(np.array([1, 2, 3, 4, 9]))
    assert split.trained.tolist() == [1, 2, 2, 2, 7]
    assert split.test.tolist() == [2, 3, 4] and split.valid.tolist() == [3, 4]


def test_some_users_are_measured_and_all_train():
    split = HistorySplit.leave_one_out(np.array([5, 4, 3, 9, 6]))
    some = split.measured_on(2, np.array([3, 4, 0, 1, 2]))
    assert some.trained.tolist() == split.trained.tolist()
    assert some.valid.tolist() == [3, 4] and some.valid_at.tolist() == [7, 4], "user 2 has no validation row"
    assert some.test.tolist() == [2, 3] and some.test_at.tolist() == [2, 8]


# -- against RecBole ---------------------------------------------------------------------------------------------------


def histories(seed: int = 0):
    """Users of 1, 2, 3, 4 events, of L and L + 1 and L + 2, and longer ones."""
    random = np.random.default_rng(seed)
    lengths = [1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 26, *random.integers(1, 30, size=20)]
    made = [random.integers(0, 25, size=length).tolist() for length in lengths]
    return [made[i] for i in random.permutation(len(made))]


def times_of(made, kind: str):
    random = np.random.default_rng(7)
    if kind == "even":
        return [list(range(len(items))) for items in made]
    if kind == "shuffled":  # the file is not in time order
        return [random.permutation(len(items)).tolist() for items in made]
    # Unix seconds a few apart: float32 keeps every 128th second, so neighbours tie and RecBole's sort decides
    return [(1.5e9 + random.integers(0, 400, size=len(items))).astype(int).tolist() for items in made]


def recbole_parts(folder, longest, split=True):
    """RecBole's own SequentialDataset and its split, as RecBole's SASRec reads them."""
    given = {"data_path": str(folder), "train_neg_sample_args": None, "MAX_ITEM_LIST_LENGTH": longest, "state": "ERROR",
             "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
             "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "normalize_all": False, "device": "cpu",
             **KEEP_ALL}  # fmt: skip
    config = Config(model="SASRec", dataset="Target", config_dict=given)
    dataset = create_dataset(config)
    assert type(dataset) is SequentialDataset
    return dataset, data_preparation(config, dataset) if split else None


def rows_of(dataset, feat):
    """(user, history, target) of each row by original name, in the rows' order."""
    users, targets = feat[dataset.uid_field].numpy(), feat[dataset.iid_field].numpy()
    lists, lengths = feat[dataset.iid_field + "_list"].numpy(), feat["item_length"].numpy()
    names = [dataset.id2token(field, range(dataset.num(field))) for field in (dataset.uid_field, dataset.iid_field)]
    rows = []
    for user, items, length, target in zip(users, lists, lengths, targets, strict=True):
        assert not items[length:].any()
        rows.append((names[0][user], tuple(names[1][items[:length]]), names[1][target]))
    return rows


def loaded(loader) -> list:
    """What evaluation reads of each row, sorted: every field, and the item that must be found."""
    rows = []
    for interaction, _, which, positives in loader:
        assert which.tolist() == list(range(len(interaction)))
        fields = [interaction[name].tolist() for name in sorted(interaction.columns)]
        rows += [[sorted(interaction.columns), *row] for row in zip(*fields, positives.tolist(), strict=True)]
    return sorted(rows)


@pytest.mark.parametrize("kind", ["even", "shuffled", "ties"])
@pytest.mark.parametrize("longest", [7, 50])
def test_rows_are_recboles(tmp_path, kind, longest):
    made = histories()
    write_domain(tmp_path, "Target", made, times_of(made, kind))
    theirs, (train, valid, test) = recbole_parts(tmp_path, longest)
    ours = Run(tmp_path, model="LRURec", MAX_ITEM_LIST_LENGTH=longest, embedding_size=8, **KEEP_ALL)
    assert ours.dataset.num("user_id") == theirs.num("user_id") and ours.dataset.num("item_id") == theirs.num("item_id")
    for mine, part in ((ours.valid, valid), (ours.test, test)):
        found = rows_of(ours.dataset, mine._dataset.inter_feat)
        expected = rows_of(theirs, part._dataset.inter_feat)
        # RecBole's rows stand in the order of each user's first event, ours in that of the users
        assert sorted(found) == sorted(expected) and len(found) > 15
        assert loaded(mine) == loaded(part)
    # training: the same multiset of (user, target), histories longer than L included
    expected = Counter((user, target) for user, _, target in rows_of(theirs, train._dataset.inter_feat))
    names = ours.dataset.id2token("user_id", range(ours.dataset.num("user_id")))
    items = ours.dataset.id2token("item_id", range(ours.dataset.num("item_id")))
    seen = Counter()
    for batch in ours.train:
        columns = (batch[name].tolist() for name in ("user_id", "item_id_list", "target_id_list"))
        for user, inputs, targets in zip(*columns, strict=True):
            for k, target in enumerate(targets):
                if target:
                    seen[names[user], tuple(items[inputs[: k + 1]]), items[target]] += 1
    found = Counter()
    for (user, _, target), count in seen.items():
        found[user, target] += count
    assert found == expected and sum(expected.values()) > 150
    if longest == 50:  # nothing is cut, so every target has its own prefix before it, as in RecBole's rows
        assert seen == Counter(rows_of(theirs, train._dataset.inter_feat))


def test_rows_before_the_split_are_recboles(tmp_path):
    made = histories(3)
    write_domain(tmp_path, "Target", made)
    theirs, _ = recbole_parts(tmp_path, 7, split=False)
    ours = Run(tmp_path, model="LRURec", MAX_ITEM_LIST_LENGTH=7, embedding_size=8, **KEEP_ALL)
    theirs._change_feat_format()
    for row in (0, 1, 5, len(theirs) - 1):
        mine, expected = ours.dataset[torch.tensor([row])], theirs[torch.tensor([row])]
        assert set(mine.columns) == set(expected.columns)
        for field in mine.columns:
            assert mine[field].tolist() == expected[field].tolist()


def test_training_counts_know_no_held_out_event(tmp_path):
    made = [[1, 2, 3, 8], [1, 2, 3, 8], [2, 1, 9, 8], [3, 1, 2, 9, 8]]
    write_domain(tmp_path, "Target", made)
    run = Run(tmp_path, model="LRURec", embedding_size=8, **KEEP_ALL)
    store, trained = run.train.dataset.store, run.train.dataset.trained
    token = run.dataset.field2token_id["item_id"]
    counts = store.item_counts(trained)
    assert counts[token["Target-8"]] == 0 and counts[token["Target-9"]] == 0
    assert counts.sum() == 2 + 2 + 2 + 3
    assert len(run.train.dataset.inter_feat) == counts.sum()  # what RecBole's own collectors count
    assert run.model.popularity[token["Target-8"]] == 0.0
