"""``recbole-metarec ablate``: what each part of MetaRec is worth on one target."""

import click

from recbole_metarec.cli.comparison import ComparisonRequest
from recbole_metarec.cli.experiments import RESUMING, experiment_options, read_share, run_and_report
from recbole_metarec.cli.options import NAMES, ConfigCommand, option
from recbole_metarec.compare.variants import VARIANTS, chosen_variants
from recbole_metarec.config.models import DEFAULT_MODEL
from recbole_metarec.lazy import LazyModule

compare_settings = LazyModule("recbole_metarec.compare.settings")
study = LazyModule("recbole_metarec.compare.study")

EXAMPLES = f"""\
examples:
  recbole-metarec ablate
        the default variants on the embedded MovieLens domains, two seeds each
  recbole-metarec ablate --dataset Scientific --data_path data --sources Office,Tools --variants no-vq,uniform --cost
        what two variants would cost, next to the full model and LRURec
  recbole-metarec ablate --variants temperature=1,vq_heads=8+codebook_gradient=loss --rows results.csv
        your own variants; finished runs are added to results.csv
  recbole-metarec ablate --dataset Scientific --data_path data --sources Office --target_users 0.1 --seeds 5
        five subsamples with a tenth of the target's users each, one for each seed

{RESUMING}"""


@click.command(cls=ConfigCommand, epilog=EXAMPLES)
@option(
    "--variants",
    metavar="A,B,C",
    type=NAMES,
    help=f"some of {', '.join(VARIANTS)}, KEY=value+KEY=value, or my_model.py:MyMetaRec (default: "
    "all that differ from the full model); "
    "full and none are always included",
)
@experiment_options("saved/ablate-NAME")
def command(comparison: ComparisonRequest, rows, target_users, cost, variants):
    """Returns 1 if a run has failed. Raises MetaRecError before any run."""
    target = comparison.target
    share = read_share(comparison, rows, target_users)
    chosen = chosen_variants(variants, target.keys)
    if tuned := comparison.tuned([VARIANTS["full"].competitor, VARIANTS["none"].competitor]):
        full = tuned[DEFAULT_MODEL].overrides if DEFAULT_MODEL in tuned else {}
        chosen = chosen_variants(variants, {**target.keys, **full})
    subsamples = compare_settings.target_subsets(share, target.dataset, target.keys, comparison.seeds, target.origins)
    experiment = study.ablation(chosen, subsamples, tuned)
    return run_and_report(comparison, experiment, f"ablate-{experiment.dataset}", rows, cost)
