"""``recbole-metarec doctor``: whether this machine is ready for a run, and what to do where it is not."""

import argparse

from recbole_metarec.cli.options import options_of, split_arguments
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.errors import ConfigError

SUMMARY = "check versions, GPU, data, disk and a tiny run, and say what to do about each finding"
EXAMPLE = """\
examples:
  recbole-metarec doctor
  recbole-metarec doctor --data_path data

Every line is ok, note (works, but know it) or problem. The exit code is 1 if there is a problem, else 0.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    option = options_of(parser)
    option("--data_path", metavar="DIR", help="folder that holds NAME/NAME.inter")


def command(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Prints the findings. Returns 1 if one is a problem, else 0."""
    given = split_arguments(parser, arguments)
    data_path = given.pop("data_path", None) or DEFAULT_DATA_PATH
    for key in given:
        raise ConfigError(f"--{key}: doctor takes no config key; see {parser.prog} --help")
    from recbole_metarec.cli.doctor_checks import NOTE, PROBLEM, examine

    levels = []
    for finding in examine(data_path):
        levels.append(finding.level)
        print(f"{finding.level:8s} {finding.what}", flush=True)
        if finding.todo:
            print(f"{'':8s} -> {finding.todo}", flush=True)
    problems, notes = levels.count(PROBLEM), levels.count(NOTE)
    print(f"\n{problems or 'no'} problem{'s' * (problems != 1)}, {notes or 'no'} note{'s' * (notes != 1)}")
    return 1 if problems else 0
