"""Runs and what they found, in one SQLite file that several processes may write.

Every write is one immediate transaction, so a run is in the file whole or not at all, whatever is killed when. The
journal is SQLite's default one and not a write-ahead log: writes are few, and so the file can be copied and mailed.
"""

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time

import numpy as np

from recbole_metarec.errors import DataError
from recbole_metarec.evaluation.results import FailedRun, RunResult
from recbole_metarec.files import no_empty_file_left
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.owner import Owner

SCHEMA_VERSION = 1
_APPLICATION = 0x4D526563  # "MRec": SQLite keeps it in the file's head, and `file` shows it
_WAIT_SECONDS = 120.0  # for the lock of another process, which holds it for milliseconds

_SCHEMA = (
    """CREATE TABLE user_lists (  -- users that have a test row, sorted; most runs on a target share one list
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, users BLOB NOT NULL)  -- JSON list, zlib""",
    """CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again: one claim of one process
    key TEXT NOT NULL UNIQUE,  -- of model, config, seed, code and data
    model TEXT NOT NULL, dataset TEXT NOT NULL, sources TEXT NOT NULL, seed INTEGER NOT NULL,
    config TEXT NOT NULL, code TEXT NOT NULL, data TEXT NOT NULL, command TEXT NOT NULL, trials INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed')), error TEXT,
    host TEXT, pid INTEGER, process_started REAL, heartbeat REAL,
    started REAL NOT NULL, finished REAL, seconds REAL, peak_memory_mib REAL, parameters INTEGER, epochs INTEGER,
    folder TEXT, versions TEXT,
    user_list INTEGER REFERENCES user_lists, test_ranks BLOB)  -- int32, little endian, in the list's order""",
    """CREATE TABLE metrics (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, split TEXT NOT NULL CHECK (split IN ('valid', 'test')),
    guarded INTEGER NOT NULL, name TEXT NOT NULL, value REAL, UNIQUE (run, split, guarded, name))""",
    """CREATE TABLE epochs (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, epoch INTEGER NOT NULL,
    train_loss REAL, valid_score REAL, seconds REAL, PRIMARY KEY (run, epoch)) WITHOUT ROWID""",
)
_EPOCH_COLUMNS = ("epoch", "train_loss", "valid_score", "seconds")


class RunStore:
    """The runs in one file, which is made if it is absent. One object per thread; a context manager.

    Every method raises DataError, in one line, if the file cannot be read or written or is something else.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        with no_empty_file_left(self.path):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._base = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)
            except (OSError, sqlite3.Error) as error:
                raise DataError(f"{path}: cannot be opened ({error}); choose another --store") from None
            self._base.row_factory = sqlite3.Row
            try:
                self._prepare()
            except BaseException:
                self._base.close()
                raise

    def __enter__(self) -> "RunStore":
        return self

    def __exit__(self, *_) -> None:
        self._base.close()

    def _prepare(self) -> None:
        with self._translated():
            self._base.execute("PRAGMA foreign_keys = ON")
        with self._transaction() as base:
            application, version = (
                base.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            )
            empty = base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if empty:
                for statement in _SCHEMA:
                    base.execute(statement)
                base.execute(f"PRAGMA application_id = {_APPLICATION}")
                base.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif application != _APPLICATION:
                raise DataError(f"{self.path}: an SQLite file, but not one of runs; choose another --store")
            elif version != SCHEMA_VERSION:
                raise DataError(
                    f"{self.path}: written by another release (format {version}, this one has {SCHEMA_VERSION}); "
                    "choose another --store or use that release"
                )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise DataError(
                f"{self.path}: {error}; check that it is a store of runs, its permissions and the space on its disk"
            ) from None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything within happens at once for all other processes, or not at all."""
        with self._translated():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
                self._base.execute("COMMIT")
            except BaseException:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise

    # -- the life of a run ---------------------------------------------------------------------------------------

    def claim(self, run: PlannedRun) -> int | None:
        """Takes a run in hand for this process: its number in the file, or None if it is done or in other hands.

        What failed before, or was left by a process that is gone, may be claimed again.
        """
        with self._transaction() as base:
            if self._status(base, run) in ("done", "running"):
                return None
            return self._begin(base, run, Owner.this_process())

    def _begin(self, base: sqlite3.Connection, run: PlannedRun, owner: Owner | None) -> int:
        base.execute("DELETE FROM runs WHERE key = ?", (run.key,))
        values = {
            **{name: getattr(run, name) for name in ("key", "model", "dataset", "seed", "code", "data", "command")},
            "sources": json.dumps(run.sources),
            "config": json.dumps(run.config, sort_keys=True, default=str),
            "trials": run.trials,
            "folder": run.folder,
            "status": "running",
            **({"host": owner.host, "pid": owner.pid, "process_started": owner.started} if owner else {}),
            "started": time(),
            "heartbeat": time(),
        }
        return _insert(base, "runs", values)

    def _status(self, base: sqlite3.Connection, run: PlannedRun) -> str:
        row = base.execute("SELECT * FROM runs WHERE key = ?", (run.key,)).fetchone()
        if row is None:
            return "missing"
        if row["status"] != "running":
            return row["status"]
        owner = Owner(row["host"], row["pid"], row["process_started"])
        return "running" if owner.is_alive(time() - row["heartbeat"]) else "missing"

    def status(self, run: PlannedRun) -> str:
        """``done``, ``failed``, ``running`` (in the hands of a process that lives) or ``missing``."""
        with self._translated():
            return self._status(self._base, run)

    def beat(self, number: int) -> None:
        """Says that the process of this run still works."""
        with self._transaction() as base:
            base.execute("UPDATE runs SET heartbeat = ? WHERE id = ? AND status = 'running'", (time(), number))

    def release(self, number: int) -> None:
        """Lets go of a run that this process has claimed and will not finish."""
        with self._transaction() as base:
            base.execute("DELETE FROM runs WHERE id = ? AND status = 'running'", (number,))

    def fail(self, number: int, error: str) -> None:
        """Ends a claimed run with its error, which is kept as one line."""
        with self._transaction() as base:
            base.execute(
                "UPDATE runs SET status = 'failed', error = ?, finished = ? WHERE id = ? AND status = 'running'",
                (_one_line(error), time(), number),
            )

    def record_death(self, run: PlannedRun, error: str) -> None:
        """Ends a run whose process is gone without a word; nothing happens if it is done or in living hands.

        The error of an earlier attempt gives way.
        """
        with self._transaction() as base:
            if self._status(base, run) not in ("missing", "failed"):
                return
            number = self._begin(base, run, None)
            base.execute(
                "UPDATE runs SET status = 'failed', error = ?, finished = ? WHERE id = ?",
                (_one_line(error), time(), number),
            )

    def finish(self, number: int, result: RunResult, folder: str | Path = "", versions: dict | None = None) -> None:
        """Ends a claimed run with all that it found. Ignored if the run is no longer this process's.

        Raises DataError if ranks and users do not belong together.
        """
        users, ranks = _sorted_by_user(result.test_users, result.test_ranks)
        history = [[row.get(column) for column in _EPOCH_COLUMNS] for row in result.history]
        with self._transaction() as base:
            values = {
                "status": "done",
                "finished": time(),
                "seconds": result.seconds,
                "peak_memory_mib": result.peak_memory_mib,
                "parameters": result.parameters,
                "epochs": sum(row["epoch"] >= 0 for row in result.history),
                "folder": str(folder),
                "versions": json.dumps(versions or {}),
                "user_list": _user_list(base, users),
                "test_ranks": ranks.tobytes(),
            }
            columns = ", ".join(f"{name} = :{name}" for name in values)
            query = f"UPDATE runs SET {columns} WHERE id = :id AND status = 'running'"
            if base.execute(query, values | {"id": number}).rowcount == 0:
                return
            for split, guarded, found in (
                ("valid", 0, result.valid),
                ("test", 0, result.test),
                ("test", 1, result.guarded_test or {}),
            ):
                rows = [(number, split, guarded, name, value) for name, value in found.items()]
                base.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?)", rows)
            base.executemany("INSERT INTO epochs VALUES (?, ?, ?, ?, ?)", [(number, *row) for row in history])

    # -- reading -------------------------------------------------------------------------------------------------

    def results(self, runs: Iterable[PlannedRun]) -> list[RunResult]:
        """Those of ``runs`` that are done, in their order. Users are sorted, and equal lists are one array."""
        users: dict[int, np.ndarray] = {}
        with self._translated():
            found = (self._result(run, users) for run in runs)
            return [result for result in found if result is not None]

    def _result(self, run: PlannedRun, users: dict[int, np.ndarray]) -> RunResult | None:
        base = self._base
        row = base.execute("SELECT * FROM runs WHERE key = ? AND status = 'done'", (run.key,)).fetchone()
        if row is None:
            return None
        if row["user_list"] not in users:
            packed = base.execute("SELECT users FROM user_lists WHERE id = ?", (row["user_list"],)).fetchone()[0]
            users[row["user_list"]] = np.array(json.loads(zlib.decompress(packed)))
        metrics = {("valid", 0): {}, ("test", 0): {}, ("test", 1): {}}
        for split, guarded, name, value in base.execute(
            "SELECT split, guarded, name, value FROM metrics WHERE run = ? ORDER BY rowid", (row["id"],)
        ):
            metrics[split, guarded][name] = value
        epochs = base.execute(
            f"SELECT {', '.join(_EPOCH_COLUMNS)} FROM epochs WHERE run = ? ORDER BY epoch", (row["id"],)
        )
        return RunResult(
            model=row["model"],
            seed=row["seed"],
            valid=metrics["valid", 0],
            test=metrics["test", 0],
            test_users=users[row["user_list"]],
            test_ranks=np.frombuffer(row["test_ranks"], dtype="<i4").astype(np.int64),
            seconds=row["seconds"],
            peak_memory_mib=row["peak_memory_mib"],
            parameters=row["parameters"],
            command=row["command"],
            guarded_test=metrics["test", 1] or None,
            history=[dict(epoch) for epoch in epochs],
            trials=run.trials,  # of the plan: more trials may have found the same configuration since
        )

    def durations(self) -> list[dict]:
        """``model``, ``dataset``, ``sources``, ``config`` and ``seconds`` of every run that is done."""
        query = "SELECT model, dataset, sources, config, seconds FROM runs WHERE status = 'done' ORDER BY id"
        with self._translated():
            rows = self._base.execute(query).fetchall()
        return [dict(row) | {name: json.loads(row[name]) for name in ("sources", "config")} for row in rows]

    def failures(self, runs: Iterable[PlannedRun]) -> list[FailedRun]:
        """Those of ``runs`` that failed, in their order."""
        with self._translated():
            rows = [
                self._base.execute("SELECT * FROM runs WHERE key = ? AND status = 'failed'", (run.key,)).fetchone()
                for run in runs
            ]
        return [FailedRun(row["model"], row["seed"], row["error"], row["command"]) for row in rows if row is not None]


def _insert(base: sqlite3.Connection, table: str, values: dict) -> int:
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    return base.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", values).lastrowid


def _sorted_by_user(users: np.ndarray, ranks: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Users in one order whichever model ranked them, with their ranks as int32."""
    users = np.asarray(users, dtype=str)
    if users.shape != np.shape(ranks) or len(np.unique(users)) != len(users):
        raise DataError(f"{len(users)} test users for {np.size(ranks)} ranks; each user must have one rank")
    order = np.argsort(users, kind="stable")
    packed = np.asarray(ranks)[order].astype("<i4")
    if not np.array_equal(packed, np.asarray(ranks)[order]) or (packed < 1).any():
        raise DataError("test ranks must be whole numbers from 1 to 2147483647")
    return users[order].tolist(), packed


def _user_list(base: sqlite3.Connection, users: list[str]) -> int:
    text = json.dumps(users, ensure_ascii=False).encode()
    digest = hashlib.sha256(text).hexdigest()
    row = base.execute("SELECT id FROM user_lists WHERE digest = ?", (digest,)).fetchone()
    return row[0] if row else _insert(base, "user_lists", {"digest": digest, "users": zlib.compress(text)})


def _one_line(error: str) -> str:
    return " ".join(str(error).split()) or "unknown error"
