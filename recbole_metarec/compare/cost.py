"""The estimated cost of an experiment, printed before it starts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from recbole_metarec.compare.rows import Row
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.process import duration

# LRURec on Scientific on one core of 2026, and what each source adds to it; measured on its steps, rounded. The epochs
# are those after which early stopping usually ends it.
_SECONDS, _EVENTS, _EPOCHS = 130, 60_000, 30
_SECOND_ORDER = 4.0


@dataclass(frozen=True)
class Cost:
    """runs: in all. missing: those still to run. seconds: of the missing ones, one after the other.

    basis: where the figure comes from, for readers.
    """

    runs: int
    missing: int
    seconds: float
    basis: str

    def text(self, jobs: int) -> str:
        """One line for the terminal."""
        if not self.missing:
            return f"cost: nothing; all {self.runs} runs are there"
        each, whole = duration(self.seconds / self.missing), duration(self.seconds / min(jobs, self.missing))
        at_once = f" with {jobs} at once" if jobs > 1 else ""
        return (
            f"cost: {self.runs} runs, {self.missing} of them to do, {each} each: about {whole}{at_once}, "
            f"by {self.basis}"
        )


@dataclass(frozen=True)
class _Kind:
    """The properties that decide how long a run takes, apart from the machine."""

    experiment: str
    dataset: str
    sources: int
    second_order: bool
    epochs: int | None

    @classmethod
    def of(cls, run: PlannedRun) -> "_Kind":
        config = run.config
        return cls(
            run.experiment, run.dataset, len(run.sources), bool(config.get("second_order")), config.get("epochs")
        )


def estimate(plan: list[PlannedRun], missing: list[PlannedRun], durations: list[dict], rows: Iterable[Row]) -> Cost:
    """The cost of a plan's missing runs: what similar runs took, in the store (``durations``) or in a file of rows.

    Without any, a rule of thumb, scaled by the ratio of the known runs to it.
    """
    events: dict[str, int] = {run.dataset: _events(run) for run in plan}
    known: dict[_Kind, list[float]] = {}
    for row in durations:
        config, exact = row["config"], bool(row["config"].get("second_order"))
        kind = _Kind(row["model"], row["dataset"], len(row["sources"]), exact, config.get("epochs"))
        known.setdefault(kind, []).append(row["seconds"])
    by_config = {(row.config, row.data): row.seconds for row in rows}
    for run in plan:
        config, data, _ = run.recipe
        if (config, data) in by_config:
            known.setdefault(_Kind.of(run), []).append(by_config[config, data])
    kinds = [_Kind.of(run) for run in missing]
    budgets = {kind.epochs for kind in kinds}  # a quick look at one epoch tells nothing of a whole run
    alike = {kind: seconds for kind, seconds in known.items() if kind.dataset in events and kind.epochs in budgets}
    ratios = [fmean(seconds) / _rule(kind, events) for kind, seconds in alike.items()]
    scale = fmean(ratios) if ratios else 1.0
    seconds = sum(fmean(known[kind]) if kind in known else scale * _rule(kind, events) for kind in kinds)
    if all(kind in known for kind in kinds):
        basis = "earlier runs like them"
    elif ratios:
        basis = "earlier runs on this target"
    else:
        basis = "a rule of thumb (2 min for 60,000 events on one core, as much again for each source)"
    return Cost(len(plan), len(missing), seconds, basis)


def _rule(kind: _Kind, events: Mapping[str, int]) -> float:
    seconds = _SECONDS * events[kind.dataset] / _EVENTS * (1 + kind.sources)
    seconds *= min(1.0, kind.epochs / _EPOCHS) if kind.epochs else 1.0
    return seconds * (_SECOND_ORDER if kind.second_order else 1.0)


def _events(run: PlannedRun) -> int:
    with open(Path(run.data_files[0]), "rb") as file:
        return max(1, sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b"")) - 1)
