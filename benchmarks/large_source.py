"""A source of 33 million interactions: seconds to load it and to train on it, and the largest resident memory of both.

Everything happens in this one process, which starts anew for each row: its peak (VmHWM) counts the interpreter, the
libraries and the target, too. The file is written first, by a child process, so that writing it does not count.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from harness import Figure, Result, main, seconds
from million_items import peak_bytes
from sides import build
from source_memory import bytes_held

from recbole_metarec.data.reader import ReadSpec, read_domain

_TARGET, _SOURCE, _GIB = "Office", "Large", 2**30
_WRITER = """
import sys
import numpy as np, polars as pl
file, events, users, items = sys.argv[1], *map(int, sys.argv[2:])
random = np.random.default_rng(0)
# popularity falls off as in the Amazon domains; users come as often as theirs, in no order
item = np.minimum((random.pareto(0.8, events) * items / 200).astype(np.int64), items - 1)
item = random.permutation(items)[item]
user = (random.random(events) ** 1.3 * users).astype(np.int64)
names = lambda numbers, letter: letter + pl.Series(numbers).cast(pl.String).str.zfill(13)
time = 1_000_000_000 + np.arange(events) // 8
frame = {"user_id:token": names(user, "A"), "item_id:token": names(item, "B"), "timestamp:float": time}
pl.DataFrame(frame).write_csv(file, separator="\\t")
"""


def measure(options) -> Result:
    folder = Path("domains").absolute()
    (folder / _SOURCE).mkdir(parents=True)
    (folder / _TARGET).symlink_to(Path(options.data_path) / _TARGET)
    file = folder / _SOURCE / f"{_SOURCE}.inter"
    shape = map(str, (options.events, options.users, options.items))
    subprocess.run([sys.executable, "-c", _WRITER, str(file), *shape], check=True)
    meta = build(
        "MetaRec", str(folder), _TARGET, sources="none"
    )  # libraries and target are there before the clock runs
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
        same=proof(source.store, options),
        reached=[peak_bytes() / _GIB],
        figures=figures,
        notes=f"{events} interactions of {len(source.store.users)} users on {source.store.n_items - 1} items, in no "
        f"order, {file.stat().st_size / _GIB:.1f} GiB of text, Unix seconds; target {_TARGET}, {steps} meta steps with "
        f"{options.negatives} source negatives. One measurement: a peak never falls.",
    )


def proof(store, options) -> str:
    """The store against a second reading of the file: polars' own sort, user by user."""
    import polars as pl

    file = Path("domains") / _SOURCE / f"{_SOURCE}.inter"
    some = pl.scan_csv(file, separator="\t").filter(pl.col("user_id:token").str.ends_with("000")).collect()
    first = pl.scan_csv(file, separator="\t").select(pl.col("user_id:token").unique(maintain_order=True)).collect()
    number = {name: place for place, name in enumerate(first["user_id:token"])}
    items: dict[str, int] = {}
    for (user,), rows in some.with_columns(pl.col("timestamp:float").cast(pl.Float32)).group_by(["user_id:token"]):
        place = number[user]
        held = store.items[store.offsets[place] : store.offsets[place + 1]].tolist()
        names = rows.sort("timestamp:float", maintain_order=True)["item_id:token"].to_list()
        assert len(held) == len(names) and all(items.setdefault(n, h) == h for n, h in zip(names, held))
    assert len(set(items.values())) == len(items)
    return f"{some['user_id:token'].n_unique()} of {len(store.users)} histories: the file's, event by event"


if __name__ == "__main__":
    main(
        measure,
        events={"type": int, "default": 33_000_000},
        users={"type": int, "default": 4_000_000},
        items={"type": int, "default": 700_000},
        negatives={"type": int, "default": 1024},
    )
