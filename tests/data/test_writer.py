"""Domains written as atomic files are read back as what they were."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recbole_metarec.data.item_texts import read_item_texts
from recbole_metarec.data.reader import ReadSpec, read_domain
from recbole_metarec.data.text_file import read_columns
from recbole_metarec.data.writer import read_about, write_domain, written_together
from recbole_metarec.errors import DataError
from recbole_metarec.files import replace_folders

EVENTS = pl.DataFrame(
    {
        "user_id": ["b", "a", "b", "a", "b"],
        "item_id": ["y", "x", "x", "y", "z"],
        "time": [1700000007, 1700000002, 1700000001, 1700000002, 1700000007],
        "rating": [5.0, 4.0, 3.0, 2.0, 1.0],
    }
)
ITEMS = pl.DataFrame({"item_id": ["z", "y", "x", "w"], "text": ['"q" one\ttwo\nthree ', None, "é\x00e", "unused"]})
FORM = ("item_id", "\t", "utf-8")


def test_histories_are_in_time_and_equal_times_in_the_order_of_the_rows(tmp_path):
    folder = write_domain(tmp_path, "Shop", EVENTS)
    file = read_columns(folder / "Shop.inter")
    assert file.frame.select("user_id", "item_id", "timestamp").rows() == [
        ("b", "x", "0"),
        ("b", "y", "1"),
        ("b", "z", "2"),
        ("a", "x", "0"),
        ("a", "y", "1"),
    ]
    assert file["original_timestamp"].to_list()[:3] == ["1700000001", "1700000007", "1700000007"]
    assert list(file.header.types.values()) == ["token", "token", "float", "float", "float"]
    summary = read_domain(folder / "Shop.inter", ReadSpec()).summary
    assert (summary.events, summary.users, summary.items) == (5, 2, 3)
    assert summary.moved_float32 == summary.time_ties == 0


@pytest.mark.parametrize("in_time", [True, False])
def test_users_come_in_the_order_of_their_first_row_and_numbers_stand_for_names(tmp_path, in_time):
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 9, 60), rng.integers(0, 7, 60)
    times = np.arange(60) if in_time else rng.integers(0, 5, 60)
    if in_time:
        users.sort()
    users = 8 - users
    numbered = pl.DataFrame({"user_id": users, "item_id": items, "time": times})
    names = {"user_id": pl.Series(list("hgfedcbai")), "item_id": pl.Series(list("xyzuvwt"))}
    spelled = numbered.with_columns(texts.gather(numbered[column]).alias(column) for column, texts in names.items())
    plain = {}
    for at, (user, item, time) in enumerate(spelled.rows()):
        plain.setdefault(user, []).append((time, at, item))
    expected = [
        (user, item, rank, time)
        for user, rows in plain.items()
        for rank, (time, _, item) in enumerate(sorted(rows, key=lambda row: row[:2]))
    ]
    first = write_domain(tmp_path, "One", spelled)
    second = write_domain(tmp_path, "Two", numbered, names=names)
    assert (first / "One.inter").read_bytes() == (second / "Two.inter").read_bytes()
    assert pl.read_csv(first / "One.inter", separator="\t").rows() == expected


def test_texts_stay_on_one_line_and_only_of_items_with_events(tmp_path):
    folder = write_domain(tmp_path, "Shop", EVENTS, ITEMS, about={"simulated": True})
    assert len(read_columns(folder / "Shop.item")) == 3
    texts = read_item_texts(folder / "Shop.item", ["[PAD]", "x", "y", "z"], ["text"], *FORM)
    assert texts == ["", "é e", "", 'q" one two three']
    assert read_about(tmp_path, "Shop") == {"name": "Shop", "events": 5, "users": 2, "items": 3, "simulated": True}
    assert read_about(tmp_path, "Other") == {}


@pytest.mark.parametrize("bad", ["NA", "null", "", '"x"', "a\tb", "a\nb", "a\0b", None])
def test_an_id_that_would_be_misread_is_refused_and_nothing_is_left(tmp_path, bad):
    events = EVENTS.with_columns(pl.Series("item_id", ["y", "x", bad, "y", "z"], dtype=pl.String))
    with pytest.raises(DataError, match="item_id .* would be read as something else"):
        write_domain(tmp_path, "Shop", events)
    assert list(tmp_path.iterdir()) == []


def test_a_domain_is_replaced_only_when_told(tmp_path):
    write_domain(tmp_path, "Shop", EVENTS, ITEMS)
    with pytest.raises(DataError, match="is there already"):
        write_domain(tmp_path, "Shop", EVENTS)
    write_domain(tmp_path, "Shop", EVENTS.head(1), overwrite=True)
    assert json.loads((tmp_path / "Shop" / "Shop.json").read_text())["events"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["Shop"]
    assert not (tmp_path / "Shop" / "Shop.item").exists()


def test_what_is_no_domain_is_never_deleted(tmp_path):
    folder = write_domain(tmp_path, "Shop", EVENTS)
    (folder / "Shop.truth.json").write_text("{}")
    write_domain(tmp_path, "Shop", EVENTS, overwrite=True)
    (folder / "raw").mkdir()
    (folder / "clicks.csv").write_text("u,i,t")
    with pytest.raises(
        DataError, match="holds clicks.csv, raw beside the domain, which --overwrite would delete; move"
    ):
        write_domain(tmp_path, "Shop", EVENTS.head(1), overwrite=True)
    assert (folder / "clicks.csv").read_text() == "u,i,t" and read_about(tmp_path, "Shop")["events"] == 5
    (tmp_path / "File").write_text("mine")
    with pytest.raises(DataError, match="File: is a file and no domain"):
        write_domain(tmp_path, "File", EVENTS, overwrite=True)
    assert (tmp_path / "File").read_text() == "mine"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("call", range(5))
def test_whenever_it_is_interrupted_all_folders_are_as_they_were(tmp_path, monkeypatch, error, before, call):
    """At each of the five renames of three folders, one of them new, just before it is done and just after."""
    for name in "ac":
        write_domain(tmp_path, name, EVENTS)
    paths, rename, calls = sorted(tmp_path.rglob("*")), Path.rename, []
    contents = {path: path.read_bytes() for path in paths if path.is_file()}

    def interrupted(path, to):
        calls.append(path)
        if before and len(calls) == call + 1:
            raise error
        rename(path, to)
        if len(calls) == call + 1:
            raise error

    def replace():
        with written_together(tmp_path, "abc", overwrite=True) as place:
            for name in "abc":
                write_domain(place, name, EVENTS.head(1))
            monkeypatch.setattr(Path, "rename", interrupted)

    with pytest.raises((KeyboardInterrupt, DataError)):
        replace()
    assert sorted(tmp_path.rglob("*")) == paths
    assert {path: path.read_bytes() for path in contents} == contents
    replace()
    assert [read_about(tmp_path, name)["events"] for name in "abc"] == [1, 1, 1]


def test_an_old_domain_that_cannot_be_put_back_is_kept(tmp_path, monkeypatch):
    write_domain(tmp_path, "Shop", EVENTS)
    rename = Path.rename

    def only_the_first(path, to):
        monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        return rename(path, to)

    (tmp_path / "built").mkdir()
    monkeypatch.setattr(Path, "rename", only_the_first)
    with pytest.raises(OSError):
        replace_folders({tmp_path / "built": tmp_path / "Shop"})
    assert (next(tmp_path.glob(".Shop.old.*")) / "old" / "Shop.inter").is_file()


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    folder = write_domain(tmp_path, "Shop", EVENTS)
    before = (folder / "Shop.inter").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_csv", full)
    with pytest.raises(DataError, match="No space left"):
        write_domain(tmp_path, "Shop", EVENTS.head(1), overwrite=True)
    assert (folder / "Shop.inter").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["Shop"]


def test_no_event_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no event is left"):
        write_domain(tmp_path, "Shop", EVENTS.head(0))
