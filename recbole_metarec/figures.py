"""How every figure is drawn: by matplotlib, as PNG beside a run or a report and as SVG inside a page.

Without pyplot, whose backend and open figures belong to the program that runs this, such as a notebook.
"""

import io
import re

import matplotlib
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, GREY = "#2a78c6", "#6b7179"  # marks; both stand out from a light and from a dark page


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, sizes in inches, with a layout that avoids overlaps."""
    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Figure) -> bytes:
    """The figure as the content of a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, dpi=110, format="png")
    return content.getvalue()


def svg(figure: Figure) -> str:
    """The figure as SVG without a background; its text stays text. Equal figures give equal SVG."""
    content = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "figure", "font.sans-serif": ["DejaVu Sans"]}):
        figure.savefig(content, format="svg", transparent=True, metadata=nothing)
    # a tenth of a point is finer than any screen, and makes a third of the size
    return re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\.\d)\d{2,}", r"\1", tag[0]), content.getvalue())


def label(name: str) -> str:
    """A name from the data as it is: matplotlib would read text between dollar signs as a formula."""
    return name.replace("$", r"\$")


def colour(number: int, count: int) -> tuple[float, float, float]:
    """Of line ``number`` of ``count``; never grey, which is the reference's."""
    palette = colormaps["tab10" if count < 10 else "tab20"].colors
    palette = [shade for shade in palette if max(shade) - min(shade) > 0.1]
    return palette[number % len(palette)]


def name_axes(axis: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Names what is shown, and draws a faint grid behind it."""
    axis.set_title(title, fontsize=10)
    axis.set(xlabel=x, ylabel=y)
    axis.grid(alpha=0.25)
    axis.set_axisbelow(True)
