"""From names to a trained model in a run folder, new or resumed: what quick_start's functions begin with."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

from recbole.config import Config
from recbole.utils import get_model, get_trainer, init_seed

from recbole_metarec import processes
from recbole_metarec.config.models import model_spec
from recbole_metarec.config.run_config import RunConfig, UserKeys
from recbole_metarec.config.sources import source_names
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.files import data_fingerprint, write_csv
from recbole_metarec.plugin.baseline_resume import RecBoleProgress
from recbole_metarec.plugin.baselines import load_data, prepare_pretrained, warn_of_unread_keys
from recbole_metarec.plugin.config import read_dataset, recbole_config, split_dataset
from recbole_metarec.plugin.dataset import reads_texts
from recbole_metarec.runs.log import open_log
from recbole_metarec.runs.resume import RunStart, opened_run
from recbole_metarec.runs.settings import make_run_config, memory_files, repeatable_settings
from recbole_metarec.trainer.trainer import TransferTrainer
from recbole_metarec.trainer.weighting import WEIGHTINGS


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
def trained(run_config: RunConfig, resume=None) -> Iterator[TrainedRun]:
    """A run whose training is done; while this is open, its folder is no other process's.

    Several processes that were started together train one model: the first writes and speaks.
    """
    _check_processes(run_config)
    config = recbole_config(run_config)
    with processes.joined(config["device"]):
        yield from _trained(run_config, config, resume)


def _trained(run_config: RunConfig, config, resume) -> Iterator[TrainedRun]:
    user = dict(run_config.user.values)
    settings = repeatable_settings(config.final_config_dict, user)
    user |= {key: settings[key] for key in ("data_path",) if key in user}  # absolute
    warn_of_unread_keys(run_config)
    open_log(config)
    run = _read(config)
    _check_shares(run)
    with ExitStack() as stack:
        opened = opened_run(config["checkpoint_dir"], RunStart(settings, user, run.data), resume)
        run.run_dir = processes.from_first(lambda: stack.enter_context(opened))
        stack.enter_context(_with_resume_hint(run.run_dir))
        _fit(run)
        yield run


def _check_processes(run_config: RunConfig) -> None:
    """Raises ConfigError for what several processes cannot train together."""
    spec = model_spec(run_config.model)
    if processes.started() == 1:
        return
    if spec.is_own or spec.load_trainer() is not TransferTrainer:
        raise ConfigError(f"{spec.name} trains in one process; start it without torchrun")
    name = run_config.values.get("gradient_rescaling", "uniform")
    if name not in WEIGHTINGS:
        raise ConfigError(
            f"gradient_rescaling: {name} may ask for the gradients of all sources, which are in several processes; "
            "start it without torchrun, or use similarity or uniform"
        )


def _check_shares(run: TrainedRun) -> None:
    """Raises ConfigError where a process would have no source, DataError where they do not read the same data."""
    if 0 < len(run.sources) < processes.count():
        raise ConfigError(
            f"{processes.count()} processes share out {len(run.sources)} sources: start at most that many processes"
        )
    if len(set(processes.gathered(run.data))) > 1:
        raise DataError(f"{run.config['data_path']}: not the same on all machines; copy the domains to each of them")


def _read(config) -> TrainedRun:
    model = config["model"]
    init_seed(config["seed"], config["reproducibility"])
    if model_spec(model).is_ours:
        data = read_dataset(config)
        getLogger().info(data)
        loaders = split_dataset(config, data)
        sources = loaders[0].dataset.read_ahead()
        _tell_of(sources, config)
    else:
        loaders = load_data(config)
        sources = ()
    return TrainedRun(config, *loaders, sources, data_fingerprint(_data_files(config, sources)))


def _tell_of(sources: tuple, config) -> None:
    """Which sources there are, what they will cost, and how to do without them."""
    if not sources:
        return
    chosen = " (those that the target comes with; --sources none for no transfer)"
    chosen = chosen if source_names(config["sources"]) == "auto" else ""
    times = 1 + len(sources) * config["inner_steps"] if config["inner_steps"] else 1
    cost = f"an epoch takes about {times} times as long as without them"
    if config["pretrain_epochs"] and (model_spec(config["model"]).requires_texts or _pretrains(config)):
        cost = f"{config['pretrain_epochs']} passes over them come before the first epoch"
    elif config["second_order"]:
        cost += ", and several times that with second_order"
    getLogger().info(f"sources: {', '.join(source.name for source in sources)}{chosen}; {cost}")


def _pretrains(config) -> bool:
    return config["meta_transfer"] == "pretrain"


def _fit(run: TrainedRun) -> None:
    config, run_dir, model = run.config, run.run_dir, run.config["model"]
    config["checkpoint_dir"] = str(run_dir)
    file = run_dir / "model.pth"
    state = file.with_name("model-last.pth")
    init_seed(config["seed"], config["reproducibility"])
    if model_spec(model).pretrains:
        prepare_pretrained(config, run.train, run_dir, reuse=state.exists())
    net = get_model(model)(config, run.train.dataset).to(config["device"])
    getLogger().info(net)
    run.trainer = trainer = get_trainer(config["MODEL_TYPE"], model)(config, net)
    trainer.saved_model_file = str(file)
    if isinstance(trainer, TransferTrainer):
        if processes.from_first(state.exists):
            trainer.resume_checkpoint(file)
        if processes.is_first():
            trainer.log.on_change = lambda: _write_histories(run_dir, trainer.log.history, trainer.log.source_history)
        trainer.fit(run.train, run.valid, show_progress=config["show_progress"])
        return
    bars = config["show_progress"] and sys.stderr.isatty()
    run.progress = RecBoleProgress(trainer, run.train, state, lambda: _write_histories(run_dir, run.progress.rows, []))
    run.progress.resume()
    if not run.progress.is_finished:  # what RecBole would save is a pickle
        trainer.fit(run.train, run.valid, saved=False, show_progress=bars, callback_fn=run.progress)
    if not file.exists():  # without an epoch there was no best one
        run.progress.deploy()


@contextmanager
def _with_resume_hint(run_dir: Path) -> Iterator[None]:
    advice = f"recbole-metarec train --resume {run_dir} continues from the last checkpoint"
    try:
        yield
    except KeyboardInterrupt as stop:
        raise type(stop)(advice) from None
    except BrokenPipeError:  # the reader of our output has gone
        raise
    except (DataError, OSError) as error:  # of a disk that is full or may not be written to
        text = f"{error.filename or run_dir}: {error.strerror or error}" if isinstance(error, OSError) else str(error)
        raise DataError(f"{text}; nothing that was written before is lost: {advice}") from error


def settled_config(model: str, dataset: str, overrides: dict) -> dict:
    """Every key that :func:`run_experiment` would run with, defaults included, as plain values; nothing is run.

    Raises MetaRecError as it does for a mistake in the arguments.
    """
    run_config = make_run_config(model, dataset, UserKeys.read((), overrides))
    return repeatable_settings(recbole_config(run_config).final_config_dict, run_config.user.values)


def _data_files(config, sources) -> list[Path]:
    target = Path(config["data_path"]) / f"{config['dataset']}.inter"
    texts = [".item"] * reads_texts(config)
    # RecBole's models read what load_col names, and without it whatever is there
    columns = config["load_col"] if config["load_col"] is not None else ("user", "item")
    read = [".inter", *texts, *sorted({f".{kind}" for kind in columns} - {".inter", *texts})]
    files = [target.with_suffix(ending) for ending in read]
    files += [source.path.with_suffix(ending) for source in sources for ending in (".inter", *texts)]
    files = [path for path in files if path.suffix == ".inter" or path.is_file()]  # a source may have no texts
    return files + memory_files(config.final_config_dict)


def _write_histories(run_dir: Path, history: list[dict], source_history: list[dict]) -> None:
    write_csv(run_dir / "history.csv", history)
    if source_history:
        write_csv(run_dir / "sources.csv", source_history)
