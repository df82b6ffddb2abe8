"""A meta step whose sources, and whose target's passes, go through the encoder in groups of any size."""

import pytest
import torch
from support.tiny import no_streams, random_batch, step_on, two_sides

from recbole_metarec.trainer import transfer_step


@pytest.mark.parametrize("given", [
    {}, {"second_order": True}, {"second_order": True, "inner_steps": 2},
    {"second_order": True, "target_batch": "split"},
])  # fmt: skip
def test_a_step_is_the_same_however_its_passes_are_grouped(given, monkeypatch):
    """The target's batch is larger than the sources', so fewer of its passes go through the encoder together. Three
    rows are too few to be dealt out to three sources."""
    model, *sides, _ = two_sides()
    sides.append(two_sides()[2])
    for side in sides:
        side.batches = [random_batch(10, (2, 1))]
    batch, found = random_batch(12, (5, 5, 4)), []
    for inputs in (1, 4, 28, 1000):
        monkeypatch.setattr(transfer_step, "INPUTS_A_PASS", inputs)
        step, parameters, _ = step_on(model, sides, alpha=0.3, **given)
        result = step(parameters, batch, no_streams)
        found.append((list(result.gradient.values()), result.source_gradients, result.measured))
    for one in found[1:]:
        torch.testing.assert_close(one, found[0])
