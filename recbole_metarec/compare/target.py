"""What a report says about the target: its size, the protocol, and groups of its test users."""

from collections.abc import Iterable, Mapping

import numpy as np

from recbole_metarec.compare.leaderboard import KEPT, REMOVED, Protocol
from recbole_metarec.config.models import WITHOUT_TRANSFER
from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.config.schema import key_table
from recbole_metarec.config.time_points import TimePoints
from recbole_metarec.errors import DataError
from recbole_metarec.evaluation.metric import Metric
from recbole_metarec.evaluation.segments import Segment, target_segments
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.plugin.config import read_dataset, recbole_config
from recbole_metarec.plugin.dataset import TransferDataset, read_sources, reads_texts, user_names
from recbole_metarec.plugin.depth import too_deep


def describe(dataset: str, overrides: Mapping) -> tuple[Protocol, tuple[Segment, ...], np.ndarray]:
    """(protocol, segments, tokens of the test users that the masks refer to) as LRURec's run has them.

    overrides: config keys of that run. Raises MetaRecError for a mistake in them or in the data.
    """
    data = read_target(dataset, overrides)
    config = data.config
    users, groups = target_segments(data.store, data.split)
    if len(users) < 2:
        raise DataError(f"{dataset}: models are compared over its test users, and there is only one; use more data")
    words = data.split_words if data.event_times is not None else f"{data.split_words} in time order"
    unseen = "" if config["repeatable"] else " with seen items removed"
    protocol = Protocol(
        dataset=dataset,
        users=data.user_num - 1,
        items=data.item_num - 1,
        interactions=len(data.store.items),
        split=f"{words}, whole catalogue ranked",
        metric=f"{config['valid_metric']} on validation{unseen} chooses, test is looked at once",
        validated=KEPT if config["repeatable"] else REMOVED,
        measure=Metric.named(config["valid_metric"]),
        max_length=config["MAX_ITEM_LIST_LENGTH"],
        width=config["embedding_size"],
        early_stopping=f"{config['stopping_step']} validations without a better one, at most {config['epochs']} epochs",
    )
    return protocol, groups, user_names(data, users)


def read_target(dataset: str, overrides: Mapping) -> TransferDataset:
    """The target as LRURec's run reads it. Raises MetaRecError, also for data without a row to rank."""
    data = read_dataset(recbole_config(RunConfig.read(WITHOUT_TRANSFER, dataset, (), overrides)))
    data.build()  # refuses data without a row to rank
    return data


def check_depth(runs: Iterable[PlannedRun], items: int) -> None:
    """Raises ConfigError before any run where one of ``runs``, of models that are not this package's, would end in it:
    its ``topk`` is beyond the target's items."""
    for run in runs:
        topk = run.config.get("topk", key_table()["topk"].default)
        topk = [topk] if isinstance(topk, int) else topk
        if max(topk) > items:
            raise too_deep(topk, run.dataset, items)


def check_sources(runs: Iterable[PlannedRun]) -> None:
    """Reads the sources of the runs, so that a mistake in a file ends a command instead of each of its runs.

    Raises DataError with file and line.
    """
    checked = set()
    for run in runs:
        if not run.sources:
            continue
        config = recbole_config(RunConfig.read(run.experiment, run.dataset, (), run.overrides))
        same = run.dataset, tuple(run.sources), reads_texts(config)
        if same not in checked:
            checked.add(same)
            # a split by time says up to when a source is read, and the target when that is
            TransferDataset(config).sources if TimePoints.of(config["eval_args"]) else read_sources(config)
