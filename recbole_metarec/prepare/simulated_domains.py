"""Simulated domains as files: their names, their sizes, the truth beside them, and stand-ins for named domains.

Every name begins with ``sim-``, and so does every report on it. ``NAME.truth.json`` holds what was planted.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recbole_metarec.config.dataset_files import domain_settings, known_domains
from recbole_metarec.config.sources import source_fault
from recbole_metarec.config.suggestions import nearest
from recbole_metarec.data.writer import write_domain, written_together
from recbole_metarec.errors import ConfigError
from recbole_metarec.files import cache_dir, make_dir, publish_folder, write_atomically
from recbole_metarec.prepare.simulation import (
    Simulated,
    Size,
    World,
    agreement,
    simulate_domain,
    source_successors,
    target_successors,
    unchanged,
)

PREFIX = "sim-"
RULE = 1  # to be raised when the same plan gives other events


@dataclass(frozen=True)
class Planned:
    """A domain to be simulated; relatedness to the target, which has 1 itself."""

    name: str
    size: Size
    relatedness: float = 1.0


@dataclass(frozen=True)
class Plan:
    """A target and its sources in one world. Raises ConfigError where the world and a size do not go together."""

    world: World
    target: Planned
    sources: tuple[Planned, ...] = ()

    def __post_init__(self):
        world = self.world
        if world.clusters < 2 * world.successors:
            raise ConfigError(
                f"{world.clusters} clusters are too few to have {world.successors} successors each; give at least "
                f"{2 * world.successors} clusters"
            )
        for name, size in ((domain.name, domain.size) for domain in self.domains):
            if size.items < world.clusters:
                raise ConfigError(f"{name}: {size.items} items cannot fill {world.clusters} clusters; give more items")
            if size.mean_length < world.min_length:
                raise ConfigError(
                    f"{name}: histories of {size.mean_length:g} events in the mean cannot all have {world.min_length}; "
                    "give longer ones, or a lower minimum"
                )

    @property
    def domains(self) -> tuple[Planned, ...]:
        """The target, then its sources."""
        return (self.target, *self.sources)


@dataclass(frozen=True)
class Written:
    """Facts about a domain as written.

    relatedness: as asked for. unchanged: the share of clusters that do have the target's successors. agreement:
    with the target's transitions, noise included.
    """

    name: str
    users: int
    items: int
    events: int
    relatedness: float
    unchanged: float
    agreement: float
    oracle: float
    popularity: float


def even_relatedness(sources: int) -> list[float]:
    """From 1 down to 0 in even steps, one for each source."""
    return [round(float(value), 4) for value in np.linspace(1.0, 0.0, sources)]


def known_size(name: str) -> Size:
    """The size of a named domain. Raises ConfigError for a name whose size is not known."""
    counts = domain_settings(name).get("statistics")
    if counts is None:
        sized = [known for known in known_domains() if "statistics" in domain_settings(known)]
        guess = nearest(name, sized) if name not in known_domains() else None
        hint = f"did you mean {guess}?" if guess else f"it is of {', '.join(sized)}"
        raise ConfigError(f"the size of {name} is not known; {hint}")
    return Size(counts["users"], counts["items"], counts["interactions"] / counts["users"])


def default_sources(name: str) -> list[str]:
    """The default sources of a named target, as far as their size is known."""
    return [n for n in domain_settings(name).get("default_sources", ()) if "statistics" in domain_settings(n)]


def stand_in_plan(target: str, sources: Sequence[str] | str = "auto", world: World | None = None) -> Plan:
    """Stand-ins of the same sizes for a named target and its sources, named ``sim-NAME``.

    sources: names, or ``auto`` for the target's default sources whose size is known. The sources are related to the
    target by 1 down to 0, in even steps and in their order. Raises ConfigError for a name whose size is not known, and
    for a source that is the target or named twice.
    """
    if sources == "auto":
        sources = default_sources(target)
    if fault := source_fault(list(sources), target):
        raise ConfigError(f"sources: {'; '.join(fault)}")
    related = zip(sources, even_relatedness(len(sources)))
    planned = tuple(Planned(PREFIX + name, known_size(name), relatedness) for name, relatedness in related)
    return Plan(world or World(), Planned(PREFIX + target, known_size(target)), planned)


def ensure_stand_ins(plan: Plan) -> Path:
    """Folder F with ``F/NAME/NAME.inter`` for each domain of the plan, made in the cache if it is missing.

    F's name carries a hash of the plan and of the rule; F is complete or absent, and processes may race. Raises
    DataError if the cache cannot be written.
    """
    cache = make_dir(cache_dir())
    final = cache / f"simulated-{hashlib.sha256(repr((RULE, plan)).encode()).hexdigest()[:12]}"
    if not _is_complete(final, plan):
        with tempfile.TemporaryDirectory(prefix=".simulated.", dir=cache) as hidden:
            built = Path(hidden) / "built"
            write_simulated(built, plan)
            if not _is_complete(final, plan):  # else another process was faster, and may be reading what it wrote
                shutil.rmtree(final, ignore_errors=True)  # somebody deleted a file from it
                publish_folder(built, final)
    return final


def _is_complete(folder: Path, plan: Plan) -> bool:
    return all((folder / domain.name / f"{domain.name}.inter").is_file() for domain in plan.domains)


def write_simulated(folder: Path, plan: Plan, overwrite: bool = False) -> list[Written]:
    """Simulate every domain of ``plan`` and write all of them, or none, each with its truth; the target comes first.

    Raises DataError for a name that is taken (unless ``overwrite``) and where the disk is full or may not be
    written to.
    """
    written = []
    target = target_successors(plan.world)
    with written_together(folder, [domain.name for domain in plan.domains], overwrite) as hidden:
        for domain in plan.domains:
            successors = target
            if domain is not plan.target:
                successors = source_successors(plan.world, target, domain.relatedness, domain.name)
            made = simulate_domain(plan.world, domain.size, successors, domain.name)
            written.append(_write(hidden, plan, domain, made, target))
    return written


def _write(folder: Path, plan: Plan, domain: Planned, made: Simulated, target: np.ndarray) -> Written:
    events = _events(domain.name, made)
    facts = Written(
        name=domain.name,
        users=domain.size.users,
        items=events["item_id"].n_unique(),
        events=len(events),
        relatedness=domain.relatedness,
        unchanged=round(unchanged(made.successors, target), 6),
        agreement=round(agreement(made.transitions, plan.world.transitions(target)), 6),
        oracle=round(made.oracle(), 6),
        popularity=round(made.popularity(), 6),
    )
    about = {
        "simulated": True,
        "target": plan.target.name,
        "relatedness": facts.relatedness,
        "unchanged": facts.unchanged,
        "agreement": facts.agreement,
        "oracle_ndcg@10": facts.oracle,
        "popularity_ndcg@10": facts.popularity,
        "world": asdict(plan.world),
        "size": asdict(domain.size),
        "default_sources": [source.name for source in plan.sources] if domain is plan.target else [],
    }
    domain_folder = write_domain(folder, domain.name, events, about=about)
    truth = {
        **about,
        "transitions": made.transitions.tolist(),
        "items": {
            f"{domain.name}-i{item}": {"cluster": cluster, "share": share}
            for item, (cluster, share) in enumerate(zip(made.cluster.tolist(), made.share.tolist()))
        },
    }
    write_atomically(domain_folder / f"{domain.name}.truth.json", [json.dumps(truth).encode()], "free some space there")
    return facts


def _events(name: str, made: Simulated) -> pl.DataFrame:
    numbers = pl.DataFrame({"user_id": made.users, "item_id": made.items}).with_row_index("time")
    return numbers.with_columns(
        pl.format("{}-u{}", pl.lit(name), "user_id").alias("user_id"),
        pl.format("{}-i{}", pl.lit(name), "item_id").alias("item_id"),
        pl.int_range(pl.len()).over("user_id").alias("time"),
    )
