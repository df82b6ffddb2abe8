"""What a report says of the target, against a count by hand from the file."""

import pickle
from collections import Counter

import pytest
from support.worlds import TINY, cluster_histories, write_domain

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole_metarec.compare import target
from recbole_metarec.errors import DataError
from recbole_metarec.quick_start import run_experiment

KEYS = {**{key: value for key, value in TINY.items() if key != "vq_heads"}, "state": "ERROR", "device": "cpu"}


def test_sizes_protocol_and_segments(tmp_path, monkeypatch):
    histories = cluster_histories(0, 60, 24, 4, 0.8, length=(2, 12))
    write_domain(tmp_path, "Shop", histories)
    handed_on = {}

    def segments(lengths, counts, held_out):
        handed_on.update(lengths=lengths, counts=counts, held_out=held_out)
        return ()

    monkeypatch.setattr("recbole_metarec.evaluation.segments.segments", segments)
    protocol, _, users = target.describe("Shop", {**KEYS, "data_path": str(tmp_path)})
    assert (protocol.users, protocol.interactions) == (60, sum(map(len, histories)))
    assert protocol.items == len({item for history in histories for item in history})
    assert (protocol.max_length, protocol.width) == (KEYS["MAX_ITEM_LIST_LENGTH"], KEYS["embedding_size"])
    assert "50 validations" in protocol.early_stopping and "3 epochs" in protocol.early_stopping

    # by RecBole's rule two events give no row, three a test row, more both
    held = {0: 0, 1: 0, 2: 0, 3: 1}
    trained = {f"Shop-u{u}": history[: len(history) - held.get(len(history), 2)] for u, history in enumerate(histories)}
    last = {f"Shop-u{u}": history[-1] for u, history in enumerate(histories) if len(history) > 2}
    assert sorted(users) == sorted(last)
    counts = Counter(item for history in trained.values() for item in history)
    for row, user in enumerate(users.tolist()):
        assert handed_on["lengths"][row] == len(trained[user])
        assert handed_on["counts"][handed_on["held_out"][row]] == counts[last[user]]
    assert handed_on["counts"][0] == 0 and handed_on["counts"].sum() == sum(counts.values())


def test_the_segments_are_of_the_runs_users(tmp_path):
    write_domain(tmp_path, "Shop", cluster_histories(0, 60, 24, 4, 0.8))
    _, groups, users = target.describe("Shop", {**KEYS, "data_path": str(tmp_path)})
    assert len(users) == 60 and all(group.mask.shape == (60,) for group in groups)
    assert {group.name for group in groups} >= {"Long histories", "Popular items"}
    assert sum(group.users for group in groups if group.name in ("Cold items", "Other items", "Popular items")) == 60


def test_a_comparison_over_one_user_is_refused(tmp_path):
    write_domain(tmp_path, "Shop", [list(range(1, 13)), [1, 2]])
    with pytest.raises(DataError, match="Shop: models are compared over its test users, and there is only one"):
        target.describe("Shop", {**KEYS, "data_path": str(tmp_path)})


def test_what_lies_in_the_checkpoint_folder_is_never_unpickled(tmp_path):
    """RecBole reads a dataset that was saved there in place of the data's files."""
    write_domain(tmp_path, "Shop", cluster_histories(0, 60, 24, 4, 0.8))
    (tmp_path / "saved").mkdir()
    trap = pickle.dumps(Trap())
    for name in ("Shop-TransferDataset.pth", "Shop-for-LRURec-dataloader.pth"):
        (tmp_path / "saved" / name).write_bytes(trap)
    keys = {**KEYS, "data_path": str(tmp_path), "checkpoint_dir": str(tmp_path / "saved")}
    target.describe("Shop", keys)
    run_experiment("SequentialPop", "Shop", overrides=keys)
    run_experiment("LRURec", "Shop", overrides={**keys, "epochs": 1})


class Trap:
    """Raises when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise AssertionError('unpickled')",)
