"""A study as its arms: what is trained, and what each arm is compared with."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from recbole_metarec.compare.settings import DATA_KEYS, Setting, Targets, TargetSubsets
from recbole_metarec.compare.variants import FULL, NONE, Variant
from recbole_metarec.config.models import DEFAULT_MODEL, WITHOUT_TRANSFER
from recbole_metarec.config.schema import keys_in
from recbole_metarec.config.yaml_files import as_text
from recbole_metarec.evaluation.metric import NDCG_10, Metric
from recbole_metarec.jobs.competitors import COMPETITORS, Competitor
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.plan import Tuned, make_plan, same_backbone

_MAKES_SOURCES = {key for key, data_key in DATA_KEYS.items() if data_key.makes_sources}


@dataclass(frozen=True)
class Arm:
    """One line of a study: one model under one setting, with every seed.

    model: as shown; a curve of a sweep is the arms of one model. value: what is varied, "" if the arm stands for every
    value. x: its number, None if it has none. detail: for readers. runs: by seed. guarded: whether the transfer guard
    would have trained its reference arm, too.
    """

    model: str
    value: str
    x: float | None
    detail: str
    runs: tuple[PlannedRun, ...]
    guarded: bool = False

    @property
    def name(self) -> str:
        """Model and value, in one word for messages and rows."""
        return f"{self.model}[{self.value}]" if self.value else self.model


@dataclass(frozen=True)
class Study:
    """What is compared on one target, or on a different subsample of it with each seed.

    kind: ``ablate`` or ``sweep``. key: what is varied, "" in an ablation. columns: names of the references. against:
    for every arm and column the number of the arm that it is compared with, None for that one itself.
    """

    kind: str
    dataset: str
    key: str
    arms: tuple[Arm, ...]
    columns: tuple[str, ...]
    against: tuple[tuple[int | None, ...], ...]

    @property
    def name(self) -> str:
        """As in the rows: ``ablate Scientific``, ``sweep temperature Scientific``."""
        return " ".join(filter(None, (self.kind, self.key, self.dataset)))

    @property
    def metric(self) -> Metric:
        """By what the arms are compared: the metric by which validation chooses."""
        run = next((run for arm in self.arms for run in arm.runs), None)
        return Metric.named(run.config["valid_metric"]) if run else NDCG_10

    @property
    def references(self) -> set[int]:
        """Numbers of the arms that others are compared with."""
        return {number for row in self.against for number in row if number is not None}

    @property
    def plan(self) -> list[PlannedRun]:
        """Every run once, seed by seed, and of each seed the references first."""
        order = sorted(range(len(self.arms)), key=lambda number: number not in self.references)
        seeds = max((len(arm.runs) for arm in self.arms), default=0)
        once: dict[str, PlannedRun] = {}
        for run in (self.arms[number].runs[seed] for seed in range(seeds) for number in order):
            once.setdefault(run.key, run)
        return list(once.values())


def ablation(variants: list[Variant], subsets: TargetSubsets, tuned: Mapping[str, Tuned] | None = None) -> Study:
    """The full model, its variants and LRURec. variants: as ``chosen_variants`` gives them.

    tuned: MetaRec's configuration, which all variants get, and LRURec's. Raises MetaRecError as ``make_plan``.
    """
    tuned = dict(tuned or {})
    tuned |= {
        variant.base: tuned[DEFAULT_MODEL] for variant in variants if variant.name != NONE and DEFAULT_MODEL in tuned
    }
    models = [variant.competitor for variant in variants]
    runs_by_variant = _runs_of(f"target_users={subsets.share}", subsets.by_seed, models, subsets, tuned)
    arms = tuple(
        Arm(variant.name, "", None, variant.text or variant.meaning, _shown(runs, variant.name), model.guarded)
        for variant, model, runs in zip(variants, models, runs_by_variant)
    )
    full, none = (next(n for n, arm in enumerate(arms) if arm.model == name) for name in (FULL, NONE))
    against = tuple((full if n != full else None, none if n != none else None) for n in range(len(arms)))
    return Study("ablate", subsets.name, "", arms, (FULL, NONE), against)


def sweep(
    key: str,
    settings: list[Setting],
    models: list[Competitor],
    subsets: TargetSubsets,
    tuned: Mapping[str, Tuned] | None = None,
) -> Study:
    """Every model at every value, against LRURec at each value that concerns it. Raises MetaRecError as ``make_plan``.

    A model that a value does not concern has the same runs at all of them, and one arm.
    """
    lines = [COMPETITORS[WITHOUT_TRANSFER], *(model for model in models if model.name != WITHOUT_TRANSFER)]
    # the sweep sets the value, whatever tuning has chosen for the key
    tuned = {
        model: replace(best, overrides={name: value for name, value in best.overrides.items() if name != key})
        for model, best in (tuned or {}).items()
    }
    by_value = [_runs_of(f"{key}={setting.text}", setting.by_seed, lines, subsets, tuned) for setting in settings]
    by_value = [_none_for_nothing(lines, runs) for runs in by_value]
    arms: list[Arm] = []
    numbers: dict[str, list[int]] = {}  # of each model: its arm at each value
    for number, line in enumerate(lines):
        arms_of_model = _arms_of(line, settings, [runs[number] for runs in by_value])
        numbers[line.name] = [len(arms) + (n if len(arms_of_model) > 1 else 0) for n in range(len(settings))]
        arms += arms_of_model
    references = dict(zip(range(len(settings)), numbers[WITHOUT_TRANSFER]))
    against: list[tuple[int | None]] = [(None,)] * len(arms)
    for name, arm_numbers in numbers.items():
        for n, arm in enumerate(arm_numbers):
            # an arm for all values is compared with a reference for all values, or with none
            alone = len(set(arm_numbers)) == 1 < len(set(references.values()))
            against[arm] = (None if name == WITHOUT_TRANSFER or alone else references[n],)
    return Study("sweep", subsets.name, key, tuple(arms), (WITHOUT_TRANSFER,), tuple(against))


def _runs_of(
    value: str, targets: Targets, lines: list[Competitor], subsets: TargetSubsets, tuned: Mapping[str, Tuned]
) -> list[tuple[PlannedRun, ...]]:
    """The runs of each model by seed, under one ``KEY=value``."""
    plan = []  # seed by seed
    for (target, keys), seeds in groupby(targets, targets.get):
        if not any(line.spec.takes_sources for line in lines):  # a subsample names its sources even for models without
            keys = {key: value for key, value in keys.items() if key != "sources"}
        plan += make_plan(lines, target, seeds, keys, tuned, subsets.origins)
    return [
        # a subsample exists only where a command has made it
        tuple(
            run if run.dataset == subsets.dataset else _made_by(value, subsets, line, run)
            for run in plan[n :: len(lines)]
        )
        for n, line in enumerate(lines)
    ]


def _shown(runs: Iterable[PlannedRun], name: str) -> tuple[PlannedRun, ...]:
    return tuple(replace(run, shown_as=name) for run in runs)


def _made_by(value: str, subsets: TargetSubsets, line: Competitor, run: PlannedRun) -> PlannedRun:
    """The run with the command that also makes its data: every other difference is a config key."""
    value = value if subsets.share == 1 else f"target_users={as_text(subsets.share)}"
    words = ["recbole-metarec", "sweep", value, "--models", line.typed, "--dataset", subsets.dataset]
    if line.spec.takes_sources and value.partition("=")[0] not in _MAKES_SOURCES:
        words += ["--sources", ",".join(run.sources) or "none"]
    by_name = COMPETITORS[line.name].overrides if line.name in COMPETITORS else {}
    said = {"sources", "show_progress", *by_name, *(keys_in("by_name") - {"text_alignment"})}
    typed = {name: value for name, value in run.overrides.items() if name not in said}
    words += ["--seeds", "1", *(f"--{name}={as_text(value)}" for name, value in {"seed": run.seed, **typed}.items())]
    return replace(run, command=shlex.join(words))


def _none_for_nothing(lines: list[Competitor], runs: list[tuple[PlannedRun, ...]]) -> list[tuple[PlannedRun, ...]]:
    """Without any source MetaRec equals LRURec, the first of ``lines``, to the bit: it is not trained again."""
    without = runs[0][0].config
    return [
        runs[0] if line.guarded and not by_seed[0].sources and same_backbone(by_seed[0].config, without) else by_seed
        for line, by_seed in zip(lines, runs)
    ]


def _arms_of(line: Competitor, settings: list[Setting], runs: list[tuple[PlannedRun, ...]]) -> list[Arm]:
    if len({by_seed[0].key for by_seed in runs}) == 1 < len(runs):
        return [Arm(line.name, "", None, "", _shown(runs[0], line.name), line.guarded)]
    arms = [
        Arm(line.name, setting.text, _number(setting.value), _detail(by_seed), by_seed, line.guarded)
        for setting, by_seed in zip(settings, runs)
    ]
    return [replace(arm, runs=_shown(arm.runs, arm.name)) for arm in arms]


def _number(value) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _detail(runs: tuple[PlannedRun, ...]) -> str:
    sources, targets = ", ".join(runs[0].sources), dict.fromkeys(run.dataset for run in runs)
    target = runs[0].dataset + (f" and {len(targets) - 1} more" if len(targets) > 1 else "")
    return f"{target} from {sources}" if sources else target
