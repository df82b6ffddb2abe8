"""What ``ablate`` and ``sweep`` have in common: their options, their checks, and how an experiment is done."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

from recbole_metarec.cli.options import warn_of_sources
from recbole_metarec.cli.run_options import RunRequest, run_options
from recbole_metarec.errors import DataError

_OWN = ("rows", "cost", "target_users", "variants", "models", "grid")
RESUMING = """\
The cost is said first. What is in the store, or in the file of rows, is not run again; an interrupted command loses
only the runs in progress: type it again. Any config key may be given as --key=value; it holds for every run.
"""


def add_options(parser: argparse.ArgumentParser, output: str) -> Callable:
    """The options that both commands have; returns what adds one more."""
    option = run_options(parser, "arm", output)
    option(
        "--rows",
        metavar="FILE",
        help="CSV file to which finished runs are added; what it holds is not run again, whatever the code's version",
    )
    option(
        "--target_users",
        metavar="SHARE",
        help="on shops with this share of the target's users, another one for each seed (default: 1, the whole target)",
    )
    option("--cost", nargs=0, const=True, help="only say what it would cost")
    return option


def read_request(parser: argparse.ArgumentParser, arguments: list[str]) -> RunRequest:
    """What was typed, checked as far as that can be done before the data is looked at. Raises MetaRecError."""
    from recbole_metarec.jobs.competitors import SET_BY_NAME

    own = [name for name in _OWN if any(action.dest == name for action in parser._actions)]
    fixed = SET_BY_NAME - {"text_alignment"}  # with texts, all arms have them
    request = RunRequest.of(parser, arguments, own, fixed, "the arms differ by")
    request.sources()
    if "rows" in request.own:
        _check_rows(request.own["rows"])
    return request


def share_in(request: RunRequest, key: str = "") -> float:
    """The share of the target's users that was asked for, beside a sweep of ``key``. Raises ConfigError."""
    from recbole_metarec.compare.settings import read_share

    return read_share(request.own.get("target_users", "1"), key, request.dataset, request.given)


def _check_rows(text: str) -> None:
    """A place that takes no file is said before anything else."""
    if Path(text).is_dir():
        raise DataError(f"--rows: {text} is a folder; give a file such as rows.csv")
    if not Path(text).absolute().parent.is_dir():
        raise DataError(f"--rows: there is no folder {Path(text).parent}; make it, or name another place")
    TemporaryFile(dir=Path(text).absolute().parent).close()


def carry_out(request: RunRequest, experiment, folder: str, warning: str = "") -> int:
    """Says the cost and the warning, does what is missing and reports. Returns 0, or 1 if a run has failed."""
    from recbole_metarec.compare.execution import Execution, portable
    from recbole_metarec.compare.findings import findings
    from recbole_metarec.compare.rows import RowsFile
    from recbole_metarec.compare.target import check_sources, describe
    from recbole_metarec.jobs.competitors import COMPETITORS, WITHOUT_TRANSFER
    from recbole_metarec.jobs.plan import read_by
    from recbole_metarec.jobs.store import RunStore
    from recbole_metarec.reports.study import terminal_table, write_reports

    rows = RowsFile(request.own["rows"]) if "rows" in request.own else None
    if rows:  # a mistake in it is said before anything is run
        rows.rows()
        rows.ranks()
    protocol = describe(request.dataset, read_by(COMPETITORS[WITHOUT_TRANSFER], request.given))[0]
    check_sources(experiment.plan)
    output = request.output(folder)
    with RunStore(request.store) as store:
        execution = Execution(experiment, store, rows)
        _say(execution.cost().text(request.jobs))
        if not any(run.sources for run in experiment.plan):
            warn_of_sources(request.dataset, request.given)
        if warning:
            print(f"warning: {warning}", file=sys.stderr)
        if "cost" in request.own:
            return 0
        output.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=output).close()  # shows now, not after hours, whether the reports can be written
        found = findings(experiment, execution.run(request.jobs, _say))
    reports = write_reports(found, protocol, portable(request.command), output)  # who reads what is printed may be gone
    print(f"\n{terminal_table(found, protocol)}\n")
    print("reports:", ", ".join(map(str, reports)))
    return 1 if found.results.failures else 0


def _say(line: str) -> None:
    print(line, flush=True)
