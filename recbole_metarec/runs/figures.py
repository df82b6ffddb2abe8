"""The three figures of a run: training curve, source similarities and weights, use of the codebook."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recbole_metarec.figures import colour, label, name_axes, new_figure, png
from recbole_metarec.files import write_atomically


def draw_history(curves: dict[str, list[dict]], metric: str, path: Path) -> None:
    """Training loss and validation score per epoch; pre-training epochs are below zero.

    curves: name of a training -> its epochs. metric: that validation measures.
    """
    figure = new_figure(9, 3.4)
    left, right = figure.subplots(1, 2)
    for number, (name, history) in enumerate(curves.items()):
        style = {"label": label(name), "color": colour(number, len(curves))}
        _line(left, history, "train_loss", "training loss", y="mean of a step's loss", **style)
        _line(right, history, "valid_score", f"{metric} on validation", y=metric, **style)
    if len(curves) > 1:
        right.legend(frameon=False, fontsize=8)
    _write(figure, path)


def draw_similarity(source_history: list[dict], path: Path) -> None:
    """Per source over the epochs: similarity before and after the trial update, gain, and weight, where measured.

    Writes nothing if none of them was measured, as in joint training.
    """
    panels = {
        "similarity_theta": "similarity at theta",
        "similarity_phi": "similarity at phi",
        "gain": "gain on the target's loss",
        "weight": "weight",
    }
    _draw_sources(source_history, panels, path)


def draw_codebook(source_history: list[dict], path: Path) -> None:
    """Per source over the epochs: codes in use, perplexity, quantization error, collisions, where measured."""
    panels = {
        "codebook_usage": "codes in use (share)",
        "perplexity": "perplexity of the codes",
        "relative_error": "quantization error, relative to the items' size",
        "collisions": "items that share all codes (share)",
    }
    _draw_sources(source_history, panels, path)


def _draw_sources(rows: list[dict], panels: dict[str, str], path: Path) -> None:
    panels = {key: title for key, title in panels.items() if any(key in row for row in rows)}
    if not panels:
        return
    sources = list(dict.fromkeys(row["source"] for row in rows))
    n_rows = (len(panels) + 1) // 2
    figure = new_figure(10, 3.2 * n_rows)
    axes = [figure.add_subplot(n_rows, min(len(panels), 2), number) for number in range(1, len(panels) + 1)]
    for axis, (key, title) in zip(axes, panels.items(), strict=True):
        for number, source in enumerate(sources):
            style = {"label": label(source), "color": colour(number, len(sources))}
            _line(axis, [row for row in rows if row["source"] == source], key, title, y="mean of the epoch", **style)
        if key in ("similarity_theta", "similarity_phi", "gain"):
            axis.axhline(0.0, color="grey", linewidth=0.8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    _write(figure, path)


def _line(axis: Axes, rows: list[dict], key: str, title: str, y: str = "", **style) -> None:
    points = [(row["epoch"], row[key]) for row in rows if key in row]
    axis.plot([x for x, _ in points], [y for _, y in points], linewidth=1.4, **style)
    axis.xaxis.get_major_locator().set_params(integer=True)
    name_axes(axis, title, x="epoch", y=y)


def _write(figure: Figure, path: Path) -> None:
    figure.suptitle(label(path.parent.name), fontsize=9)  # the run folder's name: model, dataset, seed and time
    write_atomically(path, [png(figure)], "free some space or choose another checkpoint_dir")
