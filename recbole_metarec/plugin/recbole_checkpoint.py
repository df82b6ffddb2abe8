"""Checkpoints in RecBole's own format, which is a pickle: read only where nothing foreign in them can run."""

import contextlib
import hashlib
import os
import pickle
import warnings
from pathlib import Path

import torch

from recbole_metarec.errors import CheckpointError, DataError
from recbole_metarec.files import cache_dir, data_fingerprint, make_dir, write_atomically
from recbole_metarec.trainer.checkpoint import load_plain

_MOST_NOTES = 1000
_written: dict[str, str] = {}  # by this process: path -> fingerprint of the content


def load_recbole_checkpoint(path, device, trust_pickle: bool | None = False) -> dict:
    """A checkpoint as RecBole's Trainer writes it: config, state_dict, other_parameter, optimizer, epoch, ...

    Anything more than tensors and plain values is unpickled only if this user wrote the file on this machine and it is
    unchanged since, or with ``trust_pickle``. Raises CheckpointError if it may not or cannot be read, FileNotFoundError
    if it is not there.
    """
    trusted = trust_pickle is True or wrote_file(path)
    try:
        return torch.load(path, map_location=device, weights_only=False) if trusted else load_plain(path, device)
    except pickle.UnpicklingError as problem:
        if trusted:
            raise CheckpointError(f"{path} cannot be read as a checkpoint: {problem}") from problem
        raise CheckpointError(
            f"{path} is a pickle that you did not write on this machine, and reading it could run code hidden in it; "
            "if you know where it comes from, pass trust_pickle=True, or set trust_pickle: true in the config"
        ) from problem
    except (RuntimeError, EOFError) as problem:
        raise CheckpointError(f"{path} cannot be read as a checkpoint, it may be truncated: {problem}") from problem


def note_written(path) -> None:
    """Remember, beyond this process, that this user has just written the file."""
    name, _written[name] = os.path.realpath(path), data_fingerprint([path])
    with contextlib.suppress(DataError, OSError):  # a cache that may not be written to remembers nothing
        folder = make_dir(cache_dir() / "written")
        write_atomically(_note(name), [_written[name].encode()])
        folder.chmod(0o700)
        _note(name).chmod(0o600)
        notes = sorted(folder.iterdir(), key=lambda note: note.stat().st_mtime, reverse=True)
        for old in notes[_MOST_NOTES:]:
            old.unlink()


def wrote_file(path) -> bool:
    """Whether RecBole's Trainer wrote this file for this user on this machine, and nobody has changed it since."""
    name = os.path.realpath(path)
    return data_fingerprint([path]) in (_written.get(name), _noted(name))


def _note(name: str) -> Path:
    return cache_dir() / "written" / hashlib.sha256(name.encode()).hexdigest()


def _noted(name: str) -> str | None:
    """What a note says that nobody else can have written: a cache may be shared."""
    try:
        with open(_note(name), encoding="ascii") as note:
            status = os.fstat(note.fileno())
            return note.read() if status.st_uid == os.getuid() and not status.st_mode & 0o022 else None
    except (OSError, UnicodeDecodeError):
        return None


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
