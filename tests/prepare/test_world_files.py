"""Text and JSON files as programs and public pages write them: read right, or one line that says what they are."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import tarfile
import zipfile

import pytest
from support.own_logs import LOG, OWN, ROWS, read, refused, written

from recbole_metarec.prepare import times

# -- packings and encodings ----------------------------------------------------------------------------------------


def zipped(data, name="log.csv"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, data)
    return file.getvalue()


def tarred(data, name="set/log.csv"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def locked(data, name="log.csv"):
    """A zip archive that says of its file that it needs a password."""
    archive = bytearray(zipped(data, name))
    archive[6] |= 1
    archive[archive.find(b"PK\1\2") + 8] |= 1
    return bytes(archive)


def spreadsheet():
    """What LibreOffice packs into an .ods file, by its names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("mimetype", "content.xml", "styles.xml"):
            archive.writestr(name, "")
    return file.getvalue()


def zipped_on_a_mac(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("log.csv", data)
        archive.writestr("__MACOSX/._log.csv", b"\0\5\x16\7")
    return file.getvalue()


READ = {
    "gzip": gzip.compress(LOG),
    "gzip twice": gzip.compress(gzip.compress(LOG)),
    "bz2": bz2.compress(LOG),
    "xz": lzma.compress(LOG),
    "zip": zipped(LOG),
    "gzip in zip": zipped(gzip.compress(LOG)),
    "zip of a Mac": zipped_on_a_mac(LOG),
    "lzma": lzma.compress(LOG, format=lzma.FORMAT_ALONE),
    "carriage returns in utf-16": LOG.replace(b"\n", b"\r").decode().encode("utf-16"),
    "carriage returns and a long header": LOG.replace(b"\n", b"," + b"n" * 600 + b"\r"),
    "columns without names": LOG.replace(b"\n", b",,\n"),
    "utf-8 with its mark": codecs.BOM_UTF8 + LOG,
    "utf-16": LOG.decode().encode("utf-16"),
    "utf-16 of the other order": codecs.BOM_UTF16_BE + LOG.decode().encode("utf-16-be"),
    "utf-16 packed": gzip.compress(LOG.decode().encode("utf-16")),
    "carriage returns": LOG.replace(b"\n", b"\r"),
    "line ends of Windows": LOG.replace(b"\n", b"\r\n"),
    "::": LOG.replace(b",", b"::"),
    "spaces": LOG.replace(b",", b" "),
    "bars": LOG.replace(b",", b"|"),
}


@pytest.mark.parametrize("name", ["log.csv", "log.txt", "log"])
@pytest.mark.parametrize("form", READ)
def test_packed_and_encoded_files_are_read(tmp_path, form, name):
    assert read(written(tmp_path / name, READ[form])) == ROWS


TOLD = {
    "tar": (tarred(LOG), "is a tar archive that holds set/log.csv; unpack it (tar xf log.csv)"),
    "tar.gz": (gzip.compress(tarred(LOG)), "is a tar archive that holds set/log.csv; unpack it (tar xf"),
    "cut tar": (tarred(LOG)[:400], "is a tar archive; unpack it (tar xf log.csv)"),
    "damaged tar": (tarred(LOG)[:148] + b"9" * 8 + tarred(LOG)[156:], "is a tar archive; unpack it"),
    "cut tar.gz": (gzip.compress(tarred(LOG), 0)[:700], "is a tar archive; unpack it"),
    "locked zip": (locked(LOG), "log.csv in the archive needs a password"),
    "empty zip": (b"PK\x05\x06" + bytes(18), "is a zip archive with nothing in it"),
    "lz4": (b"\x04\x22M\x18" + LOG, "is packed by lz4; unpack it: lz4 -d log.csv"),
    "compress": (b"\x1f\x9d" + LOG, "is packed by compress; unpack it: gunzip log.csv"),
    "arrow stream": (b"\xff" * 4 + LOG, "is an Arrow stream; write it as Parquet"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS and not the file"),
    "json array in utf-16": ('[{"u": "a"}]'.encode("utf-16"), "the file is one JSON array"),
    "zstd": (b"(\xb5/\xfd" + LOG, "is packed by zstd; unpack it: zstd -d log.csv"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + LOG, "is a 7z archive"),
    "open document": (spreadsheet(), "is an OpenDocument file, such as LibreOffice's .ods; save it as CSV in UTF-8"),
    "hint for Excel": (b"sep=;\r\n" + LOG.replace(b",", b";"), "for Excel; leave the line out in a copy"),
    "packed hint for Excel": (gzip.compress(b"sep=,\n" + LOG), "for Excel; leave the line out in a copy"),
    "two in a zip": (None, "the archive holds 2 files"),
    "sqlite": (b"SQLite format 3\0" + LOG, "is an SQLite database; export its table: sqlite3 -header -csv log.csv"),
    "pickle": (b"\x80\x04\x95" + LOG, "is a Python pickle; write its table as CSV or Parquet"),
    "hdf5": (b"\x89HDF\r\n" + LOG, "is an HDF5 file"),
    "old excel": (b"\xd0\xcf\x11\xe0" + LOG, "is an old Excel workbook (.xls); save it as CSV UTF-8"),
    "web page": (b"<!DOCTYPE html><html>", "is a web page and no data; fetch the file itself"),
    "json array": (b'[{"u": "a", "i": "x"}]', "the file is one JSON array; write one object a line: jq -c '.[]'"),
    "json array in lines": (b'[\n  {"u": "a"}\n]', "the file is one JSON array; write one object a line"),
    "json over lines": (b'{\n "u": "a",\n "t": 3}', "the file is JSON over several lines; write one object a line: jq"),
    "utf-16 without a mark": (LOG.decode().encode("utf-16-le"), "contains zero bytes, so it is not text, or UTF-16"),
    "utf-32": (LOG.decode().encode("utf-32"), "is UTF-32; save it as UTF-8: iconv"),
    "packed parquet": (gzip.compress(b"PAR1" + LOG), "is a packed table; unpack it"),
    "cut gzip": (gzip.compress(LOG * 999)[:40], "the compressed file ends in the middle"),
    "cut bz2": (bz2.compress(LOG * 999)[:40], "the compressed file ends in the middle"),
    "damaged bz2": (bz2.compress(LOG)[:20] + b"x" * 30, "the compressed file is damaged from here on"),
    "damaged xz": (lzma.compress(LOG)[:40] + b"x" * 30, "the compressed file is damaged from here on"),
    "half a letter in json": (b'{"u": "\\ud83d", "i": "x", "t": 3}', "log.csv:1: u '\\ud83d' holds half a letter"),
    "a form of times and no header": (b"a,x,01/31/2020\nb,y,02/01/2020\n", "'a,x,01/31/2020' looks like an event"),
    "cut utf-16": (LOG.decode().encode("utf-16") + b"a", "the file is not utf-16"),
    "blank first line": (b"\n" + LOG, "log.csv:1: the first line is blank"),
    "columns of JSON": (b'{"u": {"0": "a"}, "i": {"0": "x"}, "t": {"0": 3}}', "write one event a line, with plain"),
    "latin-1": ("u,i,t\né,x,3\n".encode("latin-1"), "log.csv:2: byte 1 of the line is not UTF-8"),
    "latin-1 header": ("u,i,t,é\na,x,3,4\n".encode("latin-1"), "log.csv:1: byte 7 of the line is not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("form", TOLD)
def test_what_cannot_be_read_is_named(tmp_path, form):
    data, told = TOLD[form]
    path = tmp_path / "log.csv"
    if data is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.csv", LOG)
            archive.writestr("b.csv", LOG)
    else:
        written(path, data)
    assert told in refused(path)


def test_a_long_quoted_field_is_read(tmp_path):
    text = "word, " * 60_000
    path = written(tmp_path / "log.csv", f'u,i,t,text\na,x,3,"{text}"\nb,y,4,"short, or so"\n')
    assert read(path) == ROWS
    assert [row[3] for row in read(path, {**OWN, "note": "text"})] == [text, "short, or so"]


@pytest.mark.parametrize("size", range(1, 40))
def test_a_block_never_ends_in_a_quoted_field(tmp_path, monkeypatch, size):
    monkeypatch.setattr("recbole_metarec.prepare.lines.read_blocks.__defaults__", ("", "", False, size))
    path = written(tmp_path / "log.csv", 'u,n,i,t\n"a","one\n\n","x","3"\n"b","\n,""\n","y",4\n')
    assert read(path) == ROWS


# -- headers -------------------------------------------------------------------------------------------------------

HEADLESS = {
    "a,x,3\nb,y,4\n": "u,i,t",
    "a::x::5::3\nb::y::5::4\n": "u,i,rating,t",
    "5\ta\tx\tz\t3\n5\tb\ty\tz\t4\n": "r,u,i,z,t",
    '"a","x","3"\n"b","y","4"\n': "u,i,t",
    "a x 3\nb y 4\n": "u,i,t",
}


@pytest.mark.parametrize("text", HEADLESS)
def test_columns_may_be_named_where_there_is_no_header(tmp_path, text):
    path, names = written(tmp_path / "log.dat", text), HEADLESS[text].split(",")
    assert read(path, names=names) == ROWS
    told = refused(path, names=[*names, "more"])
    assert f"log.dat:1: --columns names {len(names) + 1} columns, but the line has {len(names)} fields" in told


EVENT_FIRST = {
    "7,268,520,pv,1511544070\n7,233,520,pv,1511561733\n": "--columns user,item,x3,x4,time",
    "7::193::5::978300760\n": "--columns user,item,x3,time",
    "2014-04-07T10:51:09.277Z,7,268\n": "--columns time,user,item",
    "7;268;1511544070\n": "--columns user,item,time",
}


@pytest.mark.parametrize("text", EVENT_FIRST)
def test_a_first_line_that_is_an_event_is_no_header(tmp_path, text):
    path = written(tmp_path / "log.csv", text)
    told = refused(path)
    assert "log.csv:1: '" in told and "looks like an event, not a header" in told and told.endswith(EVENT_FIRST[text])
    fields = text.split("\n")[0].replace("::", ",").replace(";", ",").split(",")
    time = next(field for field in fields if times.looks_like_time(field) and len(field) > 8)
    assert "looks like an event" in refused(path, {"user": fields[0], "item": fields[1], "time": time})


def test_numbers_among_the_names_of_a_header_that_has_all_columns_are_names(tmp_path):
    assert read(written(tmp_path / "log.csv", "u,i,t,2019\na,x,3,7\nb,y,4,8\n")) == ROWS


# -- JSON ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_what_python_writes_for_no_number_is_read_in_json(tmp_path, value):
    lines = [f'{{"u": "a", "i": "x", "t": 3, "price": {value}}}', '{"u": "b", "i": "y: NaN, or", "t": 4, "price": 5}']
    path = written(tmp_path / "log.jsonl", "\n".join(lines))
    assert read(path) == [("a", "x", 3), ("b", "y: NaN, or", 4)]
    assert read(path, {**OWN, "rating": "price"}, skip_bad=True) == [("b", "y: NaN, or", 4, 5)]
    assert re.search(
        "log.jsonl:1: price is '-?(nan|inf)', which is no number", refused(path, {**OWN, "rating": "price"})
    )
    bad = written(tmp_path / "bad.jsonl", f'{lines[1]}\n{{"u": "a", "i": "x", "t": {value}}}\n{lines[0]}')
    assert read(bad, skip_bad=True) == [("b", "y: NaN, or", 4), ("a", "x", 3)]
    assert re.search("bad.jsonl:2: t is '-?(nan|inf)', which is no time", refused(bad))


NESTED = {
    '{"u": {"id": 3}, "i": "x", "t": 1}': "u is an object",
    '{"u": "a", "i": ["x", "y"], "t": 1}': "i is a list",
    '{"u": "a", "i": [], "t": 1}': "i is a list",
    '{"u": "a", "i": "x", "t": [1]}': "t is a list",
    '{"u": "a", "i": "x", "t": {"$date": 5}}': "t is an object",
}


@pytest.mark.parametrize("line", NESTED)
def test_nested_values_are_no_ids_and_no_times(tmp_path, line):
    path = written(tmp_path / "log.jsonl", f'{{"u": "[b]", "i": "{{y}}", "t": 4}}\n{line}\n')
    assert f"log.jsonl:2: {NESTED[line]}, where one" in refused(path)
    assert read(path, skip_bad=True) == [("[b]", "{y}", 4)]
    alone = refused(written(tmp_path / "one.jsonl", line))
    assert NESTED[line] in alone and "skip" not in alone


def test_a_field_that_no_line_has_is_told_with_those_that_are_there(tmp_path):
    told = refused(written(tmp_path / "log.jsonl", '{"u":"a","i":"x","ts":1}\n{"u":"b","i":"x","ts":2}\n'))
    assert "log.jsonl:1: there is no field t; the line has u, i, ts, and so on in every line; did you mean ts?" in told
    assert "skip_bad_lines" not in told
    some = refused(written(tmp_path / "log.jsonl", '{"u":"a","i":"x","ts":1}\n{"u":"b","i":"x","t":2}\n'))
    assert "log.jsonl:1: t is missing; fix the line, or leave out such lines with --skip_bad_lines" in some
