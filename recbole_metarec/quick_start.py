"""Run one experiment from names to a run folder: the Python API behind ``recbole-metarec train``."""

import json
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path
from time import time

import numpy as np

from recbole_metarec import processes
from recbole_metarec.config.models import model_spec
from recbole_metarec.config.run_config import RunConfig, UserKeys
from recbole_metarec.errors import enough_memory
from recbole_metarec.evaluation.floor import floor_ranks
from recbole_metarec.evaluation.intervals import level_interval, paired_difference
from recbole_metarec.evaluation.metric import NDCG_10, Metric
from recbole_metarec.evaluation.ranking import rank_both
from recbole_metarec.evaluation.recbole_metrics import catalogue_of, list_measures, metrics_of
from recbole_metarec.evaluation.seen import events_of, held_out_of
from recbole_metarec.evaluation.transfer_guard import verdict
from recbole_metarec.files import write_csv, write_json
from recbole_metarec.plugin.dataset import user_names
from recbole_metarec.plugin.splitting import LEAVE_ONE_OUT
from recbole_metarec.runs import folder
from recbole_metarec.runs.figures import draw_codebook, draw_history, draw_similarity
from recbole_metarec.runs.references import fitted_references
from recbole_metarec.runs.resume import is_complete
from recbole_metarec.runs.settings import make_run_config
from recbole_metarec.runs.training import TrainedRun, trained
from recbole_metarec.tables import LEVEL, SCORE, Column, Table, percent, signed, signed_interval
from recbole_metarec.trainer.trainer import TransferTrainer


@dataclass
class Part:
    """One trained model on the target: RecBole's metrics and the rank of each user's held-out item (int64 [R]).

    ``unseen``: with the items that the user has seen removed from the ranking; elsewhere they are kept, as in RecBole.
    """

    name: str
    valid: dict[str, float]
    test: dict[str, float]
    valid_unseen: dict[str, float]
    test_unseen: dict[str, float]
    valid_ranks: np.ndarray
    test_ranks: np.ndarray
    valid_unseen_ranks: np.ndarray
    test_unseen_ranks: np.ndarray


@dataclass
class Experiment:
    """The results of a run.

    parts: the trained model, unguarded; then, where it was trained, the no-transfer baseline, item-kNN and popularity.
    """

    run_dir: Path
    metrics: dict
    parts: list[Part] = field(default_factory=list)

    @property
    def metric(self) -> Metric:
        """The metric by which validation chooses."""
        return Metric.named(self.metrics.get("valid_metric", NDCG_10.key))

    def table(self) -> str:
        """The result as text: one line per model, then the paired difference between them."""
        users = len(self.parts[0].test_ranks)
        notes = [self._difference()] if len(self.parts) > 1 else []
        if (p := self.metrics["guard"]["p"]) is not None:
            notes.append(f"transfer guard: {verdict(p)}")
        notes += [f"warning: {sentence}" for sentence in self.metrics["warnings"]]
        notes.append(f"run folder: {self.run_dir}")
        split = self.metrics.get("split", LEAVE_ONE_OUT)
        caption = f"{self.metrics['dataset']}: {users} test users, whole catalogue ranked, {split}"
        return Table(
            _columns(self.parts[0], self.metric), tuple(self.parts), caption=caption, notes=tuple(notes)
        ).terminal()

    def _difference(self) -> str:
        ours, theirs = (self.metric.of(part.test_ranks) for part in self.parts[:2])
        gap = paired_difference(ours, theirs)
        share = f" ({percent(gap.mean / theirs.mean())})" if theirs.mean() > 0 else ""
        text = f"{signed(gap.mean)}{share}, 95 % interval {signed_interval(gap.low, gap.high)}"
        word = "not distinguishable" if gap.holds_zero else "different"
        return f"what the sources add on test, paired over users: {text}: {word}"


def _columns(part: Part, metric: Metric) -> tuple[Column, ...]:
    """The metric by which validation chooses, and the next one that is measured at the same depth."""
    same_depth = [each for each in map(Metric.named, part.valid) if each.depth == metric.depth and each != metric]
    second = next((each for each in same_depth if not each.is_of_lists), None)
    of_lists = [each for each in same_depth if each.is_of_lists]
    beside = ()
    if second:
        beside = (
            Column(second.label, lambda part: second.of(part.valid_ranks).mean(), SCORE, minor="valid"),
            Column(second.label, lambda part: second.of(part.test_ranks).mean(), SCORE, minor="test"),
        )
    return (
        Column("model", lambda part: part.name, left=True),
        Column(metric.label, lambda part: metric.of(part.valid_ranks).mean(), SCORE, minor="valid"),
        Column(metric.label, lambda part: level_interval(metric.of(part.test_ranks)), LEVEL, minor=_INTERVAL),
        Column(metric.label, lambda part: metric.of(part.test_unseen_ranks).mean(), SCORE, minor="test, seen removed"),
        *beside,
        *(Column(each.label, lambda part, key=each.key: part.test[key], SCORE, minor="test") for each in of_lists),
    )


_INTERVAL = "test, 95 % interval"


@enough_memory()
def run_experiment(
    model: str | type | None = None, dataset: str | None = None, config_files=(), overrides=None, resume=None
) -> Experiment:
    """Trains and evaluates one model and writes everything about it to a new folder under ``checkpoint_dir``.

    model: a name, a class of your own, or a reference to one such as ``my_model.py:MyModel``. model, dataset: None for
    MetaRec and its embedded target, or for those of the run to resume. MetaRec also trains a no-transfer baseline
    (``transfer_guard``, on by default here). config_files: YAML files; later ones override earlier ones. overrides: a
    dict of config keys, which override the files.
    resume: the folder of a run, whose config the other arguments override; or True, for the newest unfinished run of
    these arguments, or a new one if there is none. On a CPU a resumed run gives the result of an uninterrupted one, to
    the bit.
    Raises MetaRecError for a mistake in the arguments, before anything is trained, and for a file that cannot be
    written; the message of a KeyboardInterrupt says how to resume.
    """
    return run_from_config(make_run_config(model, dataset, UserKeys.read(config_files, overrides), resume), resume)


@enough_memory()
def run_from_config(run_config: RunConfig, resume=None) -> Experiment:
    """:func:`run_experiment` for a RunConfig, of :func:`recbole_metarec.runs.settings.make_run_config`."""
    started = time()
    with trained(run_config, resume) as run:
        parts = _evaluate(run)
        if is_complete(run.run_dir):
            metrics = json.loads((run.run_dir / "metrics.json").read_text(encoding="utf-8"))
            return Experiment(run.run_dir, metrics, parts)
        metrics = _metrics(run, parts, time() - started)
        if processes.is_first():
            _write_ranks(run, parts)
            _draw(run)
            metrics["warnings"] += _below_the_floor(run, parts, metrics["epochs"])
            write_json(run.run_dir / "metrics.json", metrics)
    for part in parts:
        getLogger().info(f"{part.name}: best valid {part.valid}, test result {part.test}")
    return Experiment(run.run_dir, metrics, parts)


@enough_memory()
def validate_experiment(model: str, dataset: str, overrides: dict) -> dict[str, float]:
    """Trains as :func:`run_experiment` does; metrics on validation of the best epoch's model, unguarded.

    The test rows are never ranked, so that whatever is chosen by this was not chosen by them. Where training's own
    validation leaves seen items out (``repeatable``), so does this.
    """
    with trained(make_run_config(model, dataset, UserKeys.read((), overrides))) as run:
        _load_best(run, next(iter(_checkpoints(run.config, run.trainer).values())))
        kept, unseen = rank_both(run.trainer.model, run.valid, run.valid.dataset.seen, run.config["device"])
        return _numbers(metrics_of(kept if run.config["repeatable"] else unseen, run.config))


def _checkpoints(config, trainer) -> dict[str, str]:
    """Model -> the file of its best epoch; the unguarded model first."""
    if getattr(trainer, "guard", None):
        spec = model_spec(config["model"])
        # of a user's subclass it is that subclass
        known = f" ({spec.without_transfer})" if spec.name == spec.base else ""
        return {
            spec.name: trainer.guard.transfer_file,
            f"the same without transfer{known}": trainer.guard.no_transfer_file,
        }
    return {config["model"]: trainer.saved_model_file}


def _load_best(run: TrainedRun, file: str) -> None:
    if run.progress:
        run.progress.load_best()
    else:
        run.trainer.load_best(file)


def _evaluate(run: TrainedRun) -> list[Part]:
    parts = []
    for name, file in _checkpoints(run.config, run.trainer).items():
        _load_best(run, file)
        parts.append(_part(name, run.trainer.model, run))
    if len(parts) > 1:
        parts += [_part(name, model, run) for name, model in fitted_references(run)]
    return parts


def _part(name: str, model, run: TrainedRun) -> Part:
    ranks = {}
    for part, rows in (("valid", run.valid), ("test", run.test)):
        ranks[part], ranks[f"{part}_unseen"] = rank_both(model, rows, rows.dataset.seen, run.config["device"])
    metrics = {kind: _numbers(metrics_of(array, run.config)) for kind, array in ranks.items()}
    catalogue = catalogue_of(run.train.dataset)
    for part, rows in (("valid", run.valid), ("test", run.test)):
        for kind, measures in zip((part, f"{part}_unseen"), list_measures(model, rows, run.config, catalogue)):
            metrics[kind] |= _numbers(measures)
    return Part(name, **metrics, **{f"{kind}_ranks": array for kind, array in ranks.items()})


def _numbers(metrics) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _metrics(run: TrainedRun, parts: list[Part], seconds: float) -> dict:
    config, trainer, sources = run.config, run.trainer, run.sources
    guard = getattr(trainer, "guard", None)
    is_ours = isinstance(trainer, TransferTrainer)
    epochs = [row["epoch"] for row in trainer.log.history] if is_ours else list(trainer.train_loss_dict)
    return {
        "model": config["model"],
        "dataset": config["dataset"],
        "sources": [source.name for source in sources],
        "seed": config["seed"],
        "split": run.train.dataset.split_words,
        "valid_metric": config["valid_metric"],
        "valid": parts[0].valid,
        "test": parts[0].test,
        "valid_unseen": parts[0].valid_unseen,
        "test_unseen": parts[0].test_unseen,
        "test_users": len(parts[0].test_ranks),
        "guard": {
            "fired": guard.fired if guard else None,
            "p": guard.p if guard else None,
            "transfer_valid": guard.transfer_valid if guard else None,
            "no_transfer_valid": guard.no_transfer_valid if guard else None,
            "transfer_test": parts[0].test if guard else None,
            "no_transfer_test": parts[1].test if guard else None,
            "transfer_test_unseen": parts[0].test_unseen if guard else None,
            "no_transfer_test_unseen": parts[1].test_unseen if guard else None,
        },
        "references": {
            part.name: {"valid": part.valid, "test": part.test, "test_unseen": part.test_unseen} for part in parts[2:]
        },
        "warnings": list(trainer.log.warnings.values()) if is_ours else [],
        "epochs": sum(epoch >= 0 for epoch in epochs),
        "pretrain_epochs": sum(epoch < 0 for epoch in epochs),
        "seconds": seconds + (run.progress or trainer).spent_before,
        "peak_memory_mib": folder.peak_memory_mib(config["device"]),
        "device": str(config["device"]),
        **folder.threads(),
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "versions": folder.versions(),
        "git_commit": folder.git_commit(),
        "data_fingerprint": run.data,
    }


def _below_the_floor(run: TrainedRun, parts: list[Part], epochs: int) -> list[str]:
    """A sentence where what needs no training ranks the validation rows better than the model."""
    config, metric = run.config, run.config["valid_metric"].lower()
    if model_spec(config["model"]).is_fitted:
        return []
    kind = "valid" if config["repeatable"] else "valid_unseen"
    ours = getattr(parts[0], kind)[metric]
    scores = {part.name: getattr(part, kind)[metric] for part in parts[2:]} or _floor(run, kind, metric)
    higher = [f"{name} ({score:.4f})" for name, score in scores.items() if score > ours]
    if not higher:
        return []
    return [
        f"on validation {config['model']} has {config['valid_metric']} {ours:.4f} after {epochs} epochs, less than "
        f"{' and '.join(higher)} without training: try more epochs, another learning_rate, or --model ItemKNNDecay"
    ]


def _floor(run: TrainedRun, kind: str, metric: str) -> dict[str, float]:
    train, valid = run.train.dataset, run.valid.dataset
    floors = floor_ranks(*events_of(train), held_out_of(valid), train.item_num, valid.seen)
    return {name: metrics_of(ranks[kind != "valid"], run.config)[metric] for name, ranks in floors.items()}


def _write_ranks(run: TrainedRun, parts: list[Part]) -> None:
    """A row per user with a held-out event; ``valid_rank`` is the rank that validation read. Where a user has no row
    in one part, its ranks are missing."""
    columns = {name: part.test_ranks for name, part in zip(("rank", "rank_no_transfer"), parts)}
    columns |= {f"{name}_unseen": part.test_unseen_ranks for name, part in zip(tuple(columns), parts)}
    ranks = np.stack(list(columns.values()), axis=1).tolist()
    chosen_by = parts[0].valid_ranks if run.config["repeatable"] else parts[0].valid_unseen_ranks
    valid = dict(zip(_users_of(run.valid), chosen_by.tolist(), strict=True))
    rows = [
        {"user_id": user, **dict(zip(columns, row, strict=True)), "valid_rank": valid.pop(user, None)}
        for user, row in zip(_users_of(run.test), ranks, strict=True)
    ]
    rows += [{"user_id": user, "valid_rank": rank} for user, rank in valid.items()]
    write_csv(run.run_dir / "ranks.csv", rows)


def _users_of(loader) -> np.ndarray:
    dataset = loader._dataset
    return user_names(dataset, dataset.inter_feat[dataset.uid_field])


def _draw(run: TrainedRun) -> None:
    config, run_dir, log = run.config, run.run_dir, getattr(run.trainer, "log", None)
    curves = {config["model"]: log.history if log else run.progress.rows}
    if log and log.no_transfer_history:
        curves["the same without transfer"] = log.no_transfer_history
    draw_history(curves, config["valid_metric"], run_dir / "history.png")
    if log and log.source_history:
        draw_similarity(log.source_history, run_dir / "similarity.png")
    if log and any("codebook_usage" in row for row in log.source_history):
        draw_codebook(log.source_history, run_dir / "codebook.png")
