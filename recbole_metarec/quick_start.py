"""Run one experiment from names to a run folder: the Python API behind ``recbole-metarec train``."""

from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path
from time import time

import numpy as np
from colorlog import ColoredFormatter
from recbole.config import Config
from recbole.data import data_preparation
from recbole.utils import get_model, get_trainer, init_logger, init_seed
from recbole.utils.logger import RemoveColorFilter

from recbole_metarec import run_folder as folder
from recbole_metarec.analysis.compare import mean_interval, paired_difference
from recbole_metarec.analysis.pictures import draw_codebook, draw_history, draw_similarity
from recbole_metarec.baselines import check_depth, load_data, prepare_s3rec, protocol_overrides
from recbole_metarec.building import nothing_unpickled, read_dataset
from recbole_metarec.config import OUR_MODELS
from recbole_metarec.data.dataset import reads_texts
from recbole_metarec.data.domains import find_domain
from recbole_metarec.data.movielens import EMBEDDED_TARGET
from recbole_metarec.plugin import build_config
from recbole_metarec.ranking import metrics_of, ndcg_at, rank_all
from recbole_metarec.resources import DEFAULT_DATA_PATH
from recbole_metarec.trainer.trainer import TransferTrainer
from recbole_metarec.yamlfile import read_yaml


@dataclass
class Part:
    """One trained model on the target: RecBole's metrics and the rank of each user's held-out item (int64 [R])."""

    name: str
    valid: dict[str, float]
    test: dict[str, float]
    valid_ranks: np.ndarray
    test_ranks: np.ndarray


@dataclass
class Experiment:
    """What a run found. parts: the trained model first, unguarded, then the same without transfer where it was run."""

    run_dir: Path
    metrics: dict
    parts: list[Part] = field(default_factory=list)

    def table(self) -> str:
        """The result as text: one line per model, then the paired difference between them."""
        test = self.parts[0].test_ranks
        lines = [f"{self.metrics['dataset']}: {len(test)} test users, whole catalogue ranked, leave-one-out"]
        lines.append(f"{'':28s}{'NDCG@10':>18s}{'Recall@10':>20s}{'NDCG@10 on test,':>22s}")
        lines.append(f"{'':28s}{'valid':>9s}{'test':>9s}{'valid':>11s}{'test':>9s}{'95 % interval':>22s}")
        for part in self.parts:
            interval = mean_interval(ndcg_at(part.test_ranks, 10))
            values = [np.mean(ndcg_at(ranks, 10)) for ranks in (part.valid_ranks, part.test_ranks)]
            values += [np.mean(ranks <= 10) for ranks in (part.valid_ranks, part.test_ranks)]
            cells = f"{values[0]:9.4f}{values[1]:9.4f}{values[2]:11.4f}{values[3]:9.4f}"
            lines.append(f"{part.name:28s}{cells}{f'{max(interval.low, 0.0):.4f} .. {interval.high:.4f}':>22s}")
        if len(self.parts) == 2:
            lines.append(self._difference())
        guard = self.metrics["guard"]
        if guard["fired"] is not None:
            chosen = "the model without transfer" if guard["fired"] else "the model with transfer"
            lines.append(f"transfer guard: {chosen} is deployed, by validation")
        lines.append(f"run folder: {self.run_dir}")
        return "\n".join(lines)

    def _difference(self) -> str:
        ours, theirs = (ndcg_at(part.test_ranks, 10) for part in self.parts)
        gap = paired_difference(ours, theirs)
        share = f" ({100 * gap.mean / theirs.mean():+.1f} %)" if theirs.mean() > 0 else ""
        text = f"{gap.mean:+.4f}{share}, 95 % interval {gap.low:+.4f} .. {gap.high:+.4f}"
        verdict = "not distinguishable" if gap.holds_zero else "different"
        return f"difference on test, paired over users: {text}: {verdict}"


def run_experiment(
    model: str = "MetaRec", dataset: str = EMBEDDED_TARGET, config_files=(), overrides=None
) -> Experiment:
    """Trains and evaluates one model and leaves everything about it in a new folder under ``checkpoint_dir``.

    MetaRec also trains the same model without transfer (``transfer_guard``, on unless it is given), so that a run says
    what the sources were worth. overrides: config keys, stronger than the files. Raises MetaRecError for any mistake
    in what was given, before anything is trained; KeyboardInterrupt says where the last checkpoint is.
    """
    started = time()
    run = _train(model, dataset, config_files, overrides or {})
    parts = _evaluate(run)
    metrics = _metrics(run, parts, time() - started)
    _write_ranks(run.run_dir, run.test, parts)
    _draw(run.run_dir, run.trainer)
    folder.write_json(run.run_dir / "metrics.json", metrics)
    for part in parts:
        getLogger().info(f"{part.name}: best valid {part.valid}, test result {part.test}")
    return Experiment(run.run_dir, metrics, parts)


def validate_experiment(model: str, dataset: str, overrides: dict) -> dict[str, float]:
    """Trains as :func:`run_experiment` does; metrics on validation of the best epoch's model, unguarded.

    The test rows are never ranked, so that whatever is chosen by this was not chosen by them.
    """
    run = _train(model, dataset, (), overrides)
    _load_best(run, next(iter(_checkpoints(run.config, run.trainer).values())))
    return _numbers(metrics_of(rank_all(run.trainer.model, run.valid, run.config["device"]), run.config))


@dataclass
class _Trained:
    """What training leaves: RecBole's objects, and the source domains that were read."""

    config: Config
    trainer: object
    valid: object
    test: object
    sources: tuple
    run_dir: Path


def _train(model: str, dataset: str, config_files, overrides: dict) -> _Trained:
    given = {key: value for path in config_files for key, value in read_yaml(path)[0].items()} | overrides
    config = build_config(model, dataset, config_files, _completed(model, dataset, given, overrides))
    _open_log(config)
    init_seed(config["seed"], config["reproducibility"])
    if model in OUR_MODELS:
        data = read_dataset(config)
        getLogger().info(data)
        with nothing_unpickled(config):
            train, valid, test = data_preparation(config, data)
        sources = train.dataset.read_ahead()
    else:
        train, valid, test = load_data(config)
        sources = ()
        check_depth(config, train.dataset)
    run_dir = folder.make_run_folder(config["checkpoint_dir"], model, dataset, config["seed"])
    config["checkpoint_dir"] = str(run_dir)
    folder.write_yaml(run_dir / "config.yaml", _own_settings(config, given))
    init_seed(config["seed"], config["reproducibility"])
    if model == "S3Rec":
        prepare_s3rec(config, train, run_dir)
    net = get_model(model)(config, train.dataset).to(config["device"])
    getLogger().info(net)
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, net)
    trainer.saved_model_file = str(run_dir / "model.pth")
    if isinstance(trainer, TransferTrainer):
        trainer.record = lambda: _write_histories(run_dir, trainer)
    watch = None if isinstance(trainer, TransferTrainer) else _Watch(trainer, len(train), run_dir)
    try:
        trainer.fit(train, valid, show_progress=config["show_progress"], callback_fn=watch)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the last checkpoint is in {run_dir}") from None
    return _Trained(config, trainer, valid, test, sources, run_dir)


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


class _Watch:
    """Writes the history of one of RecBole's trainers, which keeps none, after each validation."""

    def __init__(self, trainer, steps: int, run_dir: Path):
        self.trainer, self.steps, self.run_dir = trainer, steps, run_dir
        self.last, self.rows = time(), []

    def __call__(self, epoch: int, score: float) -> None:
        now, loss = time(), self.trainer.train_loss_dict[epoch]
        loss = sum(loss) if isinstance(loss, tuple) else loss
        row = {"epoch": epoch, "train_loss": loss / self.steps, "seconds": now - self.last, "valid_score": float(score)}
        self.last = now
        self.rows.append(row)  # its seconds are those of training and validation together
        folder.write_csv(self.run_dir / "history.csv", self.rows)


def _checkpoints(config, trainer) -> dict[str, str]:
    """Model -> the file of its best epoch; the unguarded model first."""
    if getattr(trainer, "guard", None):
        return {
            config["model"]: trainer.guard.transfer_file,
            "the same without transfer": trainer.guard.no_transfer_file,
        }
    return {config["model"]: trainer.saved_model_file}


def _load_best(run: _Trained, file: str) -> None:
    if isinstance(run.trainer, TransferTrainer):
        run.trainer.load_best(file)
    else:  # RecBole's Trainer loads a model only on the way to evaluating it
        run.trainer.evaluate(run.valid, load_best_model=True, model_file=str(file))


def _evaluate(run: _Trained) -> list[Part]:
    parts = []
    for name, file in _checkpoints(run.config, run.trainer).items():
        _load_best(run, file)
        ranks = [rank_all(run.trainer.model, rows, run.config["device"]) for rows in (run.valid, run.test)]
        parts.append(Part(name, *(_numbers(metrics_of(found, run.config)) for found in ranks), *ranks))
    return parts


def _numbers(metrics) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _metrics(run: _Trained, parts: list[Part], seconds: float) -> dict:
    config, trainer, sources = run.config, run.trainer, run.sources
    guard = getattr(trainer, "guard", None)
    files = [Path(config["data_path"]) / f"{config['dataset']}.inter", *(source.path for source in sources)]
    endings = (".inter", ".item") if reads_texts(config) else (".inter",)
    files = [path.with_suffix(ending) for path in files for ending in endings]
    files = [path for path in files if path.suffix == ".inter" or path.is_file()]  # a source may have no texts
    epochs = [row["epoch"] for row in getattr(trainer, "history", ())] or list(trainer.train_loss_dict)
    return {
        "model": config["model"],
        "dataset": config["dataset"],
        "sources": [source.name for source in sources],
        "seed": config["seed"],
        "valid": parts[0].valid,
        "test": parts[0].test,
        "test_users": len(parts[0].test_ranks),
        "guard": {
            "fired": guard.fired if guard else None,
            "transfer_valid": guard.transfer_valid if guard else None,
            "no_transfer_valid": guard.no_transfer_valid if guard else None,
            "transfer_test": parts[0].test if guard else None,
            "no_transfer_test": parts[1].test if guard else None,
        },
        "warnings": list(trainer.signs.seen.values()) if isinstance(trainer, TransferTrainer) else [],
        "epochs": sum(epoch >= 0 for epoch in epochs),
        "pretrain_epochs": sum(epoch < 0 for epoch in epochs),
        "seconds": seconds,
        "peak_memory_mib": folder.peak_memory_mib(config["device"]),
        "device": str(config["device"]),
        **folder.threads(),
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "versions": folder.versions(),
        "git_commit": folder.git_commit(),
        "data_fingerprint": folder.data_fingerprint(files),
    }


def _write_histories(run_dir: Path, trainer: TransferTrainer) -> None:
    folder.write_csv(run_dir / "history.csv", trainer.history)
    if trainer.source_history:
        folder.write_csv(run_dir / "sources.csv", trainer.source_history)


def _write_ranks(run_dir: Path, test, parts: list[Part]) -> None:
    dataset = test._dataset
    users = dataset.id2token(dataset.uid_field, dataset.inter_feat[dataset.uid_field])
    columns = ["rank", "rank_no_transfer"][: len(parts)]
    ranks = np.stack([part.test_ranks for part in parts], axis=1)
    rows = [
        {"user_id": u, **dict(zip(columns, own, strict=True))} for u, own in zip(users, ranks.tolist(), strict=True)
    ]
    folder.write_csv(run_dir / "ranks.csv", rows)


def _draw(run_dir: Path, trainer) -> None:
    if not isinstance(trainer, TransferTrainer):
        return
    draw_history(trainer.history, run_dir / "history.png")
    if trainer.source_history:
        draw_similarity(trainer.source_history, run_dir / "similarity.png")
    if any("codebook_usage" in row for row in trainer.source_history):
        draw_codebook(trainer.source_history, run_dir / "codebook.png")
