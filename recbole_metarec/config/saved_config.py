"""A run's settings as the JSON that its checkpoints hold."""

import json
import os

from recbole_metarec.config.schema import known_keys

# Config derives these anew from the rest and from the machine it is on.
_DERIVED = (
    "device",
    "MODEL_TYPE",
    "MODEL_INPUT_TYPE",
    "eval_type",
    "valid_metric_bigger",
    "single_spec",
    "local_rank",
    "train_neg_sample_args",
    "valid_neg_sample_args",
    "test_neg_sample_args",
    "model",
    "dataset",
    "data_path",
)
# A checkpoint may not decide that a pickle is read, nor that anything is sent to a service.
NOT_FROM_A_FILE = ("dataset_save_path", "dataloaders_save_path", "trust_pickle", "log_wandb")


def config_to_json(config, **deployed) -> str:
    """The settings of a Config of one of OUR_MODELS, with all defaults, so that later defaults do not change it.

    Objects that are no settings (added while running) are left out. deployed: what is different of keys that the
    model has, because it is no longer trained.
    """
    data_path = {**config.internal_config_dict, **config.external_config_dict}["data_path"]
    values, known = {"data_path": os.path.abspath(data_path)}, known_keys()
    for key, value in config.final_config_dict.items():
        if key not in known or key in _DERIVED or key in NOT_FROM_A_FILE:
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
