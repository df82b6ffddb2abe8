"""Several domains written as one: all of them appear, or none."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from recbole_metarec.data.writer import check_free
from recbole_metarec.errors import DataError
from recbole_metarec.files import make_dir, replace_folders


@contextmanager
def written_together(folder: Path, names: Sequence[str], overwrite: bool = False) -> Iterator[Path]:
    """A hidden folder inside ``folder``, made here: what is written to ``NAME/`` in it is moved to ``folder/NAME``
    at the end, for each of ``names``; nothing is if an exception is raised.

    Raises DataError for a name that is taken (see :func:`check_free`), and where the disk is full or may not be
    written to.
    """
    folder = Path(folder)
    for name in names:
        check_free(folder, name, overwrite)
    make_dir(folder)
    hidden = None
    try:
        hidden = Path(tempfile.mkdtemp(prefix=".domains.", dir=folder))
        yield hidden
        replace_folders({hidden / name: folder / name for name in names})
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}); check its permissions and the space on its disk"
        ) from None
    finally:
        if hidden:
            shutil.rmtree(hidden, ignore_errors=True)
