"""``recbole-metarec sweep``: how a model fares as one thing is varied, against the same model without transfer."""

import click

from recbole_metarec.cli.comparison import ComparisonRequest
from recbole_metarec.cli.experiments import RESUMING, experiment_options, read_share, run_and_report
from recbole_metarec.cli.options import NAMES, ConfigCommand, Target, option
from recbole_metarec.config.models import DEFAULT_MODEL, WITHOUT_TRANSFER
from recbole_metarec.config.origins import located
from recbole_metarec.errors import ConfigError
from recbole_metarec.jobs.competitors import COMPETITORS, competitors
from recbole_metarec.lazy import LazyModule

compare_settings = LazyModule("recbole_metarec.compare.settings")
study = LazyModule("recbole_metarec.compare.study")

EXAMPLES = f"""\
examples:
  recbole-metarec sweep temperature=0.02,0.05,0.1,1
        on the embedded MovieLens domains, two seeds each
  recbole-metarec sweep target_users=0.05,0.1,0.25,0.5,1 --dataset Scientific --data_path data --sources Office,Tools
        the learning curve of transfer: subsamples with a share of the target's users
  recbole-metarec sweep n_sources=0,1,3 --dataset Scientific --data_path data --sources Office,Tools,Toys --cost
        what it would cost to compare no source, the first and the first three
  recbole-metarec sweep vq_heads=0,1,4 --dataset Scientific --data_path data --sources Office --target_users 0.1
        on subsamples with a tenth of the target's users, a different one for each seed

KEY is any config key of MetaRec, or one that varies the data:
  n_sources      the first N of --sources
  target_users   a share of the target's users; each seed uses a different subsample, disjoint where possible
  overlap_users  half of the domain as target; the other half as source, plus this share of the target's users
  overlap_items  the same for items

{RESUMING}"""


@click.command(cls=ConfigCommand, epilog=EXAMPLES)
@click.argument("grid", metavar="KEY=v1,v2,...")
@option(
    "--models",
    metavar="A,B",
    type=NAMES,
    default=DEFAULT_MODEL,
    help="models to vary, beside LRURec: names of the leaderboard (default: MetaRec)",
)
@experiment_options("saved/sweep-KEY-NAME")
def command(comparison: ComparisonRequest, rows, target_users, cost, grid, models):
    """Returns 1 if a run has failed. Raises MetaRecError before any run."""
    target = comparison.target
    key, values = compare_settings.parse_grid(grid)
    if key in target.keys:
        raise ConfigError(f"{located(target.origins[key], f'{key} is what is varied')}; leave it out")
    compare_settings.check_values(key, values, target.dataset, target.keys)
    share = read_share(comparison, rows, target_users, key)
    models = competitors(models)
    tuned = comparison.tuned([COMPETITORS[WITHOUT_TRANSFER], *models])
    subsamples = compare_settings.target_subsets(share, target.dataset, target.keys, comparison.seeds, target.origins)
    settings = compare_settings.settings(key, values, subsamples)
    experiment = study.sweep(key, settings, models, subsamples, tuned)
    folder = f"sweep-{key}-{subsamples.name}"
    return run_and_report(comparison, experiment, folder, rows, cost, _warning(key, target))


def _warning(key: str, target: Target) -> str:
    """What to say of a sweep that can change nothing."""
    if not compare_settings.weighs_sources(key) or len(sources := target.sources()) > 1:
        return ""
    only = f"the only source is {sources[0]}" if sources else "there is no source"
    return f"{key} only weighs sources, and {only}: it has no effect"
