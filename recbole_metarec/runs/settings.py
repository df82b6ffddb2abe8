"""The RunConfig of an experiment, and what a run folder keeps of it."""

from collections.abc import Mapping
from pathlib import Path

from recbole_metarec.config.model_names import check_model, model_name
from recbole_metarec.config.models import DEFAULT_MODEL, model_spec
from recbole_metarec.config.origins import origin_of
from recbole_metarec.config.own_models import is_reference
from recbole_metarec.config.run_config import RunConfig, UserKeys
from recbole_metarec.config.saved_config import BEFORE
from recbole_metarec.config.schema import key_reference, keys_in
from recbole_metarec.data.embedded import EMBEDDED_TARGET
from recbole_metarec.errors import CheckpointError, ConfigError
from recbole_metarec.files import model_file
from recbole_metarec.lazy import LazyModule
from recbole_metarec.runs.resume import given_to_run, saved_settings

weighting = LazyModule("recbole_metarec.trainer.weighting")  # it brings PyTorch


def make_run_config(model: str | type | None, dataset: str | None, user: UserKeys, resume=None) -> RunConfig:
    """What :func:`recbole_metarec.quick_start.run_experiment` runs for what the user gave, checked.

    model: a name, a class, or where that is. model, dataset: None for those among the user's keys, else of the run to
    ``resume``, else MetaRec and its embedded target. resume: of a run folder the keys that it was started with are
    under everything else, and keys whose defaults have changed since have those of then. Raises ConfigError.
    """
    saved, origin = {}, "model" if model else origin_of(user.origins, "model")
    model = model_name(model or user.values.get("model"), origin)
    if resume and resume is not True:
        user = UserKeys.of(given_to_run(resume), str(resume)) | user
        saved = saved_settings(resume)
    model = model or user.values.get("model") or DEFAULT_MODEL
    if isinstance(model, str):
        check_model(model, origin)
    dataset = dataset or user.values.get("dataset") or EMBEDDED_TARGET
    # a run also trains the baseline without transfer, where the model has one
    defaults = {"transfer_guard": True} if model_spec(model).without_transfer else {}
    if saved.get("model") == model and model_spec(model).is_ours:
        defaults |= {key: saved[key] for key in BEFORE.keys() & key_reference(model).keys()}
    run_config = RunConfig.build(model, dataset, user.without("model", "dataset"), defaults)
    _check_own_weighting(run_config, resume)
    return run_config


def _check_own_weighting(run_config: RunConfig, resume) -> None:
    """Imports the user's class that ``gradient_rescaling`` names. Raises ConfigError for what is none, and where the
    folder of a run alone names it: no folder decides which code is imported."""
    name = run_config.values.get("gradient_rescaling")
    if not is_reference(name):
        return
    if run_config.origin("gradient_rescaling") == str(resume):
        raise ConfigError(f"--resume: {resume} weights sources by a class of your own; add --gradient_rescaling={name}")
    weighting.weighting_of(name)


def repeatable_settings(config: Mapping, user: Mapping) -> dict:
    """Every key of RecBole's Config of a run as plain values, so that ``--config_files config.yaml`` repeats it.

    user: what the user gave. What is of this machine counts only where it was given.
    """
    values = {key: value for key, value in config.items() if key not in keys_in("derived", "machine")}
    values |= {key: user[key] for key in keys_in("machine") & user.keys()}
    if user.get("data_path"):
        values["data_path"] = str(Path(user["data_path"]).expanduser().absolute())
    if model_spec(config["model"]).kind == "sequential":
        return values | {"train_neg_sample_args": None}
    return values | {key: user[key] for key in ("train_neg_sample_args",) if key in user}


def memory_files(config: Mapping) -> list[Path]:
    """The model file that ``memory_from`` names, if it does: the run's result depends on it as on its data.

    Raises CheckpointError if there is none.
    """
    run = config.get("memory_from")
    if not run:
        return []
    file = model_file(run)
    if not file.is_file():
        raise CheckpointError(f"memory_from: {file}: no such file; give the folder of a finished run, or its model.pth")
    return [file]
