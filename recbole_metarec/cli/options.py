"""What the commands' argument parsing has in common: options once, config keys as ``--key=value``, YAML files.

The user's mistakes are ConfigErrors that name the option, the key or the line of the file.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_metarec.config.recbole_files import recbole_models
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.config.schema import OUR_MODELS, check_keys, keys_in, known_keys
from recbole_metarec.config.suggestions import nearest, source_names
from recbole_metarec.config.yaml_files import parse_value, read_yaml
from recbole_metarec.errors import ConfigError


class Once(argparse.Action):
    """Store a value; the same option again with another value is a mistake, not an override."""

    def __call__(self, parser, namespace, values, option_string=None):
        values = self.const if self.nargs == 0 else values
        given = namespace.given.setdefault(self.dest, values)
        if given != values:
            raise ConfigError(f"--{self.dest}: given twice, as {given} and as {values}; keep one of them")


class Parser(argparse.ArgumentParser):
    """argparse, whose complaints are errors like all others."""

    def error(self, message):
        raise ConfigError(f"{message}; see {self.prog} --help")


@dataclass(frozen=True)
class Settings:
    """Config keys that a command was given. files: later ones win. overrides: typed, stronger.

    places: where each key stands, for messages (``my.yaml:12``, ``--key``).
    """

    files: list[str]
    overrides: dict
    places: dict
    chosen: dict  # both together

    @classmethod
    def of(cls, given: dict) -> "Settings":
        """Reads option or config key -> text as :func:`split_arguments` gives it.

        Raises ConfigError for a file that cannot be read or holds an unknown key, and for a value that is no YAML.
        """
        given = dict(given)
        # RecBole's spelling is one word: --config_files="a.yaml b.yaml"
        files = given.pop("config_files", [])
        files = [file for item in files for file in ([item] if Path(item).exists() else item.split())]
        in_files, places = _read_files(files)
        overrides = {key: text if _is_text(key) else parse_value(text, f"--{key}") for key, text in given.items()}
        places = {**places, **{key: f"--{key}" for key in overrides}}
        return cls(files, overrides, places, {**in_files, **overrides})


def options_of(parser: argparse.ArgumentParser) -> Callable:
    """What adds an option, which may be given once, to a command; called as ``parser.add_argument`` is.

    A name with an underscore, RecBole's way, is also understood with a hyphen.
    """

    def option(name, **kwargs):
        parser.add_argument(*dict.fromkeys((name, name.replace("_", "-"))), action=Once, **kwargs)

    return option


def domain_options(option: Callable) -> None:
    """Adds what every command that trains is told about its domains and config. option: of :func:`options_of`."""
    option("--dataset", metavar="NAME", help="target domain (default: the embedded MovieLens target)")
    option(
        "--sources",
        metavar="A,B,C",
        help="source domains of models that use some; auto (default): those the target comes with; none",
    )
    option("--data_path", metavar="DIR", help="folder that holds NAME/NAME.inter for every domain")
    option("--config_files", metavar="FILE", nargs="+", help="YAML files with config keys")
    option(
        "--simulate",
        nargs=0,
        const=True,
        help="run on simulated stand-ins, sim-NAME, of the sizes of the target and its sources; made once, in the "
        "cache",
    )


def stand_ins(dataset: str, chosen: dict, places: dict) -> dict:
    """Makes simulated domains of the sizes of the named ones and tells of them: the config keys that a run needs then.

    chosen: config keys; places: where each was given. Raises ConfigError for a domain whose size is not known, and
    for a ``data_path``: real and simulated domains do not mix.
    """
    from recbole_metarec.prepare.simulated_domains import PREFIX, ensure_stand_ins, stand_in_plan

    if "data_path" in chosen:
        raise ConfigError(f"{places['data_path']}: --simulate makes its own data; leave one of them out")
    sources = source_names(chosen.get("sources", "auto"))
    plan = stand_in_plan(dataset, sources)
    found = {"dataset": plan.target.name, "data_path": str(ensure_stand_ins(plan))}
    if "sources" in chosen and sources != "auto":
        found["sources"] = [PREFIX + name for name in sources]
    related = ", ".join(f"{source.name} ({source.relatedness:g})" for source in plan.sources) or "none"
    print(f"simulated: {plan.target.name}; sources, and how related they are: {related}", flush=True)
    return found


def warn_of_sources(dataset: str, given: dict) -> None:
    """Says so on stderr if no source was named among the config keys ``given`` and the target comes with none."""
    from recbole_metarec.data.domains import sources_warning

    data_path = given.get("data_path") or DEFAULT_DATA_PATH
    if warning := sources_warning(dataset, given.get("sources", "auto"), data_path):
        print(f"warning: {warning}", file=sys.stderr)


def train_command(dataset: str, data_path: str | Path, sources: Sequence[str] = ()) -> str:
    """What to type, in a shell, to train on a domain whose files lie in ``data_path``."""
    words = ["recbole-metarec", "train", "--dataset", dataset, *(["--sources", ",".join(sources)] if sources else [])]
    return shlex.join([*words, "--data_path", str(data_path)])


def split_arguments(parser: argparse.ArgumentParser, arguments: list[str]) -> dict:
    """Option or config key -> text (a list for config_files). Raises ConfigError for anything else."""
    options = {name for action in parser._actions for name in action.option_strings}
    keyed = [re.match(r"^(--\w[\w-]*)=(.*)$", argument, re.DOTALL) for argument in arguments]
    # argparse would take a value with a space in it, such as --topk=[10, 20], for no option at all
    keyed = [None if match and match[1] in options else match for match in keyed]
    plain = [argument for argument, match in zip(arguments, keyed) if match is None]
    namespace = argparse.Namespace(given={})
    _, rest = parser.parse_known_args(plain, namespace)
    for argument, after in zip(rest, [*rest[1:], "--"]):
        if argument.startswith("--") and argument != "--":
            _check_keys([argument[2:]], options)
            value = "value" if after.startswith("--") else after
            raise ConfigError(f"{argument}: config keys are given with a sign, as {argument}={value}")
        raise ConfigError(f"{argument}: not an option; see {parser.prog} --help")
    given = dict(namespace.given)
    for match in filter(None, keyed):
        key, text = match[1][2:], match[2]
        _check_keys([key], options)
        if given.setdefault(key, text) != text:
            raise ConfigError(f"--{key}: given twice, as {given[key]} and as {text}; keep one of them")
    return given


def _check_keys(keys: list[str], options: set[str]) -> None:
    """Raises ConfigError for a word that is no config key; an option that it resembles more is named."""
    for key in keys:
        guess = nearest(key, {*known_keys(), *(name[2:] for name in options)})
        if f"--{guess}" in options and key not in known_keys():
            raise ConfigError(f"--{key}: not an option; did you mean --{guess}?")
    check_keys(keys, {key: f"--{key}" for key in keys})


def options_only(parser: argparse.ArgumentParser, arguments: list[str]) -> dict:
    """Option -> text, for a command that takes no config keys. Raises ConfigError for anything else."""
    namespace = argparse.Namespace(given={})
    _, rest = parser.parse_known_args(arguments, namespace)
    if rest:
        names = [name for action in parser._actions for name in action.option_strings]
        guess = nearest(rest[0].split("=")[0], names) if rest[0].startswith("-") else None
        hint = f"did you mean {guess}?" if guess else f"see {parser.prog} --help"
        raise ConfigError(f"{rest[0]}: not an option of {parser.prog}; {hint}")
    return dict(namespace.given)


def number(text: str, where: str, low: float = 0.0, high: float | None = None) -> float:
    """The number from ``low`` to ``high`` that was given at ``where``. Raises ConfigError for anything else."""
    value = parse_value(text, where)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= (float("inf") if high is None else high) or value == float("inf"):
        wanted = f"a number from {low:g} to {high:g}" if high is not None else f"a number of at least {low:g}"
        raise ConfigError(f"{where}: {text} is not {wanted}")
    return float(value)


def count(text: str, where: str, least: int = 1) -> int:
    """The whole number of at least ``least`` that was given at ``where``. Raises ConfigError for anything else."""
    value = parse_value(text, where)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        above = f"above {least - 1}" if least else "from 0 upwards"
        raise ConfigError(f"{where}: {text} is not a whole number {above}; use an int >= {least}")
    return value


def _read_files(files: list[str]) -> tuple[dict, dict]:
    """Merged values of config files and where each stands. Raises ConfigError for what is not a known key."""
    values, places = {}, {}
    for path in files:
        in_file, lines = read_yaml(path)
        values.update(in_file)
        places.update({key: f"{path}:{line}" for key, line in lines.items()})
    check_keys(values, places)
    return values, places


def _is_text(key: str) -> bool:
    """Names, paths, and RecBole's intervals such as [5,10] are no YAML."""
    return key in keys_in("text")


def check_model(name, where: str) -> None:
    """Raises ConfigError, with the nearest name, if ``name`` is neither a model of this package nor of RecBole's."""
    theirs = recbole_models("sequential")
    if name in OUR_MODELS or name in theirs:
        return
    guess = nearest(str(name), [*OUR_MODELS, *theirs])
    advice = f"did you mean {guess}?" if guess else f"use {' or '.join(OUR_MODELS)} or a sequential model of RecBole"
    raise ConfigError(f"{where}: unknown model {name}; {advice}")
