"""A store on a server: who is not let in is told in one line, and nothing but the way to it is different."""

import sqlite3
import threading
from time import sleep

import pytest
from support.fake_runs import found_by, planned, same
from support.postgres import PASSWORD

from recbole_metarec.errors import ConfigError, DataError, without_passwords
from recbole_metarec.jobs.store import SCHEMA_VERSION, RunStore

# a store as releases before this page's wrote it, by sqlite3
FORMAT_4 = """
CREATE TABLE user_lists (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, users BLOB NOT NULL);
CREATE TABLE runs (
    key TEXT PRIMARY KEY,
    model TEXT NOT NULL, dataset TEXT NOT NULL, sources TEXT NOT NULL, seed INTEGER NOT NULL,
    config TEXT NOT NULL, code TEXT NOT NULL, data TEXT NOT NULL, command TEXT NOT NULL,
    finished REAL NOT NULL, error TEXT,
    valid TEXT, test TEXT, guarded_test TEXT, history TEXT,
    unseen_valid TEXT, unseen_test TEXT, unseen_guarded_test TEXT,
    seconds REAL, peak_memory_mib REAL, parameters INTEGER, folder TEXT, versions TEXT,
    user_list INTEGER REFERENCES user_lists,
    test_ranks BLOB, unseen_test_ranks BLOB,
    valid_ranks BLOB);
PRAGMA application_id = 0x4D526563;
PRAGMA user_version = 4;
"""


def test_a_file_of_an_earlier_release_of_this_format_is_read_and_added_to(tmp_path):
    first, second = planned(tmp_path), planned(tmp_path, seed=2)
    with RunStore(tmp_path / "new.sqlite") as store:
        store.finish(first, found_by(first))
    with sqlite3.connect(tmp_path / "old.sqlite") as base:
        base.executescript(FORMAT_4)
        base.execute("ATTACH ? AS new", (str(tmp_path / "new.sqlite"),))
        for table in ("user_lists", "runs"):
            names = [row[1] for row in base.execute(f"PRAGMA main.table_info({table})")]
            base.execute(f"INSERT INTO main.{table} SELECT {', '.join(names)} FROM new.{table}")
    with RunStore(f"sqlite:///{tmp_path}/old.sqlite") as store:
        store.finish(second, found_by(second))
        results = store.results([first, second])
    assert all(same(found_by(run), result) for run, result in zip((first, second), results, strict=True))


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ("postgresql://me:secret@127.0.0.1:1/runs", DataError, "postgresql://me@127.0.0.1:1/runs: .*refused"),
        ("postgres://me:secret@nowhere.invalid/runs", DataError, "postgresql://me@nowhere.invalid/runs: .*nowhere"),
        ("postgresql://me:sec:ret@host:port/runs", ConfigError, "--store: postgresql://me@host:port/runs is not the U"),
        ("postgresql://me@host/runs?password=secret", ConfigError, "--store: a password is no part of a query; "),
        ("postgresql://me:my secret@host/runs", ConfigError, "--store: white space in a URL; write a space as %20"),
        ("mysql://me:secret@host/runs", ConfigError, "--store: mysql://me@host/runs cannot hold runs; use a file or "),
        (
            "nobase://me:secret@host/runs",
            ConfigError,
            "--store: nobase://me@host/runs cannot hold runs; use a file or ",
        ),
    ],
)
def test_what_is_no_server_is_said_in_one_line_without_the_password(place, error, message):
    with pytest.raises(error, match=message) as told:
        RunStore(place)
    assert "secret" not in str(told.value) and "\n" not in str(told.value)


def test_who_is_not_let_in_is_told_why(postgres):
    for url, why in {
        postgres.url("postgres", "wrong"): 'password authentication failed for user "shop"',
        postgres.url("absent"): 'database "absent" does not exist',
    }.items():
        with pytest.raises(DataError, match=why) as told:
            RunStore(url)
        assert "wrong" not in str(told.value) and PASSWORD not in str(told.value) and "\n" not in str(told.value)


def test_tables_of_others_are_refused_and_stay_as_they_are(postgres):
    place = postgres.new_database()
    name = place.rpartition("/")[2]
    postgres.execute(name, "CREATE TABLE runs (id integer)")
    with pytest.raises(DataError, match="it has a table of runs that is not this program's; choose another --store"):
        RunStore(place)
    assert postgres.execute(name, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("runs",)]
    postgres.execute(name, "DROP TABLE runs")
    postgres.execute(name, "CREATE TABLE trials (id integer)")  # Optuna's may be in the same database
    RunStore(place).__exit__()
    postgres.execute(name, f"UPDATE run_store SET format = {SCHEMA_VERSION + 1}")
    with pytest.raises(DataError, match=f"by another release .format {SCHEMA_VERSION + 1}, .*choose another --store"):
        RunStore(place)


def test_the_password_stays_out_of_what_another_process_is_told(postgres):
    place = postgres.new_database()
    with RunStore(place) as store:
        assert store.name == without_passwords(place) != place
        assert store.environment == {"PGPASSWORD": PASSWORD}


def test_a_claim_outlives_the_time_after_which_a_server_ends_idle_sessions(postgres, tmp_path):
    run, place = planned(tmp_path), postgres.new_database()
    with RunStore(place):
        pass
    postgres.execute("postgres", f"ALTER DATABASE {place.rpartition('/')[2]} SET idle_session_timeout = 50")
    with RunStore(place) as store, store.claimed(run) as mine:
        sleep(0.5)
        assert mine and store.status(run) == "running"


def test_a_server_that_is_restarted_is_waited_for(postgres, tmp_path):
    run, place = planned(tmp_path), postgres.new_database()
    with RunStore(place) as store, store.claimed(run) as mine:
        assert mine and store.status(run) == "running"
        postgres.stop()

        def start():
            sleep(1.5)
            postgres.start()

        starting = threading.Thread(target=start)
        starting.start()
        store.finish(run, found_by(run))
        starting.join()
        assert store.status(run) == "done"
