"""``recbole-metarec neighbours``: which target items a trained run maps a source's items to."""

from pathlib import Path

import click

from recbole_metarec.cli.options import COUNT, NAMES, Command, option
from recbole_metarec.errors import DataError
from recbole_metarec.lazy import LazyModule
from recbole_metarec.tables import SCORE, Column, Table

compare = LazyModule("recbole_metarec.compare.neighbours")

EXAMPLES = """\
examples:
  recbole-metarec neighbours saved/MetaRec-Scientific-2020-20260101_120000-abc123
        the three most popular items of each source, and how similar matched items' texts are
  recbole-metarec neighbours saved/MetaRec-... --sources Office --items B0001,B0002

Items' texts are read from NAME.item beside NAME.inter; without them only names are shown. Item vectors are those after
the run's last epoch.
"""
_LONGEST = 70  # letters of a text


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("run", metavar="RUN")
@option("--sources", metavar="A,B", type=NAMES, help="some of the run's sources (default: all)")
@option("--items", metavar="A,B,C", type=NAMES, help="source items to show (default: the most popular ones)")
@option(
    "--top", metavar="N", type=COUNT, default=3, help="items of each source, and neighbours of each item (default: 3)"
)
@option("--data_path", metavar="DIR", help="where the domains are now (default: where they were)")
def command(run, sources, items, top, data_path):
    """Prints the neighbours and the similarity of the texts. Raises MetaRecError for an unknown run, source or item."""
    if not Path(run).is_dir():
        raise DataError(f"{run}: no such folder; give the folder of a run of MetaRec, such as saved/MetaRec-...")
    sources, items = (names and [name for name in names if name] for names in (sources, items))
    print(_report(compare.read_mappings(run, sources, top, data_path), items, top))


def _report(mappings, items: list[str] | None, top: int) -> str:
    absent = set(items or ()) - {name for mapping in mappings.sources for name in mapping.source.names}
    if absent:
        raise DataError(f"--items: {min(absent)} is an item of none of these sources; check its name")
    lines = [f"source items in {mappings.target.domain}'s space, vectors after epoch {mappings.epoch}"]
    for mapping in mappings.sources:
        names = mapping.source.names
        if items is None:
            shown = (-mapping.source.events).argsort(kind="stable")[:top].tolist()
        else:
            shown = [number for number, name in enumerate(names) if name in items]
        for number in shown:
            lines += ["", *_item(mappings.target, mapping, number)]
    scores = [score for mapping in mappings.sources for score in compare.likeness(mappings.target, mapping)]
    return "\n".join([*lines, "", *_likeness(scores, mappings)])


def _item(target, mapping, number: int) -> list[str]:
    source = mapping.source
    lines = [f"{source.domain}: {_named(source, number)} ({source.events[number]} events)"]
    lines += [f"  nearest {rank}: {_named(target, near)}" for rank, near in enumerate(mapping.nearest[number], 1)]
    lines += [f"  slice {head}: {_named(target, code)}" for head, code in enumerate(mapping.codes[number], 1)]
    return lines


def _named(catalogue, number: int) -> str:
    name = catalogue.names[number]
    text = catalogue.texts[number] if catalogue.texts else ""
    return f"{name} {text[:_LONGEST]}{'…' * (len(text) > _LONGEST)}".rstrip()


def _likeness(scores: list, mappings) -> list[str]:
    if not scores:
        catalogues = (mappings.target, *(mapping.source for mapping in mappings.sources))
        lacking = [catalogue.domain for catalogue in catalogues if catalogue.texts is None]
        return [f"no texts to compare: {', '.join(lacking)} without NAME.item"] if lacking else ["no texts to compare"]
    columns = (
        Column("source", lambda row: row.source, left=True),
        Column("matched by", lambda row: row.how, left=True),
        Column("pairs", lambda row: row.pairs),
        Column("cosine", lambda row: row.matched, SCORE),
        Column("shuffled", lambda row: row.random, SCORE),
        Column("difference, 95 % interval", lambda row: _apart(row.apart), left=True),
    )
    note = "cosine of TF-IDF vectors of matched items' texts; shuffled: the same target items in random order"
    return [Table(columns, tuple(scores)).grid(), note]


def _apart(interval) -> str:
    verdict = "not distinguishable" if interval.holds_zero else "alike" if interval.mean > 0 else "unlike"
    return f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}] {verdict}"
