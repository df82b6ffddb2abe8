"""One seed, one named random stream per purpose and domain.

A stream depends on its name alone, so adding a source leaves every other stream as it was, and the stream of an
epoch can be opened again without having stored any generator state.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch


def stream_seed(seed: int, *name: object) -> int:
    """A 63-bit seed for the stream of that name, e.g. ``stream_seed(2020, "order", "Office", 3)``."""
    digest = hashlib.sha256(repr((seed, *map(str, name))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def numpy_stream(seed: int, *name: object) -> np.random.Generator:
    """The named stream as a NumPy generator."""
    return np.random.default_rng(stream_seed(seed, *name))


def torch_stream(device: torch.device | str, seed: int, *name: object) -> torch.Generator:
    """The named stream as a torch generator on ``device``."""
    import torch  # here, for commands that draw numbers and train nothing

    return torch.Generator(device=device).manual_seed(stream_seed(seed, *name))


class RowsOf(NamedTuple):
    """The generator of ``count`` rows for a tensor of some of them, ``rows``: what is drawn is drawn for all, so that
    the rows get what they would get among the others."""

    generator: torch.Generator
    rows: slice
    count: int


class Streams:
    """The generators of one epoch, opened when they are first asked for, each by its purpose and domain."""

    def __init__(self, device, seed: int, *name):
        self._device, self._seed, self._name = device, seed, name
        self._open: dict[tuple, torch.Generator] = {}

    def __call__(self, *name: str) -> torch.Generator:
        if name not in self._open:
            self._open[name] = torch_stream(self._device, self._seed, *self._name, *name)
        return self._open[name]
