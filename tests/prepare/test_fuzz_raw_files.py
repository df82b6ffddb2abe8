"""Any table at all, in every form, whole or damaged: one answer, the right rows or one line that names the bad one.

What each text means is written by hand below. METAREC_FUZZ=N draws N tables for each form.
"""

import bz2
import csv
import gzip
import io
import json
import os
import random
import re
import unicodedata

import polars as pl
import pytest
from support.own_logs import OWN

from recbole_metarec.data.features import read_features
from recbole_metarec.data.reader import ReadSpec, read_events
from recbole_metarec.errors import DataError
from recbole_metarec.prepare.forms import own_form, public_form
from recbole_metarec.prepare.rows import RowReader
from recbole_metarec.prepare.tables import check_readable
from recbole_metarec.prepare.texts import column_texts

EXAMPLES = int(os.environ.get("METAREC_FUZZ", 120))
_LETTERS = "abé\u0301 \u00a0,;|\t\n\r\"'[]{}:0.1-eE名\\#"
_MISSING = {"", "NA", "null", "None", "nan", "N/A", "#N/A", "<NA>", "NaN"}
_IDS = [*_MISSING, "u", "v", "12", "12.0", " u", "u ", "007", "1.5E+12", "[1]", "{}", "a,b", "a::b", "1e5", "-3.00"]
# as a number, as a date; None for what is neither
_TIMES = {
    "7": (7, None), " 5": (5, None), "5.5": (5.5, None), "1e3": (1000, None), "-2": (-2, None), "": (None, None),
    "soon": (None, None), "inf": (None, None), "nan": (None, None), "1970-01-02": (None, 86400), "٣": (None, None),
    "1970-01-01 00:00:05 UTC": (None, 5), "19700101T01Z": (None, 3600), "1970-W01-5": (None, 86400),
    "1970-02-30": (None, None), "01/31/1970": (None, None), "1970-01-01T00:00:01.25+00": (None, 1.25),
}  # fmt: skip
_NUMBERS_FIRST = {"7", " 5", "5.5", "1e3", "-2"}
_DATES_FIRST = {text for text in _TIMES if text.startswith("19")}


def an_id(rng) -> str:
    return rng.choice(_IDS) if rng.random() < 0.7 else "".join(rng.choices(_LETTERS, k=rng.randrange(4)))


def some_rows(rng) -> list[tuple[str, str, str]]:
    good = rng.random() < 0.4
    times = [text for text in _TIMES if not good or text in _NUMBERS_FIRST]
    name = (lambda: rng.choice(["u", "v", " w", "12.0", "x y"])) if good else (lambda: an_id(rng))
    return [(name(), name(), rng.choice(times)) for _ in range(rng.randrange(1, 5))]


def cleaned(name: str) -> str | None:
    """What an id is read as; None if it is none."""
    name = unicodedata.normalize("NFC", name.strip())
    name = re.sub(r"^(-?[0-9]+)\.0+$", r"\1", name)
    if name in _MISSING or re.search(r'[\t\n\r\0]|^"', name) or re.match(r"[0-9]\.[0-9]+[eE]\+?[0-9]+$", name):
        return None
    return name


def expected(rows) -> list:
    """What the rows say, None for one that cannot be used."""
    first = next((text for *_, text in rows if text in _NUMBERS_FIRST | _DATES_FIRST), "7")
    found = [(cleaned(user), cleaned(item), _TIMES[text][first in _DATES_FIRST]) for user, item, text in rows]
    return [None if None in row else row for row in found]


def as_csv(rows, separator=","):
    file = io.StringIO()
    csv.writer(file, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(
        [("u", "i", "t"), *rows]
    )
    return file.getvalue().encode()


def as_json(rows):
    return "".join(json.dumps(dict(zip("uit", row))) + "\n" for row in rows).encode()


def as_parquet(rows, kind=pl.String):
    file = io.BytesIO()
    table = pl.DataFrame(rows, schema=dict.fromkeys("uit", pl.String), orient="row")
    table.with_columns(pl.all().cast(kind)).write_parquet(file)
    return file.getvalue()


FORMS = {
    "csv": [as_csv, lambda rows: as_csv(rows, ";"), lambda rows: gzip.compress(as_csv(rows))],
    "jsonl": [as_json, lambda rows: bz2.compress(as_json(rows))],
    "parquet": [as_parquet, lambda rows: as_parquet(rows, pl.Categorical)],
}


def damaged(rng, data: bytes) -> bytes:
    content = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(content) + 1)
        content[at : at + rng.choice([0, 1, 1, 3])] = rng.choice(
            [b"", b"\t", b"\n", b"\r", b'"', b"\0", b",", b"\xff", b"x"]
        )
    return bytes(content)


def outcome(read, *arguments):
    """(what is read, "") or (None, the one line)."""
    try:
        return read(*arguments), ""
    except DataError as error:
        text = str(error)
        assert "\n" not in text and ("; " in text or ": " in text)
        return None, text


def rows_of(path, form=None, skip_bad=False):
    reader = RowReader(path, form or own_form(path, OWN), skip_bad)
    return [row for frame in reader.frames() for row in frame.rows()]


@pytest.fixture(autouse=True)
def no_trial_of_whole_tables(monkeypatch):
    """A process for each table is slow: only damaged ones, which may end it, are tried in another one first."""
    monkeypatch.setattr("recbole_metarec.prepare.tables.check_readable", lambda *_: None)


@pytest.fixture
def blocks(monkeypatch):
    """Sets the size of blocks."""
    return lambda size: monkeypatch.setattr(
        "recbole_metarec.prepare.lines.read_blocks.__defaults__", ("", "", False, size)
    )


@pytest.mark.parametrize("name", FORMS)
def test_a_table_gives_one_answer_in_every_form(name, tmp_path, blocks):
    rng, path = random.Random(name), tmp_path / f"log.{name}"
    seen = {"read": 0, "refused": 0, "damaged": 0}
    for _ in range(EXAMPLES):
        rows, skip_bad, size = some_rows(rng), rng.random() < 0.5, rng.choice([1, 16 << 20])
        data, good = rng.choice(FORMS[name])(rows), expected(rows)
        blocks(size)
        if rng.random() < 0.3:
            path.write_bytes(damaged(rng, data))
            seen["damaged"] += 1
            if name == "parquet" and outcome(check_readable, path, own_form(path, OWN))[1]:
                continue
            answers = []
            for size in (1, 16 << 20):
                blocks(size)
                answers.append(outcome(rows_of, path))
            assert answers[0][0] == answers[1][0], path.read_bytes()
            continue
        path.write_bytes(data)
        found, told = outcome(rows_of, path, None, skip_bad)
        if skip_bad:
            assert found == [row for row in good if row is not None], rows
        elif None in good:
            seen["refused"] += 1
            assert found is None, rows
            place = str(good.index(None) + 1) if name == "parquet" else line_of(name, rows, good.index(None))
            assert f"row {place}: " in told or f":{place}: " in told, (rows, told)
        else:
            seen["read"] += 1
            assert found == good, rows
    assert min(seen.values()) > EXAMPLES / 20


def line_of(name, rows, bad) -> int:
    """The line of a row, where quoted fields may hold line ends."""
    before = sum(field.count("\n") for row in rows[:bad] for field in row) if name == "csv" else 0
    return bad + before + 1 + (name == "csv")


INTER = "user_id:token\titem_id:token\ttimestamp:float\n"


def test_events_in_recbole_s_form_are_the_same_to_both_readers(tmp_path, blocks):
    rng, path = random.Random(5), tmp_path / "D.inter"
    seen = {True: 0, False: 0}
    for _ in range(EXAMPLES):
        plain = [[field.translate({9: " ", 10: " ", 13: " "}) for field in row] for row in some_rows(rng)]
        data = (INTER + "".join("\t".join(row) + "\n" for row in plain)).encode()
        path.write_bytes(data if rng.random() < 0.7 else INTER.encode() + damaged(rng, data[len(INTER) :]))
        blocks(rng.choice([1, 16 << 20]))
        ours, _ = outcome(read_events, path, ReadSpec(), (), rng.choice([1, 40, None]))
        theirs, told = outcome(lambda: rows_of(path, public_form(path)))
        if ours is not None:
            users, items = (
                [cleaned(name) for name in names.gather(codes)]
                for names, codes in ((ours.user_names, ours.users), (ours.item_names, ours.items))
            )
            if theirs is None:  # the other one refuses rounded numbers and carriage returns, too
                assert None in (*users, *items) or b"\r" in path.read_bytes(), told
                continue
            assert [row[:2] for row in theirs] == list(zip(users, items)), path.read_bytes()
            assert [row[2] for row in theirs] == pytest.approx(ours.times.values.tolist())
        seen[ours is None] += 1
    assert min(seen.values()) > EXAMPLES / 20


def test_texts_of_items_are_the_same_to_both_readers(tmp_path, blocks):
    rng, path = random.Random(6), tmp_path / "D.item"
    seen = {True: 0, False: 0}
    for _ in range(EXAMPLES):
        rows = [(user.translate({9: " ", 10: " ", 13: " "}), item.translate({9: " ", 10: " ", 13: " "}))
                for user, item, _ in some_rows(rng)]  # fmt: skip
        data = ("item_id:token\ttext:token_seq\n" + "".join("\t".join(row) + "\n" for row in rows)).encode()
        path.write_bytes(data if rng.random() < 0.7 else data[:30] + damaged(rng, data[30:]))
        blocks(rng.choice([1, 16 << 20]))
        ours, _ = outcome(read_features, path, "item_id", ["text"])
        seen[ours is None] += 1
        names = {cleaned(user) for user, _ in rows} - {None}
        theirs, _ = outcome(column_texts, path, "item_id", ["text"], names or {"u"}, False, False)
        if ours is None or theirs is None:
            continue
        by_item = {}
        for name, text in zip(ours["item_id"], ours["text"]):
            if cleaned(name) in names and text.strip():
                by_item.setdefault(cleaned(name), text.strip())
        assert dict(theirs.rows()) == by_item, path.read_bytes()
    assert min(seen.values()) > EXAMPLES / 20
