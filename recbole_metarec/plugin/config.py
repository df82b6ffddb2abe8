"""RecBole's Config, made of a RunConfig at the edge; and the same checks where a user calls RecBole himself.

This is imported while RecBole itself is, so RecBole is imported inside functions only.
"""

import functools
import logging
import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from recbole_metarec import processes
from recbole_metarec.config.model_names import model_name
from recbole_metarec.config.models import model_spec
from recbole_metarec.config.run_config import RunConfig, UserKeys
from recbole_metarec.config.schema import known_keys, unknown_key_error
from recbole_metarec.data.domains import find_domain
from recbole_metarec.errors import DataError
from recbole_metarec.plugin.gpu import check_gpu
from recbole_metarec.plugin.on_import import after


def recbole_config(run: RunConfig, data_may_be_absent: bool = False):
    """RecBole's Config for one run: its own defaults under those of ``run`` under what the user gave.

    Texts are taken as they are (RecBole would make ``[1]`` a list), and ``sys.argv`` is not read.
    data_may_be_absent: as for serving a saved model. Raises ConfigError for a GPU that is not there, else DataError if
    there is no data.
    """
    from recbole.config import Config

    config = Config.__new__(Config)
    config.run_config, config.data_may_be_absent = run, data_may_be_absent  # read by the hooks below
    config.__init__(run.model, run.dataset)
    del config.run_config, config.data_may_be_absent
    return config


@after("recbole.config.configurator")
def extend_config(configurator) -> None:
    """Make every Config of RecBole's check and complete what it is given for our models."""
    for name, hook in (
        ("_load_config_files", _remember_files),
        ("_load_variable_config_dict", _take_config_dict),
        ("_load_cmd_line", _read_arguments),
        ("_get_model_and_dataset", _name_model),
        ("_load_internal_config_dict", _lay_defaults),
        ("_set_default_parameters", _find_data),
        ("_init_device", _choose_device),
    ):
        _wrap(configurator.Config, name, hook)


def _wrap(Config, name: str, hook) -> None:
    original = getattr(Config, name)

    @functools.wraps(original)
    def wrapped(self, *args):
        return hook(original, self, *args)

    setattr(Config, name, wrapped)


def _remember_files(original, config, files):
    values = original(config, files)
    config.__dict__["_metarec_files"] = tuple(files or ())
    return values


def _take_config_dict(original, config, config_dict):
    """RecBole converts the texts in config_dict in place; the caller's dict stays as it was given."""
    if run := config.__dict__.get("run_config"):
        return dict(run.user.values)
    return original(config, dict(config_dict) if config_dict else config_dict)


def _read_arguments(original, config):
    return {} if "run_config" in config.__dict__ else original(config)


def _name_model(original, config, model, dataset):
    """RecBole knows a model by its name; a class of the user's, or where it is, becomes one."""
    given = config.external_config_dict.get("model") if model is None else model
    return original(config, model_name(given), dataset)


def _lay_defaults(original, config, model, model_class, dataset):
    """Lay our defaults over RecBole's, under what the user gave."""
    original(config, model, model_class, dataset)
    files = config.__dict__.pop("_metarec_files", ())
    run = config.__dict__.get("run_config")
    spec = model_spec(model)
    if run is None and (spec.is_ours or spec.model):
        run = _run_of(config, model, dataset, files)
    if run is None:
        return
    check_gpu(run)
    config.internal_config_dict.update(run.defaults)
    config.external_config_dict.update(run.user.values)
    for key in run.user.values if spec.is_ours else ():
        if (owner := known_keys()[key]) not in ("ours", "recbole", model):
            logging.getLogger().warning(f"{run.origin(key)}: {key} belongs to {owner}; it does nothing here")


def _run_of(config, model: str, dataset: str, files) -> RunConfig:
    """The RunConfig of what RecBole has read by itself: files, a dict, and the arguments of the program."""
    lines = UserKeys.read(files).origins
    user = UserKeys(config.file_config_dict, lines) | UserKeys.of(config.variable_config_dict, "config_dict")
    typed = dict(config.cmd_config_dict)
    for key in sorted(typed.keys() - known_keys(typed).keys()):
        # RecBole reads the arguments of whatever program runs it, so an unknown one may be that program's own
        logging.getLogger().warning(f"{unknown_key_error(key, f'--{key}')} (ignored: it may be this program's own)")
        del typed[key]
    return RunConfig.build(model, dataset, user | UserKeys.of(typed, "--{}"))


def _is_checked(config) -> bool:
    return model_spec(config.model).is_ours or "run_config" in config.__dict__


def _find_data(original, config) -> None:
    """Replace RecBole's data_path/NAME by the folder where the domain's files are, made ready if it is embedded."""
    data_path = config.final_config_dict["data_path"]
    if not _is_checked(config):
        return original(config)
    repeatable = config.final_config_dict["repeatable"]
    config.final_config_dict["repeatable"] = True  # what RecBole refuses of sequential models, our loaders do
    original(config)
    config.final_config_dict["repeatable"] = repeatable
    try:
        folder = find_domain(config.dataset, data_path)
    except DataError:
        if not config.__dict__.get("data_may_be_absent"):
            raise
        folder = Path(data_path)
    config.final_config_dict["data_path"] = str(folder.absolute() / config.dataset)


def _choose_device(original, config):
    """RecBole reads gpu_id alone; here ``use_gpu: False`` and ``device`` mean what they say."""
    if not _is_checked(config):
        return original(config)
    values = config.final_config_dict
    device, visible = values.get("device"), os.environ.get("CUDA_VISIBLE_DEVICES")
    torch.cuda.is_available()  # the driver reads CUDA_VISIBLE_DEVICES once: now, before RecBole overwrites it
    original(config)
    os.environ.pop("CUDA_VISIBLE_DEVICES")
    os.environ |= {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    if device is not None:
        values["device"] = torch.device(device)
    elif not values["use_gpu"]:
        values["device"] = torch.device("cpu")
    if values["device"] == torch.device("cuda"):
        values["device"] = _gpu(config)


def _gpu(config) -> torch.device:
    """Of several processes on a machine each has its own; else the one that the user asked for, or any."""
    if processes.started() > 1:
        torch.cuda.set_device(processes.on_machine())
        return torch.device("cuda", processes.on_machine())
    first = str(config.external_config_dict.get("gpu_id", "")).split(",")[0].strip("()[] ")
    return torch.device("cuda", int(first)) if first.isdigit() else torch.device("cuda")


@contextmanager
def nothing_unpickled(config):
    """Within, RecBole reads data from the data's own files.

    It would rather unpickle whatever an earlier run has left in ``checkpoint_dir``, also when the files have changed.
    """
    keys = ("dataset_save_path", "dataloaders_save_path")
    with TemporaryDirectory() as empty:
        for key in keys:
            config[key] = str(Path(empty) / key)
        try:
            yield
        finally:
            for key in keys:
                config[key] = None


def read_dataset(config):
    """RecBole's dataset for ``config``, from the data's own files. Raises DataError for a malformed one."""
    from recbole.data import create_dataset

    with nothing_unpickled(config):
        return create_dataset(config)


def split_dataset(config, dataset) -> tuple:
    """RecBole's (training, validation, test) loader of a dataset, cut anew and never unpickled."""
    from recbole.data import data_preparation

    with nothing_unpickled(config):
        return data_preparation(config, dataset)
