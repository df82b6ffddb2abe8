"""Any table at all, written in every form: one answer, the rows or one line that names the same row.

Every run draws the same examples; METAREC_FUZZ=N draws N new ones for each test.
"""

import bz2
import csv
import gzip
import io
import json
from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fuzzing import fuzz, one_line
from support.own_logs import OWN

from recbole_metarec.errors import DataError
from recbole_metarec.prepare import ids
from recbole_metarec.prepare.forms import own_form
from recbole_metarec.prepare.rows import RowReader
from recbole_metarec.prepare.times import are_dates, as_numbers

_IDS = st.one_of(
    st.sampled_from(["u", "v", "12", "12.0", " u", "u ", "é", "e\u0301", "NA", "", "  ", '"', 'x"y', "a,b", "a::b",
                     "[1]", "{}", "1.5E+12", "007", "\u00a0u", "名", "a;b", "a|b", "nan", "1e5"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4),
)  # fmt: skip
_TIMES = st.one_of(
    st.integers(-5, 2_000_000_000).map(str),
    st.sampled_from(["", "soon", " 5", "5.5", "1e3", "inf", "nan", "2023-01-31", "2023-01-31 12:30:05 UTC",
                     "20230131T10Z", "2023-W05-2", "2023-02-30", "01/31/2023", "٣"]),
)  # fmt: skip
_ROWS = st.lists(st.tuples(_IDS, _IDS, _TIMES), min_size=1, max_size=8)


@pytest.fixture(params=[1, 16 << 20], ids=["line by line", "whole"])
def block(request, monkeypatch):
    size = ("", "", False, request.param)
    monkeypatch.setattr("recbole_metarec.prepare.lines.read_blocks.__defaults__", size)
    return request.param


def outcome(path, form=None, skip_bad=False):
    """(rows, "") or (None, the one line)."""
    try:
        reader = RowReader(path, form or own_form(path, OWN), skip_bad)
        return [row for frame in reader.frames() for row in frame.rows()], ""
    except DataError as error:
        text = one_line(error)
        assert text.startswith(str(path))
        return None, text


def expected(rows) -> list:
    """What the rows of text say, None for one that cannot be used."""
    written = pl.Series([time for *_, time in rows])
    found = []
    for (user, item, _), time in zip(rows, as_numbers(written, bool(are_dates(written)))):
        names = [_cleaned(name) for name in (user, item)]
        found.append((*names, time) if None not in (*names, time) else None)
    return found


def _cleaned(name):
    return ids.cleaned(pl.Series([name]), Counter())[0]


def as_csv(rows, separator=",", quoting=csv.QUOTE_ALL):
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, lineterminator="\n", quoting=quoting)
    writer.writerows([("u", "i", "t"), *rows])
    return file.getvalue().encode()


def as_json(rows):
    return "".join(json.dumps(dict(zip("uit", row))) + "\n" for row in rows).encode()


def as_parquet(rows):
    file = io.BytesIO()
    pl.DataFrame(rows, schema=dict.fromkeys("uit", pl.String), orient="row").write_parquet(file)
    return file.getvalue()


FORMS = {
    "a.csv": as_csv,
    "b.csv": lambda rows: as_csv(rows, ";"),
    "c.csv.gz": lambda rows: gzip.compress(as_csv(rows)),
    "d.jsonl": as_json,
    "e.json.bz2": lambda rows: bz2.compress(as_json(rows)),
    "f.parquet": as_parquet,
}


@fuzz(150)
@given(rows=_ROWS, name=st.sampled_from(sorted(FORMS)))
def test_a_table_gives_one_answer_in_every_form(rows, name, tmp_path, block):
    path = tmp_path / name
    path.write_bytes(FORMS[name](rows))
    good = expected(rows)
    found, told = outcome(path)
    if None in good:
        bad = good.index(None)
        assert found is None, (rows, found)
        assert block == 1 or "row" in told or "line" in told or f":{_line(name, rows, bad)}: " in told
    else:
        assert found == good
    assert outcome(path, skip_bad=True)[0] == [row for row in good if row is not None]


def _line(name, rows, bad) -> int:
    """The line of a row, where quoted fields may hold line ends."""
    before = sum(field.count("\n") for row in rows[:bad] for field in row) if "csv" in name else 0
    return bad + before + 1 + ("csv" in name)
