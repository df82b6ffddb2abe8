"""Parquet, Arrow and Excel files as programs write them: read right, or one line that says what they are."""

import io
import sys
import zipfile

import polars as pl
import pytest
from support.own_logs import ROWS, read, refused, written

from recbole_metarec.errors import DataError


@pytest.mark.parametrize("ending", ["pass", "import os; os.abort()", "raise MemoryError('2 EiB')"])
def test_a_table_that_ends_the_process_that_reads_it_is_told(tmp_path, monkeypatch, ending):
    monkeypatch.setattr("recbole_metarec.prepare.tables._TRIAL", ending)
    pl.DataFrame({"u": ["a"], "i": ["x"], "t": [3]}).write_parquet(tmp_path / "log.parquet")
    if ending == "pass":
        assert read(tmp_path / "log.parquet") == ROWS[:1]
    else:
        assert str(tmp_path / "log.parquet") in refused(tmp_path / "log.parquet")


def test_a_damaged_table_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("recbole_metarec.prepare.tables.check_readable", lambda *_: None)  # a process for each is slow
    whole = io.BytesIO()
    pl.DataFrame({"u": ["a"] * 99, "i": ["x"] * 99, "t": range(99)}).write_parquet(whole)
    for at in range(4, len(whole.getvalue()), 3):
        data = bytearray(whole.getvalue())
        data[at : at + 2] = b"\xff\x7f"
        try:
            read(written(tmp_path / "log.parquet", bytes(data)))
        except DataError as error:
            assert str(error).startswith(f"{tmp_path}") and "\n" not in str(error)


TABLES = {
    "categorical": lambda t: t.with_columns(pl.col("u", "i").cast(pl.Categorical), pl.col("t").cast(pl.String)),
    "categorical time": lambda t: t.with_columns(pl.col("t").cast(pl.String).cast(pl.Categorical)),
    "enum": lambda t: t.with_columns(pl.col("u").cast(pl.Enum(["a", "b"]))),
    "bytes": lambda t: t.with_columns(pl.col("u").cast(pl.Binary)),
    "float times": lambda t: t.with_columns(pl.col("t").cast(pl.Float64)),
    "decimal times": lambda t: t.with_columns(pl.col("t").cast(pl.Decimal(10, 2))),
    "nanoseconds": lambda t: t.with_columns((pl.col("t") * 10**9).cast(pl.Datetime("ns"))),
    "milliseconds": lambda t: t.with_columns((pl.col("t") * 1000).cast(pl.Datetime("ms", "Europe/Berlin"))),
    "unsigned": lambda t: t.with_columns(pl.col("t").cast(pl.UInt8)),
}


@pytest.mark.parametrize("ending", ["parquet", "arrow", "csv"])
@pytest.mark.parametrize("form", TABLES)
def test_columns_of_other_types_are_read_alike(tmp_path, form, ending):
    table = TABLES[form](pl.DataFrame({"u": ["a", "b"], "i": ["x", "y"], "t": [3, 4]}))
    path = tmp_path / f"log.{ending}"  # a table is told by what is in it
    table.write_ipc(path) if ending == "arrow" else table.write_parquet(path)
    assert read(path) == ROWS


def test_short_floats_that_round_times_are_told(tmp_path, caplog):
    caplog.set_level("WARNING")
    for stamps, is_told in (([3, 4], False), ([1600000001, 1600000002], True)):
        caplog.clear()
        columns = {"u": ["a", "b"], "i": ["x", "y"], "t": pl.Series(stamps, dtype=pl.Float32)}
        pl.DataFrame(columns).write_parquet(tmp_path / "log.parquet")
        read(tmp_path / "log.parquet")
        assert ("column t holds 32-bit floats, which round times such as 1600000000 to 128" in caplog.text) == is_told


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_nanoseconds_that_are_cut_are_told(tmp_path, caplog, zone):
    for stamps, is_told in (([1000, 5000], False), ([1000, 1001], True)):
        caplog.clear()
        times = pl.Series(stamps, dtype=pl.Datetime("ns", zone))
        pl.DataFrame({"u": ["a", "b"], "i": ["x", "y"], "t": times}).write_parquet(tmp_path / "log.parquet")
        assert [round(row[2] * 1e6) for row in read(tmp_path / "log.parquet")] == [1, stamps[1] // 1000]
        assert ("column t holds nanoseconds, which are read to the microsecond" in caplog.text) == is_told


def test_ids_of_columns_with_gaps_are_whole_again(tmp_path):
    for kind in (pl.Float64, pl.Float32, pl.Decimal(10, 2), pl.String, pl.Int64):
        ids = pl.Series("u", [12, 13, None, 7], dtype=pl.Int64).cast(kind)
        pl.DataFrame({"u": ids, "i": ["x"] * 4, "t": range(4)}).write_parquet(tmp_path / "log.parquet")
        assert "row 3: u is missing; fix the line, or leave out such rows" in refused(tmp_path / "log.parquet")
        assert [row[0] for row in read(tmp_path / "log.parquet", skip_bad=True)] == ["12", "13", "7"]
    pl.DataFrame({"u": [1.0, 2.0**53], "i": ["x"] * 2, "t": [1, 2]}).write_parquet(tmp_path / "log.parquet")
    assert "column u holds floats up to 9007199254740992, which have lost digits" in refused(tmp_path / "log.parquet")


NO_COLUMN = {
    "struct": ({"u": [{"a": 1}], "i": ["x"], "t": [1]}, "column u is of the type Struct"),
    "list": ({"u": ["a"], "i": [["x"]], "t": [1]}, "column i is of the type List"),
    "duration": ({"u": ["a"], "i": ["x"], "t": pl.Series([1], dtype=pl.Duration("us"))}, "where a time should be"),
    "clock": ({"u": ["a"], "i": ["x"], "t": pl.Series([1], dtype=pl.Time)}, "where a time should be"),
    "absent": ({"u": ["a"], "item": ["x"], "t": [1]}, "no column i; there are u, item, t"),
}  # fmt: skip


@pytest.mark.parametrize("form", NO_COLUMN)
def test_columns_that_can_be_no_ids_or_times_are_refused(tmp_path, form):
    columns, told = NO_COLUMN[form]
    pl.DataFrame(columns).write_parquet(tmp_path / "log.parquet")
    assert told in refused(tmp_path / "log.parquet")


SHEET = ["u", "i", "t"], ["a", "x", 3], ["b", "y", 4]


def workbook() -> bytes:
    """The least that is an Excel file."""
    cells = "".join(
        "<row>" + "".join(f"<c><v>{value}</v></c>" if isinstance(value, int) else
                          f'<c t="inlineStr"><is><t>{value}</t></is></c>' for value in row) + "</row>"
        for row in SHEET
    )  # fmt: skip
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    types = "http://schemas.openxmlformats.org/package/2006/content-types"
    of_rels = "http://schemas.openxmlformats.org/package/2006/relationships"
    rels = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    files = {
        "[Content_Types].xml": f'<Types xmlns="{types}"><Default Extension="rels" ContentType="application/vnd.'
        f'openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.'
        f'main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kind}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{of_rels}"><Relationship Id="r1" Type="{rels}/officeDocument" '
        'Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{rels}"><sheets>'
        '<sheet name="log" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{of_rels}"><Relationship Id="r1" Type="{rels}/worksheet" '
        'Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>',
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return file.getvalue()


def test_a_workbook_is_read_or_names_what_reads_it(tmp_path, monkeypatch):
    path = written(tmp_path / "log.xlsx", workbook())
    monkeypatch.setitem(sys.modules, "fastexcel", None)
    assert "is an Excel workbook; pip install 'recbole-metarec[excel]' to read it, or save it as CSV" in refused(path)
    monkeypatch.undo()
    pytest.importorskip("fastexcel")
    assert read(path) == ROWS
