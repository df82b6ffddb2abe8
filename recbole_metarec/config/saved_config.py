"""A run's settings as they are saved: the JSON of its checkpoints, and what is read of those that lack later keys."""

import json
import os
from collections.abc import Mapping

from recbole_metarec.config.models import model_spec
from recbole_metarec.config.schema import default_values, keys_in, known_keys

# A key that did not exist when something was saved -> the value with which a run is as it was before.
BEFORE: dict[str, object] = {
    "text_space": "all",
    "text_whitening": True,
    "seen_offset": False,
    "item_memory": False,
    "source_batch_size": "same",
}


def with_later_keys(saved: Mapping, model: str) -> dict:
    """The saved settings of a model, completed by keys of this package's that did not exist when they were saved."""
    defaults = default_values(model) if model_spec(model).is_ours else {}
    return defaults | {key: BEFORE[key] for key in defaults.keys() & BEFORE.keys()} | dict(saved)


def config_to_json(config, **deployed) -> str:
    """The settings of a Config of a model of this package, with all defaults, so that later defaults do not change it.

    Objects that are no settings (added while running) are left out. deployed: what is different of keys that the
    model has, because it is no longer trained.
    """
    data_path = {**config.internal_config_dict, **config.external_config_dict}["data_path"]
    values, known = {"data_path": os.path.abspath(data_path)}, known_keys()
    left_out = keys_in("derived", "user_only") | {"device", "model", "dataset", "data_path"}
    for key, value in config.final_config_dict.items():
        if key not in known or key in left_out:
            continue
        try:
            json.dumps(value)
        except TypeError:
            continue
        values[key] = value
    values |= {key: value for key, value in deployed.items() if key in values}
    if "device" in config.external_config_dict:
        values["device"] = str(config["device"])
    given = [key for key in config.external_config_dict if key in values]
    return json.dumps({"model": config["model"], "dataset": config["dataset"], "given": given, "values": values})
