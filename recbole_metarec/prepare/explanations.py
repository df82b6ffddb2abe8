"""Why a line of a raw file cannot be used, and what to do about it. Nothing here runs for a good file."""

import csv
import json
from dataclasses import dataclass

from recbole_metarec.config.suggestions import nearest
from recbole_metarec.data.faults import show
from recbole_metarec.prepare import ids
from recbole_metarec.prepare.forms import ITEM, RATING, TIME, USER, Form, read_record
from recbole_metarec.prepare.headers import NOT_UTF8, csv_rows
from recbole_metarec.prepare.lines import is_open
from recbole_metarec.prepare.times import fitting_formats, looks_like_time

_READ = "numbers, and ISO 8601 dates such as 2023-01-31T12:30:05Z"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a line, and what to do; values in ``what`` are in quotation marks.

    of_all: the same of a file all of whose lines have it, where that tells more.
    """

    what: str
    todo: str = "fix the line"
    of_all: "Fault | None" = None


def of_row(form: Form, row: dict, raw: dict, dates: bool) -> Fault:
    """Of a line that was cut into fields. row: by role, as they were read. raw: by name, as they are written.

    dates: whether times are dates in this file.
    """
    for role in (USER, ITEM, TIME, RATING):
        name = form.columns.get(role)
        if role not in row:
            continue
        value = raw.get(name)
        if isinstance(value, (list, dict)):
            kind = "a list" if isinstance(value, list) else "an object"
            told = f"{name} is {kind}, where one {'id' if role in (USER, ITEM) else 'value'} should stand"
            return Fault(told, of_all=Fault(told, "write one event a line, with plain values"))
        if row[role] is None and (value is None or not str(value).strip()):
            return Fault(f"{name} is missing", of_all=_no_field(name, raw))
        if role == TIME and row[role] is None:
            return _of_time(name, str(value), form, dates)
        if role == RATING and row[role] is None:
            return Fault(f"{name} is {show(str(value))}, which is no number")
        if role in (USER, ITEM) and row[role] is None:
            return Fault(ids.fault(name, value))
    return Fault("a field is missing")


def _no_field(name: str, raw: dict) -> Fault | None:
    if name in raw or not raw:
        return None
    near = nearest(name, list(raw))
    todo = f"did you mean {near}?" if near else "name one of them"
    return Fault(f"there is no field {name}; the line has {', '.join(raw)}", todo)


def _of_time(name: str, text: str, form: Form, dates: bool) -> Fault:
    told = f"{name} is {show(text)}"
    if form.time_format:
        return Fault(f"{told}, which is not of the form {form.time_format!r}", of_all=Fault(told, "fix --time_format"))
    if looks_like_time(text.strip()):
        return Fault(f"{told}, which is no {'date' if dates else 'number'} as on the first lines")
    told = f"{told}, which is no time that is read ({_READ})"
    if formats := fitting_formats(text):
        return Fault(told, f"say --time_format {' or '.join(map(repr, formats))}")
    told_all = Fault(told, "say with --time_format how times are written, such as '%m/%d/%Y %H:%M'")
    return Fault(told, of_all=told_all)


def of_line(form: Form, line: bytes) -> Fault:
    """Of a line that a parser rejects."""
    try:
        text = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        return Fault(f"byte {error.start + 1} of the line is not UTF-8 ({NOT_UTF8})")
    return _of_json(form, text) if form.kind == "json" else _of_fields(form, line, text)


def _of_json(form: Form, text: str) -> Fault:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Fault(f"not JSON ({error})")
    if not isinstance(record, dict):
        return Fault("not a JSON object")
    for role in sorted(form.whole | form.numbers):
        value = record.get(form.columns.get(role))
        if value is not None and not isinstance(value, int if role in form.whole else (int, float)):
            what = f"{form.columns[role]} is {show(str(value))}, not a {'whole ' * (role in form.whole)}number"
            return Fault(what)
    return Fault("a field has another type than in the lines before")


def _of_fields(form: Form, line: bytes, text: str) -> Fault:
    fields = text.split(form.separator)
    if form.quotes:
        if is_open(line, form.separator):
            return Fault("a quotation mark is opened and not closed")
        try:
            fields = next(csv_rows(text, form.separator), [])
        except csv.Error:
            what = "line end" if "\r" in text else "quotation marks"
            return Fault(f"the fields cannot be told apart (check its {what})")
    count = len(fields)
    if count != len(form.names):
        return Fault(f"{count} field{'s' * (count != 1)} where there are {len(form.names)} columns")
    return Fault("the fields cannot be told apart (check its quotation marks)")


def raw_fields(form: Form, line: bytes) -> dict:
    """What a line says, by the names of its fields, as it is written."""
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    if form.kind == "json":
        try:
            return read_record(text)
        except ValueError:
            return {}
    fields = next(csv_rows(text, form.separator), []) if form.quotes else text.split(form.separator)
    return dict(zip(form.names, fields))
