"""Several domains written as one: all of them appear, or none."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from recbole_metarec.data.files import make_dir
from recbole_metarec.errors import DataError


@contextmanager
def written_together(folder: Path, names: Sequence[str], overwrite: bool = False) -> Iterator[Path]:
    """A hidden folder inside ``folder``, made here: what is written to ``NAME/`` in it is moved to ``folder/NAME``
    at the end, for each of ``names``; nothing is if an exception is raised.

    Raises DataError for a name that is taken (unless ``overwrite``), and where the disk is full or may not be written
    to.
    """
    folder = Path(folder)
    taken = [name for name in names if (folder / name).exists()]
    if taken and not overwrite:
        raise DataError(f"{folder / taken[0]}: is there already; choose another --output folder, or --overwrite it")
    make_dir(folder)
    hidden = None
    try:
        hidden = Path(tempfile.mkdtemp(prefix=".domains.", dir=folder))
        yield hidden
        _put_in_place(hidden, folder, names)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}); check its permissions and the space on its disk"
        ) from None
    finally:
        if hidden:
            shutil.rmtree(hidden, ignore_errors=True)


def _put_in_place(hidden: Path, folder: Path, names: Sequence[str]) -> None:
    """Rename; what was there before is moved aside. It comes back if anything fails."""
    aside = hidden / ".old"
    aside.mkdir()
    placed = []
    try:
        for name in names:
            if (folder / name).exists():
                (folder / name).rename(aside / name)
            (hidden / name).rename(folder / name)
            placed.append(name)
    except OSError:
        for name in placed:
            (folder / name).rename(hidden / name)
        for old in aside.iterdir():
            old.rename(folder / old.name)
        raise
