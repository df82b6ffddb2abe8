"""``recbole-metarec tune``: the best configuration of one model on one target, chosen on validation."""

import argparse
import shlex
from dataclasses import dataclass
from pathlib import Path

from recbole_metarec.cli.options import (
    Settings,
    count,
    domain_options,
    options_of,
    split_arguments,
    stand_ins,
    warn_of_sources,
)
from recbole_metarec.config.origins import located
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.config.run_config import RunConfig, UserKeys
from recbole_metarec.errors import ConfigError
from recbole_metarec.plugin.gpu import check_gpu

SUMMARY = "search a model's best configuration on validation, a given number of trials"
EXAMPLE = """\
examples:
  recbole-metarec tune --model SASRec --trials 20
        on the embedded MovieLens target
  recbole-metarec tune --model MetaRec --dataset Scientific --data_path data --trials 50
  recbole-metarec leaderboard --dataset Scientific --data_path data --models SASRec,MetaRec --tuned
        compares what was found
  recbole-metarec tune --model SASRec --best best.yaml
        puts it in a file, which --tuned=best.yaml reads, whatever the code's version
  recbole-metarec tune --model MetaRec --dataset Scientific --data_path data --target_users 0.1 --best best.yaml
        on a shop with a tenth of the users, for a sweep target_users=0.1 --tuned=best.yaml

The first trial is the default configuration; Optuna's TPE proposes the others. Only validation is looked at. The same
command continues until N trials are done; an interrupted trial is tried again.
Commands on several machines may share one storage. Other code, data, config keys or space make another study.

Any config key may be given as --key=value; it keeps that value in all trials.

A space is a YAML file, one line per config key:
  learning_rate: {low: 0.0001, high: 0.01, log: True}
  n_layers: {low: 1, high: 3}
  weight_decay: {choices: [0.0, 0.001, 0.01]}
"""
_OWN = ("model", "trials", "space", "storage", "best", "target_users", "simulate")
_DEFAULT_TRIALS = 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""

    option = options_of(parser)
    option("--model", metavar="M", help="what to tune: a name from the leaderboard's --models (default: MetaRec)")
    option(
        "--trials", metavar="N", help=f"configurations in all, the default one included (default: {_DEFAULT_TRIALS})"
    )
    option("--space", metavar="FILE", help="search space (default: the one that ships for the model)")
    option("--storage", metavar="URL", help="where trials are kept (default: sqlite:///saved/tuning.sqlite)")
    option("--best", metavar="FILE", help="YAML file in which the best configuration is put, for --tuned=FILE")
    domain_options(option)
    option(
        "--target_users",
        metavar="SHARE",
        help="on a shop with this share of the target's users, that of --seed (default: 1, the whole target)",
    )
    option("--seed", metavar="N", help="random seed of the trials and of the search")


def command(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Tunes and tells the best. Returns 0, or 1 if no trial has ended well. Raises MetaRecError before any trial."""
    from recbole_metarec.jobs.competitors import SET_BY_NAME, competitors

    given = split_arguments(parser, arguments)
    own = {name: given.pop(name) for name in _OWN if name in given}
    settings = Settings.of(given)
    chosen, places = dict(settings.chosen), settings.places
    (model,) = competitors([own.get("model", "MetaRec")], "--model")
    trials = count(own.get("trials", str(_DEFAULT_TRIALS)), "--trials")
    from recbole_metarec.data.domains import EMBEDDED_TARGET, find_domain, resolve_sources

    dataset = chosen.pop("dataset", EMBEDDED_TARGET)
    for key in sorted(SET_BY_NAME & set(chosen)):
        problem = located(places[key], f"{key} is decided by the model's name")
        raise ConfigError(f"{problem}; leave it out and choose with --model")
    check_gpu(RunConfig.build("MetaRec", dataset, UserKeys(chosen, places)))
    chosen |= stand_ins(dataset, chosen, places) if "simulate" in own else {}
    dataset = chosen.pop("dataset", dataset)
    find_domain(dataset, data_path := chosen.get("data_path") or DEFAULT_DATA_PATH)
    if model.uses_sources:
        resolve_sources(dataset, chosen.get("sources", "auto"), data_path)
    from recbole_metarec.compare.settings import read_share
    from recbole_metarec.tuning.space import space_file

    share = read_share(own.get("target_users", "1"), "", dataset, chosen)
    if share != 1 and "best" not in own:
        raise ConfigError(
            "--target_users: a comparison on shops reads what was found on one of them from a file; add --best FILE"
        )
    space = Path(own["space"]) if "space" in own else space_file(model)
    base = Path(chosen.get("checkpoint_dir") or "saved")
    storage = own.get("storage") or f"sqlite:///{base}/tuning.sqlite"
    places = _Places(space, storage, base / "tuning", Path(own["best"]) if "best" in own else None)

    return _tune(model, dataset, chosen, share, places, trials)


@dataclass(frozen=True)
class _Places:
    """storage: a URL. folder: of the trials' runs. best: the file in which the best configuration is put, if any."""

    space: Path
    storage: str
    folder: Path
    best: Path | None


def _tune(model, dataset: str, given: dict, share: float, places: _Places, trials: int) -> int:
    from recbole_metarec.compare.settings import shops_of
    from recbole_metarec.compare.target import check_sources, read_target
    from recbole_metarec.jobs.competitors import COMPETITORS, WITHOUT_TRANSFER
    from recbole_metarec.jobs.plan import Tuned, make_plan, read_by
    from recbole_metarec.tuning.best_file import check_writable, put_best
    from recbole_metarec.tuning.space import read_space
    from recbole_metarec.tuning.storage import storage_at, storage_name
    from recbole_metarec.tuning.study import TuningStudy
    from recbole_metarec.tuning.tuner import Tuner

    seed = given.get("seed", 2020)
    given = {key: value for key, value in given.items() if key != "seed"}
    compare = _comparison_of(dataset, given, share, model.name)
    dataset, of_shop = shops_of(share, dataset, given, [seed]).by_seed[seed]
    if not model.uses_sources and "sources" not in given:  # a shop comes with those of its domain
        of_shop = {key: value for key, value in of_shop.items() if key != "sources"}
    given = of_shop

    def plan(overrides, tried: int = 0):
        return make_plan([model], dataset, [seed], given, {model.name: Tuned(dict(overrides), tried)})[0]

    default = plan({})
    space = read_space(places.space, model, default.config, given)
    read_target(dataset, read_by(COMPETITORS[WITHOUT_TRANSFER], given))
    check_sources([default])
    if model.uses_sources:
        warn_of_sources(dataset, given)
    if places.best:
        check_writable(places.best)
    name = storage_name(places.storage)
    with storage_at(places.storage) as storage:
        study = TuningStudy(storage, default, space)
        print(f"{study.name} in {name}: {', '.join(space)}", flush=True)
        Tuner(study, plan, places.folder / study.name, _say).run(trials)
        print(_report(study, plan))
        if study.best() is None:
            return 1
        if places.best:
            put_best(places.best, study)
    print(f"compare it: {shlex.join([*compare, f'--tuned={places.best or name}'])}")
    return 0


def _report(study, plan) -> str:
    """The best configuration, as text."""
    best, default, failed, running = study.best(), study.default(), study.failed(), study.running()
    tried = study.count()
    lines = [f"{running} trials are still running in other commands"] if running else []
    if best is None:
        last = f"; the last error: {failed[-1]}" if failed else ""
        return "\n".join([*lines, f"none of {tried} trials has ended well{last}"])
    metric = study.base.config["valid_metric"].lower()
    against = f", the default configuration {default.value:.4f}" if default else ""
    lines += [
        f"\n{study.base.model} on {study.base.dataset}: the best of {tried} trials ({len(failed)} failed) is trial "
        f"{best.number}, {metric} {best.value:.4f} on validation{against}",
        *(f"  {key}: {value}" for key, value in best.overrides.items()),
        f"train it:   {plan(best.overrides).command}",
    ]
    return "\n".join(lines)


def _comparison_of(dataset: str, given: dict, share: float, model: str) -> list[str]:
    """The command that holds the model against others on what it was tuned for, ``--tuned`` aside."""
    from recbole_metarec.config.yaml_files import as_text

    sources = given.get("sources", "auto")
    words = ["recbole-metarec", *(["leaderboard"] if share == 1 else ["sweep", f"target_users={as_text(share)}"])]
    words += ["--dataset", dataset]
    words += ["--sources", sources if isinstance(sources, str) else ",".join(sources)] if "sources" in given else []
    words += [f"--{key}={as_text(value)}" for key, value in given.items() if key != "sources"]
    return [*words, "--models", model]


def _say(line: str) -> None:
    print(line, flush=True)
