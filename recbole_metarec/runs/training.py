"""From names to a trained model in a run folder, new or resumed: what quick_start's functions begin with."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

from colorlog import ColoredFormatter
from recbole.config import Config
from recbole.utils import get_model, get_trainer, init_logger, init_seed
from recbole.utils.logger import RemoveColorFilter

from recbole_metarec.config.checks import OUR_MODELS
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.config.yaml_files import read_yaml
from recbole_metarec.data.domains import find_domain
from recbole_metarec.data.embedded import EMBEDDED_TARGET
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.files import data_fingerprint, write_csv
from recbole_metarec.plugin.baseline_resume import RecBoleProgress
from recbole_metarec.plugin.baselines import check_depth, load_data, prepare_s3rec, protocol_overrides
from recbole_metarec.plugin.config import build_config, read_dataset, split_dataset
from recbole_metarec.plugin.dataset import reads_texts
from recbole_metarec.runs.resume import RunStart, given_to_run, opened_run
from recbole_metarec.trainer.trainer import TransferTrainer


@dataclass
class TrainedRun:
    """RecBole's objects, the source domains that were read, and the training data's fingerprint.

    progress: what keeps the state of one of RecBole's trainers; None for ours, which keep it themselves.
    """

    config: Config
    train: object
    valid: object
    test: object
    sources: tuple
    data: str
    run_dir: Path | None = None
    trainer: object = None
    progress: RecBoleProgress | None = None


@contextmanager
def trained(model: str | None, dataset: str | None, config_files, overrides: dict, resume=None) -> Iterator[TrainedRun]:
    """A run whose training is done; while this is open, its folder is no other process's."""
    if not isinstance(overrides, dict):
        raise ConfigError(f"overrides: {overrides!r} are no config keys; give a dict: {{'epochs': 5}}")
    in_files = {key: value for path in config_files for key, value in read_yaml(path)[0].items()}
    earlier = given_to_run(resume) if resume and resume is not True else {}
    names = earlier.pop("model", "MetaRec"), earlier.pop("dataset", EMBEDDED_TARGET)
    model, dataset = model or names[0], dataset or names[1]
    overrides = {key: value for key, value in earlier.items() if key not in in_files} | overrides
    given = in_files | overrides
    config = build_config(model, dataset, config_files, _completed(model, dataset, given, overrides))
    settings = _own_settings(config, given)
    given |= {key: settings[key] for key in ("data_path",) if key in given}  # absolute
    _open_log(config)
    run = _read(config)
    opened = opened_run(config["checkpoint_dir"], RunStart(settings, given, run.data), resume)
    with opened as run.run_dir, _told_how_to_go_on(run.run_dir):
        _fit(run)
        yield run


def _read(config) -> TrainedRun:
    model = config["model"]
    init_seed(config["seed"], config["reproducibility"])
    if model in OUR_MODELS:
        data = read_dataset(config)
        getLogger().info(data)
        loaders = split_dataset(config, data)
        sources = loaders[0].dataset.read_ahead()
    else:
        loaders = load_data(config)
        sources = ()
        check_depth(config, loaders[0].dataset)
    return TrainedRun(config, *loaders, sources, data_fingerprint(_data_files(config, sources)))


def _fit(run: TrainedRun) -> None:
    config, run_dir, model = run.config, run.run_dir, run.config["model"]
    config["checkpoint_dir"] = str(run_dir)
    file = run_dir / "model.pth"
    state = file.with_name("model-last.pth")
    init_seed(config["seed"], config["reproducibility"])
    if model == "S3Rec":
        prepare_s3rec(config, run.train, run_dir, reuse=state.exists())
    net = get_model(model)(config, run.train.dataset).to(config["device"])
    getLogger().info(net)
    run.trainer = trainer = get_trainer(config["MODEL_TYPE"], model)(config, net)
    trainer.saved_model_file = str(file)
    if isinstance(trainer, TransferTrainer):
        if state.exists():
            trainer.resume_checkpoint(file)
        trainer.record = lambda: _write_histories(run_dir, trainer.history, trainer.source_history)
        trainer.fit(run.train, run.valid, show_progress=config["show_progress"])
        return
    run.progress = RecBoleProgress(trainer, run.train, state, lambda: _write_histories(run_dir, run.progress.rows, []))
    run.progress.resume()
    if not run.progress.is_finished:
        trainer.fit(run.train, run.valid, show_progress=config["show_progress"], callback_fn=run.progress)


@contextmanager
def _told_how_to_go_on(run_dir: Path) -> Iterator[None]:
    advice = f"recbole-metarec train --resume {run_dir} goes on from the last checkpoint"
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(advice) from None
    except BrokenPipeError:  # whoever read our output has gone
        raise
    except (DataError, OSError) as error:  # of a disk that is full or may not be written to
        text = f"{error.filename or run_dir}: {error.strerror or error}" if isinstance(error, OSError) else str(error)
        raise DataError(f"{text}; nothing that was written before is lost: {advice}") from error


def settled_config(model: str, dataset: str, overrides: dict) -> dict:
    """Every key that :func:`run_experiment` would run with, defaults included, as plain values; nothing is run.

    Raises MetaRecError as it does for a mistake in what was given.
    """
    return _own_settings(build_config(model, dataset, (), _completed(model, dataset, overrides, overrides)), overrides)


def _completed(model: str, dataset: str, given: dict, overrides: dict) -> dict:
    """The user's overrides and, where neither they nor the files say otherwise (``given``), what a run needs."""
    if model not in OUR_MODELS:
        protocol = protocol_overrides(model, dataset, given)
        place = find_domain(dataset, given.get("data_path") or DEFAULT_DATA_PATH)
        return protocol | overrides | {"data_path": str(place)}
    extra = {"transfer_guard": True} if model == "MetaRec" else {}
    return {key: value for key, value in extra.items() if key not in given} | overrides


def _open_log(config) -> None:
    """RecBole's log for this run; the file of an earlier run in this process would swallow it."""
    root = getLogger()
    for handler in root.handlers[:]:
        if any(isinstance(rule, RemoveColorFilter) for rule in handler.filters) or isinstance(
            handler.formatter, ColoredFormatter
        ):
            root.removeHandler(handler)
            handler.close()
    init_logger(config)


def _own_settings(config, given: dict) -> dict:
    """What the user may set, as plain values, so that ``--config_files config.yaml`` repeats the run."""
    derived = {"MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "device", "single_spec", "local_rank", "data_path"}
    derived |= {"valid_metric_bigger", "valid_neg_sample_args", "test_neg_sample_args", "checkpoint_dir"}
    derived |= {"MASK_INDEX", "MASK_ITEM_SEQ", "POS_ITEMS", "NEG_ITEMS"}  # written there by RecBole's BERT4Rec loader
    derived |= {"gpu_id", "use_gpu"}  # a default here, a wish that may fail elsewhere
    values = {key: value for key, value in config.final_config_dict.items() if key not in derived}
    values |= {key: given[key] for key in ("device", "gpu_id", "use_gpu", "checkpoint_dir") if key in given}
    if given.get("data_path"):
        values["data_path"] = str(Path(given["data_path"]).expanduser().absolute())
    return values | {"train_neg_sample_args": None}


def _data_files(config, sources) -> list[Path]:
    target = Path(config["data_path"]) / f"{config['dataset']}.inter"
    texts = [".item"] * reads_texts(config)
    # RecBole's models read what load_col names, and without it whatever is there
    columns = config["load_col"] if config["load_col"] is not None else ("user", "item")
    read = [".inter", *texts, *sorted({f".{kind}" for kind in columns} - {".inter", *texts})]
    files = [target.with_suffix(ending) for ending in read]
    files += [source.path.with_suffix(ending) for source in sources for ending in (".inter", *texts)]
    return [path for path in files if path.suffix == ".inter" or path.is_file()]  # a source may have no texts


def _write_histories(run_dir: Path, history: list[dict], source_history: list[dict]) -> None:
    write_csv(run_dir / "history.csv", history)
    if source_history:
        write_csv(run_dir / "sources.csv", source_history)
