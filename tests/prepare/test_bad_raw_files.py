"""Malformed raw files: the error names file and line, and --skip_bad_lines leaves out what is bad and no more."""

import gzip
import json

import polars as pl
import pytest
from support.own_logs import OWN
from support.raw_files import (
    ATOMIC,
    EVENTS,
    META_2018,
    json_lines,
    read,
    review_2014,
    review_2018,
    reviews,
    write,
    zipped,
)

from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.prepare import lines
from recbole_metarec.prepare.forms import own_form, public_form
from recbole_metarec.prepare.rows import RowReader
from recbole_metarec.prepare.texts import metadata_texts


def test_an_edition_that_contradicts_the_file_is_an_error(tmp_path):
    path = write(tmp_path / "x.json.gz", reviews(review_2018))
    with pytest.raises(ConfigError, match=r"--edition: .* is of the 2018 edition"):
        public_form(path, "2014")


def test_parquet_faults_are_told_by_row(tmp_path):
    path = tmp_path / "log.parquet"
    pl.DataFrame({"u": ["a", None], "i": ["x", "y"], "t": [1, 2]}).write_parquet(path)
    with pytest.raises(DataError, match=r"log.parquet: row 2: u is missing"):
        read(path, own_form(path, OWN))
    assert read(path, own_form(path, OWN), skip_bad=True) == [("a", "x", 1)]
    with pytest.raises(DataError, match=r"no column v; there are u, i, t"):
        read(path, own_form(path, {**OWN, "user": "v"}))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read(path, own_form(path, OWN))


# what is wrong with the fourth line of a file of six
GOOD = json.loads(reviews(review_2018).splitlines()[3])


def without(key) -> bytes:
    return json.dumps({name: value for name, value in GOOD.items() if name != key}).encode()


BAD_REVIEWS = {
    b'{"reviewerID": "A1", "asin"': r"not JSON \(",
    b"[1, 2]": "not a JSON object",
    json.dumps(GOOD).encode() + b" tail": r"not JSON \(Extra data",
    json.dumps({**GOOD, "asin": "\u00e9"}, ensure_ascii=False).encode("latin-1"): r"byte \d+ of the line is not UTF-8",
    without("reviewerID"): "reviewerID is missing",
    without("asin"): "asin is missing",
    without("unixReviewTime"): "unixReviewTime is missing",
    without("overall"): "overall is missing",
    json.dumps({**GOOD, "unixReviewTime": "soon"}).encode(): "unixReviewTime is 'soon', not a whole number",
    json.dumps({**GOOD, "reviewerID": ""}).encode(): "reviewerID is missing",
    json.dumps({**GOOD, "reviewerID": "NULL"}).encode(): "reviewerID 'NULL' would be read by RecBole as a missing",
    json.dumps({**GOOD, "asin": "a\tb"}).encode(): "asin .* would be read by RecBole",
    json.dumps({**GOOD, "asin": "a\0b"}).encode(): "asin .* would be read by RecBole",
}


@pytest.mark.parametrize("bad", BAD_REVIEWS)
def test_a_bad_review_is_told_by_its_line_or_left_out_when_told(tmp_path, bad):
    rows = reviews(review_2018).splitlines()
    rows[3] = bad
    path = write(tmp_path / "x.json.gz", b"\n".join([*rows[:2], b"", *rows[2:]]) + b"\n")
    with pytest.raises(DataError, match=rf"x.json.gz:5: {BAD_REVIEWS[bad]}.*; fix the line, or .* --skip_bad_lines$"):
        read(path)
    reader = RowReader(path, public_form(path), skip_bad=True)
    kept = [row for frame in reader.frames() for row in frame.rows()]
    assert kept == [(u, i, t, r) for at, (u, i, t, r) in enumerate(EVENTS) if at != 3]
    assert reader.skipped == 1


BAD_CSV = {
    b"a,b": "2 fields where there are 3 columns",
    b"a,b,3,4": "4 fields where there are 3 columns",
    b'a,"b"c,3': "the fields cannot be told apart",
    b"a,b,": "t is missing",
    b"a,,3": "i is missing",
    b"a,b,2021-01-01": "t is '2021-01-01', which is no number as on the first lines",
    b"a,\xe9,3": "byte 3 of the line is not UTF-8",
    b"nan,b,3": "u 'nan' would be read by RecBole",
    b"a\0b,b,3": r"u 'a\\x00b' would be read by RecBole",
}


@pytest.mark.parametrize("quoted", [b'a,"b\nb",2', b"a,b,2"])
@pytest.mark.parametrize("bad", BAD_CSV)
def test_a_bad_row_is_told_by_its_line(tmp_path, bad, quoted):
    path = write(tmp_path / "x.csv", b"\n".join([b"u,i,t", b"a,b,1", quoted, b"", bad, b"a,b,4", b""]))
    line = 5 + quoted.count(b"\n")
    what = BAD_CSV[bad]
    if b"\n" in quoted:  # an id may not have a line end
        with pytest.raises(DataError, match=r"x.csv:3: i .* would be read"):
            read(path, own_form(path, OWN))
        columns = {"user": "u", "time": "t"}
        if what.startswith(("i ", "the fields")):  # about the column that is not read now
            return
    else:
        columns = OWN
    with pytest.raises(DataError, match=rf"x.csv:{line}: {what}"):
        read(path, own_form(path, columns))
    assert [row[-1] for row in read(path, own_form(path, columns), skip_bad=True)] == [1, 2, 4]


def test_a_quotation_mark_that_is_never_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_RECORD", 1000)
    path = write(tmp_path / "x.csv", b'u,i,t\na,"b,1\n' + b"a,b,1\n" * 1000)
    with pytest.raises(DataError, match=r"x.csv:\d+: a quotation mark is opened"):
        read(path, own_form(path, OWN))


@pytest.mark.parametrize("bad", [b'a,"x",p\rq,3', b'"a",b\rc,3'])
def test_a_carriage_return_in_a_line_is_told_by_its_line(tmp_path, bad):
    path = write(tmp_path / "x.csv", b"u,i,t\r\na,b,1\r\n" + bad + b'\r\n"a",b,4\r\n')
    with pytest.raises(DataError, match=r"x.csv:3: "):
        read(path, own_form(path, OWN))
    assert [row[-1] for row in read(path, own_form(path, OWN), skip_bad=True)] == [1, 4]


@pytest.mark.parametrize("size", [1, 1 << 24])
@pytest.mark.parametrize("first", [[b"a,b,soon"], [b"a,b,"] * 150, [b"a,b,soon", b"a,b"]])
def test_a_bad_first_time_does_not_decide_how_times_are_read(tmp_path, monkeypatch, first, size):
    monkeypatch.setattr("recbole_metarec.prepare.lines.read_blocks.__defaults__", ("", "", False, size))
    path = write(tmp_path / "x.csv", b"\n".join([b"u,i,t", *first, b"a,b,1970-01-02", b"a,c,1970-01-03", b""]))
    assert read(path, own_form(path, OWN), skip_bad=True) == [("a", "b", 86400), ("a", "c", 2 * 86400)]
    with pytest.raises(DataError, match=r"x.csv:2: (t is missing|t is 'soon', which is no time|2 fields)"):
        read(path, own_form(path, OWN))


def test_headers_that_do_not_fit(tmp_path):
    path = write(tmp_path / "x.csv", b"u,i,when\na,b,1\n")
    with pytest.raises(DataError, match=r"x.csv:1: no column t; the header has u, i, when"):
        own_form(path, OWN)
    with pytest.raises(DataError, match=r"x.csv:1: column u appears twice"):
        own_form(write(path, b"u,u,i,t\n"), OWN)
    with pytest.raises(DataError, match=r"x.csv:1: the file is empty"):
        own_form(write(path, b""), OWN)
    with pytest.raises(DataError, match=r"x.csv:1: is no file of Amazon"):
        public_form(write(path, b"u,i,t\na,b,1\n"))
    with pytest.raises(DataError, match=r"x.json:1: the fields a are of no public set"):
        public_form(write(tmp_path / "x.json", b'{"a": 1}\n'))
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        own_form(tmp_path / "absent.csv", OWN)


def test_a_gzip_file_that_is_cut_off_damaged_or_none(tmp_path):
    whole = gzip.compress(reviews(review_2018, EVENTS * 2000))
    path = tmp_path / "x.json.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"x.json.gz:\d+: the compressed file ends in the middle; .*fetch"):
        read(path)
    path.write_bytes(whole[:-8] + b"\0\0\0\0" + whole[-4:])
    with pytest.raises(DataError, match=r"x.json.gz:\d+: the compressed file is damaged from here on \(CRC"):
        read(path)
    path.write_bytes(b"<html>no such file</html>")
    with pytest.raises(DataError, match=r"this is not a gzip file \(it starts with b'<htm'\)"):
        read(path)
    archive = zipped(tmp_path / "x.zip", Toys_inter=ATOMIC * 50)
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(DataError, match="is no complete zip archive"):
        read(archive)


def test_bad_metadata_is_told_by_its_line_if_its_item_matters(tmp_path):
    rows = json_lines(META_2018).splitlines()
    path = write(tmp_path / "meta.json.gz", b"\n".join([rows[0], rows[1][:-1], rows[2]]))
    wanted = {"B000GKXY4S", "0439886341"}
    with pytest.raises(DataError, match=r"meta.json.gz:2: the line is no JSON object; .*--skip_bad_lines"):
        metadata_texts(path, wanted, False, False)
    assert metadata_texts(path, wanted, True, False)["item_id"].to_list() == ["B000GKXY4S"]
    assert metadata_texts(path, {"B000GKXY4S"}, False, False)["item_id"].to_list() == ["B000GKXY4S"]
    with pytest.raises(DataError, match=r"meta.json.gz:1: no field parent_asin or asin"):
        metadata_texts(write(path, b'{"title": "x"}\n'), wanted, False, False)


def test_nothing_in_a_file_is_ever_run(tmp_path):
    mark = tmp_path / "run"
    call = f"{{'asin': 'B000GKXY4S', 'title': __import__('pathlib').Path({str(mark)!r}).touch()}}\n"
    with pytest.raises(DataError, match="no JSON object"):
        metadata_texts(write(tmp_path / "meta.json", call.encode()), {"B000GKXY4S"}, False, False)
    path = write(tmp_path / "x.json", reviews(review_2014, dump=repr) + call.encode())
    with pytest.raises(DataError, match=r"x.json:7: not JSON"):
        read(path)
    assert not mark.exists()
