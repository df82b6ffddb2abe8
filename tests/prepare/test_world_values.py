"""Ids and times as the world writes them, and what ``recbole-metarec prepare`` makes of them and tells."""

import json

import polars as pl
import pytest
from support.own_logs import LOG, OPTIONS, OWN, read, refused, written

from recbole_metarec.cli import main as cli
from recbole_metarec.data.writer import read_about
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.prepare import times
from recbole_metarec.prepare.forms import own_form
from recbole_metarec.prepare.rows import RowReader

# -- ids -----------------------------------------------------------------------------------------------------------

SPELLINGS = ["alice", " alice", "alice ", "\talice", "alice\u00a0", "  alice  ", "alice\u200b", "\ufeffalice"]
FORMS = {
    "csv": lambda ids: "u,i,t\n" + "".join(f'"{name}",x,{at}\n' for at, name in enumerate(ids)),
    "jsonl": lambda ids: "".join(json.dumps({"u": name, "i": "x", "t": at}) + "\n" for at, name in enumerate(ids)),
    "parquet": lambda ids: pl.DataFrame({"u": ids, "i": ["x"] * len(ids), "t": range(len(ids))}),
}


def ids_read(tmp_path, form, ids):
    path, data = tmp_path / f"log.{form}", FORMS[form](ids)
    data.write_parquet(path) if form == "parquet" else written(path, data)
    reader = RowReader(path, own_form(path, OWN))
    return [name for frame in reader.frames() for name in frame["user"]], dict(reader.changes)


@pytest.mark.parametrize("form", FORMS)
def test_one_id_is_one_id_however_it_is_spelled(tmp_path, form):
    assert ids_read(tmp_path, form, SPELLINGS) == (["alice"] * 8, {"trimmed": 7, "composed": 0, "whole": 0})
    names, changes = ids_read(tmp_path, form, ["\u00e9", "e\u0301", "12", "12.0", "-3.00", "1.5", "v1.0"])
    assert names == ["\u00e9", "\u00e9", "12", "12", "-3", "1.5", "v1.0"]
    assert changes == {"trimmed": 0, "composed": 1, "whole": 2}
    assert ids_read(tmp_path, form, ["a", "b c", "007"]) == (["a", "b c", "007"], {})


@pytest.mark.parametrize(
    "name, told",
    [
        ("  ", "u is missing"),
        ("\\N", "u is missing"),
        ("1.23457E+12", "is a rounded number that has lost"),
        ("1,23457E+12", "is a rounded number that has lost"),
        ("1E+12", "is a rounded number that has lost"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_ids_that_are_none_are_refused(tmp_path, form, name, told):
    with pytest.raises(DataError, match=told):
        ids_read(tmp_path, form, ["alice", name])


# -- times ---------------------------------------------------------------------------------------------------------

SECOND = 1396867869  # 2014-04-07T10:51:09Z
ISO = {
    "2014-04-07 10:51:09.277+00": SECOND + 0.277, "2014-04-07 10:51:09+00": SECOND, "2014-04-07 10:51:09 UTC": SECOND,
    "2014-04-07T10:51:09Z": SECOND, "2014-04-07T12:51:09+02:00": SECOND, "2014-04-07T07:21:09-0330": SECOND,
    "20140407T105109Z": SECOND, "20140407T125109+02": SECOND, "2014-W15-1T10:51:09": SECOND, "2014W151T105109": SECOND,
    "2014-097T10:51:09": SECOND, "2014097T105109Z": SECOND, "2014-04-07T10:51:09,5": SECOND + 0.5,
    "2014-04-07T10:51": SECOND - 9, "2014-04-07T10.5": SECOND - 21 * 60 - 9, "2014-04-07T10": SECOND - 51 * 60 - 9,
    "2014-04-07": SECOND - 39069, "2014-04": SECOND - 39069 - 6 * 86400, "2014-04-06T24:00:00": SECOND - 39069,
    "2014-04-07t10:51:09z": SECOND, "2014-04-07 10:51:09.123456789 UTC": SECOND + 0.123457,
}  # fmt: skip


@pytest.mark.parametrize("text", ISO)
def test_every_form_of_iso_8601_is_read(tmp_path, text):
    path = written(tmp_path / "log.csv", f'u,i,t\na,x,"{text}"\na,y,2014-04-07T10:51:10Z\n')
    assert [row[2] for row in read(path)] == [ISO[text], SECOND + 1]


@pytest.mark.parametrize("text", ["2014-13-01", "2014-02-30", "2014-04-07T25:00", "2014-W54-1", "2014-367",
                                  "2014-04-07T10:61", "2014-04-07T10:51:09+99", "2014-04-07T"])  # fmt: skip
def test_dates_that_are_none_are_refused(tmp_path, text):
    path = written(tmp_path / "log.csv", f"u,i,t\na,x,2014-04-07\na,y,{text}\n")
    told = refused(path)
    assert f"log.csv:3: t is '{text}', which is no" in told and told.endswith("--skip_bad_lines")


OTHERS = {
    "01/31/2023": ("%m/%d/%Y", 1675123200), "31.01.2023 12:30": ("%d.%m.%Y %H:%M", 1675168200),
    "1/31/2023 9:05:07 AM": ("%m/%d/%Y %I:%M:%S %p", 1675155907), "31 Jan 2023": ("%d %b %Y", 1675123200),
    "Tue Jan 31 12:30:05 +0100 2023": ("%a %b %d %H:%M:%S %z %Y", 1675164605),
    "2023/01/31 12:30:05.25": ("%Y/%m/%d %H:%M:%S.%f", 1675168205.25),
}  # fmt: skip


@pytest.mark.parametrize("text", OTHERS)
def test_other_forms_are_told_once_with_the_option_that_reads_them(tmp_path, text):
    form, second = OTHERS[text]
    path = written(tmp_path / "log.csv", "u,i,t\n" + f'a,x,"{text}"\n' * 3)
    told = refused(path)
    assert f"log.csv:2: t is '{text}', which is no time that is read (numbers, and ISO 8601 dates" in told
    assert "and so on in every line; say --time_format " in told and repr(form) in told and "skip" not in told
    assert {row[2] for row in read(path, time_format=form)} == {second}
    assert "; fix --time_format" in refused(path, time_format="%d|%m|%Y")


@pytest.mark.parametrize("form", ["%H:%M", "soon", "%Y-%m-%d %H"])
def test_a_time_format_that_tells_no_time_is_refused(form):
    with pytest.raises(ConfigError, match="--time_format: .* cannot be used"):
        times.check_format(form)


def test_names_of_zones_are_not_taken_for_zones():
    with pytest.raises(ConfigError, match="--time_format: names of zones .%Z. are not read"):
        times.check_format("%Y-%m-%d %H:%M:%S %Z")


def test_the_fast_way_to_read_dates_is_the_slow_one(monkeypatch):
    texts = [f"{day}{clock}" for day in ("1969-12-31", "2016-02-29", "2015-02-29", "0001-01-01", "9999-12-31")
             for clock in ("", "T00:00:00", "T23:59:59Z", " 23:59:59.5", " 10:00:00.123456 UTC", "T24:00:00",
                           "T10:60:00", "T10:00:60", " 10:00:00.1234567")]  # fmt: skip
    fast = [times.as_numbers(pl.Series([text]), True)[0] for text in texts]
    monkeypatch.setattr(times, "_plain_dates", lambda text: None)
    assert fast == [times.as_numbers(pl.Series([text]), True)[0] for text in texts]
    assert any(fast) and None in fast


# -- the whole command ---------------------------------------------------------------------------------------------


def prepared(capsys, *argv) -> str:
    assert cli.main(["prepare", *map(str, argv)]) == 0
    return capsys.readouterr().out


def error_of(capsys, *argv) -> str:
    assert cli.main(["prepare", *map(str, argv)]) == 2
    return capsys.readouterr().err


def table(folder, ending) -> list[tuple]:
    name = folder.name
    text = (folder / f"{name}.{ending}").read_text(encoding="utf-8")
    return [tuple(line.split("\t")) for line in text.splitlines()[1:]]


@pytest.mark.usefixtures("fresh_cache")
class TestCommand:
    def test_times_in_two_units_are_no_order(self, tmp_path, capsys):
        raw = written(tmp_path / "log.csv", "u,i,t\na,old,1600000000000\na,new,1700000000\n")
        told = error_of(capsys, "D", "--raw", raw, *OPTIONS)
        assert "t 1700000000 would be a time in seconds, but 1600000000000 in a line before in milliseconds" in told
        assert not (tmp_path / "dataset").exists()

    @pytest.mark.parametrize(("form", "clock"), [("%Y%m%d", ""), ("%Y%m%d%H%M", "2359"), ("%Y%m%d%H%M%S", "235959")])
    def test_dates_that_are_written_as_numbers_are_noted(self, form, clock, tmp_path, capsys):
        raw = written(tmp_path / "log.csv", f"u,i,t\na,x,20230131{clock}\na,y,20230201{clock}\n")
        told = f"times such as 20230131{clock} stay numbers, in the right order; --time_format {form} reads them"
        assert told in prepared(capsys, "D", "--raw", raw, *OPTIONS)
        prepared(capsys, "D", "--raw", raw, *OPTIONS, "--time_format", form, "--overwrite")
        second = sum(int(clock[at : at + 2] or 0) * size for at, size in ((0, 3600), (2, 60), (4, 1)))
        assert table(tmp_path / "dataset" / "D", "inter")[0][3] == str(1675123200 + second)
        written(raw, f"u,i,t\na,x,20230131{clock}\na,y,20230231{clock}\n")  # there is no such day
        assert "stay numbers" not in prepared(capsys, "D", "--raw", raw, *OPTIONS, "--overwrite")

    def test_dates_that_are_written_as_numbers_are_read(self, tmp_path, capsys):
        raw = written(tmp_path / "log.csv", "u,i,t\na,x,20230131\na,y,20230201\n")
        pl.DataFrame({"u": ["a"], "i": ["x"], "t": [20230131]}).write_parquet(tmp_path / "log.parquet")
        for file in (raw, tmp_path / "log.parquet"):
            more = ["--time_format", "%Y%m%d", "--overwrite"]
            assert "%Y%m%d" not in prepared(capsys, "D", "--raw", file, *OPTIONS, *more)
            assert table(tmp_path / "dataset" / "D", "inter")[0][3] == "1675123200"

    def test_when_no_line_can_be_used_the_reason_is_told(self, tmp_path, capsys):
        raw = written(tmp_path / "log.csv", "u,i,t\n" + "a,x,soon\n" * 5)
        told = error_of(capsys, "D", "--raw", raw, *OPTIONS, "--skip_bad_lines")
        assert "none of its 5 lines can be used; line 2: t is 'soon'" in told and "say with --time_format" in told

    def test_what_was_changed_in_ids_is_noted(self, tmp_path, capsys):
        raw = written(tmp_path / "log.csv", "u, i, t\n12.0, x, 1\n 12, e\u0301, 2\n")
        out = prepared(capsys, "D", "--raw", raw, *OPTIONS)
        assert "3 ids had spaces around them" in out and "1 ids were whole numbers with a fraction of nothing" in out
        assert "1 ids were written with decomposed letters" in out
        assert [row[:2] for row in table(tmp_path / "dataset" / "D", "inter")] == [("12", "x"), ("12", "\u00e9")]

    def test_an_item_without_a_text_has_a_line(self, tmp_path, capsys):
        raw = written(tmp_path / "log.csv", LOG + b"a,z,5\n")
        items = written(tmp_path / "items.csv", "item,title\n x,A hat\ny,\nw,never met\n")
        out = prepared(capsys, "D", "--raw", raw, *OPTIONS, "--items", items, "--text", "title", "--id_column", "item")
        assert "1 of 3 items have a text, from items.csv" in out
        assert table(tmp_path / "dataset" / "D", "item") == [("x", "A hat"), ("y", ""), ("z", "")]

    def test_zeros_that_one_side_has_lost_are_recognised(self, tmp_path, capsys):
        raw = written(tmp_path / "log.csv", "u,i,t\na,7,1\na,8,2\n")
        items = written(tmp_path / "items.csv", "i,title\n0007,A hat\n0008,A cap\n")
        told = error_of(capsys, "D", "--raw", raw, *OPTIONS, "--items", items, "--text", "title")
        assert "items.csv: items such as '0007' are '7' in the events, so one side has lost its leading zeros" in told

    def test_two_texts_of_one_item_are_told(self, tmp_path, capsys, caplog):
        raw = written(tmp_path / "log.csv", LOG)
        items = written(tmp_path / "items.csv", "i,title\nx,\nx,A hat\nx,A cap\nx,A hat\ny,A bag\n")
        caplog.set_level("WARNING")  # whatever an earlier run has left RecBole's root logger at
        prepared(capsys, "D", "--raw", raw, *OPTIONS, "--items", items, "--text", "title")
        assert "1 lines give another text of an item, such as 'x'; the first is kept" in caplog.text
        assert table(tmp_path / "dataset" / "D", "item") == [("x", "A hat"), ("y", "A bag")]

    def test_recbole_s_copy_beside_an_item_file_of_other_columns_is_prepared(self, tmp_path, capsys):
        inter = "user_id:token\titem_id:token\ttimestamp:float\n1\t10\t100\n1\t11\t101\n"
        raw = written(tmp_path / "m.inter", inter)
        written(tmp_path / "m.item", "product:token\tapp_name:token_seq\n10\tTitle A\n")
        out = prepared(capsys, "D", "--raw", raw)
        told = " ".join(out.split())
        assert "no item texts: m.item has no column item_id" in told and "--text app_name --id_column product" in told
        assert not (tmp_path / "dataset" / "D" / "D.item").exists() and len(table(tmp_path / "dataset/D", "inter")) == 2
        more = ["--items", tmp_path / "m.item", "--text", "app_name", "--id_column", "product"]
        prepared(capsys, "E", "--raw", raw, *more)
        assert table(tmp_path / "dataset" / "E", "item") == [("10", "Title A"), ("11", "")]
        assert "m.item:1: has no column item_id" in error_of(
            capsys, "F", "--raw", raw, "--metadata", tmp_path / "m.item"
        )
        assert read_about(tmp_path / "dataset", "D")["texts_from"] is None

    @pytest.mark.parametrize("lines", ["", "z\tq\n", "1\t\n"])
    def test_recbole_s_copy_beside_an_item_file_without_texts_is_prepared(self, tmp_path, capsys, lines):
        written(tmp_path / "m.inter", "user_id:token\titem_id:token\ttimestamp:float\nu\t1\t3\n")
        written(tmp_path / "m.item", "item_id:token\ttitle:token_seq\n" + lines)
        out = prepared(capsys, "shop", "--raw", tmp_path / "m.inter", "--data_path", tmp_path / "out")
        assert "no item texts: m.item has no text for any item of the events" in out

    def test_what_to_say_about_columns_of_other_names(self, tmp_path, capsys):
        out = "--data_path", tmp_path / "out"
        written(tmp_path / "m.inter", "session_id:token\titem_id:token\ttimestamp:float\nu\t1\t3\n")
        assert "say --user, --item and --time" in error_of(capsys, "shop", "--raw", tmp_path / "m.inter", *out)
        log = "--raw", written(tmp_path / "log.csv", LOG), *OPTIONS, *out, "--text", "title", "--items"
        told = error_of(capsys, "shop", *log, written(tmp_path / "items.csv", "sku,title\nx,A\n"))
        assert "say with --id_column which one names the item" in told
        told = error_of(capsys, "shop", *log, written(tmp_path / "items.csv", "1,A\n2,B\n"))
        assert "'1,A' looks like an item, not a header; put the names of the columns on top" in told
        told = error_of(capsys, "shop", *log, written(tmp_path / "items.jsonl", '{"i": "x", "name": "A"}\n'))
        assert "items.jsonl:1: there is no field title; the line has i, name" in told

    def test_a_rating_that_is_no_number_is_refused(self, tmp_path, capsys):
        for rating in ("nan", "inf"):
            log = written(tmp_path / "log.csv", f"u,i,t,r\na,x,3,{rating}\n")
            told = error_of(capsys, "shop", "--raw", log, *OPTIONS, "--rating", "r", "--data_path", tmp_path / "out")
            assert f"r is '{rating}', which is no number" in told

    def test_a_folder_of_parts_is_told(self, tmp_path, capsys):
        told = error_of(capsys, "shop", "--raw", tmp_path, *OPTIONS, "--data_path", tmp_path / "out")
        assert f"--raw: {tmp_path} is a folder; name the one file in it" in told

    def test_options_that_do_not_go_together(self, tmp_path, capsys):
        raw = written(tmp_path / "log.csv", LOG)
        for more, told in (
            (["--form", "ml-1m", *OPTIONS], "--form: already says which columns are read"),
            (["--form", "ml1m"], "--form: ml1m is no public set that is known here; did you mean ml-1m?"),
            (["--columns", "u,i,t"], "--columns: goes with a log of your own"),
            (["--time_format", "%Y"], "--time_format: goes with a log of your own"),
            (["--id_column", "x", *OPTIONS], "--id_column: names a column of --items FILE"),
        ):
            assert f"error: {told}" in error_of(capsys, "D", "--raw", raw, *more)
        assert "--raw: not given; fetch the set from https://grouplens.org" in error_of(capsys, "D", "--form", "ml-1m")
