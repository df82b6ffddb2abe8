"""A source of 33 million interactions: seconds to load it and to train on it, and the largest resident memory.

Everything happens in this one process, which starts anew for each row. Its peak (VmHWM) includes the interpreter, the
libraries and the target. A child process writes the file first, so that writing it does not count.
"""

from pathlib import Path

import numpy as np
from harness import Figure, Result, main, seconds
from large_domain import histories_as_written, write_domain
from million_items import peak_bytes
from sides import build
from source_memory import bytes_held

from recbole_metarec.data.reader import ReadSpec, read_domain

_TARGET, _SOURCE, _GIB = "Office", "Large", 2**30


def measure(options) -> Result:
    folder = Path("domains").absolute()
    file = write_domain(folder, _SOURCE, options.events, options.users, options.items)
    (folder / _TARGET).symlink_to(Path(options.data_path) / _TARGET)
    meta = build("MetaRec", str(folder), _TARGET, sources="none")  # loads libraries and target before the clock starts
    before = peak_bytes()
    del meta
    times, peaks = {}, {"interpreter, libraries and target": before}
    times["load"] = seconds(lambda: read_domain(file, ReadSpec()))
    peaks["load"] = peak_bytes()
    meta = build("MetaRec", str(folder), _TARGET, sources=[_SOURCE], source_negatives=options.negatives)
    peaks["load, windows, parameters and optimiser of the source"] = peak_bytes()
    times["epoch of meta steps"] = meta.epoch()
    peaks["the same and an epoch of meta steps"] = peak_bytes()
    source, side = meta.train.dataset.sources[0], next(iter(meta.trainer.sources))
    events = len(source.store.items)
    assert events == options.events and np.isfinite(meta.trainer.train_loss_dict.get(0, 0.0))
    held = bytes_held((source, side.stream)) / events
    steps = len(meta.train)
    figures = {name: Figure("s", [value]) for name, value in times.items()}
    figures |= {f"peak after: {name}": Figure("GiB", [value / _GIB]) for name, value in peaks.items()}
    figures["held with windows and plan of a pass"] = Figure("bytes/interaction", [held])
    return Result(
        same=histories_as_written(file, source.store),
        reached=[peak_bytes() / _GIB],
        figures=figures,
        notes=f"{events} interactions of {len(source.store.users)} users on {source.store.n_items - 1} items, in no "
        f"order, {file.stat().st_size / _GIB:.1f} GiB of text, Unix seconds; target {_TARGET}, {steps} meta steps with "
        f"{options.negatives} source negatives. One measurement: a peak never falls.",
    )


if __name__ == "__main__":
    main(
        measure,
        events={"type": int, "default": 33_000_000},
        users={"type": int, "default": 4_000_000},
        items={"type": int, "default": 700_000},
        negatives={"type": int, "default": 1024},
    )
