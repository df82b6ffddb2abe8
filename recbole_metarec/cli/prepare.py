"""``recbole-metarec prepare``: domains from public review sets or from a log of your own."""

from pathlib import Path

import click

from recbole_metarec.cli.options import COUNT, NAMES, Command, option, train_command
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.errors import ConfigError
from recbole_metarec.lazy import LazyModule

preparing = LazyModule("recbole_metarec.prepare.prepare")

SETS = "ml-1m, ml-20m, steam, yelp, taobao, retailrocket, yoochoose, lastfm, hm, mind"

EXAMPLES = """\
examples:
  recbole-metarec prepare Scientific Office Tools
        downloads the Amazon reviews and item texts of three named domains, and writes dataset/NAME/NAME.inter
  recbole-metarec prepare Scientific --raw Industrial_and_Scientific_5.json.gz
        the same from a file that is here already; reviews or ratings of 2014, 2018 and 2023 are told apart, and
        RecBole's own copies (.inter, also zipped) are read, too
  recbole-metarec prepare Magazines --category Magazine_Subscriptions --edition 2023
        any other Amazon category
  recbole-metarec prepare MyShop --raw clicks.csv --user u --item i --time t
        your own log: CSV, TSV or JSON lines (also packed: .gz, .bz2, .xz, .zip), Parquet, Arrow or Excel; times are
        numbers or ISO 8601 dates (UTC where no zone is given); without --core everything is kept
  recbole-metarec prepare Films --form ml-1m --raw ml-1m/ratings.dat
        a public set that you have fetched, with the item texts from the file beside it

Rows that repeat an earlier user, item and time are left out, the first is kept. Then users and items with too few
events are removed until all have enough (--core). Events of equal time keep the order of the file. A line that cannot
be read stops the command, unless --skip_bad_lines. The same files give the same domain on every machine.

Downloads are kept in ~/.cache/recbole-metarec/raw (or $METAREC_CACHE/raw); an interrupted download resumes where it
stopped.
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@option("--data_path", metavar="DIR", help="folder to write NAME/NAME.inter to (default: dataset)")
@option("--edition", metavar="YEAR", help="edition of the Amazon reviews: 2014, 2018 or 2023 (default: the domain's)")
@option("--category", metavar="C", help="Amazon category, for a NAME that is not known (default edition: 2018)")
@option("--raw", metavar="FILE", help="file of reviews, ratings or events, instead of a download")
@option("--metadata", metavar="FILE", help="file of item metadata, or RecBole's .item, that belongs to --raw")
@click.option("--without_text", is_flag=True, help="leave out the item texts (their files are large)")
@option("--sha256", metavar="SUM", help="expected SHA-256 of the file of reviews")
@option("--user", metavar="COLUMN", help="column of the user in a log of your own")
@option("--item", metavar="COLUMN", help="column of the item")
@option("--time", metavar="COLUMN", help="column of the time")
@option("--rating", metavar="COLUMN", help="column of a rating to keep, if there is one")
@option("--columns", metavar="A,B,C", type=NAMES, help="all columns in their order, of a log without a header")
@option("--time_format", metavar="FORM", help="how times are written, such as %d.%m.%Y (else: numbers, ISO 8601)")
@option("--form", metavar="SET", help=f"the public set that --raw belongs to: {SETS}")
@option("--items", metavar="FILE", help="table of your items, with the column of --item")
@option("--text", metavar="A,B", type=NAMES, help="columns of --items that make an item's text")
@option("--id_column", metavar="COLUMN", help="column of the item in --items, if it is not that of --item")
@option("--core", metavar="N", type=COUNT, help="fewest events per user and item (default: 5; own log or .inter: 1)")
@option("--user_core", metavar="N", type=COUNT, help="the same for users only")
@option("--item_core", metavar="N", type=COUNT, help="the same for items only")
@click.option(
    "--skip_bad_lines", is_flag=True, help="count and leave out unreadable lines, instead of stopping at the first"
)
@click.option("--overwrite", is_flag=True, help="replace a domain that exists")
def command(names, **options):
    """Prepares one domain after the other and describes each. Raises MetaRecError at the first failure."""
    for name in ("raw", "metadata", "items", "category", "sha256", "form"):
        if len(names) > 1 and options[name]:
            raise ConfigError(f"--{name}: belongs to one domain, but {len(names)} are named; prepare them one by one")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{twice[0]} is named twice; name each domain once")
    request = _request(options)
    for name in names:
        report = preparing.prepare_domain(preparing.Request(name, **request))
        print(report.text(), flush=True)
    # a domain alone has no sources to learn from
    alone = ("--model", "LRURec", *(("--text_alignment", "True") if report.texts else ())) if len(names) == 1 else ()
    print("next:", train_command(names[0], request["data_path"], names[1:], *alone))
    print("as source:", train_command("TARGET", request["data_path"], names))


def _request(options: dict) -> dict:
    """What a Request takes, apart from the name."""
    data_path, core = Path(options["data_path"] or DEFAULT_DATA_PATH).expanduser(), options["core"]
    files = {name: Path(options[name]).expanduser() for name in ("raw", "metadata", "items") if options[name]}
    named = ("edition", "category", "sha256", "form", "time_format", "id_column")
    words = {name: options[name] for name in named if options[name]}
    return {
        **files,
        **words,
        "data_path": data_path,
        "columns": {role: options[role] for role in ("user", "item", "time", "rating") if options[role] is not None},
        "header": tuple(options["columns"] or ()),
        "text_columns": tuple(name for name in options["text"] or () if name),
        "with_text": not options["without_text"],
        "user_core": options["user_core"] or core,
        "item_core": options["item_core"] or core,
        "skip_bad_lines": options["skip_bad_lines"],
        "overwrite": options["overwrite"],
    }
