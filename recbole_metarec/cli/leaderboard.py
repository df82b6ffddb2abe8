"""``recbole-metarec leaderboard``: models side by side on one target, over several seeds."""

import argparse
from tempfile import TemporaryFile

from recbole_metarec.cli.options import warn_of_sources
from recbole_metarec.cli.run_options import RunRequest, run_options
from recbole_metarec.errors import ConfigError

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


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from recbole_metarec.jobs.competitors import COMPETITORS, DEFAULT_MODELS

    option = run_options(parser, "model", "saved/leaderboard-NAME")
    option(
        "--models",
        metavar="A,B,C",
        help=f"some of {', '.join(COMPETITORS)}, or other sequential models of RecBole (default: "
        f"{','.join(DEFAULT_MODELS)})",
    )


def command(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Runs what is missing and reports. Returns 0, or 1 if a run has failed. Raises MetaRecError before any run."""
    from recbole_metarec.jobs.competitors import SET_BY_NAME

    request = RunRequest.of(parser, arguments, ["models"], SET_BY_NAME, "the models differ by")
    models = _models(request)
    return _compare(request, models)


def _models(request: RunRequest) -> list:
    """The models to compare, each with what it needs. Raises MetaRecError."""
    from recbole_metarec.data.domains import find_domain
    from recbole_metarec.jobs.competitors import competitors, default_models

    dataset, given = request.dataset, request.given
    if "models" in request.own:
        models = competitors([name.strip() for name in request.own["models"].split(",")])
    else:
        texts = find_domain(dataset, request.data_path) / dataset / f"{dataset}.item"
        models = default_models(has_text=texts.is_file())
    for key in {model.width for model in models} & set(given) - {"embedding_size"}:
        place = request.places[key]
        raise ConfigError(f"{place}: d is the same for every model; use embedding_size, which sets it for all")
    if any(model.uses_sources for model in models):
        request.sources()
    return models


def _compare(request: RunRequest, models: list) -> int:
    from recbole_metarec.compare.leaderboard import compare
    from recbole_metarec.compare.target import check_sources, describe
    from recbole_metarec.jobs.competitors import COMPETITORS, WITHOUT_TRANSFER
    from recbole_metarec.jobs.plan import make_plan, read_by, with_guards
    from recbole_metarec.jobs.pool import Runner
    from recbole_metarec.jobs.store import RunStore
    from recbole_metarec.reports.leaderboard import terminal_table, write_reports

    dataset, given, output = request.dataset, request.given, request.output(f"leaderboard-{request.dataset}")
    plan = make_plan(models, dataset, request.seeds, given, request.tuned(models))
    protocol, segments, users = describe(dataset, read_by(COMPETITORS[WITHOUT_TRANSFER], given))
    check_sources(plan)
    if any(model.uses_sources for model in models):
        warn_of_sources(request.dataset, request.given)
    output.mkdir(parents=True, exist_ok=True)
    TemporaryFile(dir=output).close()  # shows now, not after hours, whether the reports can be written
    with RunStore(request.store) as store:
        Runner(store, request.jobs, _say).run(plan)
        results, failures = with_guards(models, plan, store.results(plan)), store.failures(plan)
    baselines = tuple(model.name for model in models if model.is_baseline)
    comparison = compare(results, protocol, baselines, failures, segments, users)
    reports = write_reports(comparison, output)  # before anything is printed: who reads that may be gone
    print(f"\n{terminal_table(comparison)}\n")
    print("reports:", ", ".join(map(str, reports)))
    return 1 if failures else 0


def _say(line: str) -> None:
    print(line, flush=True)
