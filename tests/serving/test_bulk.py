"""Recommendations for many users in one file: the same as one by one, whole or not there, in three formats."""

import random

import numpy as np
import polars as pl
import pytest
from support.tiny import tiny_metarec
from support.without_rights import rights_that_count

from recbole_metarec.data.histories import Histories
from recbole_metarec.data.sequences import SequenceStore
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.evaluation import best
from recbole_metarec.serve import Recommender
from recbole_metarec.serving.bulk import check_output, read_users, write_recommendations

N_ITEMS, N_USERS = 30, 57
ITEMS = ["[PAD]", *(f"item, {number}" for number in range(1, N_ITEMS))]


@pytest.fixture(scope="module")
def recommender():
    """Of a network, and histories by other numbers in which ``new`` is unknown to it, and all that user 3 has."""
    draw = random.Random(1)
    names = [*draw.sample(ITEMS[1:], N_ITEMS - 1), "new"]
    made = [draw.choices(range(1, N_ITEMS + 1), k=draw.randrange(1, 12)) for _ in range(N_USERS)]
    made[3] = [N_ITEMS]
    users, items = zip(*((user, item) for user, history in enumerate(made) for item in history))
    store = SequenceStore.from_events(np.array(users), np.array(items), N_ITEMS + 1)
    recommender = Recommender(tiny_metarec(n_target=N_ITEMS)[0], ITEMS)
    rows = {f"u{user}": row for row, user in enumerate(range(N_USERS))}
    held = Histories("shop.inter", (0, 0, 0), rows, store, names)
    recommender.histories = lambda: held
    return recommender


def read(path) -> pl.DataFrame:
    reader = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[path.suffix]
    return reader(path)


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("include_seen", [False, True])
def test_the_file_holds_what_each_user_would_be_told(recommender, ending, include_seen, tmp_path, monkeypatch):
    monkeypatch.setattr(best, "_USERS_PER_POOL", 10)
    users = [f"u{number}" for number in reversed(range(N_USERS))]
    found = write_recommendations(recommender, users, tmp_path / f"recs{ending}", 4, include_seen)
    assert (found.users, found.without) == (N_USERS - 1, 1)
    table = read(tmp_path / f"recs{ending}")
    assert table.columns == ["user", "rank", "item", "score"]
    assert table["user"].unique(maintain_order=True).to_list() == [user for user in users if user != "u3"]
    for (user,), rows in table.group_by("user"):
        history = [item for item in recommender.history_of(user) if recommender.knows(item)]
        alone = recommender.recommend(history, 4, include_seen)
        assert rows["rank"].to_list() == [1, 2, 3, 4] and rows["item"].to_list() == [item for item, _ in alone]
        assert rows["score"].to_list() == pytest.approx([score for _, score in alone], rel=1e-5)


def test_a_user_who_has_seen_nearly_all_gets_what_is_left(recommender, tmp_path):
    write_recommendations(recommender, ["u0", "u1"], tmp_path / "recs.csv", k=1000)
    table = read(tmp_path / "recs.csv")
    for user in ("u0", "u1"):
        left = set(ITEMS[1:]) - set(recommender.history_of(user))
        assert set(table.filter(pl.col("user") == user)["item"]) == left


def test_a_user_without_any_item_that_is_known_is_told_so(recommender):
    with pytest.raises(DataError, match="^user 'u3' has no item that the model was trained with"):
        recommender.recommend_user("u3")
    assert recommender.recommend_user("u4", 3) == [
        (item, pytest.approx(score, rel=1e-5))
        for item, score in recommender.recommend(
            [item for item in recommender.history_of("u4") if recommender.knows(item)], 3
        )
    ]


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_nothing_is_left_where_it_stops_midway(recommender, ending, tmp_path, monkeypatch):
    monkeypatch.setattr(best, "_USERS_PER_POOL", 10)
    file, rounds = tmp_path / f"recs{ending}", iter(range(2))
    file.write_text("as it was")
    scored = best._scores
    monkeypatch.setattr(best, "_scores", lambda *given: next(rounds) >= 0 and scored(*given))
    with pytest.raises(RuntimeError):  # a generator that a StopIteration ends
        write_recommendations(recommender, [f"u{number}" for number in range(N_USERS)], file)
    assert [path.name for path in tmp_path.iterdir()] == [file.name] and file.read_text() == "as it was"


def test_a_folder_that_may_not_be_written_to_is_refused_before_anything_is_scored(recommender, tmp_path, monkeypatch):
    monkeypatch.setattr(best, "_scores", None)
    tmp_path.chmod(0o555)
    with rights_that_count(), pytest.raises(DataError, match=r"recs.csv: cannot be written .*another --output"):
        write_recommendations(recommender, ["u0"], tmp_path / "recs.csv")
    with pytest.raises(DataError, match=r"no/recs.csv: cannot be written"):
        write_recommendations(recommender, ["u0"], tmp_path / "no" / "recs.csv")


def test_users_are_read_from_a_list(tmp_path):
    file = tmp_path / "users.txt"
    file.write_bytes("\ufeffu1\r\nu0\n\nü 2\nu1\n".encode())
    assert read_users(file, {"u0", "u1", "ü 2"}) == ["u1", "u0", "ü 2"]
    with pytest.raises(DataError, match=r"users.txt:2: 2 users are not in the data: 'u0', 'ü 2'; leave them out"):
        read_users(file, {"u1"})
    file.write_text("\n")
    with pytest.raises(DataError, match="it names no user"):
        read_users(file, {"u1"})
    file.write_bytes(b"\xff\xfe")
    for bad in (file, tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="no list of users can be read"):
            read_users(bad, {"u1"})


def test_an_ending_that_is_no_format_is_refused():
    with pytest.raises(ConfigError, match=r"--output recs.txt: .* use one of .parquet, .csv, .jsonl"):
        check_output("recs.txt")
