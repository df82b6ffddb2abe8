"""How large the batches of sources are."""

import pytest
from support.worlds import run

from recbole_metarec.trainer.sources import events_of_a_source


@pytest.mark.parametrize(
    ("wanted", "transfer", "sources", "events"),
    [
        ("same", "meta", 7, 1024),
        ("auto", "meta", 7, 146),
        ("auto", "joint", 4, 256),
        ("auto", "pretrain", 4, 1024),
        ("auto", "meta", 5000, 1),
        (300, "meta", 7, 300),
        (300, "pretrain", 7, 300),
    ],
)
def test_how_many_events_a_source_has_in_a_step(wanted, transfer, sources, events):
    config = {"source_batch_size": wanted, "train_batch_size": 1024}
    assert events_of_a_source(config, transfer, sources) == events


def test_the_sources_of_a_step_have_the_target_s_number_between_them(shop):
    def events(**given) -> list[float]:
        made = run(shop, fit=False, train_batch_size=60, **given)
        made.trainer._set_up(made.train)
        return [mean_size(side.stream.batches) for side in made.trainer.sources]

    def mean_size(batches) -> float:
        sizes = [int((batch.targets > 0).sum()) for batch in batches.epoch(0)]
        return sum(sizes) / len(sizes)

    assert events(source_batch_size="auto") == pytest.approx([30, 30], rel=0.1)
    assert events() == pytest.approx([60, 60], rel=0.15) == events(source_batch_size=60)
