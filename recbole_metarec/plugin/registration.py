"""What RecBole sees of this package. The only place that touches RecBole's look-up tables.

Every hook acts for OUR_MODELS alone; with any other model RecBole behaves as it does without this package.
"""

import functools
import inspect
import sys

from recbole.config import Config

from recbole_metarec.config.recbole_files import recbole_models
from recbole_metarec.config.schema import OUR_MODELS, keys_in
from recbole_metarec.config.suggestions import nearest
from recbole_metarec.errors import ConfigError
from recbole_metarec.plugin.checkpoint_config import loader
from recbole_metarec.plugin.config import hook_config, nothing_unpickled


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
    hook_config()
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
    dataset_arguments.extend(sorted(keys_in("data") - set(dataset_arguments)))


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
