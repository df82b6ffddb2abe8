"""``recbole-metarec recommend``: the next items for a user of the data, or after a history that is given."""

import argparse
import sys
from pathlib import Path

from recbole_metarec.cli.options import count, options_of, options_only
from recbole_metarec.errors import CheckpointError, ConfigError

SUMMARY = "recommend items to one user with a model that was trained"
EXAMPLE = """\
examples:
  recbole-metarec recommend --user alice
        the newest run in saved/, and the whole history of one of its users
  recbole-metarec recommend saved/MetaRec-MyShop-2020-... --history hammer,saw,drill --k 5 --exclude_seen
        a run folder (or its model.pth), and a history, oldest item first

One line per item: its place, its name and its score, with tabs between them; which run was taken is said on stderr.
Items of the history may come again, as in evaluation, unless --exclude_seen is given.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    option = options_of(parser)
    option("run", nargs="?", metavar="RUN", help="run folder or model.pth (default: the newest run in saved)")
    option("--user", metavar="U", help="a user of the dataset that the model was trained on")
    option("--history", metavar="A,B,C", help="items in place of a user, oldest first")
    option("--data_path", metavar="DIR", help="where the domain is now (default: where it was)")
    option("--k", metavar="K", help="how many items (default: 10)")
    option("--exclude_seen", nargs=0, const=True, help="leave the history's own items out")


def command(arguments: list[str], parser: argparse.ArgumentParser) -> int:
    """Prints the recommendations. Raises MetaRecError for a run, user or item that is not known."""
    given = options_only(parser, arguments)
    if ("user" in given) == ("history" in given):
        raise ConfigError("recommend: say for whom by --user U or by --history A,B,C, one of the two")
    k = count(given.get("k", "10"), "--k")
    file, data_path = _model_file(given.get("run")), given.get("data_path")
    if data_path and not Path(data_path).expanduser().is_dir():
        raise ConfigError(f"--data_path {data_path} is not a folder; give the folder that holds NAME/NAME.inter")
    from recbole_metarec.serve import Recommender

    recommender = Recommender.load(file, data_path)
    if "run" not in given:
        print(f"by {file.parent}", file=sys.stderr)
    if "user" in given:
        history = recommender.history_of(given["user"])
    else:
        history = [name.strip() for name in given["history"].split(",") if name.strip()]
    found = recommender.recommend(history, k, bool(given.get("exclude_seen")))
    print("\n".join(f"{place}\t{item}\t{score:.4f}" for place, (item, score) in enumerate(found, 1)))
    return 0


def _model_file(run: str | None) -> Path:
    if run is None:
        # a run without metrics.json is not complete
        done = sorted(Path("saved").glob("*/metrics.json"), key=lambda file: file.stat().st_mtime)
        done = [file.with_name("model.pth") for file in done if file.with_name("model.pth").is_file()]
        if not done:
            raise CheckpointError("saved: no finished run lies there; train one, or give its folder")
        return done[-1]
    path = Path(run)
    return path / "model.pth" if path.is_dir() else path
