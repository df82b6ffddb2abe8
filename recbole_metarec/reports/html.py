"""A comparison as one page that needs nothing but itself: no script, style, font or picture from elsewhere.

Text in the page is escaped by Jinja2; a content security policy lets the browser run the page's own
script and style (by their hashes) and load nothing, whatever a name in the data tries.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from recbole_metarec.compare.leaderboard import Comparison
from recbole_metarec.figures import svg
from recbole_metarec.reports import figures
from recbole_metarec.tables import Table, duration, score

_FOLDER = Path(__file__).resolve().parent / "page"


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it: a data URI for a wide screen and one for a phone."""

    wide: str
    narrow: str


def page(
    comparisons: Sequence[Comparison], sentences: list[str], models: Sequence[Table], segments: Sequence[Table]
) -> str:
    """The page's whole text. sentences: the result in words. models, segments: a table of each comparison.

    What does not depend on the protocol is that of the first comparison.
    """
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    return environment.get_template("page.html").render(
        comparisons=comparisons,
        comparison=comparisons[0],
        protocol=comparisons[0].protocol,
        sentences=sentences,
        models=[table.shown() for table in models],
        segments=[table.shown() for table in segments],
        pictures=[_pictures(comparison) for comparison in comparisons],
        score=score,
        duration=duration,
        metric=comparisons[0].protocol.measure.key,
        script=Markup(script),
        style=Markup(style),
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _pictures(comparison: Comparison) -> dict[str, Picture]:
    """By name, those that there is something to draw for."""
    if not comparison.entries:
        return {}
    wanted = {"levels": figures.levels, "time": figures.accuracy_against_time}
    wanted |= {"segments": figures.segments} if comparison.segments else {}
    wanted |= {"curves": figures.learning_curves} if figures.measured_curves(comparison) else {}
    return {name: _picture(draw, comparison) for name, draw in wanted.items()}


def _picture(draw: Callable[[Comparison, bool], Figure], comparison: Comparison) -> Picture:
    with figures.page_style():
        return Picture(*(_uri(svg(draw(comparison, narrow))) for narrow in (False, True)))


def _uri(drawing: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(drawing.encode()).decode()
