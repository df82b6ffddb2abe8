"""The simplest baselines, fitted beside a run in seconds: only a gain over these counts."""

import copy
from collections.abc import Iterator

from recbole.utils import get_model

from recbole_metarec.config.schema import common_keys, default_values
from recbole_metarec.runs.training import TrainedRun

REFERENCES = {"item-kNN": "ItemKNNDecay", "popularity": "SequentialPop"}  # as shown -> the model
MOST_EVENTS = 10**6  # of the target: beyond, the counts of all pairs of items may need more memory than the run did


def fitted_references(run: TrainedRun) -> Iterator[tuple[str, object]]:
    """(name, the model fitted with its default configuration on a run's data), none for a large target."""
    if len(run.train.dataset.inter_feat) > MOST_EVENTS:
        return
    for name, model in REFERENCES.items():
        own = {key: value for key, value in default_values(model).items() if key not in common_keys()}
        config = copy.copy(run.config)
        config.final_config_dict = {**run.config.final_config_dict, **own}
        yield name, get_model(model)(config, run.train.dataset).to(run.config["device"])
