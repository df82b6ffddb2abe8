"""``recbole-metarec simulate``: domains that do not exist, with the truth about them beside."""

import argparse
from pathlib import Path

from recbole_metarec.cli.options import count, number, options_of, options_only, train_command
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.config.suggestions import source_fault, source_names
from recbole_metarec.errors import ConfigError

SUMMARY = "make up domains whose relatedness is known, to see when transfer helps and when it must not"
EXAMPLE = """\
examples:
  recbole-metarec simulate
        a small target and four sources, from one that shares all of its transitions to one that shares none
  recbole-metarec train --dataset sim-target
        trains on them: sources.csv in the run folder tells what weight each source got
  recbole-metarec simulate --sources 3 --relatedness 0,0,0 --overwrite
        nothing to be learned from any source
  recbole-metarec simulate --like Scientific --sources-like Office,Tools --relatedness 1,0.5 --output simulated
        as many users, items and events as the named domains have

A next item belongs to one of the few likely next clusters of the last item's cluster. A source of relatedness 0.7 has
the target's next clusters in 70 % of the clusters, and others in the rest; entropy, popularity and the best NDCG@10
that any model can have are the same for every relatedness. With few clusters not every relatedness can be had: what
has come of it stands under "unchanged", the share of clusters that do have the target's next ones. In the target the
likeliest next cluster is the same one.
NAME.truth.json beside each domain holds what was planted.
"""
_GENERIC = ("sources", "source_users", "source_items")
_SIZES = ("target_users", "items", "length")
_DEFAULTS = {"target_users": 1000, "items": 300, "length": 7.0, "sources": 4, "source_users": 3000}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from recbole_metarec.prepare.simulation import World

    world = World()
    option = options_of(parser)

    def size(name, help):
        option(name, metavar="N", help=f"{help} (default: {_DEFAULTS[name[2:].replace('-', '_')]})")

    size("--target-users", "users of the target")
    size("--items", "items of the target; those that nobody happens to choose are not written")
    size("--length", "mean number of events in a history")
    size("--sources", "number of sources")
    size("--source-users", "users of each source")
    option("--source-items", metavar="N", help="items of each source (default: as many as the target)")
    option("--relatedness", metavar="R,R,...", help="one from 0 to 1 for each source (default: 1 to 0 in even steps)")
    option("--like", metavar="NAME", help="target of the size of a named domain, called sim-NAME, its default sources")
    option("--sources-like", metavar="A,B,C", help="sources of the sizes of named domains, called sim-A, sim-B, ...")
    option("--clusters", metavar="K", help=f"hidden clusters of items (default: {world.clusters})")
    option("--successors", metavar="M", help=f"likely next clusters of a cluster (default: {world.successors})")
    option("--noise", metavar="P", help=f"share of events that follow nothing (default: {world.noise})")
    option("--skew", metavar="S", help=f"Zipf exponent of the items of a cluster; 0 is even (default: {world.skew})")
    option("--min-length", metavar="N", help=f"events of the shortest history (default: {world.min_length})")
    option("--seed", metavar="N", help=f"random seed (default: {world.seed})")
    option("--output", metavar="DIR", help=f"folder for the domains (default: {DEFAULT_DATA_PATH})")
    option("--overwrite", nargs=0, const=True, help="replace domains of these names that are there already")


def command(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Writes the domains and tells what they are. Raises MetaRecError for any mistake, and writes nothing then."""
    given = options_only(parser, arguments)
    plan = _plan(given)
    output = Path(given.get("output") or DEFAULT_DATA_PATH).expanduser()
    from recbole_metarec.prepare.simulated_domains import write_simulated

    written = write_simulated(output, plan, bool(given.get("overwrite")))
    print(describe(written))
    print("written:", ", ".join(str(output / domain.name) for domain in written))
    print("next:", train_command(plan.target.name, output))
    return 0


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


def _plan(given: dict):
    from recbole_metarec.prepare.simulated_domains import Plan, Planned, even_relatedness

    for one, others in (("like", _SIZES), ("sources_like", _GENERIC)):
        for other in others:
            if one in given and other in given:
                raise ConfigError(f"{_option(other)}: {_option(one)} decides this; leave one of them out")
    target, wanted = _target(given)
    sources = _sources(given, wanted, target)
    related = _relatedness(given, len(sources)) if "relatedness" in given else even_relatedness(len(sources))
    planned = (Planned(name, size, value) for (name, size), value in zip(sources, related, strict=True))
    return Plan(_world(given), Planned(*target), tuple(planned))


def _target(given: dict):
    """(name, size) of the target, and the named domains that its sources are like, if it is like a named domain."""
    from recbole_metarec.prepare.simulated_domains import PREFIX, default_sources, known_size
    from recbole_metarec.prepare.simulation import Size

    if "like" in given:
        return (PREFIX + given["like"], known_size(given["like"])), default_sources(given["like"])
    users, items = (_count(given, name) for name in ("target_users", "items"))
    return (f"{PREFIX}target", Size(users, items, _number(given, "length", _DEFAULTS["length"], 1))), None


def _sources(given: dict, wanted: list | None, target: tuple) -> list[tuple]:
    from recbole_metarec.prepare.simulated_domains import PREFIX, known_size
    from recbole_metarec.prepare.simulation import Size

    if "sources_like" in given:
        wanted = source_names(given["sources_like"])
        if wanted == "auto":
            raise ConfigError("--sources-like: auto is what --like means without it; leave it out or give names")
        if fault := source_fault(wanted, given.get("like")):
            raise ConfigError(f"--sources-like: {'; '.join(fault)}")
    elif wanted is None or any(name in given for name in _GENERIC):
        _, like = target
        size = Size(_count(given, "source_users"), _count(given, "source_items", like.items), like.mean_length)
        return [(f"{PREFIX}source-{place}", size) for place in range(1, _count(given, "sources", least=0) + 1)]
    return [(PREFIX + name, known_size(name)) for name in wanted]


def _world(given: dict):
    from recbole_metarec.prepare.simulation import World

    usual = World()
    return World(
        clusters=_count(given, "clusters", usual.clusters),
        successors=_count(given, "successors", usual.successors),
        noise=_number(given, "noise", usual.noise, 0, 1),
        skew=_number(given, "skew", usual.skew, 0),
        min_length=_count(given, "min_length", usual.min_length),
        seed=_count(given, "seed", usual.seed, least=0),
    )


def _relatedness(given: dict, sources: int) -> list[float]:
    texts = [text for text in given["relatedness"].split(",") if text.strip()]
    if len(texts) != sources:
        raise ConfigError(f"--relatedness: {len(texts)} values for {sources} sources; give one for each source")
    return [number(text, "--relatedness", 0, 1) for text in texts]


def _count(given: dict, name: str, default: int | None = None, least: int = 1) -> int:
    return count(given[name], _option(name), least) if name in given else default or _DEFAULTS.get(name, 0)


def _number(given: dict, name: str, default: float, low: float, high: float | None = None) -> float:
    return number(given[name], _option(name), low, high) if name in given else default


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
