"""``recbole-metarec tune``: the best configuration of one model on one target, chosen on validation."""

import shlex
from pathlib import Path

import click

from recbole_metarec.cli.options import (
    COUNT,
    ConfigCommand,
    Target,
    domain_options,
    key,
    option,
    say,
    warn_of_sources,
)
from recbole_metarec.config.models import DEFAULT_MODEL, WITHOUT_TRANSFER
from recbole_metarec.config.run_config import UserKeys
from recbole_metarec.config.schema import keys_in
from recbole_metarec.config.yaml_files import as_text
from recbole_metarec.errors import ConfigError
from recbole_metarec.jobs.competitors import COMPETITORS, competitors
from recbole_metarec.lazy import LazyModule

plan = LazyModule("recbole_metarec.jobs.plan")
compare_settings = LazyModule("recbole_metarec.compare.settings")
compare_target = LazyModule("recbole_metarec.compare.target")
best_file = LazyModule("recbole_metarec.tuning.best_file")
space_of = LazyModule("recbole_metarec.tuning.space")
storages = LazyModule("recbole_metarec.tuning.storage")
study_of = LazyModule("recbole_metarec.tuning.study")
tuner = LazyModule("recbole_metarec.tuning.tuner")

TRIALS, FITTED_TRIALS = 20, 60
EXAMPLES = """\
examples:
  recbole-metarec tune --model SASRec --trials 20
        on the embedded MovieLens target
  recbole-metarec tune --model MetaRec --dataset Scientific --data_path data --trials 50
  recbole-metarec leaderboard --dataset Scientific --data_path data --models SASRec,MetaRec --tuned
        compares the best configurations
  recbole-metarec tune --model SASRec --best best.yaml
        also writes the best configuration to a file, which --tuned=best.yaml reads, whatever the code's version
  recbole-metarec tune --model MetaRec --dataset Scientific --data_path data --target_users 0.1 --best best.yaml
        on a subsample with a tenth of the users, for a sweep target_users=0.1 --tuned=best.yaml

The first trial is the default configuration; Optuna's TPE proposes the others. Only validation is used. Rerun the
command to continue until N trials are done; an interrupted one loses the trial in progress, which is tried again.
Commands on several machines may share one storage. Other code, data, config keys or space make another study.

Any config key may be given as --key=value or --key value; it keeps that value in all trials.

A space is a YAML file, one line per config key:
  learning_rate: {low: 0.0001, high: 0.01, log: True}
  n_layers: {low: 1, high: 3}
  weight_decay: {choices: [0.0, 0.001, 0.01]}
"""


@click.command(cls=ConfigCommand, epilog=EXAMPLES)
@option(
    "--model",
    "name",
    metavar="M",
    default=DEFAULT_MODEL,
    help="what to tune: a name from the leaderboard's --models (default: MetaRec)",
)
@option(
    "--trials",
    metavar="N",
    type=COUNT,
    help=f"configurations in all, the default one included (default: {TRIALS}, or {FITTED_TRIALS} for a model that is "
    "fitted in seconds)",
)
@option("--space", metavar="FILE", help="search space (default: the one that ships for the model)")
@option("--storage", metavar="URL", help="where trials are stored (default: sqlite:///saved/tuning.sqlite)")
@option("--best", metavar="FILE", help="YAML file to write the best configuration to, for --tuned=FILE")
@domain_options
@option(
    "--target_users",
    metavar="SHARE",
    default="1",
    help="tune on a subsample with this share of the target's users, that of --seed (default: 1, the whole target)",
)
@key("--seed", metavar="N", help="random seed of the trials and of the search")
def command(user: UserKeys, simulate, name, trials, space, storage, best, target_users):
    """Tunes and prints the best. Returns 1 if no trial has succeeded. Raises MetaRecError before any trial."""
    (model,) = competitors([name], "--model")
    reason = "is decided by the model's name; leave it out and choose with --model"
    target = Target.of(user, simulate, keys_in("by_name"), reason)
    if model.spec.takes_sources:
        target.sources()
    share = compare_settings.read_share(target_users, "", target.dataset, target.keys)
    if share != 1 and not best:
        raise ConfigError(
            "--target_users: comparisons on subsamples read tuned configurations from a file only; add --best FILE"
        )
    space = Path(space) if space else space_of.space_file(model)
    trials = trials or (FITTED_TRIALS if model.spec.is_fitted else TRIALS)
    search = _Search(model, target, share, space)
    return search.run(trials, storage or f"sqlite:///{target.folder}/tuning.sqlite", Path(best) if best else None)


class _Search:
    """A search for one model on a target, or on the subsample of it that belongs to the seed.

    Raises MetaRecError for a space, a domain or a source that cannot be used.
    """

    def __init__(self, model, target: Target, share: float, space: Path):
        self.model, self.target, self.share = model, target, share
        subsamples = compare_settings.target_subsets(share, target.dataset, target.keys, [target.seed])
        self.dataset, self.keys = subsamples.by_seed[target.seed]
        if not model.spec.takes_sources and "sources" not in target.keys:  # a subsample comes with those of its domain
            self.keys = {key: value for key, value in self.keys.items() if key != "sources"}
        default = self.plan({})
        self.space = space_of.read_space(space, model, default.config, self.keys)
        compare_target.read_target(self.dataset, plan.read_by(COMPETITORS[WITHOUT_TRANSFER], self.keys))
        compare_target.check_sources([default])
        if model.spec.takes_sources:
            warn_of_sources(self.dataset, self.keys)

    def plan(self, overrides, tried: int = 0):
        """The run of one trial."""
        tuned = {self.model.name: plan.Tuned(dict(overrides), tried)}
        return plan.make_plan([self.model], self.dataset, [self.target.seed], self.keys, tuned, self.target.origins)[0]

    def run(self, trials: int, url: str, best: Path | None) -> int:
        """Runs trials until ``trials`` are done, prints the best and writes it to a file. Returns the exit code."""
        if best:
            best_file.check_writable(best)
        shown = storages.storage_name(url)
        with storages.storage_at(url) as storage:
            study = study_of.TuningStudy(storage, self.plan({}), self.space)
            say(f"{study.name} in {shown}: {', '.join(self.space)}")
            worker = None if self.model.spec.is_fitted else tuner.WORKER
            tuner.Tuner(study, self.plan, self.target.folder / "tuning" / study.name, say, worker).run(trials)
            print(self._report(study))
            if study.best() is None:
                return 1
            if best:
                best_file.put_best(best, study)
        print(f"compare it: {shlex.join([*self._comparison(), f'--tuned={best or shown}'])}")
        return 0

    def _report(self, study) -> str:
        """The best configuration, as text."""
        best, default, failed, running = study.best(), study.default(), study.failed(), study.running()
        tried = study.count()
        lines = [f"{running} trials are still running in other processes"] if running else []
        if best is None:
            last = f"; the last error: {failed[-1]}" if failed else ""
            return "\n".join([*lines, f"none of {tried} trials has succeeded{last}"])
        metric = study.base.config["valid_metric"].lower()
        against = f", the default configuration {default.value:.4f}" if default else ""
        lines += [
            f"\n{study.base.model} on {study.base.dataset}: the best of {tried} trials ({len(failed)} failed) is trial "
            f"{best.number}, {metric} {best.value:.4f} on validation{against}",
            *(f"  {key}: {value}" for key, value in best.overrides.items()),
            f"train it:   {self.plan(best.overrides).command}",
        ]
        return "\n".join(lines)

    def _comparison(self) -> list[str]:
        """The command that compares the model with others on what it was tuned for, ``--tuned`` aside."""
        keys = {key: value for key, value in self.target.keys.items() if key != "sources"}
        sources = self.target.keys.get("sources")
        compare = ["leaderboard"] if self.share == 1 else ["sweep", f"target_users={as_text(self.share)}"]
        words = ["recbole-metarec", *compare, "--dataset", self.target.dataset]
        if sources is not None:
            words += ["--sources", sources if isinstance(sources, str) else ",".join(sources)]
        return [*words, *(f"--{key}={as_text(value)}" for key, value in keys.items()), "--models", self.model.typed]
