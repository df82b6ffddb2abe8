"""``recbole-metarec inspect``: what a domain is like, what is odd about it, and what it shares with others."""

import argparse
from pathlib import Path

from recbole_metarec.cli.options import Settings, options_of, split_arguments
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.errors import ConfigError

SUMMARY = "look at a domain: sizes, histories, popularity, oddities, what it shares with others"
EXAMPLE = """\
examples:
  recbole-metarec inspect ml-drama
        the embedded target; its picture is ml-drama.png
  recbole-metarec inspect Scientific Office Tools --data_path data
        Scientific, and how many of its users and items Office and Tools have, too

Nothing is trained. The keys that say how a file is read and filtered may be given as --key=value: field names,
field_separator, val_interval, user_inter_num_interval, item_inter_num_interval.
"""
_KEYS = {
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "TIME_FIELD": "timestamp",
    "field_separator": "\t",
    "val_interval": None,
    "user_inter_num_interval": None,
    "item_inter_num_interval": None,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    option = options_of(parser)
    option("names", nargs="*", metavar="NAME", help="the domain, then others to compare with")
    option("--data_path", metavar="DIR", help="folder that holds NAME/NAME.inter")
    option("--picture", metavar="FILE", help="the picture (default: NAME.png)")
    option("--all", nargs=0, const=True, help="compare with every domain in data_path and in the cache")


def command(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Prints the report and writes the picture. Raises MetaRecError for a name or file that is no domain."""
    given = split_arguments(parser, arguments)
    names, everything, picture = (given.pop(key, None) for key in ("names", "all", "picture"))
    if not names:
        raise ConfigError("inspect: no domain is named; name one, for example recbole-metarec inspect ml-drama")
    data_path = given.pop("data_path", None) or DEFAULT_DATA_PATH
    settings = Settings.of(given)
    for key in settings.chosen:
        if key not in _KEYS:
            raise ConfigError(f"{settings.places[key]}: inspect reads no {key}; its keys are {', '.join(_KEYS)}")
    picture = _picture_file(picture or f"{names[0]}.png")
    from recbole_metarec.data.domains import find_domain, present_domains

    others = list(dict.fromkeys(names[1:] + (present_domains(data_path) if everything else [])))
    others = [other for other in others if other != names[0]]
    # a mistyped name is answered before anything large is read
    folders = {name: find_domain(name, data_path) for name in (names[0], *others)}
    print(_inspect(folders, settings.chosen, picture))
    print(f"\npicture: {picture}")
    return 0


def _picture_file(name: str) -> Path:
    file = Path(name)
    if file.suffix.lower() != ".png":
        raise ConfigError(f"--picture: {file} is not the name of a PNG file; end it in .png")
    if not file.parent.is_dir():
        raise ConfigError(f"--picture: there is no folder {file.parent}; make it, or name another place")
    return file


def _inspect(folders: dict[str, Path], chosen: dict, picture: Path) -> str:
    """The report of the first domain; the others are compared with it."""
    from recbole_metarec.data.domains import domain_settings
    from recbole_metarec.data.reader import read_domain
    from recbole_metarec.data.statistics import inspect_domain, share_names
    from recbole_metarec.data.writer import read_about
    from recbole_metarec.reports.domain import draw_domain, text_report

    name, *others = folders
    found, domain = inspect_domain(name, folders[name], _wanted(name, chosen))
    about = read_about(folders[name], name)
    shared = []
    for other in others:
        read_other = read_domain(folders[other] / other / f"{other}.inter", _wanted(other, chosen))
        whole = read_about(folders[other], other).get("split_of")
        shared.append(share_names(domain, other, read_other, bool(whole) and whole == about.get("split_of")))
    report = text_report(found, shared, domain_settings(name).get("statistics", {}), about)
    draw_domain(found, bool(about.get("simulated")), picture)
    return report


class _Keys(dict):
    """Keys as RecBole's Config has them: an absent one is None."""

    def __missing__(self, key):
        return None


def _wanted(name: str, chosen: dict):
    """How a domain's file is read: the keys of its YAML file, and over them what the user chose."""
    from recbole_metarec.data.domains import recbole_settings
    from recbole_metarec.data.reader import NeedsRecBole, ReadSpec

    own = {key: value for key, value in recbole_settings(name).items() if key in _KEYS}
    keys = _Keys(
        {
            **_KEYS,
            **own,
            **chosen,
        }
    )
    fields = [keys[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
    keys["load_col"] = {"inter": [*fields, *(keys["val_interval"] or {})]}
    keys["exact_time"] = True
    try:
        return ReadSpec.of(keys)
    except NeedsRecBole:
        raise ConfigError(
            "a filter of inspect is not an interval; write for example --user_inter_num_interval=[5,inf) or "
            "--val_interval={rating: '[3,inf)'}"
        ) from None
