"""The command line: ``recbole-metarec COMMAND ...``. A command parses, checks, calls the library and prints.

The user's mistakes are one line on stderr and exit code 2; a bug keeps its traceback.
"""

import argparse
import logging
import os
import sys

from recbole_metarec import __version__
from recbole_metarec.cli import (
    ablate,
    doctor,
    inspect,
    leaderboard,
    neighbours,
    prepare,
    recommend,
    simulate,
    split,
    sweep,
    train,
    tune,
)
from recbole_metarec.cli.options import Parser
from recbole_metarec.config.suggestions import nearest
from recbole_metarec.errors import ConfigError, MetaRecError, enough_memory

# name -> what holds SUMMARY, add_options, command and EXAMPLE (the end of its --help)
_COMMANDS = {
    "train": train,
    "leaderboard": leaderboard,
    "ablate": ablate,
    "sweep": sweep,
    "neighbours": neighbours,
    "tune": tune,
    "recommend": recommend,
    "prepare": prepare,
    "split": split,
    "simulate": simulate,
    "inspect": inspect,
    "doctor": doctor,
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
        with enough_memory():
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
