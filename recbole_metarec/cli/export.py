"""``recbole-metarec export``: a trained model for other programs."""

from pathlib import Path

import click

from recbole_metarec.cli.options import Command, option, say
from recbole_metarec.files import model_file
from recbole_metarec.lazy import LazyModule

serve = LazyModule("recbole_metarec.serve")
exporting = LazyModule("recbole_metarec.serving.export")

EXAMPLES = """\
examples:
  recbole-metarec export saved/MetaRec-MyShop-2020-...
        writes saved/MetaRec-MyShop-2020-.../onnx
  recbole-metarec export saved/MetaRec-MyShop-2020-... --output shop-model

The folder holds step.onnx (one more event of a user), history.onnx (a whole history), scores.onnx (of every item) and
items.json (the items' names in the order of their numbers, from 1). Item numbers are int64; a history is padded in
front with 0 to the length that items.json tells; a user without any event has a state and a history of zeros.
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("run", metavar="RUN")
@option("--format", metavar="onnx", type=click.Choice(["onnx"]), default="onnx", help="format (default: onnx)")
@option("--output", metavar="DIR", help="a new folder (default: RUN/onnx)")
def command(run, format, output):
    """Writes the folder. Raises MetaRecError for a run that holds no such model, and where it cannot be written."""
    file = model_file(run)
    recommender = serve.Recommender.load(file)
    folder = exporting.export_onnx(recommender, Path(output) if output else file.parent / format)
    say(f"{folder}: step, history and scores of {len(recommender.items)} items; their names are in items.json")
