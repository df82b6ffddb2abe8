"""With no key given the memory is on, on any target; what was saved before there was one is read as without it."""

import json

import pytest
import torch
import yaml
from support.same_runs import assert_same
from support.worlds import PLAIN, TINY, Run, write_domain, write_items

# isort: split
from recbole.quick_start import load_data_and_model
from recbole.trainer import Trainer

from recbole_metarec.config.models import register_model
from recbole_metarec.config.saved_config import BEFORE
from recbole_metarec.config.schema import default_values, key_reference
from recbole_metarec.evaluation.ranking import rank_all
from recbole_metarec.model.lru_network import LRUNetwork
from recbole_metarec.model.lrurec import LRURec
from recbole_metarec.model.metarec import MetaRec
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.serve import Recommender
from recbole_metarec.trainer.checkpoint import read_checkpoint, write_checkpoint
from recbole_metarec.trainer.trainer import TransferTrainer

pytestmark = pytest.mark.usefixtures("without_pictures")

QUIET = {"state": "ERROR", "show_progress": False, "device": "cpu"}
SMALL = {key: value for key, value in TINY.items() if key not in ("vq_heads", *PLAIN)} | QUIET
THEN = {key: value for key, value in BEFORE.items() if key in key_reference("LRURec")}
LATER = {*PLAIN, "memory_neighbours", "memory_form", "memory_texts", "memory_from", "memory_learning_rate", *THEN}


@pytest.mark.parametrize("model", ["LRURec", "MetaRec"])
def test_the_memory_and_the_offsets_ship(model):
    assert default_values(model).items() >= {"item_memory": True, "seen_offset": True}.items()
    assert BEFORE.items() >= PLAIN.items() and BEFORE.keys() <= key_reference("MetaRec").keys()


# -- any target --------------------------------------------------------------------------------------------------------

HANDFUL = [[1, 2, 3, 4, 5], [2, 3, 4, 1], [3, 1], [5, 2, 1]]
NO_PAIR = [[1, 1, 2, 3]]
WAYS = [
    (HANDFUL, {}), (NO_PAIR, {}), (NO_PAIR, {"text_alignment": True, "text_width": 4}), ([[1, 1, 1, 1]] * 2, {}),
    (HANDFUL, {"target_negatives": 2}), (HANDFUL, {"second_order": True}), (HANDFUL, {"epochs": 0}),
    (NO_PAIR, {"meta_transfer": "joint"}),
]  # fmt: skip


@pytest.mark.parametrize(("histories", "way"), WAYS, ids=str)
def test_the_smallest_targets_are_trained_resumed_saved_and_served(tmp_path, histories, way):
    write_domain(tmp_path, "Target", histories)
    write_domain(tmp_path, "Source", [[1, 2, 3], [2, 1], [3, 1, 2, 4]])
    for domain in ("Target", "Source"):
        write_items(tmp_path, domain, {item: f"thing {item}" for item in range(1, 6)})
    given = {key: value for key, value in SMALL.items() if key != "topk"}  # the default, which few items allow
    given |= way | {"data_path": str(tmp_path), "checkpoint_dir": str(tmp_path / "saved"), "vq_heads": 2}
    found = run_experiment("MetaRec", "Target", overrides=given | {"sources": ["Source"]})
    again = run_experiment(resume=found.run_dir)
    assert again.metrics == found.metrics and 0 <= found.metrics["test"]["ndcg@10"] <= 1
    _, model, _, _, _, test = load_data_and_model(found.run_dir / "model.pth")
    recommender = Recommender.load(found.run_dir / "model.pth")
    history = [recommender.items[0]] * 3
    served = dict(recommender.recommend(history, k=10, include_seen=True))
    rows = torch.tensor([[1, 1, 1]]), torch.tensor([3])
    scores = model.eval().score(model(*rows))[0]
    assert served == pytest.approx({item: float(score) for item, score in zip(recommender.items, scores[1:])})
    assert rank_all(model, test, torch.device("cpu")).min() >= 1


def test_metarec_without_sources_is_lrurec_to_the_bit_as_both_ship(shop):
    ours = Run(shop, "MetaRec", **SMALL, meta_transfer="none").fit(saved=False).weights()
    theirs = Run(shop, "LRURec", **SMALL).fit(saved=False).weights()
    assert "memory.item_bias" in ours
    assert_same(ours, theirs, "weights")


def test_recboles_own_trainer_lets_both_experts_count(shop, tmp_path):
    made = Run(shop, "LRURec", **SMALL, checkpoint_dir=str(tmp_path))
    Trainer(made.config, made.model).fit(made.train, None, verbose=False, saved=False)
    assert 0 < float(made.model.lru_share) < 1


# -- users' classes ----------------------------------------------------------------------------------------------------


def test_a_class_that_scores_in_a_way_of_its_own_has_the_states_of_the_encoder_alone(shop, monkeypatch):
    monkeypatch.setattr("recbole_metarec.config.models._REGISTERED", {})

    class Doubled(MetaRec):
        def forward(self, item_seq, item_seq_len):
            return 2 * super().forward(item_seq, item_seq_len)

    class Heir(Doubled):
        """Of one that is registered, or of one that is not."""

    class Same(LRURec):
        network = LRUNetwork

    for model, facts, ships in ((Heir, {}, False), (Doubled, {}, False), (Same, {}, True), (Heir, {}, False)):
        spec = register_model(model, **facts)
        assert {default_values(spec.name)[key] for key in PLAIN} == {ships}, model
    assert register_model(Doubled, defaults={"item_memory": True}).defaults["item_memory"] is True
    register_model(Doubled)
    sizes = SMALL | {"sources": ["Near"], "vq_heads": 2, "epochs": 1}
    made = Run(shop, "Doubled", **sizes).fit(saved=False)
    states = made.model(torch.tensor([[1, 2]]), torch.tensor([2]))
    assert states.shape == (1, 8) and 0 <= made.best_score <= 1


# -- what earlier releases left ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(shop):
    """A run of the published model."""
    given = SMALL | PLAIN | {"data_path": str(shop), "checkpoint_dir": str(shop / "plain")}
    return run_experiment("LRURec", "Target", overrides=given)


def without_later_keys(checkpoint, to) -> None:
    content = read_checkpoint(checkpoint)
    config = json.loads(content["config"])
    assert config["values"].keys() >= LATER
    config["values"] = {key: value for key, value in config["values"].items() if key not in LATER}
    config["given"] = [key for key in config["given"] if key not in LATER]
    write_checkpoint(to, content | {"config": json.dumps(config)})


def test_a_checkpoint_of_before_gives_the_same_answers(plain, tmp_path):
    old, new = tmp_path / "old.pth", plain.run_dir / "model.pth"
    without_later_keys(new, old)
    config, model, *_, test = load_data_and_model(old)
    assert {key: config[key] for key in THEN} == THEN
    assert (rank_all(model, test, torch.device("cpu")) == plain.parts[0].test_ranks).all()
    history = Recommender.load(new).items[:3]
    assert Recommender.load(old).recommend(history) == Recommender.load(new).recommend(history)


def test_a_run_of_before_goes_on_as_it_was(plain, shop, tmp_path, monkeypatch):
    original = TransferTrainer._after_validation

    def stopping(self, *args):
        original(self, *args)
        raise KeyboardInterrupt

    given = SMALL | PLAIN | {"data_path": str(shop), "checkpoint_dir": str(tmp_path / "saved")}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TransferTrainer, "_after_validation", stopping)
        run_experiment("LRURec", "Target", overrides=given)
    (run_dir,) = (tmp_path / "saved").iterdir()
    settings = yaml.safe_load((run_dir / "config.yaml").read_text())
    started = json.loads((run_dir / "started.json").read_text())
    assert settings.keys() >= LATER
    settings, started["given"] = (
        {key: value for key, value in values.items() if key not in LATER} for values in (settings, started["given"])
    )
    (run_dir / "config.yaml").write_text(yaml.safe_dump(settings))
    (run_dir / "started.json").write_text(json.dumps(started))
    found = run_experiment(resume=run_dir)
    weights = [read_checkpoint(folder / "model.pth")["state_dict"] for folder in (found.run_dir, plain.run_dir)]
    assert found.run_dir == run_dir and found.metrics["test"] == plain.metrics["test"]
    assert_same(*weights, "weights")
