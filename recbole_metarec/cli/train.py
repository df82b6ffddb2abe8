"""``recbole-metarec train``: one model on a target domain with its sources."""

import argparse

from recbole_metarec.cli.options import Settings, check_model, domain_options, options_of, split_arguments, stand_ins
from recbole_metarec.config.run_config import UserKeys
from recbole_metarec.config.schema import reads

SUMMARY = "train a model on a target domain with its sources, and evaluate it"
EXAMPLE = """\
examples:
  recbole-metarec train
        MetaRec on the embedded MovieLens domains, next to the same backbone without transfer
  recbole-metarec train --dataset Scientific --data_path data --sources Office,Tools,Toys --learning_rate=0.0005
        a domain whose files are data/Scientific/Scientific.inter, with three sources and a config key
  recbole-metarec train --dataset Scientific --simulate
        without any data: simulated stand-ins of the same sizes, sim-Scientific and its sources
  recbole-metarec train --dataset Scientific --data_path data --resume
        after a crash: the same command and --resume; or --resume RUN alone, with the folder of the run

Any config key may be given as --key=value; values are read as YAML. What is typed here wins over --config_files,
later files win over earlier ones, and files win over the defaults.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""

    option = options_of(parser)
    option("--model", metavar="MODEL", help="MetaRec (default), LRURec, UniSRec, or a sequential model of RecBole")
    domain_options(option)
    option("--seed", metavar="N", help="random seed")
    option(
        "--exact_time",
        metavar="BOOL",
        nargs="?",
        const="True",
        help="order events by their full timestamps instead of RecBole's float32 ones",
    )
    option(
        "--resume",
        metavar="RUN",
        nargs="?",
        const=True,
        help="go on with the run in this folder, to the bit; without RUN: with the newest unfinished run of this very "
        "command, or start it if there is none",
    )


def command(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Trains, evaluates and prints the table. Raises MetaRecError before any training."""
    from recbole_metarec.data.domains import find_domain, resolve_sources
    from recbole_metarec.runs.settings import make_run_config

    typed = split_arguments(parser, arguments)
    simulate, resume = typed.pop("simulate", False), typed.pop("resume", None)
    settings = Settings.of(typed)
    user = UserKeys(settings.chosen, settings.places)
    if "model" in user.values:
        check_model(user.values["model"], user.origins["model"])
    run_config = make_run_config(None, None, user, resume)
    if simulate:
        stands_in = stand_ins(run_config.dataset, run_config.user.values, run_config.user.origins)
        user |= UserKeys.of(stands_in, "--simulate")
        run_config = make_run_config(None, None, user, resume)
    # before the heavy imports: a mistyped name is answered at once
    find_domain(run_config.dataset, run_config["data_path"])
    if reads(run_config.model, "sources") and run_config.values.get("meta_transfer") != "none":
        resolve_sources(run_config.dataset, run_config["sources"], run_config["data_path"])

    from recbole_metarec import quick_start

    result = quick_start.run_from_config(run_config, resume)
    print(result.table())
    return 0
