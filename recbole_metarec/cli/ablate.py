"""``recbole-metarec ablate``: what each part of MetaRec is worth on one target."""

import argparse

from recbole_metarec.cli import experiments
from recbole_metarec.cli.experiments import carry_out, read_request, share_in

SUMMARY = "take MetaRec apart: each variant against the full model and against no transfer"
EXAMPLE = f"""\
examples:
  recbole-metarec ablate
        the default variants on the embedded MovieLens domains, two seeds each
  recbole-metarec ablate --dataset Scientific --data_path data --sources Office,Tools --variants no-vq,uniform --cost
        what two variants would cost, next to the full model and LRURec
  recbole-metarec ablate --variants temperature=1,vq_heads=8+codebook_gradient=loss --rows results.csv
        variants of one's own; finished runs are added to results.csv
  recbole-metarec ablate --dataset Scientific --data_path data --sources Office --target_users 0.1 --seeds 5
        five shops with a tenth of the target's users each, one for each seed

{experiments.RESUMING}"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from recbole_metarec.compare.variants import VARIANTS

    option = experiments.add_options(parser, "saved/ablate-NAME")
    option(
        "--variants",
        metavar="A,B,C",
        help=f"some of {', '.join(VARIANTS)}, or KEY=value+KEY=value (default: all that differ from the full model); "
        "full and none are always there",
    )


def command(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Runs what is missing and reports. Returns 0, or 1 if a run has failed. Raises MetaRecError before any run."""
    from recbole_metarec.compare.settings import shops_of
    from recbole_metarec.compare.variants import VARIANTS, chosen_variants

    request = read_request(parser, arguments)
    names = [name.strip() for name in request.own["variants"].split(",")] if "variants" in request.own else None
    variants, share = chosen_variants(names, request.given), share_in(request)
    from recbole_metarec.compare.study import ablation

    if tuned := request.tuned([VARIANTS["full"].competitor, VARIANTS["none"].competitor]):
        full = tuned["MetaRec"].overrides if "MetaRec" in tuned else {}
        variants = chosen_variants(names, {**request.given, **full})
    shops = shops_of(share, request.dataset, request.given, request.seeds)
    experiment = ablation(variants, shops, tuned)
    return carry_out(request, experiment, f"ablate-{experiment.dataset}")
