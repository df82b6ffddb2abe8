"""A study as its arms: what is trained, and what each arm is held against."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from recbole_metarec.compare.settings import DATA_KEYS, Setting, Shops, Targets
from recbole_metarec.compare.variants import FULL, NONE, Variant
from recbole_metarec.config.models import DEFAULT_MODEL, WITHOUT_TRANSFER
from recbole_metarec.config.schema import keys_in
from recbole_metarec.config.yaml_files import as_text
from recbole_metarec.jobs.competitors import COMPETITORS, Competitor
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.plan import Tuned, make_plan

_MAKES_SOURCES = {key for key, own in DATA_KEYS.items() if own.makes_sources}


@dataclass(frozen=True)
class Arm:
    """One line of a study: one model under one setting, with every seed.

    model: as shown; a curve of a sweep is the arms of one model. value: what is varied, "" if the arm stands for every
    value. x: its number, None if it has none. detail: for readers. runs: by seed. guarded: whether the transfer guard
    would have trained the arm that it is held against, too.
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
    """What is compared on one target, or with each seed on another shop of it.

    kind: ``ablate`` or ``sweep``. key: what is varied, "" in an ablation. columns: names of the references. against:
    for every arm and column the number of the arm that it is held against, None for that one itself.
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
    def references(self) -> set[int]:
        """Numbers of the arms that others are held against."""
        return {number for row in self.against for number in row if number is not None}

    @property
    def plan(self) -> list[PlannedRun]:
        """Every run once, seed by seed, and of a seed first what others are held against."""
        order = sorted(range(len(self.arms)), key=lambda number: number not in self.references)
        seeds = max((len(arm.runs) for arm in self.arms), default=0)
        once: dict[str, PlannedRun] = {}
        for run in (self.arms[number].runs[seed] for seed in range(seeds) for number in order):
            once.setdefault(run.key, run)
        return list(once.values())


def ablation(variants: list[Variant], shops: Shops, tuned: Mapping[str, Tuned] | None = None) -> Study:
    """The full model, its variants and LRURec. variants: as ``chosen_variants`` gives them.

    tuned: what was found for MetaRec, which all variants get, and for LRURec. Raises MetaRecError as ``make_plan``.
    """
    tuned = dict(tuned or {})
    tuned |= {
        variant.base: tuned[DEFAULT_MODEL] for variant in variants if variant.name != NONE and DEFAULT_MODEL in tuned
    }
    models = [variant.competitor for variant in variants]
    found = _runs_of(f"target_users={shops.share}", shops.by_seed, models, shops, tuned)
    arms = tuple(
        Arm(variant.name, "", None, variant.text or variant.meaning, _shown(runs, variant.name), model.guarded)
        for variant, model, runs in zip(variants, models, found)
    )
    full, none = (next(n for n, arm in enumerate(arms) if arm.model == name) for name in (FULL, NONE))
    against = tuple((full if n != full else None, none if n != none else None) for n in range(len(arms)))
    return Study("ablate", shops.name, "", arms, (FULL, NONE), against)


def sweep(
    key: str,
    settings: list[Setting],
    models: list[Competitor],
    shops: Shops,
    tuned: Mapping[str, Tuned] | None = None,
) -> Study:
    """Every model at every value, against LRURec at each value that concerns it. Raises MetaRecError as ``make_plan``.

    A model that a value does not concern has the same runs at all of them, and one arm.
    """
    lines = [COMPETITORS[WITHOUT_TRANSFER], *(model for model in models if model.name != WITHOUT_TRANSFER)]
    # the value is what is swept, whatever tuning has found for the key
    tuned = {
        name: replace(found, overrides={own: value for own, value in found.overrides.items() if own != key})
        for name, found in (tuned or {}).items()
    }
    by_value = [_runs_of(f"{key}={own.text}", own.by_seed, lines, shops, tuned) for own in settings]
    by_value = [_none_for_nothing(lines, runs) for runs in by_value]
    arms: list[Arm] = []
    places: dict[str, list[int]] = {}  # of each model: its arm at each value
    for number, line in enumerate(lines):
        own = _arms_of(line, settings, [runs[number] for runs in by_value])
        places[line.name] = [len(arms) + (n if len(own) > 1 else 0) for n in range(len(settings))]
        arms += own
    references = dict(zip(range(len(settings)), places[WITHOUT_TRANSFER]))
    against: list[tuple[int | None]] = [(None,)] * len(arms)
    for name, own in places.items():
        for n, place in enumerate(own):
            # an arm for all values is held against a reference for all values, or against none
            alone = len(set(own)) == 1 < len(set(references.values()))
            against[place] = (None if name == WITHOUT_TRANSFER or alone else references[n],)
    return Study("sweep", shops.name, key, tuple(arms), (WITHOUT_TRANSFER,), tuple(against))


def _runs_of(
    value: str, targets: Targets, lines: list[Competitor], shops: Shops, tuned: Mapping[str, Tuned]
) -> list[tuple[PlannedRun, ...]]:
    """The runs of each model by seed, under one ``KEY=value``."""
    plan = []  # seed by seed
    for (target, given), alike in groupby(targets, targets.get):
        if not any(line.spec.takes_sources for line in lines):  # where the data needs them to be named, models may not
            given = {key: value for key, value in given.items() if key != "sources"}
        plan += make_plan(lines, target, alike, given, tuned)
    return [
        # nobody has a part of a domain before a command has made it
        tuple(
            run if run.dataset == shops.dataset else _made_by(value, shops, line, run) for run in plan[n :: len(lines)]
        )
        for n, line in enumerate(lines)
    ]


def _shown(runs: Iterable[PlannedRun], name: str) -> tuple[PlannedRun, ...]:
    return tuple(replace(run, shown_as=name) for run in runs)


def _made_by(value: str, shops: Shops, line: Competitor, run: PlannedRun) -> PlannedRun:
    """The run with the command that also makes its data: what varies otherwise is typed as the config key it is."""
    value = value if shops.share == 1 else f"target_users={as_text(shops.share)}"
    words = ["recbole-metarec", "sweep", value, "--models", line.name, "--dataset", shops.dataset]
    if line.spec.takes_sources and value.partition("=")[0] not in _MAKES_SOURCES:
        words += ["--sources", ",".join(run.sources) or "none"]
    by_name = COMPETITORS[line.name].overrides if line.name in COMPETITORS else {}
    said = {"sources", "show_progress", *by_name, *(keys_in("by_name") - {"text_alignment"})}
    own = {name: value for name, value in run.overrides.items() if name not in said}
    words += ["--seeds", "1", *(f"--{name}={as_text(value)}" for name, value in {"seed": run.seed, **own}.items())]
    return replace(run, command=shlex.join(words))


def _none_for_nothing(lines: list[Competitor], runs: list[tuple[PlannedRun, ...]]) -> list[tuple[PlannedRun, ...]]:
    """MetaRec without any source is LRURec to the bit, the first of ``lines``: it is not trained once more."""
    return [runs[0] if line.guarded and not own[0].sources else own for line, own in zip(lines, runs)]


def _arms_of(line: Competitor, settings: list[Setting], runs: list[tuple[PlannedRun, ...]]) -> list[Arm]:
    if len({own[0].key for own in runs}) == 1 < len(runs):
        return [Arm(line.name, "", None, "", _shown(runs[0], line.name), line.guarded)]
    arms = [
        Arm(line.name, setting.text, _number(setting.value), _detail(own), own, line.guarded)
        for setting, own in zip(settings, runs)
    ]
    return [replace(arm, runs=_shown(arm.runs, arm.name)) for arm in arms]


def _number(value) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _detail(runs: tuple[PlannedRun, ...]) -> str:
    sources, targets = ", ".join(runs[0].sources), dict.fromkeys(run.dataset for run in runs)
    target = runs[0].dataset + (f" and {len(targets) - 1} more" if len(targets) > 1 else "")
    return f"{target} from {sources}" if sources else target
