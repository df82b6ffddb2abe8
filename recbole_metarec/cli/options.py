"""What the commands' options have in common: each may be given once, and any config key is an option.

The user's mistakes are ConfigErrors that name the option, the key or the line of the file.
"""

import math
import os
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from recbole_metarec.config.model_names import model_name
from recbole_metarec.config.models import DEFAULT_MODEL
from recbole_metarec.config.origins import Origins, located
from recbole_metarec.config.own_models import is_reference
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.config.run_config import RunConfig, UserKeys
from recbole_metarec.config.schema import check_keys, keys_in, known_keys
from recbole_metarec.config.sources import source_names
from recbole_metarec.config.yaml_files import parse_value, read_yaml
from recbole_metarec.errors import ConfigError, without_passwords
from recbole_metarec.lazy import LazyModule
from recbole_metarec.plugin.gpu import check_gpu

domains = LazyModule("recbole_metarec.data.domains")
embedded = LazyModule("recbole_metarec.data.embedded")
simulated_domains = LazyModule("recbole_metarec.prepare.simulated_domains")


class WholeNumber(click.IntRange):
    """A whole number in a range."""

    name = "whole number"


class FiniteRange(click.FloatRange):
    """A finite number in a range; click's own lets nan and inf pass."""

    name = "number"

    def convert(self, value, param, ctx):
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class NameList(click.ParamType):
    """Names with commas between them; an empty one is kept, so that it can be refused."""

    name = "names"

    def convert(self, value, param, ctx):
        return [name.strip() for name in value.split(",")]


COUNT = WholeNumber(min=1)
NUMBER = WholeNumber(min=0)
SHARE = FiniteRange(0, 1)
NAMES = NameList()


class Once(click.Option):
    """An option that may be repeated with the same value only: another one is a mistake, not an override."""

    def __init__(self, *declarations, default=None, **attributes):
        super().__init__(*declarations, multiple=True, default=[] if default is None else [default], **attributes)

    def process_value(self, ctx, value):
        """The one value, converted; None without any. Raises ConfigError for two values, and for none before an
        option that follows."""
        values = super().process_value(ctx, value)
        name = self.opts[0]
        for text in values:
            if text != values[0]:
                raise ConfigError(f"{name}: given twice, as {values[0]} and as {text}; keep one of them")
            if isinstance(text, str) and text.startswith("--"):
                raise click.BadOptionUsage(name, f"Option {name!r} requires an argument.", ctx)
        return values[0] if values else None


class KeyOption(Once):
    """A config key; its value is YAML, which is read together with the config files."""


def option(*declarations, **attributes) -> Callable:
    """A decorator as ``click.option``, for an option that may be given once."""
    return click.option(*declarations, cls=Once, **attributes)


def key(name: str, **attributes) -> Callable:
    """A decorator that shows the config key ``--name`` among a command's options."""
    return click.option(name, name.lstrip("-"), cls=KeyOption, **attributes)


def together(*decorators: Callable) -> Callable:
    """One decorator that adds the options of several, in their order."""

    def decorate(function):
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


class Command(click.Command):
    """A command whose options may be typed with hyphens or with underscores, and whose help ends in its examples."""

    def __init__(self, *args, **attributes):
        super().__init__(*args, **attributes)
        self.context_settings = {
            "token_normalize_func": lambda word: word.replace("-", "_"),
            "help_option_names": ["--help", "-h"],
            "max_content_width": 120,
        }

    def parse_args(self, ctx, args):
        """Keeps what was typed for :func:`typed_command`."""
        ctx.meta[__name__] = shlex.join([*ctx.command_path.split(), *args])
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = ctx  # click leaves it out where a value is missing
            raise

    def format_epilog(self, ctx, formatter):
        """The examples as they are written, not filled like a paragraph."""
        formatter.write(f"\n{self.epilog}")


def typed_command() -> str:
    """The command that is running, as it was typed, a password aside."""
    return without_passwords(click.get_current_context().meta[__name__])


class ConfigCommand(Command):
    """A command that takes config keys, as ``--key=value`` or ``--key value``, and is called with ``user``.

    every_key: whether it takes all that this package and RecBole know, and config files, beside those it shows.
    """

    def __init__(self, *args, every_key: bool = True, **attributes):
        super().__init__(*args, **attributes)
        self.every_key = every_key
        self.shown = {name for param in self.params for name in param.opts}

    def _add_hidden_keys(self, args) -> None:
        """Makes an option of every key that has none yet, those of models registered since included."""
        present = {"help"} | {name.lstrip("-") for param in self.params for name in param.opts}
        typed = {word[2:].partition("=")[0].replace("-", "_") for word in args if word.startswith("--")}
        absent = [name for name in known_keys(typed - present) if name not in present]
        self.params += [KeyOption([f"--{name}", name], hidden=True) for name in absent]

    def parse_args(self, ctx, args):
        """Gathers the config keys and reads the config files."""
        _load_own_models(args)
        if self.every_key:
            self._add_hidden_keys(args)
        rest = super().parse_args(ctx, _with_an_option_for_each_file(args))
        names = [param.name for param in self.params if isinstance(param, KeyOption)]
        typed = {name: text for name in names if (text := ctx.params.pop(name)) is not None}
        ctx.params["user"] = _user_keys(typed, ctx.params.pop("config_files", ()))
        return rest


def _with_an_option_for_each_file(words: Sequence[str]) -> list[str]:
    """``--config_files A B``, which click does not know, as ``--config_files A --config_files B``."""
    result, n_files = [], None
    for word in words:
        if word in ("--config_files", "--config-files"):
            n_files = 0
        elif word.startswith("-"):
            n_files = None
        elif n_files is not None:
            result += ["--config_files"] if n_files else []
            n_files += 1
        result.append(word)
    return result


def _load_own_models(words: Sequence[str]) -> None:
    """Registers the user's classes that were typed or are named in a config file: their keys are options, too."""
    name = ""
    for word in words:
        if word.startswith("--"):
            name, _, word = word.partition("=")
        if name in ("--model", "--models", "--variants"):
            for part in word.replace("+", ",").split(","):
                if is_reference(part) and "=" not in part:
                    model_name(part.strip(), name)
        elif name in ("--config_files", "--config-files"):
            for file in filter(os.path.isfile, [word, *word.split()]):
                model_name(read_yaml(file)[0].get("model"), file)


def _user_keys(typed: dict[str, str], files: Sequence[str]) -> UserKeys:
    """The config keys in the files, later files stronger, under what was typed.

    Raises ConfigError for a file that cannot be read, for an unknown key, and for a value that is no YAML.
    """
    # RecBole's spelling is one word: --config_files="a.yaml b.yaml"
    files = [file for word in files for file in ([word] if Path(word).exists() else word.split())]
    texts = keys_in("text")
    values = {name: text if name in texts else parse_value(text, f"--{name}") for name, text in typed.items()}
    user = UserKeys.read(files) | UserKeys.of(values, "--{}")
    check_keys(user.values, user.origins)
    return user


domain_options = together(
    key("--dataset", metavar="NAME", help="target domain (default: the embedded MovieLens target)"),
    key(
        "--sources",
        metavar="A,B,C",
        help="source domains, for models that use them: names, none, or auto (default), the target's default sources",
    ),
    key("--data_path", metavar="DIR", help="folder that holds NAME/NAME.inter for every domain"),
    click.option("--config_files", metavar="FILE...", multiple=True, help="YAML files with config keys"),
    click.option(
        "--simulate",
        is_flag=True,
        help="run on simulated domains (sim-NAME) of the same sizes as the target and its sources, kept in the cache",
    ),
)


@dataclass(frozen=True)
class Target:
    """What a command runs on. keys: config keys for every run but dataset and seed. origins: where each was given."""

    dataset: str
    seed: int
    keys: dict
    origins: Origins

    @classmethod
    def of(cls, user: UserKeys, simulate: bool, fixed: Collection[str], reason: str, n_seeds: int = 1) -> "Target":
        """Checks the user's keys as far as that can be done before models and sources are looked at.

        fixed: config keys that must not be given; reason: why, and what to do instead. n_seeds: seeds are counted up
        from the given one. Raises MetaRecError.
        """
        keys, origins = dict(user.values), user.origins
        for name in sorted(set(fixed) & set(keys)):
            raise ConfigError(located(origins[name], f"{name} {reason}"))
        dataset, first = keys.pop("dataset", embedded.EMBEDDED_TARGET), keys.pop("seed", 2020)
        for seed in (first, first + n_seeds - 1) if isinstance(first, int) else (first,):
            run_config = RunConfig.build(DEFAULT_MODEL, dataset, UserKeys({**keys, "seed": seed}, origins))
        check_gpu(run_config)
        if simulate:
            keys |= stand_ins(dataset, keys, origins)
        target = cls(keys.pop("dataset", dataset), first, keys, origins)
        domains.find_domain(target.dataset, target.data_path)
        return target

    @property
    def data_path(self) -> str:
        """The folder of the domains."""
        return self.keys.get("data_path") or DEFAULT_DATA_PATH

    @property
    def folder(self) -> Path:
        """The folder of everything that is kept."""
        return Path(self.keys.get("checkpoint_dir") or "saved")

    def sources(self) -> list[str]:
        """The sources that are there. Raises MetaRecError if one that was named is missing or cannot be one."""
        return domains.resolve_sources(self.dataset, self.keys.get("sources", "auto"), self.data_path)[0]


def stand_ins(dataset: str, keys: Mapping, origins: Origins) -> dict:
    """Makes simulated domains of the sizes of the named ones and reports them; returns the config keys of a run on
    them.

    keys: config keys; origins: where each was given. Raises ConfigError for a domain whose size is not known, and
    for a ``data_path``: real and simulated domains do not mix.
    """
    if "data_path" in keys:
        raise ConfigError(f"{origins['data_path']}: --simulate makes its own data; leave one of them out")
    sources = source_names(keys.get("sources", "auto"))
    plan = simulated_domains.stand_in_plan(dataset, sources)
    changed = {"dataset": plan.target.name, "data_path": str(simulated_domains.ensure_stand_ins(plan))}
    if "sources" in keys and sources != "auto":
        changed["sources"] = [simulated_domains.PREFIX + name for name in sources]
    related = ", ".join(f"{source.name} ({source.relatedness:g})" for source in plan.sources) or "none"
    print(f"simulated: {plan.target.name}; sources, and how related they are: {related}", flush=True)
    return changed


def warn_of_sources(dataset: str, keys: Mapping) -> None:
    """Says so on stderr if no source was named among the config keys and the target comes with none."""
    data_path = keys.get("data_path") or DEFAULT_DATA_PATH
    if warning := domains.sources_warning(dataset, keys.get("sources", "auto"), data_path):
        print(f"warning: {warning}", file=sys.stderr)


def train_command(dataset: str, data_path: str | Path, sources: Sequence[str] = (), *more: str) -> str:
    """What to type, in a shell, to train on a domain whose files are in ``data_path``. more: further words."""
    words = ["recbole-metarec", "train", "--dataset", dataset, *(["--sources", ",".join(sources)] if sources else [])]
    return shlex.join([*words, "--data_path", str(data_path), *more])


def say(line: str) -> None:
    """Prints a line at once, also where the output is a file."""
    print(line, flush=True)
