"""``recbole-metarec split``: one dataset cut into domains."""

import argparse
from pathlib import Path

from recbole_metarec.cli.options import count, number, options_of, options_only, train_command
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.errors import ConfigError

SUMMARY = "cut one dataset into domains, disjoint or with a chosen overlap"
EXAMPLE = """\
examples:
  recbole-metarec split ml-100k --by class --core 5
        a domain for each first genre of MovieLens-100K: ml-100k-Action, ml-100k-Drama, ...
  recbole-metarec split Scientific --data_path data
        data/Scientific-a (target) and data/Scientific-b (source), without a common user or item
  recbole-metarec split Scientific --data_path data --users 0.3 --items 0.5 --overlap-users 0.2 --core 5
        the target gets 30 % of the users and half of the items; 20 % of its users are in the source, too
  recbole-metarec split Scientific --data_path data --items 1 --overlap-items 1 --source-words 0.5
        two shops of the same goods; the source describes each with about half of the words

By shares, users and items are drawn at random; an event is in a part that has both its user and its item, so events
of a user of one part with an item of the other are in none, and an event that would be in both is the target's alone.
By column, a part is all events with that value; COLUMN is one of NAME.inter or NAME.item (of several words, the first
counts). A user then stays in one part, where the user's events weigh most relative to the part's size, unless
--keep-users.

The parts find each other: recbole-metarec train --dataset Scientific-a takes Scientific-b as its source.
"""
_SHARES = {"users": 0.5, "items": 0.5, "overlap_users": 0.0, "overlap_items": 0.0}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    option = options_of(parser)
    option("name", metavar="NAME", help="the dataset")
    option("--by", metavar="COLUMN", help="one part for each value of this column")
    option("--keep-users", nargs=0, const=True, help="with --by: leave users in every part in which they have events")
    option("--users", metavar="S", help="share of the users in part a, the target (default: 0.5)")
    option("--items", metavar="S", help="share of the items in part a (default: 0.5)")
    option("--overlap-users", metavar="S", help="share of part a's users that are in part b, too (default: 0)")
    option("--overlap-items", metavar="S", help="share of part a's items that are in part b, too (default: 0)")
    option(
        "--source-words",
        metavar="S",
        help="about this share of the words of each item's text is in part b (default: 1)",
    )
    option("--core", metavar="K", help="then drop users and items with fewer events in a part, again and again")
    option("--seed", metavar="N", help="seed of what is drawn at random (default: 0)")
    option("--data_path", metavar="DIR", help="folder that holds NAME/NAME.inter")
    option("--output", metavar="DIR", help=f"folder for the parts (default: --data_path, else {DEFAULT_DATA_PATH})")
    option("--overwrite", nargs=0, const=True, help="replace domains of these names that are there already")


def command(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Writes the parts and tells what they are. Raises MetaRecError for any mistake, and writes nothing then."""
    given = options_only(parser, arguments)
    shares = {name: number(given[name], _option(name), 0, 1) for name in _SHARES if name in given}
    core = count(given["core"], "--core") if "core" in given else 0
    seed = count(given.get("seed", "0"), "--seed", 0)
    words = number(given.get("source_words", "1"), "--source-words", 0, 1)
    _check(given, shares, words)
    data_path = given.get("data_path") or DEFAULT_DATA_PATH
    output = Path(given.get("output") or data_path).expanduser()
    from recbole_metarec.prepare.split_domains import read_frames, write_split
    from recbole_metarec.prepare.splitting import Shares, split_by_column, split_by_shares

    dataset = read_frames(given["name"], data_path)
    items = None
    if "by" in given:
        split = split_by_column(dataset.with_column(given["by"]), given["by"], "keep_users" not in given, core)
        about = {"by": given["by"], "keep_users": "keep_users" in given, "core": core}
    else:
        split = split_by_shares(dataset.events, Shares(**_SHARES | shares), seed, core)
        about = {**_SHARES, **shares, "core": core, "seed": seed} | ({"source_words": words} if words < 1 else {})
        items = {"b": dataset.items_with(words, seed)}
    names = write_split(dataset, split, output, about, "overwrite" in given, items)
    print(describe(split, names, len(dataset.events)))
    print("written:", ", ".join(str(output / name) for name in names.values()))
    print("next:", train_command(next(iter(names.values())), output))
    return 0


def describe(split, names: dict[str, str], events: int) -> str:
    """The parts as a table, then what they share; names: of the domains, by part."""
    width = max(len("domain"), *map(len, names.values())) + 2
    lines = [f"{'domain':{width}s}{'users':>9s}{'items':>9s}{'events':>10s}"]
    for part, rows in split.parts.items():
        users, items = rows["user_id"].n_unique(), rows["item_id"].n_unique()
        lines.append(f"{names[part]:{width}s}{users:9d}{items:9d}{len(rows):10d}")
    for kind, shared in (("users", split.shared_users), ("items", split.shared_items)):
        if not shared:
            lines.append(f"no two domains share {kind}")
        for (one, other), n in shared.items():
            share = n / split.parts[one][f"{kind[:-1]}_id"].n_unique()
            lines.append(f"{names[one]} and {names[other]} share {n} {kind} ({share:.1%} of those of {names[one]})")
    if split.left_to_target:
        target, source = names.values()
        lines.append(
            f"{split.left_to_target} events have a user and an item of both; they are left out of {source}, so that "
            f"nothing that is held out in {target} is seen there"
        )
    lines.append(f"in no domain: {split.unused} of {events} events ({split.unused / events:.1%})")
    return "\n".join(lines)


def _check(given: dict, shares: dict, words: float) -> None:
    """Raises ConfigError for options that contradict each other, and for a part that could have nothing."""
    if "name" not in given:
        raise ConfigError("split: name a dataset, such as recbole-metarec split ml-100k --by class")
    if "by" in given and shares:
        raise ConfigError(f"{_option(next(iter(shares)))}: --by cuts by the values of a column; leave one of them out")
    if "by" not in given and "keep_users" in given:
        raise ConfigError("--keep-users: it goes with --by; give --overlap-users instead")
    if "by" in given and "source_words" in given:
        raise ConfigError("--source-words: it goes with a split by shares; --by has no part that is the source")
    if words == 0:
        raise ConfigError("--source-words: 0 leaves the source without texts; give more than 0")
    for kind in ("users", "items"):
        share, overlap = ({**_SHARES, **shares}[name] for name in (kind, f"overlap_{kind}"))
        if share == 0:
            raise ConfigError(f"--{kind}: 0 leaves the target without {kind}; give more than 0")
        others = "items" if kind == "users" else "users"
        if share == 1 and overlap and shares.get(f"overlap_{others}"):
            raise ConfigError(
                f"--{kind}: 1 gives the target all events of the {others} that both have, and the source none of them; "
                f"give less, or no --overlap-{others}"
            )
        if share == 1 and overlap == 0:
            raise ConfigError(f"--{kind}: 1 leaves the source without {kind}; give less, or --overlap-{kind}")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
