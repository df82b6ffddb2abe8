"""``recbole-metarec inspect``: what a domain is like, what is odd about it, and what it shares with others."""

from pathlib import Path

import click

from recbole_metarec.cli.options import ConfigCommand, key, option, together
from recbole_metarec.config.dataset_files import domain_settings, recbole_settings
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.config.run_config import UserKeys
from recbole_metarec.errors import ConfigError
from recbole_metarec.lazy import LazyModule

domains = LazyModule("recbole_metarec.data.domains")
reader = LazyModule("recbole_metarec.data.reader")
statistics = LazyModule("recbole_metarec.data.statistics")
writer = LazyModule("recbole_metarec.data.writer")
reports = LazyModule("recbole_metarec.reports.domain")

EXAMPLES = """\
examples:
  recbole-metarec inspect ml-drama
        the embedded target; its figure is ml-drama.png
  recbole-metarec inspect Scientific Office Tools --data_path data
        Scientific, and how many of its users and items are also in Office and Tools

Nothing is trained.
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


@click.command(cls=ConfigCommand, every_key=False, epilog=EXAMPLES)
@click.argument("names", metavar="NAME [OTHER...]", nargs=-1, required=True)
@option("--data_path", metavar="DIR", help="folder that holds NAME/NAME.inter")
@option("--picture", metavar="FILE", help="the figure (default: NAME.png)")
@click.option("--all", "everything", is_flag=True, help="compare with every domain in data_path and in the cache")
@together(
    *(key(f"--{name}", metavar="VALUE", help="config key: how a file is read or filtered") for name in _KEYS),
)
def command(user: UserKeys, names, data_path, picture, everything):
    """Prints the report and writes the figure. Raises MetaRecError for a name or file that is no domain."""
    picture = _picture_file(picture or f"{names[0]}.png")
    data_path = data_path or DEFAULT_DATA_PATH
    others = [*names[1:], *(domains.present_domains(data_path) if everything else ())]
    # a mistyped name is answered before anything large is read
    folders = {name: domains.find_domain(name, data_path) for name in dict.fromkeys([names[0], *others])}
    print(_inspect(folders, user.values, picture))
    print(f"\npicture: {picture}")


def _picture_file(name: str) -> Path:
    file = Path(name)
    if file.suffix.lower() != ".png":
        raise ConfigError(f"--picture: {file} is not the name of a PNG file; end it in .png")
    if not file.parent.is_dir():
        raise ConfigError(f"--picture: there is no folder {file.parent}; make it, or choose another path")
    return file


def _inspect(folders: dict[str, Path], keys: dict, picture: Path) -> str:
    """The report of the first domain; the others are compared with it."""
    name, *others = folders
    facts, domain = statistics.inspect_domain(name, folders[name], _read_spec(name, keys))
    about = writer.read_about(folders[name], name)
    shared = []
    for other in others:
        rows = reader.read_domain(folders[other] / other / f"{other}.inter", _read_spec(other, keys))
        whole = writer.read_about(folders[other], other).get("split_of")
        shared.append(statistics.share_names(domain, other, rows, bool(whole) and whole == about.get("split_of")))
    report = reports.text_report(facts, shared, domain_settings(name).get("statistics", {}), about)
    reports.draw_domain(facts, bool(about.get("simulated")), picture)
    return report


class _Keys(dict):
    """Keys as RecBole's Config has them: an absent one is None."""

    def __missing__(self, key):
        return None


def _read_spec(name: str, keys: dict):
    """How a domain's file is read: the keys of its YAML file, and over them what the user chose."""
    own = {key: value for key, value in recbole_settings(name).items() if key in _KEYS}
    keys = _Keys({**_KEYS, **own, **keys})
    fields = [keys[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
    keys["load_col"] = {"inter": [*fields, *(keys["val_interval"] or {})]}
    keys["exact_time"] = True
    try:
        return reader.ReadSpec.of(keys)
    except reader.NeedsRecBole:
        raise ConfigError(
            "a filter of inspect is not an interval; write for example --user_inter_num_interval=[5,inf) or "
            "--val_interval={rating: '[3,inf)'}"
        ) from None
