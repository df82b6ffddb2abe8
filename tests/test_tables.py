"""One table, read back from each of its four forms, holds the same: what was put in."""

import math
from dataclasses import dataclass

import pytest
from support.parsed import csv_rows, markdown_tables

from recbole_metarec import tables
from recbole_metarec.tables import COUNT, DIFFERENCE, INTERVAL, MEAN_STD, SECONDS, Column, Format, Table, csv_text

HOSTILE = "<b>a|b*_[x](y)\\ `c`\nd"


@dataclass(frozen=True)
class Row:
    name: str
    mean: float | None
    std: float | None = None
    low: float = -math.inf
    high: float = math.inf
    users: int = 1234


def level(row: Row) -> Row | None:
    return None if row.mean is None else row


COLUMNS = (
    Column("name", lambda row: row.name, name="name", left=True),
    Column("NDCG@10", level, MEAN_STD, "ndcg", minor="test", best=True, terminal="brief"),
    Column("interval", level, INTERVAL, "ndcg", terminal="none"),
    Column("Δ", level, DIFFERENCE, "apart"),
    Column("users", lambda row: row.users, COUNT, "users"),
    Column("empty", lambda row: None, name="empty"),
    Column(None, lambda row: row.name == "B", name="only_csv"),
)
ROWS = (Row("A", 0.12345, 0.01, 0.1, 0.2), Row(HOSTILE, 0.5), Row("C", None))
TABLE = Table(COLUMNS, ROWS, "Title *1*", "caption | x", ("a note <i>",))


def test_markdown_read_back_is_the_cells_and_nothing_else():
    ((*rows,),) = markdown_tables(TABLE.markdown())
    assert rows == [
        {"name": "A", "NDCG@10 test": "0.1235 ± 0.0100", "interval": "0.1000–0.2000", "Δ": "+0.1235 [+0.1000, +0.2000]",
         "users": "1,234"},
        {"name": HOSTILE.replace("\n", " "), "NDCG@10 test": "0.5000 ± n/a", "interval": "n/a", "Δ": "+0.5000 [n/a]",
         "users": "1,234"},
        {"name": "C", "NDCG@10 test": "–", "interval": "–", "Δ": "–", "users": "1,234"},
    ]  # fmt: skip
    assert "<" not in TABLE.markdown().replace("\\<", "") and "](" not in TABLE.markdown()


def test_csv_read_back_is_unrounded_with_every_named_column():
    rows = csv_rows(csv_text(TABLE.records()))
    names = "name ndcg_mean ndcg_std ndcg_low ndcg_high apart apart_low apart_high users empty only_csv"
    assert list(rows[0]) == names.split()
    for row, put_in in zip(rows, ROWS, strict=True):
        assert row["name"] == put_in.name and row["users"] == "1234" and row["empty"] == ""
        if put_in.mean is None:
            assert {row[key] for key in ("ndcg_mean", "ndcg_low", "apart")} == {""}
        else:
            numbers = [float(row[key]) for key in ("ndcg_mean", "ndcg_low", "ndcg_high", "apart")]
            assert numbers == [put_in.mean, put_in.low, put_in.high, put_in.mean]
    assert rows[1]["ndcg_std"] == "", "one seed has no deviation"


def test_records_of_several_tables_share_one_header():
    rows = csv_rows(csv_text([{"a": 1}, {"b": None, "c": "x,y\n"}]))
    assert rows == [{"a": "1", "b": "", "c": ""}, {"a": "", "b": "", "c": "x,y\n"}]


def test_the_terminal_is_brief_and_leaves_out_what_has_no_room_or_no_value():
    lines = TABLE.terminal().splitlines()
    assert lines[0] == "caption | x" and lines[2].split() == ["name", "NDCG@10", "Δ", "users"]
    assert lines[4].split() == ["A", "0.1235", "+0.1235", "[+0.1000,", "+0.2000]", "1,234"]
    assert lines[-1] == "a note <i>"
    assert Table(COLUMNS, (), notes=("none",)).terminal() == "none"


def test_columns_of_figures_end_at_one_place_and_text_begins_at_one():
    rows = (Row("A", 0.1, users=5), Row("Long name", 0.2, users=123456))
    lines = Table((COLUMNS[0], COLUMNS[4]), rows).grid().splitlines()[2:]
    assert len({len(line) for line in lines}) == 1
    assert [line[0] for line in lines] == ["A", "L"] and [line[-1] for line in lines] == ["5", "6"]


def test_cells_are_sorted_by_numbers_not_by_how_they_are_written():
    (_, scores, reach, _, users, *_) = zip(*TABLE.cells())
    assert [cell.sort for cell in scores] == [0.12345, 0.5, None] and [cell.best for cell in scores] == [
        False,
        True,
        False,
    ]
    assert [cell.sort for cell in reach] == [0.1, None, None], "an infinite end is no place"
    assert [cell.sort for cell in users] == [1234] * 3
    by_length = Column("x", lambda row: row.name, Format(sort=len))
    assert [row[0].sort for row in Table((by_length,), ROWS).cells()] == [1, len(HOSTILE), 1]


def test_where_all_are_zero_none_is_best():
    zeros = (Row("A", 0.0), Row("B", 0.0))
    assert not any(row[0].best for row in Table((COLUMNS[1],), zeros).cells())


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (90, "1.5 min"), (3600, "1.0 h"), (90000, "25.0 h")]
)
def test_durations(seconds, text):
    assert SECONDS.text(seconds) == text


def test_signs_of_differences():
    texts = [tables.signed(value) for value in (0.01, -0.01, 0.00001, -0.00001)]
    assert texts == ["+0.0100", "−0.0100", "0.0000", "0.0000"]
    assert [tables.percent(value) for value in (0.1234, -0.5)] == ["+12.3 %", "−50.0 %"]


@pytest.mark.parametrize(("p", "text"), [(0.5, "0.50"), (0.0123, "0.012"), (0.00042, "0.0004"), (0.00001, "< 0.0001")])
def test_probabilities(p, text):
    assert tables.probability(p) == text
