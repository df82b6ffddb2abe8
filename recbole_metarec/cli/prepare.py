"""``recbole-metarec prepare``: domains from public review sets or from a log of one's own."""

import argparse
from pathlib import Path

from recbole_metarec.cli.options import count, options_of, split_arguments, train_command
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.errors import ConfigError

SUMMARY = "make domains from public review sets, or from a log of your own"
EXAMPLE = """\
examples:
  recbole-metarec prepare Scientific Office Tools
        fetches the Amazon reviews and item texts of three named domains, and writes dataset/NAME/NAME.inter
  recbole-metarec prepare Scientific --raw Industrial_and_Scientific_5.json.gz
        the same from a file that is here already; reviews or ratings of 2014, 2018 and 2023 are told apart, and
        RecBole's own copies (.inter, also zipped) are read, too
  recbole-metarec prepare Magazines --category Magazine_Subscriptions --edition 2023
        any other Amazon category
  recbole-metarec prepare MyShop --raw clicks.csv --user u --item i --time t
        your own log: CSV, TSV, JSON lines (each also .gz) or Parquet; times are numbers or ISO dates (UTC where no
        zone is given); without --core everything is kept

Rows that repeat an earlier user, item and time are left out, the first is kept. Then users and items with too few
events are left out until all have enough (--core). Events of equal time keep the order of the file. A line that cannot
be read stops the command, unless --skip_bad_lines. The same files give the same domain on every machine.

Fetched files are kept in ~/.cache/recbole-metarec/raw (or $METAREC_CACHE/raw); an interrupted download goes on where
it stopped.
"""
_ROLES = ("user", "item", "time", "rating")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    option = options_of(parser)

    def flag(name, text):
        option(name, nargs=0, const=True, help=text)

    option("names", metavar="NAME", nargs="*", help="domains to prepare; see dataset_configs")
    option("--data_path", metavar="DIR", help="folder to write NAME/NAME.inter into (default: dataset)")
    option("--edition", metavar="YEAR", help="of the Amazon reviews: 2014, 2018 or 2023 (default: the domain's)")
    option("--category", metavar="C", help="Amazon category, for a NAME that is not known (default edition: 2018)")
    option("--raw", metavar="FILE", help="file of reviews, ratings or events, instead of a download")
    option("--metadata", metavar="FILE", help="file of item metadata, or RecBole's .item, that belongs to --raw")
    flag("--without_text", "leave out the item texts (their files are large)")
    option("--sha256", metavar="SUM", help="what the SHA-256 of the reviews' file must be")
    option("--user", metavar="COLUMN", help="column of the user in a log of your own")
    option("--item", metavar="COLUMN", help="column of the item")
    option("--time", metavar="COLUMN", help="column of the time")
    option("--rating", metavar="COLUMN", help="column of a rating to keep, if there is one")
    option("--items", metavar="FILE", help="table of your items, with the column of --item")
    option("--text", metavar="A,B", help="columns of --items that make an item's text")
    option("--core", metavar="N", help="least events of a user and of an item (default: 5; your own log or .inter: 1)")
    option("--user_core", metavar="N", help="the same for users only")
    option("--item_core", metavar="N", help="the same for items only")
    flag("--skip_bad_lines", "count lines that cannot be read and leave them out, instead of stopping at the first")
    flag("--overwrite", "replace a domain that is there already")


def command(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Prepares one domain after the other and tells about each. Returns 0. Raises MetaRecError at the first failure."""
    given = split_arguments(parser, arguments)
    known = {action.dest for action in parser._actions}
    for key in given:
        if key not in known:
            raise ConfigError(f"--{key}: prepare reads no config key; see {parser.prog} --help")
    names = given.pop("names", [])
    if not names:
        raise ConfigError(f"no NAME is given; see {parser.prog} --help")
    for option in ("raw", "metadata", "items", "category", "sha256"):
        if len(names) > 1 and option in given:
            raise ConfigError(f"--{option}: belongs to one domain, but {len(names)} are named; prepare them one by one")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{twice[0]} is named twice; name each domain once")

    from recbole_metarec.prepare.prepare import Request, prepare_domain

    request = _shared(given)
    data_path = request["data_path"]
    for name in names:
        print(prepare_domain(Request(name, **request)).text(), flush=True)
    print("next:", train_command(names[0], data_path, names[1:]))
    print("as source:", train_command("TARGET", data_path, names))
    return 0


def _shared(given: dict) -> dict:
    """What a Request takes, apart from the name."""
    paths = {key: Path(given[key]).expanduser() for key in ("raw", "metadata", "items") if key in given}
    cores = {key: count(given[key], f"--{key}") for key in ("core", "user_core", "item_core") if key in given}
    both = cores.pop("core", None)
    return {
        **paths,
        "data_path": Path(given.get("data_path") or DEFAULT_DATA_PATH).expanduser(),
        **{key: given[key] for key in ("edition", "category", "sha256") if key in given},
        "columns": {role: given[role] for role in _ROLES if role in given},
        "text_columns": tuple(name.strip() for name in given.get("text", "").split(",") if name.strip()),
        "with_text": "without_text" not in given,
        "user_core": cores.get("user_core", both),
        "item_core": cores.get("item_core", both),
        "skip_bad_lines": "skip_bad_lines" in given,
        "overwrite": "overwrite" in given,
    }
