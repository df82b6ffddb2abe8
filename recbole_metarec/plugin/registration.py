"""What RecBole sees of this package. The only place that touches RecBole's look-up tables.

Each hook names the module of RecBole that it extends, and runs as soon as that has been executed. It acts for
OUR_MODELS alone; with any other model RecBole behaves as it does without this package.
"""

import functools
import importlib
import inspect
import sys

from recbole_metarec.config.recbole_files import recbole_models
from recbole_metarec.config.schema import OUR_MODELS, keys_in
from recbole_metarec.config.suggestions import nearest
from recbole_metarec.errors import ConfigError
from recbole_metarec.plugin.checkpoint_config import loader
from recbole_metarec.plugin.config import nothing_unpickled
from recbole_metarec.plugin.on_import import after

_MODELS = {name: f"recbole_metarec.model.{name.lower()}:{name}" for name in OUR_MODELS}
_TRAINERS = {
    "LRURecTrainer": "recbole_metarec.trainer.trainer:TransferTrainer",
    "MetaRecTrainer": "recbole_metarec.trainer.trainer:TransferTrainer",
    "UniSRecTrainer": "recbole_metarec.trainer.unisrec:TextTrainer",
}


def _is_ours(model) -> bool:
    return (model if isinstance(model, str) else getattr(model, "__name__", None)) in OUR_MODELS


def _replace(original, replacement) -> None:
    """Put ``replacement`` wherever a RecBole module holds ``original`` under its name: imports by name copied it."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "recbole" and getattr(module, original.__name__, None) is original:
            setattr(module, original.__name__, replacement)


def _look_up(path: str):
    """What ``package.module:Name`` names. It imports RecBole, so it is asked for only when RecBole needs it."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _also_knows(package, paths: dict[str, str]) -> None:
    """Let a package of RecBole have further attributes, which are imported when they are first asked for."""

    def look_up(name):
        if name in paths:
            return _look_up(paths[name])
        raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")

    package.__getattr__ = look_up


@after("recbole.model.sequential_recommender")
def _add_models(package) -> None:
    _also_knows(package, _MODELS)


@after("recbole.trainer")
def _add_trainers(package) -> None:
    _also_knows(package, _TRAINERS)


@after("recbole.data.dataset")
def _add_datasets(package) -> None:
    _also_knows(package, {f"{name}Dataset": "recbole_metarec.plugin.dataset:TransferDataset" for name in OUR_MODELS})


@after("recbole.utils.argument_list")
def _add_data_keys(argument_list) -> None:
    known = argument_list.dataset_arguments
    known.extend(sorted(keys_in("data") - set(known)))


@after("recbole.utils.utils")
def _find_models(utils) -> None:
    """RecBole answers a name that it does not know with the first library that it lacks, such as lightgbm."""
    original = utils.get_model

    @functools.wraps(original)
    def get_model(model_name):
        if model_name in _MODELS:
            return _look_up(_MODELS[model_name])
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


@after("recbole.data.utils")
def _choose_loaders(utils) -> None:
    original = utils.get_dataloader

    @functools.wraps(original)
    def get_dataloader(config, phase):
        if not _is_ours(config["model"]):
            return original(config, phase)
        if phase == "train":
            return _look_up("recbole_metarec.plugin.loaders:SequenceLoader")
        return utils.FullSortEvalDataLoader

    _replace(original, get_dataloader)


@after("recbole.data.utils")
def _read_no_pickles(utils) -> None:
    """RecBole unpickles a dataset and loaders that lie in checkpoint_dir, whoever has put them there."""
    for original in (utils.create_dataset, utils.data_preparation):
        _replace(original, _from_its_files(original))


def _from_its_files(original):
    @functools.wraps(original)
    def read(config, *args):
        if not _is_ours(config["model"]):
            return original(config, *args)
        with nothing_unpickled(config):
            return original(config, *args)

    return read


@after("recbole.quick_start.quick_start")
def _load_our_checkpoints(quick_start) -> None:
    _replace(quick_start.load_data_and_model, loader(quick_start.load_data_and_model))


@after("recbole.quick_start.quick_start")
def _refuse_more_processes(quick_start) -> None:
    original = quick_start.run

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
