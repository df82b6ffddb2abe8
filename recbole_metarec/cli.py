"""The command line: ``recbole-metarec COMMAND ...``. A command parses, checks, calls the library and prints.

The user's mistakes are one line on stderr and exit code 2; a bug keeps its traceback.
"""

import argparse
import logging
import os
import sys
from types import SimpleNamespace

from recbole_metarec import (
    __version__,
    cli_ablate,
    cli_doctor,
    cli_inspect,
    cli_leaderboard,
    cli_neighbours,
    cli_prepare,
    cli_recommend,
    cli_simulate,
    cli_split,
    cli_sweep,
    cli_tune,
)
from recbole_metarec.arguments import SIMULATE, Once, Parser, Settings, check_model, split_arguments, stand_ins
from recbole_metarec.config import OUR_MODELS, check_config, default_values, nearest, normalised
from recbole_metarec.errors import ConfigError, MetaRecError
from recbole_metarec.keys import reads
from recbole_metarec.resources import DEFAULT_DATA_PATH

_TRAIN_EXAMPLE = """\
examples:
  recbole-metarec train
        MetaRec on the embedded MovieLens domains, next to the same backbone without transfer
  recbole-metarec train --dataset Scientific --data_path data --sources Office,Tools,Toys --learning_rate=0.0005
        a domain whose files are data/Scientific/Scientific.inter, with three sources and a config key
  recbole-metarec train --dataset Scientific --simulate
        without any data: simulated stand-ins of the same sizes, sim-Scientific and its sources
  recbole-metarec train --dataset Scientific --data_path data --resume
        after a crash: the same command and --resume; or --resume RUN alone, with the folder of the run

Any config key may be given as --key=value; values are read as YAML. What is typed here wins over --config_files,
later files win over earlier ones, and files win over the defaults.
"""


def _train_parser(parser: argparse.ArgumentParser) -> None:
    def option(*names, **kwargs):
        parser.add_argument(*names, action=Once, **kwargs)

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
    option(
        "--resume",
        metavar="RUN",
        nargs="?",
        const=True,
        help="go on with the run in this folder, to the bit; without RUN: with the newest unfinished run of this very "
        "command, or start it if there is none",
    )
    option("--simulate", **SIMULATE)


def _train(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    given = split_arguments(parser, arguments)
    simulate, resume = given.pop("simulate", False), given.pop("resume", None)
    settings = Settings.of(given)
    chosen, places = settings.chosen, settings.places
    if resume not in (None, True):
        from recbole_metarec.resuming import given_to_run

        chosen = given_to_run(resume) | chosen
        places = dict.fromkeys(chosen, f"{resume}") | places

    model = chosen.get("model", "MetaRec")
    check_model(model, places.get("model", "defaults"))
    from recbole_metarec.config_rules import check_files
    from recbole_metarec.data.domains import EMBEDDED_TARGET, find_domain, resolve_sources

    dataset = chosen.get("dataset", EMBEDDED_TARGET)
    if model in OUR_MODELS:
        defaults = default_values(model)
        check_config({**defaults, **normalised(chosen, defaults), "dataset": dataset}, places)
    else:
        check_files(chosen, places)
    simulated = stand_ins(dataset, chosen, places) if simulate else {}
    chosen, dataset = {**chosen, **simulated}, simulated.pop("dataset", dataset)
    # before the heavy imports: a mistyped name is answered at once
    data_path = chosen.get("data_path") or DEFAULT_DATA_PATH
    find_domain(dataset, data_path)
    if reads(model, "sources") and chosen.get("meta_transfer") != "none":
        resolve_sources(dataset, chosen.get("sources", "auto"), data_path)

    from recbole_metarec import quick_start
    from recbole_metarec.plugin import shielded_argv

    overrides = {key: value for key, value in settings.overrides.items() if key not in ("model", "dataset")} | simulated
    with shielded_argv():
        result = quick_start.run_experiment(
            model=model, dataset=dataset, config_files=settings.files, overrides=overrides, resume=resume
        )
    print(result.table())
    return 0


_TRAIN = SimpleNamespace(
    SUMMARY="train a model on a target domain with its sources, and evaluate it",
    add_options=_train_parser,
    command=_train,
    EXAMPLE=_TRAIN_EXAMPLE,
)
# name -> what holds SUMMARY, add_options, command and EXAMPLE (the end of its --help)
_COMMANDS = {
    "train": _TRAIN,
    "leaderboard": cli_leaderboard,
    "ablate": cli_ablate,
    "sweep": cli_sweep,
    "neighbours": cli_neighbours,
    "tune": cli_tune,
    "recommend": cli_recommend,
    "prepare": cli_prepare,
    "split": cli_split,
    "simulate": cli_simulate,
    "inspect": cli_inspect,
    "doctor": cli_doctor,
}


def _usage() -> str:
    lines = ["usage: recbole-metarec COMMAND [options]", "       recbole-metarec --version", "", "commands:"]
    lines += [f"  {name:12s} {command.SUMMARY}" for name, command in _COMMANDS.items()]
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
    if arguments[0] == "--version":
        print(f"recbole-metarec {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in _COMMANDS:
        guess = nearest(name, _COMMANDS)
        raise ConfigError(
            f"unknown command {name}; "
            + (f"did you mean {guess}?" if guess else f"the commands are {', '.join(_COMMANDS)}")
        )
    command = _COMMANDS[name]
    parser = Parser(
        prog=f"recbole-metarec {name}",
        description=command.SUMMARY[0].upper() + command.SUMMARY[1:] + ".",
        epilog=command.EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_options(parser)
    return command.command(rest, parser)


def main(argv: list[str] | None = None) -> int:
    """Run one command; ``argv`` without the program's name (default: ``sys.argv``). Returns the exit code.

    0: done; 2: the user's mistake or an unusable file or disk, one line on stderr; 130: interrupted; 141: what reads
    the output has gone.
    """
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, is no traceback
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as leaving:  # argparse's way out of --help
        return int(leaving.code or 0)
    except MetaRecError as error:
        return _report(str(error))
    except BrokenPipeError:  # whoever read our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
        return 141  # as the shell says of a program that SIGPIPE ended
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _report(f"{place}{error.strerror or error}; check the path, its permissions and the space on its disk")
    except KeyboardInterrupt as stop:
        print(f"interrupted{f'; {stop}' if str(stop) else ''}", file=sys.stderr)
        return 130


def _report(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2
