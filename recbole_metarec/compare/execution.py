"""Does what is missing of a study, through the leaderboard's runner, and gathers what all its runs have found."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recbole_metarec.compare.cost import Cost, estimate
from recbole_metarec.compare.rows import Identity, Ranks, Row, RowsFile, identity, ranks_of, row_of
from recbole_metarec.compare.study import Arm, Study
from recbole_metarec.config.schema import keys_in
from recbole_metarec.evaluation.results import FailedRun
from recbole_metarec.evaluation.significance import METRIC
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.plan import same_backbone
from recbole_metarec.jobs.pool import WORKER, Runner
from recbole_metarec.jobs.store import RunStore

_FILE_OPTIONS = {"store", "output", "rows"}


@dataclass(frozen=True)
class Found:
    """What is known of a study's runs. rows, ranks: by identity; failures: of those that ended with an error."""

    rows: dict[Identity, Row]
    ranks: dict[Identity, Ranks]
    failures: list[FailedRun]


class Execution:
    """One study, the store of its runs and, where there is one, the file of rows.

    A run that either of them holds is not done again; of a run that both hold the store's figures are taken, which are
    of the code as it is.
    """

    def __init__(self, study: Study, store: RunStore, rows: RowsFile | None):
        self.study, self.store, self.file = study, store, rows
        self._written = rows.rows() if rows else {}

    @property
    def missing(self) -> list[PlannedRun]:
        """What is still to be done, in the plan's order."""
        plan = [run for run in self.study.plan if identity(run) not in self._written]
        return [run for run in plan if self.store.status(run) != "done"]

    def cost(self) -> Cost:
        """Of what is missing."""
        return estimate(self.study.plan, self.missing, self.store.durations(), self._written.values())

    def run(self, jobs: int = 1, say: Callable[[str], None] = print, worker: Sequence[str] = WORKER) -> Found:
        """Does what is missing and adds each finished run to the file of rows. Raises as the runner does."""
        try:
            Runner(self.store, jobs, say, worker, self.write_rows).run(self.missing)
        finally:
            self.write_rows()  # also what an interrupted or another command has finished
        return self.found()

    def write_rows(self) -> None:
        """Adds every run that is done and not in the file of rows to it."""
        if self.file:
            found = self._stored()
            self.file.put(found.rows.values(), found.ranks)

    def found(self) -> Found:
        """What is known so far."""
        stored = self._stored()
        if not self.file:
            return stored
        wanted = {identity(run) for run in self.study.plan}
        rows = {key: row for key, row in self.file.rows().items() if key in wanted}
        ranks = {key: own for key, own in self.file.ranks().items() if key in wanted and key not in stored.rows}
        return Found({**rows, **stored.rows}, {**ranks, **stored.ranks}, stored.failures)

    def _stored(self) -> Found:
        results = {}
        for run in self.study.plan:
            for result in self.store.results([run]):
                results[identity(run)] = run, result
        rows, ranks = {}, {}
        valid = {key: row.valid for key, row in self._written.items()}
        valid |= {key: result.valid[METRIC] for key, (_, result) in results.items()}
        for number, arm in enumerate(self.study.arms):
            reference = self._reference(number)
            for seed, run in enumerate(arm.runs):
                key = identity(run)
                if key not in results or key in rows:
                    continue
                guard = _guard(arm, run, reference.runs[seed], valid) if reference else ""
                rows[key] = row_of(*results[key], self.study.name, arm.name, portable(run.command), guard)
                ranks[key] = ranks_of(results[key][1])
        missing = [run for run in self.study.plan if identity(run) not in self._written]
        return Found(rows, ranks, self.store.failures(missing))

    def _reference(self, number: int) -> Arm | None:
        """The arm without transfer that arm ``number`` is held against: the last column's."""
        place = self.study.against[number][-1]
        return None if place is None else self.study.arms[place]


def portable(command: str) -> str:
    """A command without what it says of one machine."""
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


def _guard(arm: Arm, run: PlannedRun, without: PlannedRun, valid: dict[Identity, float]) -> str:
    """What the transfer guard says of a run: it deploys the model without transfer unless transfer wins."""
    ours, theirs = valid.get(identity(run)), valid.get(identity(without))
    if not arm.guarded or ours is None or theirs is None or not same_backbone(run.config, without.config):
        return ""
    if run.config["valid_metric"].lower() != METRIC or identity(run) == identity(without):
        return ""
    return "fired" if theirs >= ours else "kept"
