"""Ids as numbers, for files that hold millions of them: about 40 bytes an id, less than a table of its names takes."""

import io

import numpy as np
import polars as pl

_SEED, _OTHER_SEED = 20, 21


class Vocabulary:
    """Numbers ids from 0 in the order in which they are first seen.

    An id is looked up by a 64-bit hash among sorted runs, each at least twice as long as the next, so that a block of
    ids costs a few binary searches. Names are packed block by block and unpacked only on request. Two
    ids with one hash (about 3 in a million files of ten million ids have such a pair) differ in a second hash.
    """

    def __init__(self):
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []  # sorted hashes, their numbers
        self._packed: list[tuple[int, bytes]] = []  # number of the first name, names
        self._all_checks = np.empty(0, np.uint32)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def encode(self, names: pl.Series) -> np.ndarray:
        """uint32 [n], the numbers of ids (text, nothing missing); new ids are numbered on the way."""
        hashes, first, places = np.unique(_hash(names, _SEED), return_index=True, return_inverse=True)
        codes = self._known(hashes)
        new = np.flatnonzero(codes < 0)
        checks = _hash(names, _OTHER_SEED).astype(np.uint32)
        if len(new):
            in_order = new[np.argsort(first[new])]
            codes[in_order] = np.arange(self._size, self._size + len(new))
            self._add(hashes[new], codes[new], names.gather(first[in_order]), checks[first[in_order]])
        numbers = codes[places].astype(np.uint32)
        if not np.array_equal(self._all_checks[numbers], checks):
            raise RuntimeError("two ids have the same hash; this is to be expected once in some 300,000 large files")
        return numbers

    def names(self, numbers: np.ndarray) -> pl.Series:
        """The names of sorted numbers, as text [n]."""
        parts = [pl.Series("name", [], dtype=pl.String)]
        ends = [start for start, _ in self._packed[1:]] + [self._size]
        for (start, packed), end in zip(self._packed, ends):
            wanted = numbers[np.searchsorted(numbers, start) : np.searchsorted(numbers, end)]
            if len(wanted):
                parts.append(_unpack(packed).gather(wanted.astype(np.int64) - start))
        return pl.concat(parts)

    def forget_hashes(self) -> None:
        """Frees the memory that only ``encode`` needs; ``names`` still works."""
        self._runs, self._all_checks = [], np.empty(0, np.uint32)

    def _known(self, hashes: np.ndarray) -> np.ndarray:
        codes = np.full(len(hashes), -1, np.int64)
        for run, numbers in self._runs:
            at = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            matches = run[at] == hashes
            codes[matches] = numbers[at[matches]]
        return codes

    def _add(self, hashes: np.ndarray, codes: np.ndarray, names: pl.Series, checks: np.ndarray) -> None:
        self._packed.append((self._size, _pack(names)))
        self._size += len(names)
        if len(self._all_checks) < self._size:
            self._all_checks = np.concatenate((self._all_checks, np.empty(max(self._size, 1 << 16), np.uint32)))
        self._all_checks[self._size - len(names) : self._size] = checks
        self._runs.append((hashes, codes.astype(np.uint32)))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            (one, its), (other, others) = self._runs.pop(), self._runs.pop()
            self._runs.append(_merged(one, its, other, others))


def _merged(one, its, other, others) -> tuple[np.ndarray, np.ndarray]:
    hashes = np.concatenate((one, other))
    order = np.argsort(hashes, kind="stable")  # which merges two sorted halves in one pass
    return hashes[order], np.concatenate((its, others))[order]


def _hash(names: pl.Series, seed: int) -> np.ndarray:
    return names.hash(seed).to_numpy()


def _pack(names: pl.Series) -> bytes:
    buffer = io.BytesIO()
    # the oldest layout has no 16 bytes of bookkeeping for each name
    names.to_frame().write_ipc(buffer, compression="zstd", compat_level=pl.CompatLevel.oldest())
    return buffer.getvalue()


def _unpack(packed: bytes) -> pl.Series:
    return pl.read_ipc(io.BytesIO(packed)).to_series()
