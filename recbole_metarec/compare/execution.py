"""Runs a study's missing runs, exports them to a file of rows, and collects the results of all its runs."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recbole_metarec.compare.cost import Cost, estimate
from recbole_metarec.compare.rows import Ranks, Row, RowsFile
from recbole_metarec.compare.study import Study
from recbole_metarec.config.schema import keys_in
from recbole_metarec.evaluation.metric import Metric
from recbole_metarec.evaluation.results import FailedRun
from recbole_metarec.evaluation.transfer_guard import deploys_transfer, p_of_gain
from recbole_metarec.jobs.job import PlannedRun, Recipe
from recbole_metarec.jobs.plan import same_backbone
from recbole_metarec.jobs.pool import WORKER, Runner
from recbole_metarec.jobs.store import RunStore

_FILE_OPTIONS = {"store", "output", "rows"}


@dataclass(frozen=True)
class StudyResults:
    """Results of a study's runs. rows, ranks: by recipe; failures: of those that ended with an error."""

    rows: dict[Recipe, Row]
    ranks: dict[Recipe, Ranks]
    failures: list[FailedRun]

    def among_unseen(self) -> "StudyResults":
        """The same with the figures of the ranking without seen items in their places."""
        rows = {
            recipe: replace(row, valid=row.valid_removed, test=row.test_removed) for recipe, row in self.rows.items()
        }
        ranks = {recipe: replace(both, ranks=both.unseen) for recipe, both in self.ranks.items()}
        return replace(self, rows=rows, ranks=ranks)


class Execution:
    """One study, the store of its runs and, where there is one, the file of rows.

    A run that is in either of them is not repeated. If it is in both, the store's figures count: they are those of the
    current code.
    """

    def __init__(self, study: Study, store: RunStore, file: RowsFile | None):
        self.study, self.store, self.file = study, store, file
        self._in_file = file.rows() if file else {}

    @property
    def missing(self) -> list[PlannedRun]:
        """The runs still to do, in the plan's order."""
        return [run for run in self.study.plan if run.recipe not in self._in_file and not self.store.is_done(run)]

    def cost(self) -> Cost:
        """Of the missing runs."""
        return estimate(self.study.plan, self.missing, self.store.durations(), self._in_file.values())

    def run(self, jobs: int = 1, say: Callable[[str], None] = print, worker: Sequence[str] = WORKER) -> StudyResults:
        """Does the missing runs and adds each finished one to the file of rows. Raises as the runner does."""
        try:
            Runner(self.store, jobs, say, worker, self.export).run(self.missing)
        finally:
            self.export()  # also what an interrupted or another command has finished
        return self.results()

    def export(self) -> None:
        """Adds to the file of rows every finished run that is not in it."""
        if self.file:
            stored = self._stored()
            self.file.put(stored.rows.values(), stored.ranks)

    def results(self) -> StudyResults:
        """The results so far."""
        stored = self._stored()
        if not self.file:
            return stored
        planned = {run.recipe for run in self.study.plan}
        rows, ranks = (
            {recipe: value for recipe, value in kept.items() if recipe in planned and recipe not in stored.rows}
            for kept in (self.file.rows(), self.file.ranks())
        )
        return StudyResults(stored.rows | rows, stored.ranks | ranks, stored.failures)

    def _stored(self) -> StudyResults:
        done = [run for run in self.study.plan if self.store.is_done(run)]
        results = {run.recipe: result for run, result in zip(done, self.store.results(done))}
        ranks = {recipe: Ranks.of(result) for recipe, result in results.items()}
        known = (self.file.ranks() if self.file else {}) | ranks
        rows: dict[Recipe, Row] = {}
        for arm, against in zip(self.study.arms, self.study.against):
            reference = None if against[-1] is None else self.study.arms[against[-1]]  # LRURec's, the last column
            for seed, run in enumerate(arm.runs):
                if run.recipe in results and run.recipe not in rows:
                    guard = _guard(run, reference.runs[seed], known) if reference and arm.guarded else ""
                    names = self.study.name, arm.name, portable(run.command)
                    rows[run.recipe] = Row.of(run, results[run.recipe], *names, guard)
        failures = [run for run in self.study.plan if run.recipe not in self._in_file]
        return StudyResults(rows, ranks, self.store.failures(failures))


def _guard(run: PlannedRun, without: PlannedRun, ranks: dict[Recipe, Ranks]) -> str:
    """The transfer guard's verdict on a run, where the model without transfer is the one that it would train."""
    ours, theirs = ranks.get(run.recipe), ranks.get(without.recipe)
    if ours is None or theirs is None or run.recipe == without.recipe or not same_backbone(run.config, without.config):
        return ""
    has_row, metric = ours.valid > 0, Metric.named(run.config["valid_metric"])
    if ours.users != theirs.users or not np.array_equal(has_row, theirs.valid > 0):
        return ""  # a row of other code may be of other users
    return "kept" if deploys_transfer(p_of_gain(ours.valid[has_row], theirs.valid[has_row], metric)) else "fired"


def portable(command: str) -> str:
    """A command without the options that concern one machine only."""
    kept, words, of_machine = [], iter(shlex.split(command)), keys_in("machine") | _FILE_OPTIONS
    for word in words:
        key, sign, _ = word.partition("=")
        key = key.removeprefix("--").replace("-", "_")
        if not word.startswith("--") or key not in of_machine:
            kept.append(word)
            continue
        if not sign:
            next(words, None)
        if key == "data_path":
            kept.append("--data_path=data")
    return shlex.join(kept)
