"""Raw files in every published form give the same events, and texts of every edition are read."""

import csv
import io
import random
from datetime import datetime, timezone

import polars as pl
import pytest
from support.own_logs import OWN
from support.raw_files import (
    ATOMIC,
    ATOMIC_ITEMS,
    EVENTS,
    META_2014,
    META_2018,
    META_2023,
    TEXTS,
    json_lines,
    ratings,
    read,
    review_2014,
    review_2018,
    review_2023,
    review_yelp,
    reviews,
    write,
    zipped,
)

from recbole_metarec.errors import DataError
from recbole_metarec.prepare.forms import own_form, public_form
from recbole_metarec.prepare.texts import column_texts, metadata_texts
from recbole_metarec.prepare.times import as_numbers

HEADER_2023 = "user_id,parent_asin,rating,timestamp\n"


PUBLIC = {
    "reviews_Toys_5.json.gz": (reviews(review_2014), "2014", 1, 0),
    "old_reviews.json": (reviews(review_2014, dump=repr), "2014", 1, 0),
    "Toys_5.json.gz": (reviews(review_2018), "2018", 1, 0),
    "Toys.jsonl.gz": (reviews(review_2023), "2023", 1000, 7),
    "ratings_Toys.csv": (ratings("uirt"), "2014", 1, 0),
    "Toys.csv": (ratings("iurt"), "2018", 1, 0),
    "Toys.csv.gz": (ratings("uirt", header=HEADER_2023), "2023", 1000, 0),
    "yelp_academic_dataset_review.json": (reviews(review_yelp), "latest", 1, 0),
    "Toys.inter": (ATOMIC, "", 1, 0),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_form_gives_the_same_events(tmp_path, name):
    data, edition, scale, offset = PUBLIC[name]
    path = write(tmp_path / name, data)
    assert public_form(path).edition == edition
    assert read(path) == [(u, i, t * scale + offset, r) for u, i, t, r in EVENTS]


def test_blocks_of_any_size_and_windows_line_ends_change_nothing(tmp_path, monkeypatch):
    for name, (data, *_) in PUBLIC.items():
        path = write(tmp_path / name, data)
        whole = read(path)
        for size in (1, 50, 1000):
            monkeypatch.setattr("recbole_metarec.prepare.lines.read_blocks.__defaults__", ("", "", False, size))
            assert read(path) == whole
        write(path, data.replace(b"\n", b"\r\n").removesuffix(b"\r\n") + b"\n\n")
        assert read(path) == whole


@pytest.mark.parametrize("size", [1, 7, 40, 1 << 24])
def test_line_numbers_and_quoted_line_ends_do_not_depend_on_blocks(tmp_path, monkeypatch, size):
    monkeypatch.setattr("recbole_metarec.prepare.lines.read_blocks.__defaults__", ("", "", False, size))
    log = b"u,note,i,t\n" + b'a,"x\n\n, ""y""\nz",p,3\nb,,q,2\n' * 5
    path = write(tmp_path / "log.csv", log)
    assert read(path, own_form(path, OWN)) == [("a", "p", 3), ("b", "q", 2)] * 5
    write(path, log + b"c,d\n" + log)
    with pytest.raises(DataError, match=r"log.csv:27: 2 fields where there are 4 columns"):
        read(path, own_form(path, OWN))
    path = write(tmp_path / "x.json.gz", reviews(review_2018, EVENTS * 4) + b"{}\n")
    with pytest.raises(DataError, match=r"x.json.gz:25: reviewerID is missing"):
        read(path)


def test_recbole_s_copy_may_be_zipped(tmp_path):
    path = zipped(tmp_path / "Amazon_Toys.zip", Toys_inter=ATOMIC, Toys_item=ATOMIC_ITEMS)
    assert read(path) == [(u, i, t, r) for u, i, t, r in EVENTS]


def test_ratings_whose_ids_tell_nothing_need_the_edition(tmp_path):
    path = write(tmp_path / "r.csv", b"u1,i1,5.0,100\nu2,i1,4.0,50\n")
    with pytest.raises(DataError, match="say --edition 2014 for user, item"):
        public_form(path)
    assert read(path, public_form(path, "2018"))[0] == ("i1", "u1", 100, 5.0)
    assert read(path, public_form(path, "2014"))[0] == ("u1", "i1", 100, 5.0)


CSV = b'u,note,i,t\na,"x, ""y""\nz",p,3\nb,,q,2.5\n'
OWN_FILES = {
    "log.csv": CSV,
    "log.csv.gz": CSV,
    "bom.csv": b"\xef\xbb\xbf" + CSV,
    "semicolons.csv": b"u;i;t\na;p;3\nb;q;2.5\n",
    "log.tsv": b'u\tnote\ti\tt\na\tx"\tp\t3\nb\t\tq\t2.5\n',
    "typed.tsv": b"u:token\ti:token\tt:float\na\tp\t3\nb\tq\t2.5\n",
    "log.jsonl": b'{"u": "a", "i": "p", "t": 3, "more": {"x": [1]}}\n{"t": 2.5, "i": "q", "u": "b"}\n',
    "log.json.gz": b'{"u": "a", "i": "p", "t": "3"}\n\n{"u": "b", "i": "q", "t": "2.5"}\n',
}


@pytest.mark.parametrize("name", OWN_FILES)
def test_own_logs(tmp_path, name):
    path = write(tmp_path / name, OWN_FILES[name])
    assert read(path, own_form(path, OWN)) == [("a", "p", 3.0), ("b", "q", 2.5)]


def test_ids_that_are_numbers_are_read_as_text(tmp_path):
    path = write(tmp_path / "log.jsonl", b'{"u": 7, "i": 8, "t": 1}\n')
    assert read(path, own_form(path, OWN)) == [("7", "8", 1)]
    pl.DataFrame({"u": [7], "i": [8], "t": [1]}).write_parquet(tmp_path / "log.parquet")
    assert read(tmp_path / "log.parquet", own_form(tmp_path / "log.parquet", OWN)) == [("7", "8", 1)]


DAY = datetime(2021, 3, 4, 5, 6, 7, tzinfo=timezone.utc)


TEXTUAL_DAYS = ["2021-03-04T05:06:07Z", "2021-03-04 06:06:07+01:00", "2021-03-04 05:06:07"]


@pytest.mark.parametrize("time", [DAY.replace(tzinfo=None), DAY, int(DAY.timestamp()), *TEXTUAL_DAYS], ids=str)
def test_parquet_times_of_every_type(tmp_path, time, monkeypatch):
    monkeypatch.setattr("recbole_metarec.prepare.tables.PART_ROWS", 2)
    path = tmp_path / "log.parquet"
    pl.DataFrame({"u": list("abc"), "i": list("xyz"), "t": [time] * 3}).write_parquet(path)
    assert read(path, own_form(path, OWN)) == [(u, i, DAY.timestamp()) for u, i in zip("abc", "xyz")]


def test_a_parquet_path_is_no_pattern(tmp_path):
    for name, user in (("log[1].parquet", "right"), ("log1.parquet", "wrong")):
        pl.DataFrame({"u": [user], "i": ["x"], "t": [1]}).write_parquet(tmp_path / name)
    path = tmp_path / "log[1].parquet"
    assert read(path, own_form(path, OWN)) == [("right", "x", 1)]


def test_dates_are_seconds_and_what_is_no_date_is_nothing():
    texts = ["1970-01-02", "1970-01-01T00:01", "1970-01-01 01:00:05.250+01:00", "1970-01-01T00:00:00Z", "soon", "5"]
    assert as_numbers(pl.Series("t", texts), dates=True).to_list() == [86400, 60, 5.25, 0, None, None]
    assert as_numbers(pl.Series("t", texts), dates=False).to_list() == [None] * 5 + [5]
    assert as_numbers(pl.Series("t", ["9007199254740993", " 2 "]), dates=False).to_list() == [2**53 + 1, 2]
    assert as_numbers(pl.Series("t", ["nan", "inf", "1e2"]), dates=False).to_list() == [None, None, 100]


INCHES = b'u,n,i,t\na,24" black,p,1\nb,red,q,2\nc,"24"" blue, or so",r,3\nd,12" x 6",s,4\n'


@pytest.mark.parametrize("size", [5, 30, 1 << 24])
def test_inch_marks_shorten_no_file(tmp_path, monkeypatch, size):
    monkeypatch.setattr("recbole_metarec.prepare.lines.read_blocks.__defaults__", ("", "", False, size))
    path = write(tmp_path / "x.csv", INCHES)
    rows = read(path, own_form(path, {**OWN, "note": "n"}))
    assert [row[0] for row in rows] == list("abcd") and [row[2] for row in rows] == [1, 2, 3, 4]
    assert [row[3] for row in rows] == ['24" black', "red", '24" blue, or so', '12" x 6"']


def test_quoted_rows_are_those_of_the_csv_module_or_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("recbole_metarec.prepare.lines.read_blocks.__defaults__", ("", "", False, 16))
    seen = {"read": 0, "refused": 0}
    for seed in range(300):
        chance = random.Random(seed)
        notes = ["".join(chance.choices('x" ,\n', (9, 4, 2, 1, 1), k=chance.randrange(5))) for _ in range(3)]
        notes = [f'"{note}"' if chance.random() < 0.3 else note for note in notes]
        text = "u,n,i,t\n" + "".join(f"u{at},{note},i,{at}\n" for at, note in enumerate(notes))
        path = write(tmp_path / "x.csv", text.encode())
        try:
            rows = list(csv.reader(io.StringIO(text), strict=True))[1:]
        except csv.Error:
            rows = None
        if rows is None or any(len(row) != 4 or not row[0].startswith("u") or row[2] != "i" for row in rows):
            with pytest.raises(DataError, match=r"x.csv:\d+: "):
                read(path, own_form(path, OWN))
            seen["refused"] += 1
        else:
            assert read(path, own_form(path, OWN)) == [(row[0], "i", float(row[3])) for row in rows], text
            seen["read"] += 1
    assert min(seen.values()) > 30


METADATA = {
    "meta_2014.json.gz": ("2014", json_lines(META_2014, repr)),
    "meta_2018.json.gz": ("2018", json_lines(META_2018)),
    "meta_2023.jsonl.gz": ("2023", json_lines(META_2023)),
}


@pytest.mark.parametrize("name", METADATA)
def test_texts_of_every_edition(tmp_path, name):
    edition, data = METADATA[name]
    path = write(tmp_path / name, data)
    table = metadata_texts(path, {"B000GKXY4S", "0439886341", "B00KCXJY0I"}, False, False)
    assert dict(table.rows()) == TEXTS[edition]
    with pytest.raises(DataError, match="has no text for any item"):
        metadata_texts(path, {"B000000000"}, False, False)


def test_item_texts_of_recbole_s_copy_and_of_own_tables(tmp_path):
    wanted = {"B000GKXY4S", "0439886341"}
    told = {"B000GKXY4S": "Some toy Whirl Toys Games", "0439886341": "Books"}
    path = write(tmp_path / "Toys.item", ATOMIC_ITEMS)
    assert dict(metadata_texts(path, wanted, False, False).rows()) == told
    archive = zipped(tmp_path / "Toys.zip", Toys_inter=ATOMIC, Toys_item=ATOMIC_ITEMS)
    assert dict(metadata_texts(archive, wanted, False, False).rows()) == told
    own = write(tmp_path / "items.csv", b'i,name,kind\np,"A, b",\nq,,\nr,No,x\np,again,\n')
    assert column_texts(own, "i", ["name", "kind"], {"p", "q"}, False, False).rows() == [("p", "A, b")]


@pytest.mark.parametrize("name", ["items.csv", "items.jsonl", "items.parquet"])
def test_an_id_may_be_the_text_too(tmp_path, name):
    table, path = pl.DataFrame({"i": ["a tune", "b"], "kind": ["x", "y"]}), tmp_path / name
    {"csv": table.write_csv, "jsonl": table.write_ndjson, "parquet": table.write_parquet}[name.split(".")[1]](path)
    rows = column_texts(path, "i", ["i", "kind"], {"a tune", "b"}, False, False).rows()
    assert rows == [("a tune", "a tune x"), ("b", "b y")]
