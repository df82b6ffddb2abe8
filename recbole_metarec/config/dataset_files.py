"""What ships about a named domain: ``dataset_configs/NAME.yaml``.

A YAML file holds four keys of ours; any other key in it is RecBole's:
default_sources: the sources that ``auto`` stands for when the domain is the target (a domain without a YAML file may
    name some in its ``NAME.json``);
public_source: where the raw data is published: the edition of choice and, for each edition, the addresses;
preparation: the filter that turns raw data into ``NAME.inter``. It is not applied when a finished file is read:
    public copies were filtered in their publishers' order of steps, and filtering again would lose some of them;
statistics: users, items, interactions and mean length of the prepared domain, where known.
"""

import yaml

from recbole_metarec.config.resources import resource_dir

DOMAIN_KEYS = ("default_sources", "public_source", "preparation", "statistics")


def known_domains() -> tuple[str, ...]:
    """Names that have a YAML file, sorted."""
    return tuple(sorted(path.stem for path in resource_dir("dataset_configs").glob("*.yaml")))


def domain_settings(name: str) -> dict:
    """The content of ``dataset_configs/NAME.yaml``; ``{}`` for a name that has none."""
    if name not in known_domains():
        return {}
    with open(resource_dir("dataset_configs") / f"{name}.yaml", encoding="utf-8") as file:
        return yaml.safe_load(file) or {}


def recbole_settings(name: str) -> dict:
    """The keys of ``domain_settings(name)`` that are meant for RecBole's Config."""
    return {key: value for key, value in domain_settings(name).items() if key not in DOMAIN_KEYS}
