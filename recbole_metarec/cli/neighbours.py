"""``recbole-metarec neighbours``: which target items a trained run reads a source's items as."""

import argparse
from pathlib import Path

from recbole_metarec.cli.options import count, options_of, split_arguments
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.tables import SCORE, Column, Table

SUMMARY = "which target items a run's source items are read as, and whether they mean the same"
EXAMPLE = """\
examples:
  recbole-metarec neighbours saved/MetaRec-Scientific-2020-20260101_120000-abc123
        the three most popular items of each source, and how alike matched items' texts are
  recbole-metarec neighbours saved/MetaRec-... --sources Office --items B0001,B0002

Items' texts are read from NAME.item beside NAME.inter; without them only names are shown. Tables are those after the
run's last epoch.
"""
_LONGEST = 70  # letters of a text


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    option = options_of(parser)
    option("run", metavar="RUN", nargs="?", default=argparse.SUPPRESS, help="folder of a run of MetaRec")
    option("--sources", metavar="A,B", help="some of the run's sources (default: all)")
    option("--items", metavar="A,B,C", help="source items to show (default: the most popular ones)")
    option("--top", metavar="N", help="items of each source, and neighbours of each item (default: 3)")
    option("--data_path", metavar="DIR", help="where the domains are now (default: where they were)")


def command(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Prints the neighbours and the likeness of the texts. Raises MetaRecError for a mistake in what was given."""
    given = split_arguments(parser, arguments)
    allowed = ("run", "sources", "items", "top", "data_path")
    for key in given:
        if key not in allowed:
            raise ConfigError(f"--{key}: a run that is done has its config keys; leave it out")
    if "run" not in given:
        raise ConfigError("neighbours: no run; give the folder of a run of MetaRec, such as saved/MetaRec-...")
    top = count(given.get("top", "3"), "--top")
    sources, items = (_names(given[key]) if key in given else None for key in ("sources", "items"))
    if not Path(given["run"]).is_dir():
        raise DataError(
            f"{given['run']}: no such folder; give the folder of a run of MetaRec, such as saved/MetaRec-..."
        )
    from recbole_metarec.compare.neighbours import read_mappings

    print(_report(read_mappings(given["run"], sources, top, given.get("data_path")), items, top))
    return 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _report(found, items: list[str] | None, top: int) -> str:
    from recbole_metarec.compare.neighbours import likeness

    absent = set(items or ()) - {name for mapping in found.sources for name in mapping.source.names}
    if absent:
        raise DataError(f"--items: {min(absent)} is an item of none of these sources; check its name")
    lines = [f"source items in {found.target.domain}'s space, tables after epoch {found.epoch}"]
    for mapping in found.sources:
        names = mapping.source.names
        if items is None:
            shown = (-mapping.source.events).argsort(kind="stable")[:top].tolist()
        else:
            shown = [number for number, name in enumerate(names) if name in items]
        for number in shown:
            lines += ["", *_item(found.target, mapping, number)]
    scores = [own for mapping in found.sources for own in likeness(found.target, mapping)]
    return "\n".join([*lines, "", *_likeness(scores, found)])


def _item(target, mapping, number: int) -> list[str]:
    source = mapping.source
    lines = [f"{source.domain}: {_named(source, number)} ({source.events[number]} events)"]
    lines += [f"  nearest {place}: {_named(target, near)}" for place, near in enumerate(mapping.nearest[number], 1)]
    lines += [f"  slice {head}: {_named(target, code)}" for head, code in enumerate(mapping.codes[number], 1)]
    return lines


def _named(catalogue, number: int) -> str:
    name = catalogue.names[number]
    text = catalogue.texts[number] if catalogue.texts else ""
    return f"{name} {text[:_LONGEST]}{'…' * (len(text) > _LONGEST)}".rstrip()


def _likeness(scores: list, found) -> list[str]:
    if not scores:
        lacking = [own.domain for own in (found.target, *(m.source for m in found.sources)) if own.texts is None]
        return [f"no texts to compare: {', '.join(lacking)} without NAME.item"] if lacking else ["no texts to compare"]
    columns = (
        Column("source", lambda row: row.source, left=True),
        Column("matched by", lambda row: row.how, left=True),
        Column("pairs", lambda row: row.pairs),
        Column("cosine", lambda row: row.matched, SCORE),
        Column("dealt at random", lambda row: row.random, SCORE),
        Column("difference, 95 % interval", lambda row: _apart(row.apart), left=True),
    )
    note = "cosine of TF-IDF vectors of matched items' texts; at random: the same target items dealt out anew"
    return [Table(columns, tuple(scores)).grid(), note]


def _apart(interval) -> str:
    verdict = "not distinguishable" if interval.holds_zero else "alike" if interval.mean > 0 else "unlike"
    return f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}] {verdict}"
