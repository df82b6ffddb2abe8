"""Models that are served through the data that they were trained on: RecBole's own, and those that are fitted."""

import csv
import json

import numpy as np
import pytest
import torch
from support.item_worlds import OF_MODEL, ONE_LAYER, write_shop_with_kinds

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole.data.interaction import Interaction

from recbole_metarec.errors import CheckpointError, DataError
from recbole_metarec.evaluation.ranking import ranks_of
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.serve import Recommender
from recbole_metarec.trainer.checkpoint import read_checkpoint, write_checkpoint

pytestmark = pytest.mark.usefixtures("without_pictures")

READS_HISTORIES = ["SASRec", "BERT4Rec", "S3Rec", "FDSA", "STAMP", "SequentialPop", "EASEDecay"]
READS_USERS = ["Caser", "SHAN", "STAN", "BPR"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return write_shop_with_kinds(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def run_of(shop):
    """The folder of a model's run, which is done once."""
    done = {}

    def run(model):
        if model not in done:
            keys = ONE_LAYER | {"epochs": 1, "pretrain_epochs": 1, "data_path": str(shop)} | OF_MODEL.get(model, {})
            done[model] = run_experiment(model, "Target", overrides=keys | {"checkpoint_dir": str(shop / "saved")})
        return done[model].run_dir

    return run


def scores_of(recommender, pairs) -> torch.Tensor:
    """[1, n] of all items, that of padding first."""
    given = dict(pairs)
    return torch.tensor([[float("-inf"), *(given[item] for item in recommender.items)]])


@pytest.mark.parametrize("model", READS_HISTORIES)
def test_it_answers_as_its_evaluation_has_ranked(model, run_of):
    recommender = Recommender.load(run_of(model))
    with open(run_of(model) / "ranks.csv", newline="") as file:
        ranks = {row["user_id"]: int(row["rank"]) for row in csv.DictReader(file)}
    histories = {user: recommender.history_of(user) for user in ranks}
    everything = len(recommender.items)
    found = recommender.recommend_many([history[:-1] for history in histories.values()], everything, include_seen=True)
    for (user, history), pairs in zip(histories.items(), found, strict=True):
        held_out = torch.tensor([recommender.items.index(history[-1]) + 1])
        scores = scores_of(recommender, pairs)
        scores[0, 0] = 0.0
        assert int(ranks_of(scores, held_out)) == ranks[user]
    one = recommender.recommend(next(iter(histories.values()))[:-1], everything, include_seen=True)
    assert dict(one) == pytest.approx(dict(found[0]), abs=1e-5)


@pytest.mark.parametrize("model", READS_USERS)
def test_users_are_asked_for_as_themselves(model, run_of):
    recommender = Recommender.load(run_of(model))
    network, users = recommender.network, ["Target-u7", "Target-u0", "Target-u31"]
    for user in users:
        history = [recommender.items.index(item) + 1 for item in recommender.history_of(user)][-network.longest :]
        rows = torch.tensor([history + [0] * (network.longest - len(history))])
        asked = {"item_id_list": rows, "item_length": torch.tensor([len(history)])}
        asked["user_id"] = torch.tensor([network.users[user]])
        wanted = network.model.full_sort_predict(Interaction(asked)).view(-1)
        found = scores_of(recommender, recommender.recommend_user(user, 100, include_seen=True))
        np.testing.assert_allclose(found[0, 1:], wanted[1:].detach(), atol=1e-6)
    scores = [dict(recommender.recommend_user(user, 100, include_seen=True)) for user in users]
    assert scores[0] != scores[1]


@pytest.mark.parametrize("model", ["Caser", "BPR"])
def test_a_history_alone_is_refused_by_a_model_that_knows_users(model, run_of):
    recommender = Recommender.load(run_of(model))
    with pytest.raises(DataError, match=f"^{model}: it reads 'user_id' of the user, .* name users of its data"):
        recommender.recommend(recommender.items[:3])
    assert len(Recommender.load(run_of("STAN")).recommend(recommender.items[:3], k=2)) == 2


def test_event_by_event_is_the_whole_history(run_of):
    recommender = Recommender.load(run_of("SASRec"))
    history, state = recommender.history_of("Target-u7"), recommender.start()
    for item in history:
        state = recommender.add(state, item)
    assert dict(recommender.top(state, 5)) == pytest.approx(dict(recommender.recommend(history, 5, include_seen=True)))


def test_a_model_that_moved_finds_its_data_and_refuses_other_data(run_of, shop, tmp_path):
    content = read_checkpoint(run_of("SASRec") / "model.pth")
    config = json.loads(content["config"])
    config["values"]["data_path"] = str(tmp_path / "gone")
    write_checkpoint(tmp_path / "model.pth", content | {"config": json.dumps(config)})
    with pytest.raises(DataError, match="Target"):
        Recommender.load(tmp_path / "model.pth")
    assert Recommender.load(tmp_path / "model.pth", str(shop)).recommend_user("Target-u7")
    (tmp_path / "Target").mkdir()
    for file in (shop / "Target").iterdir():
        text = file.read_text().replace("Target-u7\t", "Target-u700\t")
        (tmp_path / "Target" / file.name).write_text(text)
    with pytest.raises(CheckpointError, match="the users or items of Target have changed since; train again"):
        Recommender.load(tmp_path / "model.pth", str(tmp_path))
    other = content | {"config": content["config"].replace('"model": "SASRec"', '"model": "GRU4Rec"')}
    write_checkpoint(tmp_path / "model.pth", other)
    with pytest.raises(CheckpointError, match="model.pth: of another model: "):
        Recommender.load(tmp_path / "model.pth", str(shop))
