"""Own logs in files of every form, read row by row, or the line that a user is told."""

import pytest

from recbole_metarec.errors import DataError
from recbole_metarec.prepare.forms import own_form
from recbole_metarec.prepare.rows import RowReader

OWN = {"user": "u", "item": "i", "time": "t"}
OPTIONS = ["--user", "u", "--item", "i", "--time", "t"]
LOG = b"u,i,t\na,x,3\nb,y,4\n"
ROWS = [("a", "x", 3), ("b", "y", 4)]


def read(path, columns=OWN, skip_bad=False, **form) -> list[tuple]:
    reader = RowReader(path, own_form(path, columns, **form), skip_bad)
    return [row for frame in reader.frames() for row in frame.rows()]


def written(path, data) -> object:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def refused(path, columns=OWN, **form) -> str:
    with pytest.raises(DataError) as error:
        read(path, columns, **form)
    text = str(error.value)
    assert text.startswith(f"{path}") and "; " in text and "\n" not in text
    return text
