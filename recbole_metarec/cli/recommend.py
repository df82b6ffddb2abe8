"""``recbole-metarec recommend``: the next items for a user of the data, or after a given history."""

import sys
from pathlib import Path

import click

from recbole_metarec.cli.options import COUNT, NAMES, Command, option
from recbole_metarec.errors import CheckpointError, ConfigError
from recbole_metarec.files import model_file
from recbole_metarec.lazy import LazyModule

serve = LazyModule("recbole_metarec.serve")

EXAMPLES = """\
examples:
  recbole-metarec recommend --user alice
        the newest run in saved/, and the whole history of one of its users
  recbole-metarec recommend saved/MetaRec-MyShop-2020-... --history hammer,saw,drill --k 5 --exclude_seen
        a run folder (or its model.pth), and a history, oldest item first

One line per item: its rank, its name and its score, with tabs between them; which run was used is printed on stderr.
Items of the history may be recommended again, as in evaluation, unless --exclude_seen is given.
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("run", metavar="[RUN]", required=False)
@option("--user", metavar="U", help="a user of the dataset that the model was trained on")
@option("--history", metavar="A,B,C", type=NAMES, help="items in place of a user, oldest first")
@option("--data_path", metavar="DIR", help="where the domain is now (default: where it was)")
@option("--k", metavar="K", type=COUNT, default=10, help="how many items (default: 10)")
@click.option("--exclude_seen", is_flag=True, help="leave the history's own items out")
def command(run, user, history, data_path, k, exclude_seen):
    """Prints the recommendations. Raises MetaRecError for a run, user or item that is not known."""
    if (user is None) == (history is None):
        raise ConfigError("recommend: say for whom by --user U or by --history A,B,C, one of the two")
    file = _model_file(run)
    if data_path and not Path(data_path).expanduser().is_dir():
        raise ConfigError(f"--data_path {data_path} is not a folder; give the folder that holds NAME/NAME.inter")
    recommender = serve.Recommender.load(file, data_path)
    if run is None:
        print(f"by {file.parent}", file=sys.stderr)
    history = recommender.history_of(user) if history is None else [name for name in history if name]
    ranked = recommender.recommend(history, k, exclude_seen)
    print("\n".join(f"{rank}\t{item}\t{score:.4f}" for rank, (item, score) in enumerate(ranked, 1)))


def _model_file(run: str | None) -> Path:
    if run is None:
        # a run without metrics.json is not complete
        done = sorted(Path("saved").glob("*/metrics.json"), key=lambda file: file.stat().st_mtime)
        done = [file.with_name("model.pth") for file in done if file.with_name("model.pth").is_file()]
        if not done:
            raise CheckpointError("saved: there is no finished run; train one, or give its folder")
        return done[-1]
    return model_file(run)
