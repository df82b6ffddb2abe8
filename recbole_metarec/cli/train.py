"""``recbole-metarec train``: one model on a target domain with its sources."""

import click

from recbole_metarec import processes
from recbole_metarec.cli.options import ConfigCommand, domain_options, key, option, stand_ins
from recbole_metarec.config.models import model_spec
from recbole_metarec.config.run_config import UserKeys
from recbole_metarec.lazy import LazyModule

domains = LazyModule("recbole_metarec.data.domains")
settings = LazyModule("recbole_metarec.runs.settings")
quick_start = LazyModule("recbole_metarec.quick_start")

EXAMPLES = """\
examples:
  recbole-metarec train
        MetaRec on the embedded MovieLens domains, next to the same backbone without transfer
  recbole-metarec train --dataset Scientific --data_path data --sources Office,Tools,Toys --learning_rate 0.0005
        a domain whose files are data/Scientific/Scientific.inter, with three sources and a config key
  recbole-metarec train --dataset Scientific --simulate
        without any data: simulated domains of the same sizes, sim-Scientific and its sources
  recbole-metarec train --dataset Scientific --data_path data --resume
        after a crash: the same command and --resume; or --resume RUN alone, with the folder of the run
  torchrun --nproc_per_node=2 -m recbole_metarec train --dataset Scientific --data_path data
        two processes that train one model together, or one for each GPU

Any config key may be given as --key=value or --key value; values are read as YAML. What is typed here wins over
--config_files, later files win over earlier ones, and files win over the defaults.
"""


@click.command(cls=ConfigCommand, epilog=EXAMPLES)
@key(
    "--model",
    metavar="MODEL",
    help="MetaRec (default), LRURec, UniSRec, a baseline such as STAN, a model of RecBole, or my_model.py:MyModel",
)
@domain_options
@key("--seed", metavar="N", help="random seed")
@key(
    "--exact_time",
    metavar="[BOOL]",
    is_flag=False,
    flag_value="True",
    help="order events by their full timestamps instead of RecBole's float32 ones",
)
@option(
    "--resume",
    metavar="[RUN]",
    is_flag=False,
    flag_value="",
    help="resume the run in this folder, bit for bit; without RUN: resume the newest unfinished run of this very "
    "command, or start it if there is none",
)
@click.option("--quiet", is_flag=True, help="show only warnings and the table (--long_log True: RecBole's whole log)")
def command(user: UserKeys, simulate, resume, quiet):
    """Trains, evaluates and prints the table. Raises MetaRecError before any training."""
    if quiet:
        user = UserKeys.of({"state": "WARNING", "show_progress": False}, "--quiet") | user
    resume = True if resume == "" else resume
    run_config = settings.make_run_config(None, None, user, resume)
    if simulate:
        simulated = stand_ins(run_config.dataset, run_config.user.values, run_config.user.origins)
        user |= UserKeys.of(simulated, "--simulate")
        run_config = settings.make_run_config(None, None, user, resume)
    # before the heavy imports: a mistyped name is answered at once
    domains.find_domain(run_config.dataset, run_config["data_path"])
    if model_spec(run_config.model).takes_sources and run_config.values.get("meta_transfer") != "none":
        domains.resolve_sources(run_config.dataset, run_config["sources"], run_config["data_path"])
    result = quick_start.run_from_config(run_config, resume)
    if processes.is_first():
        print(result.table())
