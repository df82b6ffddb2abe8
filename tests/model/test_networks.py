"""Networks without RecBole: made of plain sizes, they score as the RecBole models that wrap them do."""

import json
from types import SimpleNamespace

import pytest
import torch
from support.tiny import FIELDS, config_of, random_batch, tiny_metarec, tiny_unisrec

# isort: split
from recbole.data.interaction import Interaction

from recbole_metarec.config.schema import default_values
from recbole_metarec.errors import CheckpointError
from recbole_metarec.model.lru_network import LRUNetwork
from recbole_metarec.model.lrurec import LRURec
from recbole_metarec.model.saved_network import NETWORKS, network_maker, network_to_json
from recbole_metarec.model.unisrec import UniSRec
from recbole_metarec.model.unisrec_network import UniSRecNetwork
from recbole_metarec.trainer.checkpoint import load_model

USERS = torch.tensor([[3, 1, 4, 1], [5, 9, 2, 0], [6, 0, 0, 0]])
LENGTHS = (USERS > 0).sum(dim=1)
ROWS = Interaction({"item_id_list": USERS, "item_length": LENGTHS, "item_id": torch.tensor([4, 11, 1])})
FACES = {"LRURec": lambda: LRURec(config_of(), SimpleNamespace(num=lambda field: 12)).double(),
         "MetaRec": lambda: tiny_metarec()[0], "UniSRec": tiny_unisrec,
         "UniSRec, texts alone": lambda: tiny_unisrec("text")}  # fmt: skip


def content_of(model, **more) -> dict:
    """A checkpoint's content, float32 as all of them are."""
    model = model.float().eval()
    items = [f"i{number}" for number in range(model.n_items)]
    return {"items": items, "network": network_to_json(model), "state_dict": model.deployed_weights(), **more}


def served(content, tmp_path):
    file = tmp_path / "model.pth"
    file.write_bytes(bytes(10**6))  # as large as the sizes ask for
    return load_model(network_maker(content, file), content, file).eval()


@pytest.mark.parametrize("face", FACES)
@torch.no_grad()
def test_the_network_alone_scores_three_users_as_the_recbole_model_does(face, tmp_path):
    model = FACES[face]()
    network = served(content_of(model), tmp_path)
    assert not hasattr(network, "predict") and type(network) in NETWORKS.values()
    states = network(USERS, LENGTHS)
    assert torch.equal(network.score(states), model.full_sort_predict(ROWS))
    assert torch.equal(network.score_of(states, ROWS["item_id"]), model.predict(ROWS))
    for row, length in zip(USERS.tolist(), LENGTHS.tolist(), strict=True):
        mine, its = network.memory_of(row[:length]), model.memory_of(row[:length])
        assert torch.equal(network.score(mine[0]), model.score(its[0]))


@pytest.mark.parametrize("name", ["LRURec", "UniSRec"])
def test_the_same_seed_draws_the_same_weights_with_and_without_recbole(name):
    """The names too, and their order, which optimisers go by."""
    sizes = {"embedding_size": 8, "n_layers": 2, "text_width": 6, "adaptor_experts": 3}
    config = default_values(name) | FIELDS | sizes
    torch.manual_seed(3)
    model = {"LRURec": LRURec, "UniSRec": UniSRec}[name](config, SimpleNamespace(num=lambda field: 12))
    torch.manual_seed(3)
    if name == "LRURec":
        network = LRUNetwork(12, 8, 2, 6, ring=(config["lru_r_min"], config["lru_r_max"]))
    else:
        network = UniSRecNetwork(12, 8, 6, 6, 2, config["n_heads"], 3, True, 0.07)
    assert list(network.state_dict()) == list(model.state_dict())
    for key, value in model.state_dict().items():
        assert torch.equal(network.state_dict()[key], value), key


def test_a_network_learns_without_recbole():
    torch.manual_seed(0)
    network, batch = LRUNetwork(12, 8, 1, 6), random_batch(12)
    parameters = dict(network.named_parameters())
    first = network.target_loss(parameters, batch)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(30):
        optimizer.zero_grad()
        network.target_loss(parameters, batch).backward()
        optimizer.step()
    assert network.target_loss(parameters, batch) < 0.5 * first


@pytest.mark.parametrize("face", FACES)
def test_a_file_that_says_nothing_of_its_network_is_served_by_its_config(face, tmp_path):
    """As version 0.1.0 wrote it at first: RecBole's config alone."""
    model = FACES[face]()
    values = {"embedding_size": 8, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": 6}
    if face.startswith("UniSRec"):
        values |= {"n_layers": 2, "text_width": 6, "adaptor_experts": 3, "n_heads": 2, "score_temperature": 0.07}
        values["item_vectors"] = "text" if "alone" in face else "text_and_id"
    content = content_of(model, config=json.dumps({"model": type(model).__name__, "values": values}))
    told = json.loads(content.pop("network"))
    network = served(content, tmp_path)
    assert {"name": type(network).__name__, "sizes": network.deployed_sizes()} == told


def test_a_model_of_another_class_is_served_by_no_network_that_it_did_not_name(tmp_path):
    class Louder(LRURec):
        def score(self, states):
            return 2 * super().score(states)

    class Same(LRURec):
        network = LRUNetwork

    loud, same = (cls(config_of(), SimpleNamespace(num=lambda field: 12)) for cls in (Louder, Same))
    with pytest.raises(CheckpointError, match="names no network"):
        served(content_of(loud), tmp_path)
    assert type(served(content_of(same), tmp_path)) is LRUNetwork
