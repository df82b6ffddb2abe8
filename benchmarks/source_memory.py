"""Bytes per interaction that a source holds in training: all arrays that can be reached from its objects."""

import csv
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import torch
from harness import Figure, Result, main
from sides import build

_SOURCE, _TARGET = "Scientific", "Office"


def measure(options) -> Result:
    meta = build("MetaRec", options.data_path, _TARGET, sources=[_SOURCE])
    meta.epoch()
    source, side = meta.train.dataset.sources[0], next(iter(meta.trainer.sources))
    proof = same_events(source, Path(options.data_path) / _SOURCE / f"{_SOURCE}.inter")
    events = len(source.store.items)
    parts = {"store": source.store, "source, windows and plan of the epoch": (source, side.stream)}
    held = {name: bytes_held(part) for name, part in parts.items()}
    figures = {name: Figure("bytes/interaction", [value / events]) for name, value in held.items()}
    return Result(
        same=proof,
        reached=[max(held.values()) / events],
        figures=figures,
        notes=f"{events} interactions of {_SOURCE} after an epoch of {_TARGET}; item table, bias and their optimiser "
        "are parameters and not counted. One figure: it is a count, not a measurement.",
    )


def bytes_held(root) -> int:
    """Bytes of the NumPy arrays and tensors that can be reached from ``root``, each buffer once."""
    buffers, seen, waiting = {}, set(), [root]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, str | bytes | int | float | bool | None | type):
            continue
        seen.add(id(value))
        if isinstance(value, np.ndarray):
            while isinstance(value.base, np.ndarray):
                value = value.base
            buffers[id(value)] = value.nbytes
        elif isinstance(value, torch.Tensor):
            buffers[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += value
        else:
            waiting += vars(value).values() if hasattr(value, "__dict__") else ()
            waiting += [getattr(value, name) for name in getattr(value, "__slots__", ()) if hasattr(value, name)]
    return sum(buffers.values())


def same_events(source, file: Path) -> str:
    """Compares every history in the store with a plain reading of the file, but for how the items are numbered."""
    histories = defaultdict(list)
    with open(file, newline="") as lines:
        for user, item, time, *_ in list(csv.reader(lines, delimiter="\t"))[1:]:
            histories[user].append((float(time), item))
    number: dict[str, int] = {}
    plain = [[item for _, item in sorted(rows, key=lambda row: row[0])] for rows in histories.values()]
    store = source.store
    held = [store.items[a:b].tolist() for a, b in zip(store.offsets[:-1], store.offsets[1:])]
    assert Counter(map(len, plain)) == Counter(map(len, held)), "the store holds other histories than the file"
    assert len({item for row in plain for item in row}) == store.n_items - 1
    # users keep the order of the file in both; names and numbers must then match one to one
    for names, ids in zip(plain, held, strict=True):
        for name, held_id in zip(names, ids, strict=True):
            assert number.setdefault(name, held_id) == held_id, "the store orders a history unlike the file"
    assert len(set(number.values())) == len(number)
    return f"{len(held)} histories: the file's, event by event"


if __name__ == "__main__":
    main(measure)
