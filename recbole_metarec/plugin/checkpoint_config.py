"""A checkpoint made a Config and a model again, and RecBole's ``load_data_and_model`` for our checkpoints.

Reading one runs no code that the file could bring: tensors are read with ``weights_only``, the config is JSON, the
model's name must be one of ours, and keys that name pickles are not taken from the file.
"""

import functools
import hashlib
import json
import pickle
from contextlib import nullcontext
from logging import getLogger
from pathlib import Path

import torch

from recbole_metarec.config.model_names import check_model
from recbole_metarec.config.models import load, model_spec
from recbole_metarec.config.run_config import RunConfig, UserKeys
from recbole_metarec.config.saved_config import with_later_keys
from recbole_metarec.config.schema import keys_in
from recbole_metarec.errors import CheckpointError, ConfigError, DataError
from recbole_metarec.plugin.config import read_dataset, recbole_config, split_dataset
from recbole_metarec.plugin.recbole_checkpoint import load_recbole_checkpoint, trusted_pickles
from recbole_metarec.trainer.checkpoint import load_model, load_weights, read_checkpoint

_FILLED = "recbole_metarec.plugin.frames:filled_by_our_reader"  # its module imports RecBole


def config_from_json(text: str, data_path: str | None = None, data_may_be_absent: bool = True):
    """The Config that ``config_to_json`` wrote, on this machine: its devices, and its data where it is found.

    data_path: the folder with NAME/NAME.inter, if it is no longer where it was.
    Raises CheckpointError for text that is not such a config; DataError if ``data_path`` is no folder, or the data is
    missing and may not be.
    """
    if data_path is not None and not Path(data_path).expanduser().is_dir():
        raise DataError(f"data_path: {data_path} is not a folder; give the folder that holds NAME/NAME.inter")
    try:
        saved = json.loads(text)
        model, dataset, given, values = (saved[key] for key in ("model", "dataset", "given", "values"))
        values = {key: value for key, value in values.items() if key not in keys_in("user_only")}
        check_model(model, "config")
        if not isinstance(dataset, str) or Path(dataset).name != dataset:
            raise CheckpointError(f"config: {dataset!r} is not the name of a dataset; take another checkpoint")
        values = with_later_keys(values, model)
        if data_path is not None:
            values["data_path"] = data_path
        if str(values.get("device")).startswith("cuda") and not torch.cuda.is_available():
            values.pop("device")
        # gpu_id is no wish of this machine's user, and the data folder may have gone: neither is asked for here
        user = UserKeys(values, dict.fromkeys(values.keys() - {"gpu_id", "data_path"}, "config"))
        config = recbole_config(RunConfig.build(model, dataset, user), data_may_be_absent)
    except (CheckpointError, DataError):
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = str(error) if isinstance(error, ConfigError) else "not a config that this package wrote"
        raise CheckpointError(f"checkpoint: {message}; take another checkpoint") from error
    config.external_config_dict = {key: values[key] for key in given if key in values}
    return config


def loader(original):
    """RecBole's ``load_data_and_model``, which also knows this package's checkpoints.

    trust_pickle: whether a file of RecBole's that this user did not write here may run what it holds.
    """

    @functools.wraps(original)
    def load_data_and_model(model_file, trust_pickle=False):
        try:
            checkpoint = read_checkpoint(model_file)
        except CheckpointError as error:
            if not isinstance(error.__cause__, pickle.UnpicklingError):
                raise
            return _unpickle(original, model_file, trust_pickle)
        return _rebuild(checkpoint, model_file)

    del load_data_and_model.__wrapped__  # its signature is this one
    return load_data_and_model


def _unpickle(original, model_file, trust_pickle: bool):
    """RecBole's own format is a pickle, which may run any code: only of this user's making or on the user's word."""
    load_recbole_checkpoint(model_file, "cpu", trust_pickle)  # raises CheckpointError unless it may be read
    with trusted_pickles():
        return original(model_file)


def _rebuild(checkpoint: dict, model_file):
    """(config, model, dataset, train, valid, test) of a checkpoint of this package."""
    from recbole.utils import init_logger, init_seed

    config = config_from_json(checkpoint.get("config"), data_may_be_absent=False)
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    getLogger().info(config)
    with nullcontext() if model_spec(config["model"]).is_ours else load(_FILLED)():
        dataset = read_dataset(config)
    train, valid, test = split_dataset(config, dataset)
    return config, saved_model(config, train.dataset, checkpoint, model_file), dataset, train, valid, test


def saved_model(config, train, checkpoint: dict, file):
    """The model of a checkpoint of this package. train: the training part of the data that its config names.

    A model that is fitted has no weights in the file and is fitted again. Raises CheckpointError for weights of another
    model, and where users or items have other names than they had.
    """
    from recbole.utils import get_model, init_seed

    spec = model_spec(config["model"])
    if spec.pretrains:
        config["train_stage"] = "pretrain"  # in the other stage it would read a further file
    if not spec.is_fitted and checkpoint.get("names", names_of(train)) != names_of(train):
        raise CheckpointError(f"{file}: the users or items of {config['dataset']} have changed since; train again")
    init_seed(config["seed"], config["reproducibility"])

    def make():
        return get_model(config["model"])(config, train)

    model = load_model(make, checkpoint, file) if spec.is_ours and not spec.is_fitted else make()
    if not spec.is_ours:
        load_weights(model, checkpoint, file)
    model = model.to(config["device"])
    model.load_other_parameter(checkpoint.get("other_parameter"))
    return model


def names_of(dataset) -> str:
    """A fingerprint of the users and items of a dataset in the order of their numbers."""
    names = (dataset.field2id_token[field].tolist() for field in (dataset.uid_field, dataset.iid_field))
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()
