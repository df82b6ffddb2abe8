"""What holds of every model that is built on this package's: those that ship, with and without texts, and a user's."""

import json
import random

import pytest
import torch
from support.model_cases import CASES, N_ITEMS, make_model, register_users_model
from torch.nn.functional import pad

# isort: split
from recbole.data.interaction import Interaction
from recbole.utils import get_model

from recbole_metarec.config import models
from recbole_metarec.config.models import model_spec
from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.config.saved_config import config_to_json
from recbole_metarec.config.schema import default_values
from recbole_metarec.config.yaml_files import as_text
from recbole_metarec.data.batches import TARGET_LIST
from recbole_metarec.errors import CheckpointError, ConfigError, TrainingError
from recbole_metarec.evaluation.ranking import ranks_of
from recbole_metarec.model.saved_network import NETWORKS, names_network, network_maker, network_to_json
from recbole_metarec.plugin.checkpoint_config import config_from_json
from recbole_metarec.plugin.config import recbole_config
from recbole_metarec.serve import Recommender
from recbole_metarec.trainer.checkpoint import load_model, load_weights, read_checkpoint, write_checkpoint

HISTORIES = torch.tensor([[3, 1, 4, 1], [5, 9, 2, 0], [6, 0, 0, 0]])
TARGETS = torch.tensor([[0, 4, 1, 5], [9, 2, 6, 0], [5, 0, 0, 0]])  # the first input of row 0 carries no loss
ITEMS = ["[PAD]", *(f"i{number}" for number in range(1, N_ITEMS))]
NEAR = {"rtol": 1e-10, "atol": 1e-10}


def rows(histories=HISTORIES, targets=TARGETS) -> Interaction:
    """A batch as the loaders give it."""
    lengths = (histories > 0).sum(dim=1)
    return Interaction({"item_id_list": histories, "item_length": lengths, TARGET_LIST: targets})


@torch.no_grad()
def scores_of(model, batch=None):
    return model.full_sort_predict(rows() if batch is None else batch)


def write_model(model, file):
    """The model's checkpoint as the trainer writes it, without the config."""
    described = {"items": ITEMS, "network": network_to_json(model)}
    write_checkpoint(file, described | {"state_dict": model.deployed_weights()})
    return read_checkpoint(file)


@pytest.fixture(autouse=True)
def users_model(monkeypatch):
    monkeypatch.setattr(models, "_REGISTERED", {})
    register_users_model()


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


@pytest.fixture
def model(case):
    return make_model(case)


class TestEveryModel:
    """The contract."""

    def test_it_is_found_by_its_name(self, case, model):
        assert type(model) is get_model(case.model) is model_spec(case.model).load_model()

    # -- scores ----------------------------------------------------------------------------------------------------

    def test_predict_is_the_items_score_of_full_sort_predict(self, model):
        scores = scores_of(model)
        assert scores.shape == (3, N_ITEMS) and len(scores.unique(dim=0)) == 3
        for item in range(1, N_ITEMS):
            batch = rows()
            batch.update(Interaction({"item_id": torch.full((3,), item)}))
            torch.testing.assert_close(model.predict(batch), scores[:, item], **NEAR)

    def test_padding_on_the_right_changes_nothing(self, model):
        wider = rows(pad(HISTORIES, (0, 2)), pad(TARGETS, (0, 2)))
        torch.testing.assert_close(scores_of(model, wider), scores_of(model), **NEAR)
        alone = [scores_of(model, rows(row[None, row > 0], row[None, row > 0])) for row in HISTORIES]
        torch.testing.assert_close(torch.cat(alone), scores_of(model), **NEAR)
        torch.testing.assert_close(model.calculate_loss(wider), model.calculate_loss(rows()), **NEAR)

    def test_the_order_of_a_batch_changes_nothing(self, model):
        order = torch.tensor([2, 0, 1])
        mixed = rows(HISTORIES[order], TARGETS[order])
        torch.testing.assert_close(scores_of(model, mixed), scores_of(model)[order], **NEAR)
        torch.testing.assert_close(model.calculate_loss(mixed), model.calculate_loss(rows()), **NEAR)

    def test_chance_plays_a_part_in_training_alone(self, case):
        model = make_model(case, dropout_prob=0.5)
        before, random = scores_of(model), torch.get_rng_state()
        loss = model.calculate_loss(rows())
        assert torch.equal(model.calculate_loss(rows()), loss)
        assert torch.equal(torch.get_rng_state(), random)
        model.train()
        assert len({float(model.calculate_loss(rows()).detach()) for _ in range(5)}) > 1
        model.eval()
        assert torch.equal(scores_of(model), before) and torch.equal(model.calculate_loss(rows()), loss)

    def test_a_score_that_is_not_finite_is_an_error(self, model, tmp_path):
        with torch.no_grad():
            next(value for name, value in model.named_parameters() if value.dim() > 1)[1] = torch.nan
        with pytest.raises(TrainingError):
            ranks_of(scores_of(model), torch.tensor([1, 2, 3]))
        with pytest.raises(CheckpointError, match="not finite"):
            load_weights(model, write_model(model, tmp_path / "model.pth"), tmp_path / "model.pth")

    # -- saved and served ------------------------------------------------------------------------------------------

    def test_saved_and_loaded_it_scores_the_same(self, case, model, tmp_path):
        content, other = write_model(model, tmp_path / "model.pth"), make_model(case)
        assert not torch.equal(scores_of(other), scores_of(model))
        load_weights(other, content, tmp_path / "model.pth")
        torch.testing.assert_close(scores_of(other), scores_of(model), **NEAR)

    def test_without_recbole_it_is_served_by_the_network_that_its_class_names(self, case, model, tmp_path):
        file, model = tmp_path / "model.pth", model.float()
        content = write_model(model, file)
        if not case.is_served:
            assert not names_network(content)
            return
        network = load_model(network_maker(content, file), content, file).eval()
        assert type(network) in NETWORKS.values() and not hasattr(network, "predict")
        with torch.no_grad():
            states = network(HISTORIES, (HISTORIES > 0).sum(dim=1))
            torch.testing.assert_close(network.score(states), scores_of(model))
            torch.testing.assert_close(network.score_of(states, torch.tensor([4, 11, 1])),
                                       scores_of(model).gather(1, torch.tensor([[4], [11], [1]]))[:, 0])  # fmt: skip

    def test_step_by_step_it_answers_as_for_the_whole_history(self, model):
        recommender, history = Recommender(model, ITEMS), ["i5", "i1", "i5", "i7", "i2", "i9", "i1"]  # one more than L
        state = recommender.start()
        for item in history[1:]:
            state = recommender.add(state, item)
        step_by_step, at_once = recommender.top(state, 4), recommender.recommend(history, k=4, include_seen=True)
        assert [item for item, _ in step_by_step] == [item for item, _ in at_once]
        assert dict(step_by_step) == pytest.approx(dict(at_once), rel=1e-10)
        for row in HISTORIES:
            self._check_memory(model, row[row > 0].tolist())

    @pytest.mark.parametrize("include_seen", [True, False])
    def test_many_histories_are_answered_as_each_alone(self, model, include_seen):
        recommender, draw = Recommender(model, ITEMS), random.Random(3)
        histories = [draw.choices(ITEMS[1:], k=draw.randrange(1, 10)) for _ in range(40)]  # some are longer than L
        many = recommender.recommend_many(histories, 5, include_seen)
        for history, found in zip(histories, many, strict=True):
            alone = recommender.recommend(history, 5, include_seen)
            assert [item for item, _ in found] == [item for item, _ in alone]
            assert dict(found) == pytest.approx(dict(alone), rel=1e-5)

    @torch.no_grad()
    def _check_memory(self, model, history):
        output, memory = model.memory_of(history)
        after, one_by_one = None, model.first_memory()
        for item in history:
            after, one_by_one = model.next_memory(one_by_one, item)
        for at_once, stepped in zip((output, *memory), (after, *one_by_one), strict=True):
            torch.testing.assert_close(at_once, stepped, **NEAR)
        torch.testing.assert_close(model(torch.tensor([history]), torch.tensor([len(history)])), output, **NEAR)

    # -- config ----------------------------------------------------------------------------------------------------

    def test_an_unknown_key_is_refused_with_the_nearest_one(self, case):
        for key in ("n_layers", *model_spec(case.model).defaults):
            with pytest.raises(ConfigError, match=f"^config_dict: unknown config key {key}x; did you mean {key}"):
                RunConfig.read(case.model, "ml-drama", (), {f"{key}x": 2})

    def test_its_config_comes_back_from_yaml_and_from_a_checkpoint(self, case, tmp_path):
        run = RunConfig.read(case.model, "ml-drama", (), case.keys | {"n_layers": 3})
        assert run.values.items() >= (default_values(case.model) | case.keys | {"n_layers": 3}).items()
        lines = [f"{key}: {as_text(run[key])}" for key in default_values(case.model)]
        (tmp_path / "my.yaml").write_text("\n".join(lines) + "\n")
        assert dict(RunConfig.read(case.model, "ml-drama", [tmp_path / "my.yaml"]).values) == dict(run.values)
        text = config_to_json(recbole_config(run))
        again = config_from_json(text)
        assert again["model"] == case.model and again["n_layers"] == 3
        assert json.loads(config_to_json(again))["values"] == json.loads(text)["values"]
