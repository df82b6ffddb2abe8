"""``recbole-metarec leaderboard``: models side by side on one target, over several seeds."""

import click

from recbole_metarec.cli.comparison import ComparisonRequest, comparison_options
from recbole_metarec.cli.options import NAMES, ConfigCommand, Target, option, say, warn_of_sources
from recbole_metarec.config.models import WITHOUT_TRANSFER
from recbole_metarec.config.schema import keys_in
from recbole_metarec.errors import ConfigError
from recbole_metarec.jobs.competitors import (
    COMPETITORS,
    DEFAULT_MODELS,
    competitors,
    default_models,
)
from recbole_metarec.lazy import LazyModule

domains = LazyModule("recbole_metarec.data.domains")
plan = LazyModule("recbole_metarec.jobs.plan")
pool = LazyModule("recbole_metarec.jobs.pool")
store = LazyModule("recbole_metarec.jobs.store")
compare = LazyModule("recbole_metarec.compare.leaderboard")
compare_target = LazyModule("recbole_metarec.compare.target")
reports = LazyModule("recbole_metarec.reports.leaderboard")

EXAMPLES = """\
examples:
  recbole-metarec leaderboard
        the default models on the embedded MovieLens domains, two seeds each: about a quarter of an hour on two cores
  recbole-metarec leaderboard --dataset Scientific --data_path data --models SASRec,LRURec,UniSRec,MetaRec --seeds 5

Runs that are in the store are not repeated, unless the code, the data or a config key has changed. An interrupted
command loses only the runs in progress: rerun it to continue. Failed runs are tried again. Several commands may share
one store at the same time.

Any config key may be given as --key=value or --key value; it holds for every model that reads it.
"""


@click.command(cls=ConfigCommand, epilog=EXAMPLES)
@option(
    "--models",
    metavar="A,B,C",
    type=NAMES,
    help=f"some of {', '.join(COMPETITORS)}, other models of RecBole, or my_model.py:MyModel (default: "
    f"{', '.join(DEFAULT_MODELS)})",
)
@comparison_options(
    "model",
    "saved/leaderboard-NAME",
    keys_in("by_name"),
    "is what the models differ by; leave it out and choose with --models",
)
def command(comparison: ComparisonRequest, models):
    """Returns 1 if a run has failed. Raises MetaRecError before any run."""
    models = _models(comparison.target, models)
    return _compare(comparison, models)


def _models(target: Target, names: list[str] | None) -> list:
    """The models to compare, each with what it needs. Raises MetaRecError."""
    if names is not None:
        models = competitors(names)
    else:
        folder = domains.find_domain(target.dataset, target.data_path)
        models = default_models(has_text=(folder / target.dataset / f"{target.dataset}.item").is_file())
    for key in {model.spec.width_key for model in models} & set(target.keys) - {"embedding_size"}:
        raise ConfigError(
            f"{target.origins[key]}: d is the same for every model; use embedding_size, which sets it for all"
        )
    if any(model.spec.takes_sources for model in models):
        target.sources()
    return models


def _compare(comparison: ComparisonRequest, models: list) -> int:
    target = comparison.target
    tuned = comparison.tuned(models)
    planned = plan.make_plan(models, target.dataset, comparison.seeds, target.keys, tuned, target.origins)
    without_transfer = plan.read_by(COMPETITORS[WITHOUT_TRANSFER], target.keys)
    protocol, segments, users = compare_target.describe(target.dataset, without_transfer)
    ours = {model.name for model in models if model.spec.is_ours}
    compare_target.check_depth((run for run in planned if run.model not in ours), protocol.items)
    compare_target.check_sources(planned)
    if any(model.spec.takes_sources for model in models):
        warn_of_sources(target.dataset, target.keys)
    with store.RunStore(comparison.store) as opened:
        folder = comparison.report_folder(f"leaderboard-{target.dataset}", planned)
        pool.Runner(opened, comparison.jobs, say).run(planned)
        results, failures = plan.with_guards(models, planned, opened.results(planned)), opened.failures(planned)
    baselines = tuple(model.name for model in models if model.is_baseline)
    both = compare.compare_both(results, protocol, baselines, failures, segments, users)
    files = reports.write_reports(both, folder)  # before anything is printed: who reads that may be gone
    print(f"\n{reports.terminal_table(both)}\n")
    print("reports:", ", ".join(map(str, files)))
    return 1 if failures else 0
