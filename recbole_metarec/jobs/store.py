"""The home of results: every finished run's figures and ranks in one SQLite file that several processes may write.

Every write is one immediate transaction, so a result is in the file whole or not at all, whatever is killed when. The
journal is SQLite's default one and not a write-ahead log: writes are few, and so the file can be copied and mailed.
A run in progress is a lock beside the file, which the system frees when its process ends: what a killed process has
begun is anybody's again. Hosts may share a store on a file system whose locks work, as SQLite itself needs them.
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
from recbole_metarec.evaluation.results import FailedRun, RunResult, UnseenResult
from recbole_metarec.files import locked, no_empty_file_left
from recbole_metarec.jobs.job import PlannedRun

SCHEMA_VERSION = 4
_APPLICATION = 0x4D526563  # "MRec": SQLite keeps it in the file's head, and `file` shows it
_WAIT_SECONDS = 120.0  # for the lock of another process, which holds it for milliseconds
_CLAIM_SECONDS = 2.0  # another command holds a run's lock for milliseconds, too, when it asks whether the run is on

_SCHEMA = (
    """CREATE TABLE user_lists (  -- users that have a test row, sorted; most runs on a target share one list
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, users BLOB NOT NULL)  -- JSON list, zlib""",
    """CREATE TABLE runs (
    key TEXT PRIMARY KEY,  -- of model, dataset, sources, seed, config, data and code
    model TEXT NOT NULL, dataset TEXT NOT NULL, sources TEXT NOT NULL, seed INTEGER NOT NULL,
    config TEXT NOT NULL, code TEXT NOT NULL, data TEXT NOT NULL, command TEXT NOT NULL,
    finished REAL NOT NULL, error TEXT,  -- of a run that has failed; all that follows is of the others
    valid TEXT, test TEXT, guarded_test TEXT, history TEXT,  -- JSON: metrics by name, and a list of epochs
    unseen_valid TEXT, unseen_test TEXT, unseen_guarded_test TEXT,  -- with seen items removed from the ranking
    seconds REAL, peak_memory_mib REAL, parameters INTEGER, folder TEXT, versions TEXT,
    user_list INTEGER REFERENCES user_lists,
    test_ranks BLOB, unseen_test_ranks BLOB,  -- int32, little endian, in the list's order
    valid_ranks BLOB)  -- the same, 0 for a user without a validation row""",
)
_EPOCH_COLUMNS = ("epoch", "train_loss", "valid_score", "seconds")
_METRICS = ("valid", "test", "guarded_test")
_PLAIN = ("seconds", "peak_memory_mib", "parameters")


class RunStore:
    """The results in one file, which is made if it is absent. One object per thread; a context manager.

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
        with self._transaction() as base:
            application, version = (
                base.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            )
            if base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
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

    def _lock(self, run: PlannedRun) -> Path:
        return self.path.with_name(f"{self.path.name}.running") / run.key

    @contextmanager
    def claimed(self, run: PlannedRun) -> Iterator[bool]:
        """Whether the run is this process's to do while this is open: not if it is done, or in progress elsewhere.

        What failed before, or was left by a process that is gone, may be done again.
        """
        with locked(self._lock(run), _CLAIM_SECONDS) as alone:
            yield alone and not self.is_done(run)

    def is_done(self, run: PlannedRun) -> bool:
        """Whether its result is here."""
        row = self._row(run, "error")
        return row is not None and row["error"] is None

    def status(self, run: PlannedRun) -> str:
        """``done``, ``failed``, ``running`` (a process that lives has claimed it) or ``missing``."""
        if self._is_claimed(run) and not self.is_done(run):
            return "running"
        row = self._row(run, "error")
        return "missing" if row is None else "done" if row["error"] is None else "failed"

    def _is_claimed(self, run: PlannedRun) -> bool:
        if not self._lock(run).exists():
            return False
        with locked(self._lock(run), seconds=0) as free:
            return not free

    def fail(self, run: PlannedRun, error: str) -> None:
        """Ends a claimed run with its error, which is kept as one line; that of an earlier attempt gives way."""
        with self._transaction() as base:
            self._put(base, run, {"error": " ".join(str(error).split()) or "unknown error"})

    def record_death(self, run: PlannedRun, error: str) -> None:
        """Ends a run whose process is gone without a word; nothing happens if it is done or in progress."""
        with self.claimed(run) as mine:
            if mine:
                self.fail(run, error)

    def finish(self, run: PlannedRun, result: RunResult, folder: str | Path = "", versions: dict | None = None) -> None:
        """Ends a claimed run with all that it found. Raises DataError if ranks and users do not belong together."""
        values: dict = {}
        for prefix, figures in (("", result), ("unseen_", result.unseen)):
            users, ranks = _sorted_by_user(result.test_users, figures.test_ranks)
            values |= {prefix + name: json.dumps(getattr(figures, name)) for name in _METRICS}
            values[f"{prefix}test_ranks"] = ranks.tobytes()
        values["valid_ranks"] = _sorted_by_user(result.test_users, result.valid_ranks, least=0)[1].tobytes()
        history = [{column: row.get(column) for column in _EPOCH_COLUMNS} for row in result.history]
        values |= {name: getattr(result, name) for name in _PLAIN} | {"history": json.dumps(history)}
        values |= {"folder": str(folder), "versions": json.dumps(versions or {})}
        with self._transaction() as base:
            self._put(base, run, values | {"user_list": _user_list(base, users)})

    def _put(self, base: sqlite3.Connection, run: PlannedRun, values: dict) -> None:
        plain = ("key", "dataset", "seed", "code", "data", "command")
        values = values | {name: getattr(run, name) for name in plain} | {"model": run.experiment, "finished": time()}
        values |= {name: json.dumps(getattr(run, name), sort_keys=True, default=str) for name in ("sources", "config")}
        _insert(base, "runs", values)

    # -- reading -------------------------------------------------------------------------------------------------

    def _row(self, run: PlannedRun, columns: str = "*") -> sqlite3.Row | None:
        with self._translated():
            return self._base.execute(f"SELECT {columns} FROM runs WHERE key = ?", (run.key,)).fetchone()

    def results(self, runs: Iterable[PlannedRun]) -> list[RunResult]:
        """Those of ``runs`` that are done, in their order. Users are sorted, and equal lists are one array.

        Name, command and trials are those of the plan: the same run may have been done under another name.
        """
        users: dict[int, np.ndarray] = {}
        rows = [(run, self._row(run)) for run in runs]
        return [self._result(run, row, users) for run, row in rows if row is not None and row["error"] is None]

    def _result(self, run: PlannedRun, row: sqlite3.Row, users: dict[int, np.ndarray]) -> RunResult:
        number = row["user_list"]
        if number not in users:
            with self._translated():
                packed = self._base.execute("SELECT users FROM user_lists WHERE id = ?", (number,)).fetchone()[0]
            users[number] = np.array(json.loads(zlib.decompress(packed)))
        return RunResult(
            model=run.model,
            seed=run.seed,
            command=run.command,
            trials=run.trials,
            test_users=users[number],
            history=json.loads(row["history"]),
            unseen=UnseenResult(**_figures(row, "unseen_")),
            valid_ranks=_unpacked(row["valid_ranks"]),
            **_figures(row),
            **{name: row[name] for name in _PLAIN},
        )

    def durations(self) -> list[dict]:
        """``model``, ``dataset``, ``sources``, ``config`` and ``seconds`` of every run that is done."""
        query = "SELECT model, dataset, sources, config, seconds FROM runs WHERE error IS NULL ORDER BY finished"
        with self._translated():
            rows = self._base.execute(query).fetchall()
        return [dict(row) | {name: json.loads(row[name]) for name in ("sources", "config")} for row in rows]

    def failures(self, runs: Iterable[PlannedRun]) -> list[FailedRun]:
        """Those of ``runs`` that failed, in their order."""
        errors = [(run, row["error"]) for run in runs if (row := self._row(run, "error"))]
        return [FailedRun(run.model, run.seed, error, run.command) for run, error in errors if error is not None]


def _figures(row: sqlite3.Row, prefix: str = "") -> dict:
    """Metrics and ranks of one protocol."""
    metrics = {name: json.loads(row[prefix + name]) for name in _METRICS}
    return metrics | {"test_ranks": _unpacked(row[f"{prefix}test_ranks"])}


def _unpacked(ranks: bytes) -> np.ndarray:
    return np.frombuffer(ranks, dtype="<i4").astype(np.int64)


def _insert(base: sqlite3.Connection, table: str, values: dict) -> int:
    """Puts a row in the place of one with the same key; its number."""
    marks = ", ".join(f":{name}" for name in values)
    return base.execute(f"INSERT OR REPLACE INTO {table} ({', '.join(values)}) VALUES ({marks})", values).lastrowid


def _sorted_by_user(users: np.ndarray, ranks: np.ndarray, least: int = 1) -> tuple[list[str], np.ndarray]:
    """Users in one order whichever model ranked them, with their ranks as int32."""
    users = np.asarray(users, dtype=str)
    if users.shape != np.shape(ranks) or len(np.unique(users)) != len(users):
        raise DataError(f"{len(users)} test users for {np.size(ranks)} ranks; each user must have one rank")
    order = np.argsort(users, kind="stable")
    packed = np.asarray(ranks)[order].astype("<i4")
    if not np.array_equal(packed, np.asarray(ranks)[order]) or (packed < least).any():
        raise DataError(f"ranks must be whole numbers from {least} to 2147483647")
    return users[order].tolist(), packed


def _user_list(base: sqlite3.Connection, users: list[str]) -> int:
    text = json.dumps(users, ensure_ascii=False).encode()
    digest = hashlib.sha256(text).hexdigest()
    row = base.execute("SELECT id FROM user_lists WHERE digest = ?", (digest,)).fetchone()
    return row[0] if row else _insert(base, "user_lists", {"digest": digest, "users": zlib.compress(text)})
