"""The three pictures of a run: training curve, source similarities and weights, use of the codebook."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def draw_history(history: list[dict], path: Path) -> None:
    """Training loss and validation score per epoch; pre-training passes have epochs below zero."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    _line(left, history, "train_loss", "training loss (mean per step)")
    _line(right, history, "valid_score", "validation score")
    _write(figure, path)


def draw_similarity(source_history: list[dict], path: Path) -> None:
    """Per source over the epochs: similarity before and after the trial update, gain, and weight."""
    panels = {
        "similarity_theta": "similarity at theta",
        "similarity_phi": "similarity at phi",
        "gain": "gain on the target's loss",
        "weight": "weight",
    }
    _draw_sources(source_history, panels, path)


def draw_codebook(source_history: list[dict], path: Path) -> None:
    """Per source over the epochs: codes in use, perplexity, quantization error, collisions."""
    panels = {
        "codebook_usage": "codes in use (share)",
        "perplexity": "perplexity of the codes",
        "relative_error": "quantization error, relative to the items' size",
        "collisions": "items that share all codes (share)",
    }
    _draw_sources(source_history, panels, path)


def _draw_sources(rows: list[dict], panels: dict[str, str], path: Path) -> None:
    names = list(dict.fromkeys(row["source"] for row in rows))
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.4), layout="constrained", sharex=True)
    colours = plt.get_cmap("tab10" if len(names) <= 10 else "tab20").colors
    for axis, (key, title) in zip(axes.flat, panels.items(), strict=True):
        for number, name in enumerate(names):
            own = [row for row in rows if row["source"] == name]
            _line(axis, own, key, title, label=name, color=colours[number % len(colours)])
        if key in ("similarity_theta", "similarity_phi", "gain"):
            axis.axhline(0.0, color="grey", linewidth=0.8)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    _write(figure, path)


def _line(axis, rows: list[dict], key: str, title: str, **style) -> None:
    points = [(row["epoch"], row[key]) for row in rows if key in row]
    axis.plot([x for x, _ in points], [y for _, y in points], linewidth=1.4, **style)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("epoch")
    axis.grid(alpha=0.25)


def _write(figure, path: Path) -> None:
    beside = path.with_name(f".{path.name}.tmp")
    figure.savefig(beside, dpi=110, format="png")
    plt.close(figure)
    beside.replace(path)
