"""``recbole-metarec sweep``: how a model fares as one thing is varied, against the same model without transfer."""

import argparse

from recbole_metarec.cli import experiments
from recbole_metarec.cli.experiments import carry_out, read_request, share_in
from recbole_metarec.config.origins import located
from recbole_metarec.errors import ConfigError

SUMMARY = "vary one config key, the number of sources or the target's users, against no transfer"
EXAMPLE = f"""\
examples:
  recbole-metarec sweep temperature=0.02,0.05,0.1,1
        on the embedded MovieLens domains, two seeds each
  recbole-metarec sweep target_users=0.05,0.1,0.25,0.5,1 --dataset Scientific --data_path data --sources Office,Tools
        the learning curve of transfer: shops with a share of the target's users
  recbole-metarec sweep n_sources=0,1,3 --dataset Scientific --data_path data --sources Office,Tools,Toys --cost
        what the first so many sources would cost to compare
  recbole-metarec sweep vq_heads=0,1,4 --dataset Scientific --data_path data --sources Office --target_users 0.1
        on shops with a tenth of the target's users, another one for each seed

{experiments.RESUMING}"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from recbole_metarec.compare.settings import DATA_KEYS

    option = experiments.add_options(parser, "saved/sweep-KEY-NAME")
    option("--models", metavar="A,B", help="what is varied, beside LRURec: names of the leaderboard (default: MetaRec)")
    option(
        "grid",
        metavar="KEY=v1,v2,...",
        nargs="?",
        default=argparse.SUPPRESS,
        help="any config key of MetaRec, or " + "; ".join(f"{key}: {own.meaning}" for key, own in DATA_KEYS.items()),
    )


def command(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Runs what is missing and reports. Returns 0, or 1 if a run has failed. Raises MetaRecError before any run."""
    from recbole_metarec.compare.settings import check_values, parse_grid, settings, shops_of, weighs_sources
    from recbole_metarec.jobs.competitors import COMPETITORS, WITHOUT_TRANSFER, competitors

    request = read_request(parser, arguments)
    if "grid" not in request.own:
        raise ConfigError("sweep: nothing to vary; write KEY=v1,v2,..., for example temperature=0.02,0.05,0.1")
    key, values = parse_grid(request.own["grid"])
    if key in request.given:
        raise ConfigError(f"{located(request.places[key], f'{key} is what is varied')}; leave it out")
    check_values(key, values, request.dataset, request.given)
    share = share_in(request, key)
    warning = ""
    if weighs_sources(key) and len(sources := request.sources()) < 2:
        there = f"there is one, {sources[0]}" if sources else "there is none"
        warning = f"{key} only weighs sources, and {there}: it has no effect"
    models = competitors([name.strip() for name in request.own.get("models", "MetaRec").split(",")])
    from recbole_metarec.compare.study import sweep

    tuned = request.tuned([COMPETITORS[WITHOUT_TRANSFER], *models])
    shops = shops_of(share, request.dataset, request.given, request.seeds)
    experiment = sweep(key, settings(key, values, shops), models, shops, tuned)
    return carry_out(request, experiment, f"sweep-{key}-{shops.name}", warning)
