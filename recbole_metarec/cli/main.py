"""The command line: ``recbole-metarec COMMAND ...``. A command reads its options, calls the library and prints.

The user's mistakes are one line on stderr and exit code 2; a bug keeps its traceback.
"""

import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

from recbole_metarec import __version__, processes
from recbole_metarec.config.schema import unknown_key_error
from recbole_metarec.config.suggestions import nearest
from recbole_metarec.errors import ConfigError, MetaRecError, Terminated, enough_memory, without_passwords

# name of a command, which is in the file of this name and is imported only if it is typed -> what it does
COMMANDS = {
    "train": "train a model on a target domain with its sources, and evaluate it",
    "leaderboard": "compare models on one target over several seeds, and say which differences are real",
    "ablate": "compare MetaRec variants with the full model and with no transfer",
    "sweep": "vary one config key, the number of sources or the target's users, against no transfer",
    "neighbours": "show which target items a run maps its source items to, and whether their texts agree",
    "tune": "search a model's best configuration on validation, a given number of trials",
    "recommend": "recommend items to one user, or to all, with a trained model",
    "export": "write a trained model as ONNX graphs, for programs in any language",
    "prepare": "make domains from public review sets, or from a log of your own",
    "split": "split one dataset into domains, disjoint or with a chosen overlap",
    "simulate": "generate domains of known relatedness, to see when transfer helps and when it cannot",
    "inspect": "look at a domain: sizes, histories, popularity, oddities, what it shares with others",
    "doctor": "check versions, GPU, data, disk and a tiny run, and say what to do about each finding",
}
_EXAMPLE = """
example:
  recbole-metarec train --dataset Scientific --data_path data

recbole-metarec COMMAND --help shows the options of a command.
"""


class _Commands(click.Group):
    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, name):
        if name not in COMMANDS:
            guess = nearest(name, COMMANDS)
            advice = f"did you mean {guess}?" if guess else f"the commands are {', '.join(COMMANDS)}"
            raise ConfigError(f"unknown command {name}; {advice}")
        if processes.started() > 1 and name != "train":
            raise ConfigError(f"{name} runs in one process; torchrun is for train alone")
        command = importlib.import_module(f"recbole_metarec.cli.{name}").command
        command.help = f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}."
        return command

    def format_commands(self, ctx, formatter):
        with formatter.section("commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def format_epilog(self, ctx, formatter):
        formatter.write(_EXAMPLE)


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 120},
)
@click.version_option(__version__, message="recbole-metarec %(version)s")
@click.pass_context
def _commands(context):
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _run(arguments: list[str]) -> int:
    with _commands.make_context("recbole-metarec", list(arguments)) as context:
        return _commands.invoke(context) or 0


def main(argv: list[str] | None = None) -> int:
    """Run one command; ``argv`` without the program's name (default: ``sys.argv``). Returns the exit code.

    0: done; 2: the user's mistake or an unusable file or disk, one line on stderr; 130: interrupted; 143: terminated;
    141: the program that reads the output has gone.
    """
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, is no traceback
    arguments = sys.argv[1:] if argv is None else argv
    try:
        with enough_memory(), _sigterm_is_told():
            return _run(arguments)
    except click.exceptions.Exit as leaving:  # after --help and --version
        return leaving.exit_code
    except click.UsageError as error:
        return _report(_usage(error))
    except MetaRecError as error:
        return _report(str(error))
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
        return 141  # as the shell says of a program that SIGPIPE ended
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        return _report(f"{file}{error.strerror or error}; check the path, its permissions and the space on its disk")
    except KeyboardInterrupt as stop:
        what, code = ("terminated", 143) if isinstance(stop, Terminated) else ("interrupted", 130)
        if processes.speaks():
            print(f"{what}{f'; {stop}' if str(stop) else ''}", file=sys.stderr)
        return code


@contextmanager
def _sigterm_is_told() -> Iterator[None]:
    """Within, SIGTERM raises Terminated, unless it has a handler already."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def stop(number, frame):
        raise Terminated

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _usage(error: click.UsageError) -> str:
    """What click complains about, as one line that says what to do."""
    command = error.ctx.command
    advice = f"see {error.ctx.command_path} --help"
    if isinstance(error, click.NoSuchOption):
        guess = nearest(error.option_name, [name for param in command.params for name in param.opts])
        if getattr(command, "every_key", False) and guess not in command.shown:
            return str(unknown_key_error(error.option_name.lstrip("-"), error.option_name))
        advice = f"did you mean {guess}?" if guess else advice
        return f"{error.option_name}: not an option of {error.ctx.command_path}; {advice}"
    if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter):
        return f"{error.param.opts[0]}: {error.message.rstrip('.')}; {advice}"
    return f"{error.format_message().rstrip('.')}; {advice}"


def _report(message: str) -> int:
    if processes.speaks():
        print(f"error: {without_passwords(' '.join(message.split()))}", file=sys.stderr)
    return 2
