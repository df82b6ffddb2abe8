"""Plots time and memory of a training step against items, interactions, history length and number of sources.

    python benchmarks/cost_curves.py docs/how-it-works/cost-curves.png

Domains are simulated. Time is processor time of one thread: the median of some steps after one that does not count.
Memory is the largest resident memory during these steps, less that before the domain was read. Each point is measured
in its own process, so that it reuses no memory of another.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from million_items import forget_peak, peak_bytes, run_steps
from sides import build

from recbole_metarec.figures import colour, name_axes, new_figure, png

_STEPS = 5
_MIB = 2**20
_SAMPLED = {"target_negatives": 512, "source_negatives": 512}
_FULL = {"target_negatives": 0}
_LEAST = {"items": 100, "events": 9_000, "length": 20, "sources": 1}
_BASE = {"items": 10_000, "events": 100_000, "length": 20}


class Line(NamedTuple):
    """A model on domains that differ in one size, the x axis. shape: size -> the domain's. keys: size -> config."""

    name: str
    sizes: Sequence[int]
    shape: Callable[[int], dict]
    model: str = "LRURec"
    keys: Callable[[int], dict] = lambda size: _SAMPLED


def _items(size: int) -> dict:
    return _BASE | {"items": size, "events": 400_000}


def _sources(size: int) -> dict:
    return _BASE | {"sources": size}


_PANELS = {
    "items in the catalogue": (
        Line("512 negatives", (10_000, 40_000, 100_000, 300_000), _items),
        Line("whole catalogue", (10_000, 40_000, 100_000), _items, keys=lambda size: _FULL),
    ),
    "interactions": (
        Line("512 negatives", (100_000, 400_000, 1_000_000, 3_000_000), lambda size: _BASE | {"events": size}),
    ),
    "L, events of every history": (
        Line(
            "512 negatives",
            (10, 25, 50, 100, 200),
            lambda size: _BASE | {"length": size + 3},
            keys=lambda size: _SAMPLED | {"MAX_ITEM_LIST_LENGTH": size},
        ),
    ),
    "M, sources": (
        Line("a batch of 1,024 each", (0, 1, 2, 4, 7), _sources, "MetaRec"),
        Line(
            "1,024 among them (auto)",
            (1, 2, 4, 7),
            _sources,
            "MetaRec",
            lambda size: _SAMPLED | {"source_batch_size": "auto"},
        ),
    ),
}


def main() -> None:
    file = Path(sys.argv[1]).absolute()
    sys.argv = sys.argv[:1]
    torch.set_num_threads(1)
    figure = new_figure(13, 6)
    axes = figure.subplots(2, len(_PANELS))
    fresh_process_each = get_context("fork").Pool(1, maxtasksperchild=1)
    with tempfile.TemporaryDirectory() as folder, fresh_process_each as pool:
        for column, (label, lines) in enumerate(_PANELS.items()):
            for number, line in enumerate(lines):
                points = [(Path(folder), line.model, line.shape(n), line.keys(n)) for n in line.sizes]
                costs = pool.starmap(_cost, points, chunksize=1)
                told = (f"{n}: {ms:.0f} ms, {mib:.0f} MiB" for n, (ms, mib) in zip(line.sizes, costs))
                print(f"{label}, {line.name}:", "; ".join(told), flush=True)
                for axis, values in zip(axes[:, column], zip(*costs)):
                    axis.plot(line.sizes, values, "o-", color=colour(number, 2), label=line.name)
            for axis, unit in zip(axes[:, column], ("ms a step", "MiB beyond the libraries")):
                name_axes(axis, x=label, y=unit if not column else "")
                axis.set_ylim(bottom=0)
                axis.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
            axes[0, column].legend(fontsize=8)
    file.write_bytes(png(figure))


def _cost(folder: Path, model: str, shape: dict, keys: dict) -> tuple[float, float]:
    """(milliseconds of a step, MiB) of a model with these config keys on a target of this shape and its sources."""
    _steps(folder, model, _LEAST, keys)  # what is loaded and created once does not count
    before = forget_peak()
    times = _steps(folder, model, shape, keys)
    return statistics.median(times[1:]), (peak_bytes() - before) / _MIB


def _steps(folder: Path, model: str, shape: dict, keys: dict) -> list[float]:
    """Milliseconds of each of some steps. Afterwards the process's peak of memory is that of the steps."""
    sources = [f"Source{number}" for number in range(shape.get("sources", 0))]
    for name in ("Target", *sources):
        write_domain(folder, name, shape["items"], shape["events"], shape["length"])
    keys = {"item_memory": False, "MAX_ITEM_LIST_LENGTH": 50} | keys
    if model == "MetaRec":
        keys |= {"sources": sources or "none", "transfer_guard": False}
    else:
        keys.pop("source_negatives", None)
    side = build(model, str(folder), "Target", **keys)
    forget_peak()
    batches = iter(side.train)
    return [_milliseconds(lambda: run_steps(side, batches, 1)) for _ in range(_STEPS + 1)]


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1000


def write_domain(folder: Path, name: str, items: int, events: int, length: int) -> None:
    """Writes histories of ``length`` events in which all items are equally frequent."""
    random = np.random.default_rng(0)
    numbers = random.permutation(np.arange(events) % items)
    users = np.arange(events) // length
    frame = {"user_id:token": users, "item_id:token": numbers, "timestamp:float": np.arange(events)}
    (folder / name).mkdir(exist_ok=True)
    pl.DataFrame(frame).write_csv(folder / name / f"{name}.inter", separator="\t")


if __name__ == "__main__":
    main()
