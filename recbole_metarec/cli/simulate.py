"""``recbole-metarec simulate``: synthetic domains, with the truth about them beside."""

from pathlib import Path

import click

from recbole_metarec.cli.options import COUNT, NAMES, NUMBER, SHARE, Command, FiniteRange, option, train_command
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.config.sources import source_fault, source_names
from recbole_metarec.errors import ConfigError
from recbole_metarec.lazy import LazyModule

simulated_domains = LazyModule("recbole_metarec.prepare.simulated_domains")
simulation = LazyModule("recbole_metarec.prepare.simulation")

EXAMPLES = """\
examples:
  recbole-metarec simulate
        a small target and four sources, from one that shares all of its transitions to one that shares none
  recbole-metarec train --dataset sim-target
        trains on them: sources.csv in the run folder lists the weight of each source
  recbole-metarec simulate --sources 3 --relatedness 0,0,0 --overwrite
        nothing to be learned from any source
  recbole-metarec simulate --like Scientific --sources-like Office,Tools --relatedness 1,0.5 --output simulated
        as many users, items and events as the named domains have

A next item belongs to one of the few likely next clusters of the last item's cluster. A source of relatedness 0.7 has
the target's next clusters in 70 % of the clusters, and others in the rest; entropy, popularity and the best NDCG@10
that any model can have are the same for every relatedness. With few clusters not every relatedness is possible:
"unchanged" in the table is the share of clusters that do have the target's next ones; "agreement" is the probability
that the transitions have in common. In the target the likeliest next cluster is the same one.
NAME.truth.json beside each domain holds the hidden clusters and transitions.
"""
_DEFAULTS = {"target_users": 1000, "items": 300, "length": 7.0, "sources": 4, "source_users": 3000}
# what names of domains decide in their place
_DECIDED = {"like": ("target_users", "items", "length"), "sources_like": ("sources", "source_users", "source_items")}


@click.command(cls=Command, epilog=EXAMPLES)
@option("--target-users", metavar="N", type=COUNT, help="users of the target (default: 1000)")
@option("--items", metavar="N", type=COUNT, help="items of the target; unused ones are not written (default: 300)")
@option("--length", metavar="N", type=FiniteRange(min=1), help="mean number of events in a history (default: 7)")
@option("--sources", metavar="N", type=NUMBER, help="number of sources (default: 4)")
@option("--source-users", metavar="N", type=COUNT, help="users of each source (default: 3000)")
@option("--source-items", metavar="N", type=COUNT, help="items of each source (default: as many as the target)")
@option(
    "--relatedness",
    metavar="R,R,...",
    type=NAMES,
    help="one from 0 to 1 for each source (default: 1 to 0 in even steps)",
)
@option("--like", metavar="NAME", help="target of the size of a named domain, called sim-NAME, its default sources")
@option("--sources-like", metavar="A,B,C", help="sources of the sizes of named domains, called sim-A, sim-B, ...")
@option("--clusters", metavar="K", type=COUNT, default=20, help="hidden clusters of items (default: 20)")
@option("--successors", metavar="M", type=COUNT, default=2, help="likely next clusters of a cluster (default: 2)")
@option("--noise", metavar="P", type=SHARE, default=0.1, help="share of random events (default: 0.1)")
@option(
    "--skew",
    metavar="S",
    type=FiniteRange(min=0),
    default=0.7,
    help="Zipf exponent of the items of a cluster; 0 is uniform (default: 0.7)",
)
@option("--min-length", metavar="N", type=COUNT, default=5, help="events of the shortest history (default: 5)")
@option("--seed", metavar="N", type=NUMBER, default=0, help="random seed (default: 0)")
@option("--output", metavar="DIR", help=f"folder for the domains (default: {DEFAULT_DATA_PATH})")
@click.option("--overwrite", is_flag=True, help="replace domains of these names that exist")
def command(output, overwrite, clusters, successors, noise, skew, min_length, seed, **sizes):
    """Writes the domains and describes them. Raises MetaRecError for any mistake, and writes nothing then."""
    world = simulation.World(clusters, successors, noise, skew, min_length, seed)
    plan = _plan(world, {name: value for name, value in sizes.items() if value is not None})
    folder = Path(output or DEFAULT_DATA_PATH).expanduser()
    written = simulated_domains.write_simulated(folder, plan, overwrite)
    print(describe(written))
    print("written:", ", ".join(str(folder / domain.name) for domain in written))
    print("next:", train_command(plan.target.name, folder))


def describe(written: list) -> str:
    """The domains as a table; the target comes first."""
    heads = f"{'users':>9s}{'items':>9s}{'events':>10s}{'relatedness':>13s}{'unchanged':>11s}{'agreement':>11s}"
    lines = [f"{'simulated domain':24s}{heads}"]
    for domain in written:
        related = f"{domain.relatedness:.2f}" if domain is not written[0] else "target"
        lines.append(
            f"{domain.name:24s}{domain.users:9d}{domain.items:9d}{domain.events:10d}{related:>13s}"
            f"{domain.unchanged:11.2f}{domain.agreement:11.2f}"
        )
    target = written[0]
    lines.append(
        f"expected NDCG@10 on {target.name}: {target.oracle:.4f} by the best possible ranking, which knows the truth; "
        f"{target.popularity:.4f} by the best one that ignores the history"
    )
    return "\n".join(lines)


def _plan(world, typed: dict):
    """The domains to make. typed: the options that decide their sizes and relatedness."""
    for name, decided in _DECIDED.items():
        for other in decided:
            if name in typed and other in typed:
                raise ConfigError(f"{_option(other)}: {_option(name)} decides this; leave one of them out")
    target = _target(typed)
    sources = _sources(typed, target.size)
    related = _relatedness(typed.get("relatedness"), len(sources))
    planned = (simulated_domains.Planned(*source, value) for source, value in zip(sources, related, strict=True))
    return simulated_domains.Plan(world, target, tuple(planned))


def _target(typed: dict):
    if "like" in typed:
        size, name = simulated_domains.known_size(typed["like"]), typed["like"]
    else:
        size, name = simulation.Size(*({**_DEFAULTS, **typed}[key] for key in _DECIDED["like"])), "target"
    return simulated_domains.Planned(simulated_domains.PREFIX + name, size)


def _sources(typed: dict, target_size) -> list[tuple]:
    """Name and size of each source."""
    prefix = simulated_domains.PREFIX
    if "sources_like" in typed:
        names = source_names(typed["sources_like"])
        if names == "auto":
            raise ConfigError("--sources-like: auto is what --like means without it; leave it out or give names")
        if fault := source_fault(names, typed.get("like")):
            raise ConfigError(f"--sources-like: {'; '.join(fault)}")
    elif "like" in typed and not any(name in typed for name in _DECIDED["sources_like"]):
        names = simulated_domains.default_sources(typed["like"])
    else:
        sizes = {**_DEFAULTS, "source_items": target_size.items, **typed}
        size = simulation.Size(sizes["source_users"], sizes["source_items"], target_size.mean_length)
        return [(f"{prefix}source-{number}", size) for number in range(1, sizes["sources"] + 1)]
    return [(prefix + name, simulated_domains.known_size(name)) for name in names]


def _relatedness(texts: list[str] | None, sources: int) -> list[float]:
    if texts is None:
        return simulated_domains.even_relatedness(sources)
    texts = [text for text in texts if text]
    if len(texts) != sources:
        raise ConfigError(f"--relatedness: {len(texts)} values for {sources} sources; give one for each source")
    try:
        return [SHARE.convert(text, None, None) for text in texts]
    except click.BadParameter as error:
        raise ConfigError(f"--relatedness: {error.message}") from None


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
