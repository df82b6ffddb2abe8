"""``recbole-metarec split``: one dataset split into domains."""

from pathlib import Path

import click

from recbole_metarec.cli.options import COUNT, NUMBER, SHARE, Command, option, train_command
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.errors import ConfigError
from recbole_metarec.lazy import LazyModule

split_domains = LazyModule("recbole_metarec.prepare.split_domains")
splitting = LazyModule("recbole_metarec.prepare.splitting")

EXAMPLES = """\
examples:
  recbole-metarec split ml-100k --by class --core 5
        a domain for each first genre of MovieLens-100K: ml-100k-Action, ml-100k-Drama, ...
  recbole-metarec split Scientific --data_path data
        data/Scientific-a (target) and data/Scientific-b (source), without a common user or item
  recbole-metarec split Scientific --data_path data --users 0.3 --items 0.5 --overlap-users 0.2 --core 5
        the target gets 30 % of the users and half of the items; 20 % of its users are in the source, too
  recbole-metarec split Scientific --data_path data --items 1 --overlap-items 1 --source-words 0.5
        two shops that sell the same items; the source describes each with about half of the words

By shares, users and items are drawn at random; an event is in a part that has both its user and its item, so events
of a user of one part with an item of the other are in none, and an event that would be in both is the target's alone.
By column, a part is all events with that value; COLUMN is one of NAME.inter or NAME.item (of several words, the first
counts). A user then stays in one part, where the user's events weigh most relative to the part's size, unless
--keep-users.

Each part names the others as its sources: recbole-metarec train --dataset Scientific-a reads Scientific-b, too.
"""
_SHARES = {"users": 0.5, "items": 0.5, "overlap_users": 0.0, "overlap_items": 0.0}


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("name", metavar="NAME")
@option("--by", metavar="COLUMN", help="one part for each value of this column")
@click.option("--keep-users", is_flag=True, help="with --by: leave users in every part in which they have events")
@option("--users", metavar="S", type=SHARE, help="share of the users in part a, the target (default: 0.5)")
@option("--items", metavar="S", type=SHARE, help="share of the items in part a (default: 0.5)")
@option("--overlap-users", metavar="S", type=SHARE, help="share of part a's users also in part b (default: 0)")
@option("--overlap-items", metavar="S", type=SHARE, help="share of part a's items also in part b (default: 0)")
@option(
    "--source-words",
    metavar="S",
    type=SHARE,
    help="keep about this share of the words of each item's text in part b (default: 1)",
)
@option("--core", metavar="K", type=COUNT, help="then remove users and items with fewer events in a part, repeatedly")
@option("--seed", metavar="N", type=NUMBER, default=0, help="random seed (default: 0)")
@option("--data_path", metavar="DIR", help="folder that holds NAME/NAME.inter")
@option("--output", metavar="DIR", help=f"folder for the parts (default: --data_path, else {DEFAULT_DATA_PATH})")
@click.option("--overwrite", is_flag=True, help="replace domains of these names that exist")
def command(name, by, keep_users, source_words, core, seed, data_path, output, overwrite, **shares):
    """Writes the parts and describes them. Raises MetaRecError for any mistake, and writes nothing then."""
    shares = {option: share for option, share in shares.items() if share is not None}
    if by is None:
        _check_shares({**_SHARES, **shares}, keep_users, source_words)
    elif shares or source_words is not None:
        option = next(iter(shares), "source_words").replace("_", "-")
        raise ConfigError(f"--{option}: --by splits by the values of a column; leave one of them out")
    data_path, core = data_path or DEFAULT_DATA_PATH, core or 0
    folder = Path(output or data_path).expanduser()
    dataset = split_domains.read_frames(name, data_path)
    items = None
    if by is not None:
        split = splitting.split_by_column(dataset.with_column(by), by, not keep_users, core)
        about = {"by": by, "keep_users": keep_users, "core": core}
    else:
        words = 1.0 if source_words is None else source_words
        split = splitting.split_by_shares(dataset.events, splitting.PartShares(**_SHARES | shares), seed, core)
        about = {**_SHARES, **shares, "core": core, "seed": seed} | ({"source_words": words} if words < 1 else {})
        items = {"b": dataset.items_with(words, seed)}
    names = split_domains.write_split(dataset, split, folder, about, overwrite, items)
    print(describe(split, names, len(dataset.events)))
    print("written:", ", ".join(str(folder / part) for part in names.values()))
    print("next:", train_command(next(iter(names.values())), folder))


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


def _check_shares(shares: dict, keep_users: bool, source_words: float | None) -> None:
    """Raises ConfigError for options that contradict each other, and for a part that would be empty."""
    if keep_users:
        raise ConfigError("--keep-users: it goes with --by; give --overlap-users instead")
    if source_words == 0:
        raise ConfigError("--source-words: 0 leaves the source without texts; give more than 0")
    for kind, others in (("users", "items"), ("items", "users")):
        share, overlap = shares[kind], shares[f"overlap_{kind}"]
        if share == 0:
            raise ConfigError(f"--{kind}: 0 leaves the target without {kind}; give more than 0")
        if share == 1 and overlap and shares[f"overlap_{others}"]:
            raise ConfigError(
                f"--{kind}: 1 gives the target all events of the {others} that both have, and the source none of them; "
                f"give less, or no --overlap-{others}"
            )
        if share == 1 and overlap == 0:
            raise ConfigError(f"--{kind}: 1 leaves the source without {kind}; give less, or --overlap-{kind}")
