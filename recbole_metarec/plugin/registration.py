"""What RecBole sees of this package. The only place that touches RecBole's look-up tables.

Each hook names the module of RecBole that it extends, and runs as soon as that has been executed. It acts for
the models of the registry alone; with any other RecBole behaves as it does without this package.
"""

import functools
import inspect
import sys

from recbole_metarec import processes
from recbole_metarec.config.model_names import check_model, model_name
from recbole_metarec.config.models import ModelSpec, load, model_spec
from recbole_metarec.config.schema import keys_in
from recbole_metarec.errors import ConfigError
from recbole_metarec.plugin.checkpoint_config import loader
from recbole_metarec.plugin.config import nothing_unpickled
from recbole_metarec.plugin.on_import import after

_DATASET = "recbole_metarec.plugin.dataset:TransferDataset"
_LOADER = "recbole_metarec.plugin.loaders:SequenceLoader"
_EVAL_LOADER = "recbole_metarec.plugin.loaders:HistoryEvalLoader"


def _is_ours(model) -> bool:
    return model_spec(model_name(model) or "").is_ours


def _replace(original, replacement) -> None:
    """Put ``replacement`` wherever a RecBole module holds ``original`` under its name: imports by name copied it."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "recbole" and getattr(module, original.__name__, None) is original:
            setattr(module, original.__name__, replacement)


def _also_knows(package, ending: str, look_up) -> None:
    """Let a package of RecBole have a further attribute for each model of the registry, its name and an ``ending``.

    look_up: gives it for a ModelSpec, or None where there is none. It is asked when the attribute is: what it imports
    imports RecBole.
    """

    def attribute(name):
        is_asked_for = name.endswith(ending) and not name.startswith("_")
        value = look_up(model_spec(name.removesuffix(ending))) if is_asked_for else None
        if value is None:
            raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")
        return value

    package.__getattr__ = attribute


@after("recbole.model.sequential_recommender")
def _add_models(package) -> None:
    _also_knows(package, "", lambda spec: spec.model and spec.load_model())


@after("recbole.trainer")
def _add_trainers(package) -> None:
    _also_knows(package, "Trainer", ModelSpec.load_trainer)


@after("recbole.data.dataset")
def _add_datasets(package) -> None:
    _also_knows(package, "Dataset", lambda spec: load(_DATASET) if spec.is_ours else None)


@after("recbole.trainer.trainer")
def _curves_of_the_first_process(trainer) -> None:
    """Of several processes that train one model, the first keeps the curves."""
    original = trainer.get_tensorboard
    from torch.utils.tensorboard import SummaryWriter

    @functools.wraps(original)
    def get_tensorboard(logger):
        return original(logger) if processes.is_first() else SummaryWriter(processes.folder_of_its_own())

    trainer.get_tensorboard = get_tensorboard


@after("recbole.utils.argument_list")
def _add_data_keys(argument_list) -> None:
    known = argument_list.dataset_arguments
    known.extend(sorted(keys_in("data") - set(known)))


@after("recbole.utils.utils")
def _find_models(utils) -> None:
    """RecBole answers a name that it does not know with the first library that it lacks, such as lightgbm."""
    original = utils.get_model

    @functools.wraps(original)
    def get_model(model):
        name = model_name(model)
        spec = model_spec(str(name))
        if spec.model:
            return spec.load_model()
        try:
            return original(name)
        except (ValueError, ModuleNotFoundError) as error:
            try:
                check_model(name, "model", every_kind=True)
            except ConfigError as unknown:
                raise unknown from error
            raise

    _replace(original, get_model)


@after("recbole.data.utils")
def _choose_loaders(utils) -> None:
    original = utils.get_dataloader

    @functools.wraps(original)
    def get_dataloader(config, phase):
        if not _is_ours(config["model"]):
            return original(config, phase)
        return load(_LOADER if phase == "train" else _EVAL_LOADER)

    _replace(original, get_dataloader)


@after("recbole.data.utils")
def _read_no_pickles(utils) -> None:
    """RecBole unpickles a dataset and loaders that are in checkpoint_dir, whoever has put them there."""
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
                f"{model}; use nproc=1 and leave world_size alone; for several processes use "
                "torchrun --nproc_per_node=N -m recbole_metarec train"
            )
        return original(*args, **kwargs)

    _replace(original, run)
