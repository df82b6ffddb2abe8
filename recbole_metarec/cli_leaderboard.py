"""``recbole-metarec leaderboard``: models side by side on one target, over several seeds."""

import argparse
from pathlib import Path
from tempfile import TemporaryFile

from recbole_metarec.arguments import SIMULATE, Once, Settings, count, split_arguments, stand_ins
from recbole_metarec.config import check_config, default_values
from recbole_metarec.errors import ConfigError
from recbole_metarec.keys import said_at
from recbole_metarec.launch import recbole_ready
from recbole_metarec.resources import DEFAULT_DATA_PATH
from recbole_metarec.words import show

SUMMARY = "compare models on one target over several seeds, and say which differences are real"
EXAMPLE = """\
examples:
  recbole-metarec leaderboard
        six models on the embedded MovieLens domains, two seeds each: about a quarter of an hour on two cores
  recbole-metarec leaderboard --dataset Scientific --data_path data --models SASRec,LRURec,UniSRec,MetaRec --seeds 5

What is in the store already is not run again, unless the code, the data or a config key has changed. An interrupted
command loses only the runs in progress: type it again. A run that failed is tried again. Several commands may share
one store at the same time.

Any config key may be given as --key=value; it holds for every model that reads it.
"""
_OWN = ("models", "seeds", "jobs", "store", "output", "tuned", "simulate")
_DEFAULT_SEEDS = 2
_DEFAULT_JOBS = 2  # small models gain more from a neighbour than from a second thread


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from recbole_metarec.leaderboard.models import COMPETITORS, DEFAULT_MODELS

    def option(*names, **kwargs):
        parser.add_argument(*names, action=Once, **kwargs)

    option("--dataset", metavar="NAME", help="target domain (default: the embedded MovieLens target)")
    option(
        "--models",
        metavar="A,B,C",
        help=f"some of {', '.join(COMPETITORS)}, or other sequential models of RecBole (default: "
        f"{','.join(DEFAULT_MODELS)})",
    )
    option(
        "--seeds",
        metavar="N",
        help=f"runs of each model, with seeds counted up from --seed (default: {_DEFAULT_SEEDS})",
    )
    option("--seed", metavar="N", help="the first seed (default: 2020)")
    option(
        "--jobs",
        metavar="N",
        help=f"runs at once, which share the processors (default: {_DEFAULT_JOBS}, or 1 where there is one processor)",
    )
    option("--sources", metavar="A,B,C", help="source domains of the models that use some (default: auto)")
    option("--data_path", "--data-path", metavar="DIR", help="folder that holds NAME/NAME.inter for every domain")
    option("--config_files", "--config-files", metavar="FILE", nargs="+", help="YAML files with config keys")
    option("--store", metavar="FILE", help="SQLite file of results (default: saved/leaderboard.sqlite)")
    option(
        "--tuned",
        metavar="URL",
        nargs="?",
        const="",
        help="compare each model's best configuration from recbole-metarec tune, kept in this storage "
        "(default: sqlite:///saved/tuning.sqlite)",
    )
    option("--simulate", **SIMULATE)
    option("--output", metavar="DIR", help="folder of the reports (default: saved/leaderboard-NAME)")


def command(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Runs what is missing and reports. Returns 0, or 1 if a run has failed. Raises MetaRecError before any run."""
    from recbole_metarec.leaderboard.models import SET_BY_NAME, competitors, default_models
    from recbole_metarec.leaderboard.process import processors

    given = split_arguments(parser, arguments)
    own = {name: given.pop(name) for name in _OWN if name in given}
    check_storage(own)
    settings = Settings.of(given)
    chosen, places = dict(settings.chosen), settings.places
    models = competitors([name.strip() for name in own["models"].split(",")]) if "models" in own else None
    jobs = count(own["jobs"], "--jobs") if "jobs" in own else min(_DEFAULT_JOBS, processors())
    seed_count = count(own.get("seeds", str(_DEFAULT_SEEDS)), "--seeds")
    from recbole_metarec.data.domains import EMBEDDED_TARGET, find_domain, resolve_sources

    dataset = chosen.pop("dataset", EMBEDDED_TARGET)
    for key in sorted(SET_BY_NAME & set(chosen)):
        problem = said_at(places[key], f"{key} is what the models differ by")
        raise ConfigError(f"{problem}; leave it out and choose with --models")
    first = chosen.pop("seed", 2020)
    for seed in (first, first + seed_count - 1) if isinstance(first, int) else (first,):
        check_config({**default_values("MetaRec"), **chosen, "dataset": dataset, "seed": seed}, places)
    seeds = range(first, first + seed_count)
    check_metric(chosen, places)
    chosen |= stand_ins(dataset, chosen, places) if "simulate" in own else {}
    dataset = chosen.pop("dataset", dataset)
    data_path = chosen.get("data_path") or DEFAULT_DATA_PATH
    place = find_domain(dataset, data_path)
    models = models or default_models(has_text=(place / dataset / f"{dataset}.item").is_file())
    for key in {model.width for model in models} & set(chosen) - {"embedding_size"}:
        raise ConfigError(f"{places[key]}: d is the same for every model; use embedding_size, which sets it for all")
    if any(model.uses_sources for model in models):
        resolve_sources(dataset, chosen.get("sources", "auto"), data_path)
    base = Path(chosen.get("checkpoint_dir") or "saved")
    store_file = Path(own.get("store") or base / "leaderboard.sqlite")
    output = Path(own.get("output") or base / f"leaderboard-{dataset}")
    storage = (own["tuned"] or f"sqlite:///{base}/tuning.sqlite") if "tuned" in own else None

    with recbole_ready():
        return _compare(models, dataset, seeds, chosen, jobs, store_file, output, storage)


def _compare(models, dataset, seeds: range, given: dict, jobs: int, store_file: Path, output: Path, storage) -> int:
    from recbole_metarec.leaderboard.comparison import compare
    from recbole_metarec.leaderboard.models import COMPETITORS, WITHOUT_TRANSFER
    from recbole_metarec.leaderboard.plan import make_plan, read_by, with_guards
    from recbole_metarec.leaderboard.report import terminal_table, write_reports
    from recbole_metarec.leaderboard.runner import Runner
    from recbole_metarec.leaderboard.store import RunStore
    from recbole_metarec.leaderboard.target import check_sources, describe

    tuned = tuned_in(storage, make_plan(models, dataset, seeds[:1], given)) if storage else None
    plan = make_plan(models, dataset, seeds, given, tuned)
    protocol, segments, users = describe(dataset, read_by(COMPETITORS[WITHOUT_TRANSFER], given))
    check_sources(plan)
    output.mkdir(parents=True, exist_ok=True)
    TemporaryFile(dir=output).close()  # shows now, not after hours, whether the reports can be written
    with RunStore(store_file) as store:
        Runner(store, jobs, _say).run(plan)
        results, failures = with_guards(models, plan, store.results(plan)), store.failures(plan)
    baselines = tuple(model.name for model in models if model.is_baseline)
    comparison = compare(results, protocol, baselines, failures, segments, users)
    reports = write_reports(comparison, output)  # before anything is printed: who reads that may be gone
    print(f"\n{terminal_table(comparison)}\n")
    print("reports:", ", ".join(map(str, reports)))
    return 1 if failures else 0


def check_storage(own: dict) -> None:
    """Raises ConfigError if what stands behind ``--tuned`` was meant for something else."""
    if (url := own.get("tuned")) and "://" not in url:
        raise ConfigError(
            f"--tuned: {url} is not the URL of a storage; put --tuned last, or write --tuned=URL, such as "
            "--tuned=sqlite:///saved/tuning.sqlite"
        )


def tuned_in(storage: str, defaults: list) -> dict:
    """The best configurations in a storage; says which configuration of each model is compared."""
    from recbole_metarec.tuning.best import best_found
    from recbole_metarec.tuning.storage import storage_at

    with storage_at(storage, must_exist=True) as opened:
        tuned, notes = best_found(opened, defaults)
    print(*notes, sep="\n", flush=True)
    return tuned


def check_metric(chosen: dict, places: dict) -> None:
    """Raises ConfigError unless the runs measure what the comparison is by."""
    topk, metrics = chosen.get("topk", 10), chosen.get("metrics", "NDCG")
    topk, metrics = (value if isinstance(value, list) else [value] for value in (topk, metrics))
    for key, missing in (("topk", 10 not in topk), ("metrics", "NDCG" not in [str(name).upper() for name in metrics])):
        if missing:
            problem = said_at(places[key], f"{key} is {show(chosen[key])}")
            raise ConfigError(f"{problem}; models are compared by NDCG@10, so keep it in")


def _say(line: str) -> None:
    print(line, flush=True)
