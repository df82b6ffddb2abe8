"""A simulated domain of millions of events, shaped like Amazon's, for the rows that need one."""

import subprocess
import sys
from pathlib import Path

_WRITER = """
import sys
import numpy as np, polars as pl
file, events, users, items, every = sys.argv[1], *map(int, sys.argv[2:])
random = np.random.default_rng(0)
# popularity falls off as in the Amazon domains; users come as often as theirs, in no order
item = np.minimum((random.pareto(0.8, events) * items / 200).astype(np.int64), items - 1)
item = random.permutation(items)[item]
user = (random.random(events) ** 1.3 * users).astype(np.int64)
if every:
    item[random.permutation(events)[:items]] = np.arange(items)
names = lambda numbers, letter: letter + pl.Series(numbers).cast(pl.String).str.zfill(13)
time = 1_000_000_000 + np.arange(events) // 8
with open(file, "wb") as out:
    for start in range(0, events, 1 << 21):
        part = slice(start, start + (1 << 21))
        frame = {"user_id:token": names(user[part], "A"), "item_id:token": names(item[part], "B")}
        pl.DataFrame(frame | {"timestamp:float": time[part]}).write_csv(out, separator="\\t", include_header=not start)
"""


def write_domain(folder: Path, name: str, events: int, users: int, items: int, every_item: bool = False) -> Path:
    """Writes folder/NAME/NAME.inter in a child process, whose memory does not count. every_item: all items occur."""
    file = folder / name / f"{name}.inter"
    file.parent.mkdir(parents=True)
    shape = map(str, (events, users, items, int(every_item)))
    subprocess.run([sys.executable, "-c", _WRITER, str(file), *shape], check=True)
    return file


def histories_as_written(file: Path, store) -> str:
    """Compares the store with a second reading of the file, for every thousandth user, sorted by polars."""
    import polars as pl

    events = pl.scan_csv(file, separator="\t")
    some = events.filter(pl.col("user_id:token").str.ends_with("000")).collect()
    first = events.select(pl.col("user_id:token").unique(maintain_order=True)).collect()
    numbers = {name: number for number, name in enumerate(first["user_id:token"])}
    items: dict[str, int] = {}
    for (user,), rows in some.with_columns(pl.col("timestamp:float").cast(pl.Float32)).group_by(["user_id:token"]):
        number = numbers[user]
        held = store.items[store.offsets[number] : store.offsets[number + 1]].tolist()
        names = rows.sort("timestamp:float", maintain_order=True)["item_id:token"].to_list()
        assert len(held) == len(names) and all(items.setdefault(n, h) == h for n, h in zip(names, held))
    assert len(set(items.values())) == len(items)
    return f"{some['user_id:token'].n_unique()} of {len(store.users)} histories: the file's, event by event"
