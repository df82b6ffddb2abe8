"""Arrays of unequal runs laid end to end, as histories are."""

import numpy as np


def runs(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which run each element belongs to, and its place in that run, from 0: two int64 [sum of lengths]."""
    which = np.repeat(np.arange(len(lengths)), lengths)
    return which, np.arange(len(which)) - (np.cumsum(lengths) - lengths)[which]
