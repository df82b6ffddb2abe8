"""``recbole-metarec doctor``: whether this machine is ready for a run, and what to do where it is not."""

import click

from recbole_metarec.cli.doctor_checks import NOTE, PROBLEM, examine
from recbole_metarec.cli.options import Command, option, say
from recbole_metarec.config.resources import DEFAULT_DATA_PATH

EXAMPLES = """\
examples:
  recbole-metarec doctor
  recbole-metarec doctor --data_path data

Every line is ok, note (works, but you should know) or problem. The exit code is 1 if there is a problem, else 0.
"""


@click.command(cls=Command, epilog=EXAMPLES)
@option("--data_path", metavar="DIR", help="folder that holds NAME/NAME.inter")
def command(data_path):
    """Prints the findings. Returns 1 if one is a problem, else 0."""
    levels = []
    for finding in examine(data_path or DEFAULT_DATA_PATH):
        levels.append(finding.level)
        say(f"{finding.level:8s} {finding.what}")
        if finding.todo:
            say(f"{'':8s} -> {finding.todo}")
    problems, notes = levels.count(PROBLEM), levels.count(NOTE)
    print(f"\n{problems or 'no'} problem{'s' * (problems != 1)}, {notes or 'no'} note{'s' * (notes != 1)}")
    return 1 if problems else 0
