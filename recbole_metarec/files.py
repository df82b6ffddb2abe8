"""Where prepared files go, how a file is written so that no process reads half of it, and locks between processes."""

import csv
import errno
import hashlib
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from recbole_metarec.errors import DataError

_CACHE_REMEDY = "free some space there, or set METAREC_CACHE to a folder that you may write to"
_RUN_REMEDY = "free some space or choose another checkpoint_dir"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # of a network file system


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


def write_text(path: Path, text: str) -> None:
    """Writes a file of a run as :func:`write_atomically` does."""
    write_atomically(path, [text.encode()], _RUN_REMEDY)


def write_json(path: Path, content: dict) -> None:
    """Writes JSON; numpy numbers become plain ones, and infinities and NaN become null, for which JSON has no sign."""
    write_text(path, json.dumps(plain_values(content), indent=2) + "\n")


def write_csv(path: Path, rows: list[dict]) -> None:
    """Writes rows under the union of their columns, in the order of first appearance."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def plain_values(value):
    """The same value made of what JSON and YAML know: dicts with text keys, lists, text and finite numbers."""
    if isinstance(value, dict):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    if hasattr(value, "item") and not getattr(value, "ndim", 1):  # a number of numpy's
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def data_fingerprint(files: Iterable[Path | str]) -> str:
    """Hexadecimal SHA-256 over the contents of files, in their order. Raises OSError."""
    digest = hashlib.sha256()
    for path in files:
        content = hashlib.sha256()
        with open(path, "rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                content.update(chunk)
        digest.update(content.digest())
    return digest.hexdigest()


@contextmanager
def locked(path: Path, seconds: float = -1) -> Iterator[bool]:
    """Whether this process alone holds the lock file ``path`` while this is open; False if another one does.

    seconds: how long to wait for it, negative for as long as it takes. The system frees the lock when its process
    ends, however it ends. A file system without locks lets everybody in. Raises DataError if ``path`` cannot be made.
    """
    from filelock import FileLock, Timeout  # it brings asyncio, and most commands lock nothing

    lock, alone = FileLock(path, timeout=seconds), True
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        alone = False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise DataError(f"{path}: cannot be locked ({error.strerror}); check the rights to its folder") from None
    try:
        yield alone
    finally:
        if alone:
            path.unlink(missing_ok=True)  # while it is held: who waits for it sees that it is gone and makes a new one
            lock.release()


@contextmanager
def no_empty_file_left(path: Path | None) -> Iterator[None]:
    """SQLite makes an empty file before it notices that it cannot continue; an error within removes that file."""
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

    Both are in the same parent folder and have the same content by construction.
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

    Each key is on the disk of its value. Whatever ends this early, an interrupt included, every final folder is the
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
        # which folders exist says how far it came: an interrupt may fall between a rename and any note of it
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


def model_file(run: str | Path) -> Path:
    """The file of a run's deployed model. run: its folder, or the file itself."""
    path = Path(run).expanduser()
    return path / "model.pth" if path.is_dir() else path
