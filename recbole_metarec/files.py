"""Where prepared files go, and how a file is written so that nobody ever reads half of it."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from recbole_metarec.errors import DataError

_CACHE_REMEDY = "free some space there, or set METAREC_CACHE to a folder that you may write to"


def cache_dir() -> Path:
    """Folder of prepared files, which is not made here.

    ``METAREC_CACHE``, else ``recbole-metarec`` in the user's cache folder (XDG).
    """
    chosen = os.environ.get("METAREC_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "recbole-metarec"


def make_dir(path: Path) -> Path:
    """Create a folder with its parents. Raises DataError where that is not allowed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{path}: cannot make this folder ({error.strerror}); set METAREC_CACHE to a folder that you may write to"
        ) from None
    return path


def write_atomically(path: Path, chunks: Iterable[bytes], remedy: str = _CACHE_REMEDY) -> Path:
    """Write ``chunks`` to a temporary file beside ``path``, flush it to disk, then rename it to ``path``.

    The parent folder must exist. Raises DataError, which ends in ``remedy``, if the disk is full or may not be written
    to; ``path`` is then as it was before.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False) as file:
            temporary = file.name
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files private; a cache may be shared
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); {remedy}") from None
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
    return path


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """One process at a time; for files that are replaced as wholes, and so cannot be locked themselves."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


@contextmanager
def no_empty_file_left(path: Path | None) -> Iterator[None]:
    """SQLite makes an empty file before it finds out that it cannot go on; within, such a one goes with the error."""
    was_there = path is None or path.exists()
    try:
        yield
    except BaseException:
        if not was_there and path.exists() and not path.stat().st_size:
            path.unlink()
        raise


def copy_atomically(source: Path, path: Path) -> Path:
    """Copy a file as ``write_atomically`` writes one."""
    with open(source, "rb") as file:
        return write_atomically(path, iter(lambda: file.read(1 << 20), b""))


def publish_folder(built: Path, final: Path) -> Path:
    """Rename the finished folder ``built`` to ``final``; if another process was faster, keep its folder and drop ours.

    Both lie in the same parent folder and have the same content by construction.
    """
    try:
        os.rename(built, final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(built)
    return final


def replace_folders(moves: Mapping[Path, Path]) -> None:
    """Rename each finished folder to its final name, all or none; what was there before is deleted last.

    Each key lies on the disk of its value. Whatever ends this early, an interrupt included, every final folder is the
    one that was there before; should even that fail, it is kept in a hidden folder beside. Raises OSError.
    """
    aside = {final: Path(tempfile.mkdtemp(prefix=f".{final.name}.old.", dir=final.parent)) for final in moves.values()}
    new = {final for final in moves.values() if not final.exists()}
    try:
        for built, final in moves.items():
            if final.exists():
                final.rename(aside[final] / "old")
            built.rename(final)
    except BaseException:
        # what lies where tells how far it came: an interrupt may fall between a rename and any note of it
        for built, final in moves.items():
            old = aside[final] / "old"
            with suppress(OSError):
                if (old.exists() or final in new) and final.exists() and not built.exists():
                    final.rename(built)
                if old.exists():
                    old.rename(final)
                aside[final].rmdir()
        raise
    for old in aside.values():
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
