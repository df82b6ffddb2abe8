"""What is wrong with a separated text file, in one line: ``PATH:LINE: what is wrong; what to do``.

Nothing here runs for a good file, so the search for the line at fault may be slow.
"""

import difflib
from pathlib import Path
from typing import NoReturn

from recbole_metarec.errors import DataError

_SEPARATOR_NAMES = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "a vertical bar", " ": "a space"}


def fail(path, line: int, what: str, todo: str) -> NoReturn:
    """Raise the DataError of one line of one file."""
    raise DataError(f"{path}:{line}: {what}; {todo}")


def show(text: str) -> str:
    """A value for a message: quoted and not too long."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def fail_unreadable(path, error: OSError) -> NoReturn:
    """Raise the DataError of a file that the system cannot read."""
    raise DataError(f"{path}: cannot be read ({error.strerror}); check the name and data_path") from None


def fail_empty(path) -> NoReturn:
    """Raise the DataError of a file without anything in it."""
    todo = "write a header such as user_id:token, item_id:token, timestamp:float (separated by tabs) and one event on "
    fail(path, 1, "the file is empty", todo + "each line")


def fail_undecodable(path, line: int, byte: int, encoding: str, reason: str) -> NoReturn:
    """Raise the DataError of a byte, counted from the start of the file, that is no text."""
    todo = "save the file as UTF-8, or name its encoding with the config key encoding"
    fail(path, line, f"byte {byte} of the file is not {encoding} ({reason})", todo)


def fail_one_column(path, header: str, separator: str) -> NoReturn:
    """Raise the DataError of a header without the separator."""
    expected = _separator_name(separator)
    for other, called in _SEPARATOR_NAMES.items():
        if other in header:
            todo = f"separate them by {expected}, or set the config key field_separator"
            fail(path, 1, f"columns are separated by {called}, not by {expected}", todo)
    todo = f"write user, item and time, separated by {expected}"
    fail(path, 1, f"the header has the single column {show(header)}", todo)


def fail_type(path, column: str, kind: str, types) -> NoReturn:
    """Raise the DataError of a column of the header whose type is none of ``types``."""
    near = difflib.get_close_matches(kind.strip(), types, 1, 0.5)
    todo = (f"did you mean {near[0]}? " if near else "") + "The types are " + ", ".join(types)
    fail(path, 1, f"header field {show(column)} has the unknown type {show(kind)}", todo)


def fail_column(path, types: dict[str, str], field: str, kind: str, key: str) -> NoReturn:
    """Raise the DataError of a header, name -> type, without the column ``field`` of the type ``kind``.

    key: the config key that names the column, if any does.
    """
    if field in types:
        fail(path, 1, f"column {field} has the type {types[field]}", f"write {field}:{kind}")
    lowered = {name.lower(): name for name in reversed(types)}
    near = difflib.get_close_matches(field.lower(), lowered, 1)
    todo = f"rename {show(lowered[near[0]])} to {field}" if near else f"add the column {field}:{kind}"
    todo += f", or set the config key {key}" if key else ""
    fail(path, 1, f"no column {field}; the header has {', '.join(types)}", todo)


def fail_ragged(path: Path, data: bytes, first_line: int, separator: str, n_columns: int) -> NoReturn:
    """Raise the DataError of the first line of ``data``, whole lines, that has not ``n_columns`` fields."""
    for number, line in enumerate(data.decode("utf-8").split("\n"), first_line):
        n_fields = line.count(separator) + 1
        if not line or n_fields == n_columns:
            continue
        other = next((s for s in _SEPARATOR_NAMES if s != separator and line.count(s) == n_columns - 1), None)
        expected = _separator_name(separator)
        todo = f"write every column, separated by {expected}, on every line"
        if n_fields == 1 and other:
            todo = f"this line is separated by {_SEPARATOR_NAMES[other]}; use {expected}"
        fail(path, number, f"{n_fields} field{'s' * (n_fields != 1)} where the header has {n_columns}", todo)
    raise AssertionError("no line is ragged")


def _separator_name(separator: str) -> str:
    return _SEPARATOR_NAMES.get(separator, repr(separator))
