"""Networks without RecBole: made of plain sizes, or of what old files say, they learn; that they score as the models do
is part of the contract, ``test_contract.py``."""

import json
from types import SimpleNamespace

import pytest
import torch
from support.model_cases import CASES, N_ITEMS, config_of, make_model
from support.tiny import FIELDS, random_batch
from support.worlds import PLAIN

# isort: split

from recbole_metarec.config.schema import default_values
from recbole_metarec.model.lru_network import LRUNetwork
from recbole_metarec.model.lrurec import LRURec
from recbole_metarec.model.saved_network import network_maker, network_to_json
from recbole_metarec.model.unisrec import UniSRec
from recbole_metarec.model.unisrec_network import UniSRecNetwork
from recbole_metarec.trainer.checkpoint import load_model


@pytest.mark.parametrize("name", ["LRURec", "UniSRec"])
def test_the_same_seed_draws_the_same_weights_with_and_without_recbole(name):
    """The names too, and their order, which optimisers go by."""
    sizes = {"embedding_size": 8, "n_layers": 2, "text_width": 6, "adaptor_experts": 3}
    config = default_values(name) | FIELDS | sizes | PLAIN
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


def loaded(content, file):
    file.write_bytes(bytes(10**6))  # as large as the sizes ask for
    return load_model(network_maker(content, file), content, file)


def content_of(model) -> dict:
    return {"items": [f"i{number}" for number in range(N_ITEMS)], "state_dict": model.deployed_weights()}


@pytest.mark.parametrize("case", [case for case in CASES if case.is_served and "memory" not in case.texts], ids=str)
def test_a_file_that_says_nothing_of_its_network_is_served_by_its_config(case, tmp_path):
    """As version 0.1.0 wrote it at first: RecBole's config alone."""
    model = make_model(case).float()
    values = {key: value for key, value in config_of(case).items() if key != "device"}
    content = content_of(model) | {"config": json.dumps({"model": case.model, "values": values})}
    network = loaded(content, tmp_path / "model.pth")
    told = {"name": type(network).__name__, "sizes": network.deployed_sizes()}
    assert told == json.loads(network_to_json(model))


def test_a_users_class_is_served_by_the_network_that_it_says_it_scores_as(tmp_path):
    class Same(LRURec):
        network = LRUNetwork

    model = Same(default_values("LRURec") | FIELDS | PLAIN, SimpleNamespace(num=lambda field: N_ITEMS))
    content = content_of(model) | {"network": network_to_json(model)}
    assert type(loaded(content, tmp_path / "model.pth")) is LRUNetwork
