"""``recbole-metarec recommend``: the next items for one user, after a given history, or for many users at once."""

import json
import sys
from pathlib import Path

import click

from recbole_metarec.cli.options import COUNT, Command, option
from recbole_metarec.config.model_names import model_name
from recbole_metarec.errors import CheckpointError, ConfigError
from recbole_metarec.files import model_file
from recbole_metarec.lazy import LazyModule

serve = LazyModule("recbole_metarec.serve")
bulk = LazyModule("recbole_metarec.serving.bulk")
resume = LazyModule("recbole_metarec.runs.resume")

EXAMPLES = """\
examples:
  recbole-metarec recommend --user alice
        the newest run in saved/, and the whole history of one of its users
  recbole-metarec recommend saved/MetaRec-MyShop-2020-... --history hammer,saw,drill --k 5
        a run folder (or its model.pth), and a history, oldest item first
  recbole-metarec recommend --dataset MyShop --users all --output recs.parquet
        the newest run on MyShop, and all of its users, or those of a file with one a line: .parquet, .csv or .jsonl

One line per item: its rank, its name and its score, with tabs between them; which run was used is printed on stderr.
Items that a user has seen are left out; --include_seen lets them be recommended again, as evaluation does.
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("run", metavar="[RUN]", required=False)
@option("--model", metavar="CLASS", help="your own class, for a run of it: my_model.py:MyModel")
@option("--user", metavar="U", help="a user of the dataset that the model was trained on")
@click.option(
    "--history",
    metavar="A,B,C",
    multiple=True,
    help="items in place of a user, oldest first; may be given item by item, so that names may hold commas",
)
@option("--users", metavar="all|FILE", help="many users: all of the dataset, or those of a text file, one a line")
@option("--output", metavar="FILE", help="with --users: a .parquet, .csv or .jsonl with user, rank, item, score")
@option("--dataset", metavar="NAME", help="without RUN: the newest run on this dataset")
@option("--data_path", metavar="DIR", help="where the domain is now (default: where it was)")
@option("--k", metavar="K", type=COUNT, default=10, help="how many items (default: 10)")
@click.option("--include_seen", is_flag=True, help="recommend items that the user has seen, too")
@option("--device", metavar="DEVICE", default="cpu", help="cpu (default), cuda or cuda:N")
def command(run, model, user, history, users, output, dataset, data_path, k, include_seen, device):
    """Prints or writes the recommendations. Raises MetaRecError for a run, user or item that is not known."""
    if (user is not None) + bool(history) + (users is not None) != 1:
        raise ConfigError("recommend: say for whom by --user U, --history A,B,C or --users all, one of the three")
    if (users is None) != (output is None):
        raise ConfigError("recommend: --users and --output belong together; give both, or neither")
    output = bulk.check_output(output) if output is not None else None
    model_name(model, "--model")
    file = _newest_model(dataset) if run is None else model_file(run)
    if data_path and not Path(data_path).expanduser().is_dir():
        raise ConfigError(f"--data_path {data_path} is not a folder; give the folder that holds NAME/NAME.inter")
    recommender = _loaded(file, data_path, device)
    trained_on = recommender.origin.dataset
    if dataset not in (None, trained_on):
        raise ConfigError(f"--dataset {dataset}: {run} was trained on {trained_on}; leave one of them out")
    seen = "items seen before may be among them" if include_seen else "items seen before are left out (--include_seen)"
    if users is not None:
        names = list(recommender.histories().rows)
        names = names if users == "all" else bulk.read_users(users, recommender.histories().rows)
        written = bulk.write_recommendations(recommender, names, output, k, include_seen, sys.stderr.isatty())
        print(f"by {file.parent}; {seen}", file=sys.stderr)
        print(f"{output}: {written.users} users, up to {k} items each{_without(written)}")
        return
    if user is not None:
        ranked = recommender.recommend_user(user, k, include_seen)
    else:
        ranked = recommender.recommend(items_of(history, recommender), k, include_seen)
    print(f"by {file.parent}; {seen}", file=sys.stderr)
    print("\n".join(f"{rank}\t{item}\t{score:.4f}" for rank, (item, score) in enumerate(ranked, 1)))


def _loaded(file: Path, data_path: str | None, device: str):
    try:
        return serve.Recommender.load(file, data_path, device)
    except CheckpointError as error:
        if reference := resume.unknown_class(file.parent):
            raise ConfigError(f"{file.parent}: its model is a class of your own; add --model {reference}") from error
        raise


def _without(written) -> str:
    return f"; {written.without} users have no item that the model knows, and are not in it" if written.without else ""


def items_of(texts, recommender) -> list[str]:
    """The item names in texts: a text that is a name is that item, any other is a list with commas."""
    parts = [[text] if recommender.knows(text) else [part.strip() for part in text.split(",")] for text in texts]
    return [name for names in parts for name in names if name]


def _newest_model(dataset: str | None) -> Path:
    """The model of the newest finished run in saved/. dataset: only of runs on this one."""
    # a run without metrics.json is not complete
    done = sorted(Path("saved").glob("*/metrics.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    done = {file.with_name("model.pth"): _dataset_of(file) for file in done if file.with_name("model.pth").is_file()}
    on = sorted(set(done.values()))
    if dataset is None and len(on) > 1:
        raise ConfigError(f"saved: it has runs on {', '.join(on)}; say which by --dataset, or give the run")
    fitting = [file for file, name in done.items() if dataset in (None, name)]
    if not fitting:
        which = f"finished run on {dataset}" if dataset else "finished run"
        if begun := resume.unfinished_run("saved", dataset):
            advice = f"recbole-metarec train --resume {begun} finishes the newest that was begun"
            raise CheckpointError(f"saved: there is no {which}; {advice}")
        compared = sorted(Path("saved").glob("*/*/*/model.pth"), key=lambda file: file.stat().st_mtime)
        example = f", such as {compared[-1].parent} of a comparison" if compared else ""
        raise CheckpointError(f"saved: there is no {which}; train one, or give its folder{example}")
    return fitting[0]


def _dataset_of(metrics: Path) -> str:
    try:
        return str(json.loads(metrics.read_text(encoding="utf-8"))["dataset"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{metrics}: not what a run writes there; give the run, or train again") from error
