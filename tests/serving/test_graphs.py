"""The modules that become ONNX graphs against the networks that they stand for, in float64: every network there is."""

import pytest
import torch
from support.model_cases import CASES, FULLEST, N_ITEMS, make_model

from recbole_metarec.model.saved_network import network_maker, network_to_json
from recbole_metarec.serving.graphs import graphs_of

NEAR = {"rtol": 1e-9, "atol": 1e-9}
LONGEST = 6
SERVED = [FULLEST, *(case for case in CASES if case.is_served)]


@pytest.fixture(params=SERVED, ids=str)
def network(request):
    """As it is deployed."""
    torch.manual_seed(2)
    model = make_model(request.param)
    items = ["[PAD]", *(f"i{number}" for number in range(1, N_ITEMS))]
    network = network_maker(
        {"network": network_to_json(model), "items": items, "state_dict": model.state_dict()}, "x"
    )()
    network.double().load_state_dict(model.deployed_weights())
    if getattr(network, "memory", None) is not None:
        network.lru_share.fill_(0.3)
        # the histories of six users were counted: what is asked with has pairs of them, and pairs of its own
        assert network.memory.pairs.counts.sum() > 100
    return network.eval()


def histories() -> list[list[int]]:
    torch.manual_seed(5)
    drawn = [torch.randint(1, N_ITEMS, (length,)).tolist() for length in (1, 2, 3, 4, 5, 6, 6, 6)]
    return [*drawn, [7, 7, 7, 7], [2, 3, 2, 3, 2, 3]]


def padded(rows: list[list[int]], in_front: bool) -> torch.Tensor:
    zeros = [[0] * (LONGEST - len(row)) for row in rows]
    return torch.tensor([zero + row if in_front else row + zero for row, zero in zip(rows, zeros)])


@torch.no_grad()
def test_a_whole_history_has_the_scores_of_the_network(network):
    graphs = graphs_of(network)
    expected = network.score(network(padded(histories(), False), torch.tensor([len(row) for row in histories()])))
    history = padded(histories(), True)
    found = graphs["history"].module(history)
    output = found[0] if isinstance(found, tuple) else found
    given = {"output": output, "history": history}
    scores = graphs["scores"].module(*(given[name] for name in graphs["scores"].inputs))
    torch.testing.assert_close(scores[:, 1:], expected[:, 1:], **NEAR)
    assert bool((scores[:, 0] == float("-inf")).all()) and scores[:, 1:].std() > 0.1


@torch.no_grad()
def test_event_by_event_it_comes_to_the_same_and_goes_on_beyond_the_longest(network):
    graphs = graphs_of(network)
    step, scores = graphs["step"], graphs["scores"]
    known = {name: torch.zeros_like(value[:1]) for name, value in step.inputs.items()}
    memory, events = network.first_memory(), [3, 1, 4, 1, 5, 9, 2, 6, 1, 3]  # four more than the longest history
    for count, item in enumerate(events, 1):
        known["item"] = torch.tensor([item])
        given = [known[name] for name in step.inputs]
        found = dict(zip(step.outputs, step.module(*given), strict=True))
        known |= {name.removeprefix("next_"): value for name, value in found.items()}
        state, memory = network.next_memory(memory, item)
        ours = scores.module(*(known[name] for name in scores.inputs))
        torch.testing.assert_close(ours[:, 1:], network.score(state)[:, 1:], **NEAR)
        if count <= LONGEST and "state" in known:
            at_once = graphs["history"].module(padded([events[:count]], True))[1]
            torch.testing.assert_close(known["state"], at_once, **NEAR)


def test_a_network_of_another_class_has_no_graphs(network):
    class Other(type(network)):
        pass

    network.__class__ = Other
    with pytest.raises(TypeError, match="Other"):
        graphs_of(network)
