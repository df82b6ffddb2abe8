"""One domain from its raw files: located or downloaded, read, filtered, written, and summed up in a few lines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from recbole_metarec.config.dataset_files import domain_settings
from recbole_metarec.data.domains import check_name
from recbole_metarec.data.embedded import EMBEDDED_DOMAINS
from recbole_metarec.data.item_texts import NoTextError
from recbole_metarec.data.time_units import mixed_units, told_units
from recbole_metarec.data.writer import ITEM, TIME, USER, check_free, write_domain
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.prepare import events as steps
from recbole_metarec.prepare.download import check_sha256
from recbole_metarec.prepare.events import RawEvents
from recbole_metarec.prepare.forms import TIME as TIME_ROLE
from recbole_metarec.prepare.forms import Form, own_form, public_form
from recbole_metarec.prepare.ids import notes as id_notes
from recbole_metarec.prepare.public_sets import form_of, public_set
from recbole_metarec.prepare.report import Report, Stage
from recbole_metarec.prepare.rows import RowReader
from recbole_metarec.prepare.sources import RawFiles, beside, find_raw
from recbole_metarec.prepare.texts import TEXT, column_texts, form_texts, metadata_texts, no_known_texts
from recbole_metarec.prepare.times import check_format, written_form
from recbole_metarec.prepare.vocabulary import Vocabulary

PUBLIC_CORE = 5
_RECBOLE_EXAMPLE = "ml-100k"
_WRITTEN_DATES = "times such as {:.0f} stay numbers, in the right order; --time_format {} reads them as dates"


@dataclass(frozen=True)
class Request:
    """What is to be prepared.

    raw, metadata: files on disk; without ``raw`` the public files of ``edition`` and of ``category`` (both: default of
    the domain) are fetched. sha256: of the raw file. columns: role (user, item, time, rating) -> column, for a log of
    the user. header: all columns of a raw file without a header. time_format: of times that are neither numbers nor ISO
    8601. form: of which public set ``raw`` is, if it does not tell. items, text_columns, id_column: a table of item
    texts, and its column of items, where that is not called as in the log. with_text: whether published item texts are
    fetched. user_core, item_core: events that every user, every item must keep; None for the domain's rule,
    which a file in RecBole's form is taken to have met.
    """

    name: str
    data_path: Path
    edition: str = ""
    category: str = ""
    raw: Path | None = None
    metadata: Path | None = None
    sha256: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    header: tuple[str, ...] = ()
    time_format: str = ""
    form: str = ""
    items: Path | None = None
    text_columns: tuple[str, ...] = ()
    id_column: str = ""
    with_text: bool = True
    user_core: int | None = None
    item_core: int | None = None
    skip_bad_lines: bool = False
    overwrite: bool = False


def prepare_domain(request: Request, show_progress: bool = True) -> Report:
    """Write ``data_path/NAME/NAME.inter``, ``.item`` where there are texts, and ``.json``; report what was done.

    Rows that repeat an earlier user, item and time are left out; then users and items with too few events are left
    out, again and again, until all have enough. Events are in the order of time, those of one time in the file's. The
    same files give the same domain on every machine. Raises DataError or ConfigError in one line; then nothing is
    written.
    """
    _check_request(request)
    check_free(request.data_path, request.name, request.overwrite)
    files = find_raw(request)
    sha256 = check_sha256(files.reviews, request.sha256)
    form = _form(request, files)
    least = _least(request, form)
    reader = RowReader(files.reviews, form, request.skip_bad_lines, show_progress)

    events, users, items = steps.collect(reader.frames())
    if not len(events):
        raise DataError(_nothing_read(files.reviews, reader))
    _check_units(files.reviews, form, events)
    stages = [Stage("read", len(events), len(users), len(items))]
    form_of_dates = written_form(events.times)
    notes = [_WRITTEN_DATES.format(events.times[0], form_of_dates)] if form_of_dates else []
    events = steps.without_repetitions(events)
    stages.append(Stage("repetitions left out", len(events), len(users), len(items)))
    if max(least) > 1:
        events = steps.core(events, *least)
        stages.append(Stage(_core_label(*least), *events.counts()))
    if not len(events):
        raise DataError(
            f"{files.reviews}: nothing is left when every user has {least[0]} events and every item {least[1]}; give "
            "a smaller --core"
        )
    events = steps.in_order(events)
    ties = steps.time_ties(events)
    names, table = _named(events, users, items)
    texts, texts_from, note = _texts(request, files, names[ITEM], show_progress)
    report = Report(
        request.name,
        request.data_path / request.name,
        files,
        form.edition,
        stages,
        time_ties=ties,
        skipped=reader.skipped,
        texts=None if texts is None else int((texts[TEXT] != "").sum()),
        texts_from=texts_from,
        sha256=sha256,
        least=least,
        atomic=form.atomic,
        notes=(*notes, *id_notes(reader.changes), *([note] if note else [])),
    )
    told = {"about": report.about(), "overwrite": request.overwrite, "names": names}
    write_domain(request.data_path, request.name, table, texts, **told)
    return report


def _check_request(request: Request) -> None:
    check_name(request.name)
    if request.name == _RECBOLE_EXAMPLE:
        raise ConfigError(f"{request.name}: RecBole reads this name from its own package; choose another name")
    if request.name in EMBEDDED_DOMAINS and not request.raw:
        raise ConfigError(f"{request.name}: comes with RecBole's package and needs no preparation; just train on it")
    for option in ("user", "item", "time"):
        if request.columns and option not in request.columns:
            raise ConfigError(f"--{option}: not given; a log of your own needs --user, --item and --time, all three")
        if list(request.columns.values()).count(request.columns.get(option)) > 1:
            raise ConfigError(f"--{option}: {request.columns[option]} is given for two things; name another column")
    if request.columns and not request.raw:
        raise ConfigError("--raw: not given; say which file has the columns of --user, --item and --time")
    if request.form and request.columns:
        raise ConfigError("--form: already says which columns are read; leave out --user, --item and --time")
    if request.form and not request.raw:
        raise ConfigError(f"--raw: not given; fetch the set from {public_set(request.form).page}, and name its file")
    for option, value in (("columns", request.header), ("time_format", request.time_format)):
        if value and not request.columns:
            raise ConfigError(f"--{option}: goes with a log of your own; say --user, --item and --time, too")
    if request.time_format:
        check_format(request.time_format)
    if bool(request.items) != bool(request.text_columns):
        missing = "text" if request.items else "items"
        raise ConfigError(f"--{missing}: not given; --items FILE and --text COLUMNS belong together")
    if request.id_column and not request.items:
        raise ConfigError("--id_column: names a column of --items FILE, which is not given")
    if request.items and request.metadata:
        raise ConfigError("--metadata: item texts come from --items already; leave out one of the two")
    for path, option in ((request.raw, "raw"), (request.metadata, "metadata"), (request.items, "items")):
        if path and path.is_dir():
            raise DataError(f"--{option}: {path} is a folder; name the one file in it, or make one file of its parts")
        if path and not path.is_file():
            raise DataError(f"--{option}: there is no file {path}; check the path")


def _form(request: Request, files: RawFiles) -> Form:
    if request.form:
        return form_of(public_set(request.form).events, files.reviews)
    if request.columns:
        return own_form(files.reviews, request.columns, names=request.header, time_format=request.time_format)
    return public_form(files.reviews, files.edition)


def _nothing_read(path: Path, reader: RowReader) -> str:
    """Why there is no event, in one line."""
    if reader.first_fault is None:
        return f"{path}: no event in it can be used; check that it is the right file"
    number, fault = reader.first_fault
    fault = fault.of_all or fault
    return f"{path}: none of its {reader.skipped:,d} lines can be used; line {number}: {fault.what}; {fault.todo}"


def _check_units(path: Path, form: Form, events: RawEvents) -> None:
    """Raises DataError where some times are in seconds and some in milliseconds, or the like."""
    if mixed := mixed_units(events.times):
        told = ((events.times[row], unit) for row, unit in mixed)
        what, todo = told_units(form.columns[TIME_ROLE], *told)
        raise DataError(f"{path}: {what}; {todo}")


def _least(request: Request, form: Form) -> tuple[int, int]:
    """Events that each user and each item must have: what was asked for, else the domain's rule for a raw file."""
    raw = not request.columns and not form.atomic
    rule = domain_settings(request.name).get("preparation", {}) if raw else {}
    otherwise = PUBLIC_CORE if raw and form.edition else 1
    chosen = []
    for asked, key in ((request.user_core, "user_inter_num_interval"), (request.item_core, "item_inter_num_interval")):
        interval = rule.get(key)
        chosen.append(asked or (int(interval.strip("[").split(",")[0]) if interval else otherwise))
    return chosen[0], chosen[1]


def _core_label(user_least: int, item_least: int) -> str:
    return f"{user_least}-core" if user_least == item_least else f"users {user_least}, items {item_least} or more"


def _named(events: RawEvents, users: Vocabulary, items: Vocabulary) -> tuple[dict[str, pl.Series], pl.DataFrame]:
    """The names of the users and items that are left, and the events with numbers into them.

    ``events`` is emptied on the way, so that no column is held twice.
    """
    columns, names = [], {}
    for column, role, vocabulary in ((USER, "users", users), (ITEM, "items", items)):
        codes = events.give(role)
        used = np.flatnonzero(np.bincount(codes))
        dense = np.zeros(int(used[-1]) + 1, np.uint32)
        dense[used] = np.arange(len(used), dtype=np.uint32)
        columns.append(pl.Series(column, dense[codes]))
        names[column] = vocabulary.names(used)
    columns.append(pl.Series(TIME, events.give("times")))
    if events.ratings is not None:
        columns.append(pl.Series("rating", events.give("ratings")))
    return names, pl.DataFrame(columns)


def _texts_beside(path: Path, wanted: frozenset, *how: bool) -> tuple[pl.DataFrame | None, str]:
    """The texts in a file that the user has not named, or why it has none. Raises DataError if it cannot be read."""
    try:
        unknown = no_known_texts(path)
        return (None, unknown) if unknown else (metadata_texts(path, wanted, *how), "")
    except NoTextError:
        return None, "has no text for any item of the events"
    except DataError as error:
        raise DataError(f"{error}; or do without item texts: --without_text") from None


def _texts(
    request: Request, files: RawFiles, items: pl.Series, show_progress: bool
) -> tuple[pl.DataFrame | None, str, str]:
    """Columns item_id and text of the items that are left, "" for those without one, where they come from, and a note.

    (None, "", a note or "") without any.
    """
    wanted, how = frozenset(items.to_list()), (request.skip_bad_lines, show_progress)
    known = public_set(request.form) if request.form else None
    if request.items:
        path, column = request.items, request.id_column or request.columns.get("item", ITEM)
        texts = column_texts(path, column, list(request.text_columns), wanted, *how)
    elif known and known.items:
        path = files.metadata or (known.items_beside(files.reviews) if request.with_text else None)
        if path is None:
            return None, "", f"there is no {known.items_file} beside it, which would tell the texts of its items"
        texts = form_texts(path, form_of(known.items, path), wanted, *how)
    else:
        path = files.metadata or (beside(files.reviews) if request.with_text else None)
        if path is None:
            return None, "", ""
        if path == files.metadata:
            texts = metadata_texts(path, wanted, *how)
        else:
            texts, why_none = _texts_beside(path, wanted, *how)
            if texts is None:
                return None, "", f"no item texts: {path.name} {why_none}"
    # an item without a text has a line, too: RecBole drops the events of those that have none
    everything = items.rename(ITEM).to_frame().join(texts, on=ITEM, how="left", maintain_order="left")
    return everything.with_columns(pl.col(TEXT).fill_null("")), path.name, ""
