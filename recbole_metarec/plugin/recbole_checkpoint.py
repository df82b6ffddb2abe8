"""Checkpoints in RecBole's own format, which is a pickle: read only where nothing foreign in them can run."""

import contextlib
import os
import pickle
import warnings

import torch

from recbole_metarec.errors import CheckpointError
from recbole_metarec.trainer.checkpoint import load_plain

_written: dict[str, tuple[int, int, int]] = {}  # by this process: path -> size, time and inode


def load_recbole_checkpoint(path, device, trust_pickle: bool | None = False) -> dict:
    """A checkpoint as RecBole's Trainer writes it: config, state_dict, other_parameter, optimizer, epoch, ...

    Anything more than tensors and plain values is unpickled only if this process wrote the file and it is unchanged
    since, or with ``trust_pickle``. Raises CheckpointError if it may not or cannot be read, FileNotFoundError if it is
    not there.
    """
    trusted = trust_pickle is True or wrote_file(path)
    try:
        return torch.load(path, map_location=device, weights_only=False) if trusted else load_plain(path, device)
    except pickle.UnpicklingError as problem:
        if trusted:
            raise CheckpointError(f"{path} cannot be read as a checkpoint: {problem}") from problem
        raise CheckpointError(
            f"{path} is a pickle that this process did not write, and reading it could run code hidden in it; "
            "if you know where it comes from, set trust_pickle: true"
        ) from problem
    except (RuntimeError, EOFError) as problem:
        raise CheckpointError(f"{path} cannot be read as a checkpoint, it may be truncated: {problem}") from problem


def note_written(path) -> None:
    """Remember that this process has just written the file."""
    _written[os.path.realpath(path)] = _fingerprint(path)


def wrote_file(path) -> bool:
    """Whether RecBole's Trainer wrote this file in this very process, and nobody has changed it since."""
    return _written.get(os.path.realpath(path)) == _fingerprint(path)


def _fingerprint(path) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino


@contextlib.contextmanager
def trusted_pickles():
    """While open, a bare ``torch.load`` inside RecBole may unpickle; only for a file that was checked just before."""
    switch = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(switch)
    os.environ[switch] = "1"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=f".*{switch}", category=UserWarning)
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            yield
    finally:
        if before is None:
            del os.environ[switch]
        else:
            os.environ[switch] = before
