"""What ``ablate`` and ``sweep`` have in common: their options, their checks, and how an experiment is run."""

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

import click

from recbole_metarec.cli.comparison import ComparisonRequest, comparison_options
from recbole_metarec.cli.options import Target, option, say, together, warn_of_sources
from recbole_metarec.config.models import WITHOUT_TRANSFER
from recbole_metarec.config.schema import keys_in
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.jobs.competitors import COMPETITORS
from recbole_metarec.lazy import LazyModule

plan = LazyModule("recbole_metarec.jobs.plan")
store = LazyModule("recbole_metarec.jobs.store")
metrics = LazyModule("recbole_metarec.evaluation.metric")
compare_settings = LazyModule("recbole_metarec.compare.settings")
compare_target = LazyModule("recbole_metarec.compare.target")
compare_rows = LazyModule("recbole_metarec.compare.rows")
execution = LazyModule("recbole_metarec.compare.execution")
findings = LazyModule("recbole_metarec.compare.findings")
reports = LazyModule("recbole_metarec.reports.study")

RESUMING = """\
The cost is printed first. Runs that are in the store, or in the file of rows, are not repeated. An interrupted command
loses only the runs in progress: rerun it to continue. Any config key may be given as --key=value or --key value; it
holds for every run.
"""


def experiment_options(output: str) -> Callable:
    """A decorator: the command is called with a ComparisonRequest, ``rows``, ``target_users`` and ``cost``."""
    fixed = keys_in("by_name") - {"text_alignment"}  # with texts, all variants have them
    return together(
        comparison_options("variant", output, fixed, "is what the variants differ by; leave it out"),
        option(
            "--rows",
            metavar="FILE",
            help="CSV file to which finished runs are added; runs that it holds are not repeated, whatever the code's "
            "version",
        ),
        option(
            "--target_users",
            metavar="SHARE",
            default="1",
            help="run on subsamples with this share of the target's users; each seed uses a different subsample, "
            "disjoint where possible (default: 1, the whole target)",
        ),
        click.option("--cost", is_flag=True, help="only print what it would cost"),
    )


def read_share(comparison: ComparisonRequest, rows: str | None, target_users: str, key: str = "") -> float:
    """The share of the target's users, beside a sweep of ``key``; sources and rows are checked. Raises MetaRecError."""
    target = comparison.target
    target.sources()
    if rows:
        _check_rows(Path(rows))
        _check_depth(target)
    return compare_settings.read_share(target_users, key, target.dataset, target.keys)


def _metric(target: Target):
    """By what the runs are compared."""
    return metrics.Metric.named(str(target.keys.get("valid_metric", metrics.NDCG_10.label)))


def _check_depth(target: Target) -> None:
    """Raises ConfigError for a metric that is deeper than the ranks that are kept beside a file of rows."""
    deepest = compare_rows.DEEPEST
    if _metric(target).depth >= deepest:
        problem = f"{_metric(target).label} is deeper than the ranks that are kept"
        raise ConfigError(f"--rows: {problem}; choose one up to {deepest - 1}, or leave --rows out")


def _check_rows(file: Path) -> None:
    """Raises DataError or OSError, before anything else, where the file cannot be written."""
    if file.is_dir():
        raise DataError(f"--rows: {file} is a folder; give a file such as rows.csv")
    if not file.absolute().parent.is_dir():
        raise DataError(f"--rows: there is no folder {file.parent}; make it, or choose another path")
    TemporaryFile(dir=file.absolute().parent).close()


def run_and_report(
    comparison: ComparisonRequest, experiment, folder: str, rows: str | None, cost: bool, warning: str = ""
) -> int:
    """Prints the cost and the warning, runs what is missing and reports. Returns 0, or 1 if a run has failed."""
    target = comparison.target
    rows_file = compare_rows.RowsFile(rows, _metric(target)) if rows else None
    if rows_file:  # a mistake in it is reported before anything is run
        rows_file.rows()
        rows_file.ranks()
    protocol = compare_target.describe(target.dataset, plan.read_by(COMPETITORS[WITHOUT_TRANSFER], target.keys))[0]
    compare_target.check_sources(experiment.plan)
    with store.RunStore(comparison.store) as opened:
        running = execution.Execution(experiment, opened, rows_file)
        say(running.cost().text(comparison.jobs))
        if not any(run.sources for run in experiment.plan):
            warn_of_sources(target.dataset, target.keys)
        if warning:
            print(f"warning: {warning}", file=sys.stderr)
        if cost:
            return 0
        output = comparison.report_folder(folder, experiment.plan)
        result = findings.findings(experiment, running.run(comparison.jobs, say))
    command = execution.portable(comparison.command)
    files = reports.write_reports(result, protocol, command, output)  # who reads what is printed may be gone
    print(f"\n{reports.terminal_table(result, protocol)}\n")
    print("reports:", ", ".join(map(str, files)))
    return 1 if result.results.failures else 0
