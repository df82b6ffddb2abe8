"""The command line: ``recbole-metarec COMMAND ...``. A command parses, checks, calls the library and prints.

The user's mistakes are one line on stderr and exit code 2; a bug keeps its traceback.
"""

import argparse
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from recbole_metarec.config import (
    OUR_MODELS,
    check_config,
    check_keys,
    default_values,
    nearest,
    normalised,
    parse_value,
    read_yaml,
)
from recbole_metarec.errors import ConfigError, MetaRecError
from recbole_metarec.keys import reads
from recbole_metarec.resources import DEFAULT_DATA_PATH

_TRAIN_EXAMPLE = """\
examples:
  recbole-metarec train
        MetaRec on the embedded MovieLens domains, next to the same backbone without transfer
  recbole-metarec train --dataset Scientific --data_path data --sources Office,Tools,Toys --learning_rate=0.0005
        a domain whose files are data/Scientific/Scientific.inter, with three sources and a config key

Any config key may be given as --key=value; values are read as YAML. What is typed here wins over --config_files,
later files win over earlier ones, and files win over the defaults.
"""


class _Once(argparse.Action):
    """Store a value; the same option again with another value is a mistake, not an override."""

    def __call__(self, parser, namespace, values, option_string=None):
        values = self.const if self.nargs == 0 else values
        given = namespace.given.setdefault(self.dest, values)
        if given != values:
            raise ConfigError(f"--{self.dest}: given twice, as {given} and as {values}; keep one of them")


class _Parser(argparse.ArgumentParser):
    """argparse, whose complaints are errors like all others."""

    def error(self, message):
        raise ConfigError(f"{message}; see {self.prog} --help")


def _train_parser(parser: argparse.ArgumentParser) -> None:
    def option(*names, **kwargs):
        parser.add_argument(*names, action=_Once, **kwargs)

    option("--dataset", metavar="NAME", help="target domain (default: the embedded MovieLens target)")
    option("--model", metavar="MODEL", help="MetaRec (default), LRURec, UniSRec, or a sequential model of RecBole")
    option("--sources", metavar="A,B,C", help="source domains; auto (default): those the target comes with; none")
    option("--data_path", "--data-path", metavar="DIR", help="folder that holds NAME/NAME.inter for every domain")
    option("--config_files", "--config-files", metavar="FILE", nargs="+", help="YAML files with config keys")
    option("--seed", metavar="N", help="random seed")
    option(
        "--exact_time",
        "--exact-time",
        metavar="BOOL",
        nargs="?",
        const="True",
        help="order events by their full timestamps instead of RecBole's float32 ones",
    )


def _split_arguments(parser: argparse.ArgumentParser, arguments: list[str]) -> dict:
    """Option or config key -> text (a list for config_files). Raises ConfigError for anything else."""
    options = {name for action in parser._actions for name in action.option_strings}
    keyed = [re.match(r"^(--\w[\w-]*)=(.*)$", argument, re.DOTALL) for argument in arguments]
    # argparse would take a value with a space in it, such as --topk=[10, 20], for no option at all
    keyed = [None if match and match[1] in options else match for match in keyed]
    plain = [argument for argument, match in zip(arguments, keyed) if match is None]
    namespace = argparse.Namespace(given={})
    _, rest = parser.parse_known_args(plain, namespace)
    for argument in rest:
        if argument.startswith("--") and argument != "--":
            check_keys([argument[2:]], lambda key: f"--{key}")
            raise ConfigError(f"{argument}: config keys are given as {argument}=value")
        raise ConfigError(f"{argument}: not an option; see {parser.prog} --help")
    given = dict(namespace.given)
    for match in filter(None, keyed):
        key, text = match[1][2:], match[2]
        check_keys([key], lambda key: f"--{key}")
        if given.setdefault(key, text) != text:
            raise ConfigError(f"--{key}: given twice, as {given[key]} and as {text}; keep one of them")
    return given


def _recbole_sequential_models() -> list[str]:
    """Names of RecBole's sequential models, from its source: importing them all takes seconds."""
    root = Path(next(iter(find_spec("recbole").submodule_search_locations)))
    text = (root / "model/sequential_recommender/__init__.py").read_text(encoding="utf-8")
    return re.findall(r"import (\w+)", text)


def _check_model(name, where: str) -> None:
    theirs = _recbole_sequential_models()
    if name in OUR_MODELS or name in theirs:
        return
    guess = nearest(str(name), [*OUR_MODELS, *theirs])
    advice = f"did you mean {guess}?" if guess else f"use {' or '.join(OUR_MODELS)} or a sequential model of RecBole"
    raise ConfigError(f"{where}: unknown model {name}; {advice}")


def _check_files(files: list[str]) -> tuple[dict, dict]:
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
    return key in ("data_path", "checkpoint_dir", "dataset", "model") or key.endswith("_num_interval")


def _train(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    given = _split_arguments(parser, arguments)
    files = given.pop("config_files", [])
    # RecBole's spelling is one word: --config_files="a.yaml b.yaml"
    files = [file for item in files for file in ([item] if Path(item).exists() else item.split())]
    in_files, places = _check_files(files)
    overrides = {key: text if _is_text(key) else parse_value(text, f"--{key}") for key, text in given.items()}
    places = {**places, **{key: f"--{key}" for key in overrides}}
    chosen = {**in_files, **overrides}

    model = chosen.get("model", "MetaRec")
    _check_model(model, places.get("model", "defaults"))
    from recbole_metarec.config_rules import check_files
    from recbole_metarec.data.domains import EMBEDDED_TARGET, find_domain, resolve_sources

    dataset = chosen.get("dataset", EMBEDDED_TARGET)
    if model in OUR_MODELS:
        defaults = default_values(model)
        check_config({**defaults, **normalised(chosen, defaults), "dataset": dataset}, places)
    else:
        check_files(chosen, places)
    # before the heavy imports: a mistyped name is answered at once
    data_path = chosen.get("data_path") or DEFAULT_DATA_PATH
    find_domain(dataset, data_path)
    if reads(model, "sources") and chosen.get("meta_transfer") != "none":
        resolve_sources(dataset, chosen.get("sources", "auto"), data_path)

    from recbole_metarec import quick_start
    from recbole_metarec.plugin import shielded_argv

    overrides = {key: value for key, value in overrides.items() if key not in ("model", "dataset")}
    with shielded_argv():
        result = quick_start.run_experiment(model=model, dataset=dataset, config_files=files, overrides=overrides)
    print(result.table())
    return 0


# name -> (what it does, its options, what runs it, the end of its --help)
_COMMANDS = {
    "train": (
        "train a model on a target domain with its sources, and evaluate it",
        _train_parser,
        _train,
        _TRAIN_EXAMPLE,
    ),
}


def _usage() -> str:
    lines = ["usage: recbole-metarec COMMAND [options]", "", "commands:"]
    lines += [f"  {name:12s} {summary}" for name, (summary, *_) in _COMMANDS.items()]
    lines += [
        "",
        "example:",
        "  recbole-metarec train --dataset Scientific --data_path data",
        "",
        "recbole-metarec COMMAND --help tells the options of a command.",
    ]
    return "\n".join(lines)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in _COMMANDS:
        guess = nearest(name, _COMMANDS)
        raise ConfigError(
            f"unknown command {name}; "
            + (f"did you mean {guess}?" if guess else f"the commands are {', '.join(_COMMANDS)}")
        )
    summary, add_options, command, example = _COMMANDS[name]
    parser = _Parser(
        prog=f"recbole-metarec {name}",
        description=summary[0].upper() + summary[1:] + ".",
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_options(parser)
    return command(rest, parser)


def main(argv: list[str] | None = None) -> int:
    """Run one command; ``argv`` without the program's name (default: ``sys.argv``). Returns the exit code.

    0: done; 2: the user's mistake or an unusable file or disk, one line on stderr; 130: interrupted.
    """
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as leaving:  # argparse's way out of --help
        return int(leaving.code or 0)
    except MetaRecError as error:
        return _report(str(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _report(f"{place}{error.strerror or error}; check the path, its permissions and the space on its disk")
    except KeyboardInterrupt as stop:
        print(f"interrupted{f'; {stop}' if str(stop) else ''}", file=sys.stderr)
        return 130


def _report(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2
