"""``recbole-metarec train``: one model on a target domain with its sources."""

import argparse

from recbole_metarec.cli.options import Settings, check_model, domain_options, options_of, split_arguments, stand_ins
from recbole_metarec.config.checks import OUR_MODELS, check_config, default_values, normalised
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.config.schema import reads
from recbole_metarec.plugin.on_import import recbole_ready

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
    given = split_arguments(parser, arguments)
    simulate, resume = given.pop("simulate", False), given.pop("resume", None)
    settings = Settings.of(given)
    chosen, places = settings.chosen, settings.places
    if resume not in (None, True):
        from recbole_metarec.runs.resume import given_to_run

        chosen = given_to_run(resume) | chosen
        places = dict.fromkeys(chosen, f"{resume}") | places

    model = chosen.get("model", "MetaRec")
    check_model(model, places.get("model", "defaults"))
    from recbole_metarec.config.rules import check_files
    from recbole_metarec.data.domains import EMBEDDED_TARGET, find_domain, resolve_sources

    dataset = chosen.get("dataset", EMBEDDED_TARGET)
    if model in OUR_MODELS:
        defaults = default_values(model)
        check_config({**defaults, **normalised(chosen, defaults), "dataset": dataset}, places)
    else:
        check_files(chosen, places)
    simulated = stand_ins(dataset, chosen, places) if simulate else {}
    chosen, dataset = {**chosen, **simulated}, simulated.pop("dataset", dataset)
    # before the heavy imports: a mistyped name is answered at once
    data_path = chosen.get("data_path") or DEFAULT_DATA_PATH
    find_domain(dataset, data_path)
    if reads(model, "sources") and chosen.get("meta_transfer") != "none":
        resolve_sources(dataset, chosen.get("sources", "auto"), data_path)

    overrides = {key: value for key, value in settings.overrides.items() if key not in ("model", "dataset")} | simulated
    with recbole_ready():
        from recbole_metarec import quick_start

        result = quick_start.run_experiment(
            model=model, dataset=dataset, config_files=settings.files, overrides=overrides, resume=resume
        )
    print(result.table())
    return 0
