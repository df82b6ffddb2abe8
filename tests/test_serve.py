"""What a saved model is asked for: wrong requests are answered by one clear line."""

import subprocess
import sys

import numpy as np
import pytest
from support.tiny import tiny_metarec, tiny_unisrec
from support.worlds import TINY, write_shop

from recbole_metarec.data.histories import event_file
from recbole_metarec.errors import DataError
from recbole_metarec.model.saved_network import network_to_json
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.serve import Recommender
from recbole_metarec.trainer.checkpoint import read_checkpoint, write_checkpoint

pytestmark = pytest.mark.usefixtures("without_pictures")

ITEMS = ["[PAD]", *(f"i{number}" for number in range(1, 12))]


@pytest.fixture(scope="module")
def recommender():
    return Recommender(tiny_metarec(n_target=len(ITEMS))[0], ITEMS)


@pytest.mark.parametrize("k", [0, -1, 2.5, True, None, "10"])
def test_k_must_be_at_least_one(recommender, k):
    state = recommender.add(recommender.start(), "i3")
    for ask in (lambda: recommender.recommend(["i3"], k=k), lambda: recommender.top(state, k)):
        with pytest.raises(DataError, match="must be at least 1") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_k_beyond_the_catalogue_gives_all_of_it(recommender):
    assert sorted(item for item, _ in recommender.recommend(["i3"], k=100, include_seen=True)) == sorted(ITEMS[1:])
    assert recommender.recommend(["i3"], k=np.int64(3)) == recommender.recommend(["i3"], k=3)


@pytest.mark.parametrize("text", ["i3", b"i3", ""])
def test_one_text_is_not_a_history(recommender, text):
    with pytest.raises(DataError, match=r"history is a single string, .*; give a list of item names"):
        recommender.recommend(text)
    with pytest.raises(DataError, match=r"exclude is a single string, .*; give a list of item names"):
        recommender.top(recommender.add(recommender.start(), "i3"), exclude=text)


def test_any_iterable_of_names_is_a_history(recommender):
    expected = recommender.recommend(["i1", "i2"])
    assert recommender.recommend(("i1", "i2")) == recommender.recommend(iter(["i1", "i2"])) == expected


def test_unisrec_reads_a_whole_history_once():
    recommender, passes = Recommender(tiny_unisrec(), ITEMS), []
    recommender.network.encoder.register_forward_hook(lambda *_: passes.append(1))
    recommender.recommend(["i5", "i1", "i5", "i7"])
    assert len(passes) == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A shop, and a run of MetaRec on it."""
    shop = write_shop(tmp_path_factory.mktemp("shop"))
    quiet = {"data_path": str(shop), "state": "ERROR", "show_progress": False, "device": "cpu", "epochs": 1}
    place = {"sources": ["Near"], "checkpoint_dir": str(shop / "saved"), "transfer_guard": False}
    return run_experiment("MetaRec", "Target", overrides=TINY | quiet | place)


_ALONE = """
import sys
from recbole_metarec.serve import Recommender

user, *files = sys.argv[1:]
for file in files:
    recommender = Recommender.load(file)
    print(len(recommender.recommend(recommender.items[:3], k=3)))
for_data_alone = {"pandas", "polars"} & set(sys.modules)
assert not for_data_alone, for_data_alone
assert recommender.history_of(user)
heavy = {"recbole", "ray", "scipy", "matplotlib", "sklearn", "torch._dynamo"} & set(sys.modules)
assert not heavy, heavy
"""


def test_serving_imports_no_recbole_nor_anything_else_that_is_slow(trained, tmp_path):
    """Nor PyTorch's compiler, which a network without memory would bring in."""
    file = trained.run_dir / "model.pth"
    recommender, model = Recommender.load(file), tiny_unisrec(n_items=25).float()
    content = {
        "items": ["[PAD]", *recommender.items],
        "network": network_to_json(model),
        "state_dict": model.state_dict(),
    }
    write_checkpoint(tmp_path / "unisrec.pth", content | {"config": read_checkpoint(file)["config"]})
    data = event_file(recommender.origin.dataset, recommender.origin.data_path)
    user = data.read_text().splitlines()[1].split("\t")[0]
    command = [sys.executable, "-c", _ALONE, user, file, tmp_path / "unisrec.pth"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "3\n3\n" and done.returncode == 0, done.stderr
