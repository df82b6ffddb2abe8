"""What RecBole sees of this package. The only place that touches RecBole's look-up tables.

Every hook acts for OUR_MODELS alone; with any other model RecBole behaves as it does without this package.
"""

import functools
import inspect
import logging
import sys
from pathlib import Path

import torch
from recbole.config import Config

from recbole_metarec.config.checks import (
    OUR_MODELS,
    check_config,
    check_keys,
    default_values,
    known_keys,
    nearest,
    normalised,
    read_yaml,
    unknown_key_error,
)
from recbole_metarec.config.schema import recbole_models
from recbole_metarec.data.domains import find_domain, recbole_settings
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.plugin.checkpoint_config import loader
from recbole_metarec.plugin.config import (
    data_may_be_absent,
    nothing_unpickled,
    places_given,
)

# beyond RecBole's own, these change a dataset
_DATA_KEYS = ("sources", "exact_time", "data_path", "encoding")
_DATA_KEYS += ("text_columns", "text_encoder", "text_width", "text_space", "text_whitening")
_DATA_KEYS += ("drop_ratio", "pretrain_epochs")


def register() -> None:
    """Make RecBole know the models, datasets, loaders, trainers, defaults and checkpoints of this package.

    May be called again without effect.
    """
    if getattr(Config, "_metarec_registered", False):
        return
    Config._metarec_registered = True
    _register_models()
    _register_model_lookup()
    _register_datasets_and_trainers()
    _register_loaders()
    _register_reading()
    _register_config()
    _register_quick_start()


def _is_ours(model) -> bool:
    return (model if isinstance(model, str) else getattr(model, "__name__", None)) in OUR_MODELS


def _replace(original, replacement) -> None:
    """Put ``replacement`` wherever a RecBole module holds ``original`` under its name: imports by name copied it."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "recbole" and getattr(module, original.__name__, None) is original:
            setattr(module, original.__name__, replacement)


def _register_models() -> None:
    import recbole.model.sequential_recommender as package

    from recbole_metarec.model import lrurec, metarec, unisrec

    for name, module in (("LRURec", lrurec), ("MetaRec", metarec), ("UniSRec", unisrec)):
        # get_model asks find_spec for recbole's path of the model: it wants a real module with a __spec__
        sys.modules[f"{package.__name__}.{name.lower()}"] = module
        setattr(package, name.lower(), module)
        setattr(package, name, getattr(module, name))


def _register_model_lookup() -> None:
    """RecBole answers a name that it does not know with the first library that it lacks, such as lightgbm."""
    import recbole.utils.utils

    original = recbole.utils.utils.get_model

    @functools.wraps(original)
    def get_model(model_name):
        try:
            return original(model_name)
        except (ValueError, ModuleNotFoundError) as error:
            names = recbole_models()
            if model_name in names:
                raise
            guess = nearest(str(model_name), [*OUR_MODELS, *names])
            advice = f"did you mean {guess}?" if guess else f"use {' or '.join(OUR_MODELS)} or a model of RecBole"
            raise ConfigError(f"model: unknown model {model_name}; {advice}") from error

    _replace(original, get_model)


def _register_datasets_and_trainers() -> None:
    import recbole.data.dataset
    import recbole.trainer
    from recbole.utils.argument_list import dataset_arguments

    from recbole_metarec.plugin.dataset import TransferDataset
    from recbole_metarec.trainer.trainer import TransferTrainer
    from recbole_metarec.trainer.unisrec import TextTrainer

    for name in OUR_MODELS:
        setattr(recbole.data.dataset, f"{name}Dataset", TransferDataset)
        setattr(recbole.trainer, f"{name}Trainer", TextTrainer if name == "UniSRec" else TransferTrainer)
    dataset_arguments.extend(key for key in _DATA_KEYS if key not in dataset_arguments)


def _register_loaders() -> None:
    import recbole.data.utils
    from recbole.data.dataloader import FullSortEvalDataLoader

    from recbole_metarec.plugin.loaders import SequenceLoader

    original = recbole.data.utils.get_dataloader

    @functools.wraps(original)
    def get_dataloader(config, phase):
        if not _is_ours(config["model"]):
            return original(config, phase)
        return SequenceLoader if phase == "train" else FullSortEvalDataLoader

    _replace(original, get_dataloader)


def _register_reading() -> None:
    """RecBole unpickles a dataset and loaders that lie in checkpoint_dir, whoever has put them there."""
    import recbole.data.utils

    for original in (recbole.data.utils.create_dataset, recbole.data.utils.data_preparation):
        _replace(original, _from_its_files(original))


def _from_its_files(original):
    @functools.wraps(original)
    def read(config, *args):
        if not _is_ours(config["model"]):
            return original(config, *args)
        with nothing_unpickled(config):
            return original(config, *args)

    return read


def _register_quick_start() -> None:
    import recbole.quick_start

    _replace(recbole.quick_start.load_data_and_model, loader(recbole.quick_start.load_data_and_model))
    original = recbole.quick_start.run

    @functools.wraps(original)
    def run(*args, **kwargs):
        given = inspect.signature(original).bind(*args, **kwargs)
        given.apply_defaults()
        model = given.arguments["model"] or (given.arguments["config_dict"] or {}).get("model")
        if _is_ours(model) and (given.arguments["nproc"] != 1 or given.arguments["world_size"] > 0):
            raise ConfigError(
                "nproc: RecBole starts further processes without importing recbole_metarec, so they would not know "
                f"{model}; use nproc=1 and leave world_size alone"
            )
        return original(*args, **kwargs)

    _replace(original, run)


def _register_config() -> None:
    _wrap("_load_config_files", _remember_files)
    _wrap("_load_variable_config_dict", _copy_config_dict)
    _wrap("_load_internal_config_dict", _load_our_defaults)
    _wrap("_set_default_parameters", _find_data)
    _wrap("_init_device", _choose_device)


def _wrap(name: str, hook) -> None:
    original = getattr(Config, name)

    @functools.wraps(original)
    def method(self, *args):
        return hook(original, self, *args)

    setattr(Config, name, method)


def _remember_files(original, config, files):
    values = original(config, files)
    config.__dict__["_metarec_files"] = tuple(files or ())
    return values


def _copy_config_dict(original, config, config_dict):
    """RecBole converts the texts in config_dict in place; the caller's dict stays as it was given."""
    return original(config, dict(config_dict) if config_dict else config_dict)


def _load_our_defaults(original, config, model, model_class, dataset):
    """Lay our defaults over RecBole's, under what the user gave; then check what the user gave."""
    original(config, model, model_class, dataset)
    files = config.__dict__.pop("_metarec_files", ())
    if model not in OUR_MODELS:
        return
    defaults = config.internal_config_dict
    defaults.update(default_values(model))
    defaults.update({key: value for key, value in recbole_settings(dataset).items() if key in known_keys()})
    config.external_config_dict = normalised(config.external_config_dict, defaults)
    places = places_given.get()
    _check_external(config, {"dataset": dataset}, _external_places(config, files) if places is None else places)


def _external_places(config, files) -> dict[str, str]:
    places = {}
    for path in files:
        places.update({key: f"{path}:{line}" for key, line in read_yaml(path)[1].items()})
    places.update(dict.fromkeys(config.variable_config_dict, "config_dict"))
    places.update({key: f"--{key}" for key in config.cmd_config_dict})
    return places


def _check_external(config, names: dict, places: dict) -> None:
    external, known = config.external_config_dict, known_keys()
    chosen = {*config.file_config_dict, *config.variable_config_dict}
    for key in [key for key in external if key not in known and key not in chosen]:
        # RecBole reads the arguments of whatever program runs it, so an unknown one may be that program's own
        logging.getLogger().warning(f"{unknown_key_error(key, f'--{key}')} (ignored: it may be this program's own)")
    check_keys(chosen, places)
    for key in external:
        if known.get(key, "ours") not in ("ours", "recbole"):
            place = places.get(key, "defaults")
            logging.getLogger().warning(f"{place}: {key} belongs to {known[key]}; it does nothing here")
    check_config({**config.internal_config_dict, **external, **names}, places)


def _find_data(original, config):
    """Replace RecBole's data_path/NAME by the folder where the domain's files are, made ready if it is embedded."""
    given = config.final_config_dict["data_path"]
    original(config)
    if config.model not in OUR_MODELS:
        return
    try:
        folder = find_domain(config.dataset, given)
    except DataError:
        if not data_may_be_absent.get():
            raise
        folder = Path(given)
    config.final_config_dict["data_path"] = str(folder.absolute() / config.dataset)


def _choose_device(original, config):
    """RecBole reads gpu_id alone; here ``use_gpu: False`` and ``device`` mean what they say."""
    wanted = config.final_config_dict.get("device")
    original(config)
    if config.model not in OUR_MODELS:
        return
    if wanted is not None:
        config.final_config_dict["device"] = torch.device(wanted)
    elif not config.final_config_dict["use_gpu"]:
        config.final_config_dict["device"] = torch.device("cpu")
