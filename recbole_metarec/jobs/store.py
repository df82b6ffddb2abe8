"""The store of results: figures and ranks of every finished run, in one database that several processes may write.

Every write is one transaction, so a result is there whole or not at all, whichever process is killed. A run in progress
is a claim that ends with its process: after that, any process may do the run.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time

import numpy as np
from sqlalchemy import (
    Column,
    Connection,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    RowMapping,
    Select,
    Table,
    Text,
    delete,
    insert,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from recbole_metarec.errors import DataError
from recbole_metarec.evaluation.results import FailedRun, RunResult, UnseenResult
from recbole_metarec.jobs.database import database_at, reason_of
from recbole_metarec.jobs.job import PlannedRun

SCHEMA_VERSION = 4

_SCHEMA = MetaData()
_USER_LISTS = Table(  # the users of a run, sorted; most runs on a target share one list
    "user_lists",
    _SCHEMA,
    Column("id", Integer, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("users", LargeBinary, nullable=False),  # JSON list, zlib
)
_RUNS = Table(
    "runs",
    _SCHEMA,
    Column("key", Text, primary_key=True),  # of model, dataset, sources, seed, config, data and code
    *(Column(name, Text, nullable=False) for name in ("model", "dataset", "sources")),
    Column("seed", Integer, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("config", "code", "data", "command")),
    Column("finished", Double, nullable=False),
    Column("error", Text),  # of a failed run; the other runs have the columns that follow
    # JSON: metrics by name, and a list of epochs
    *(Column(name, Text) for name in ("valid", "test", "guarded_test", "history")),
    # with seen items removed from the ranking
    *(Column(f"unseen_{name}", Text) for name in ("valid", "test", "guarded_test")),
    *(Column(name, kind) for name, kind in (("seconds", Double), ("peak_memory_mib", Double), ("parameters", Integer))),
    *(Column(name, Text) for name in ("folder", "versions")),
    Column("user_list", ForeignKey(_USER_LISTS.c.id)),
    # int32, little endian, in the list's order; 0 for a user without a test row, or without a validation row
    *(Column(name, LargeBinary) for name in ("test_ranks", "unseen_test_ranks", "valid_ranks")),
)
_EPOCH_COLUMNS = ("epoch", "train_loss", "valid_score", "seconds")
_METRICS = ("valid", "test", "guarded_test")
_PLAIN = ("seconds", "peak_memory_mib", "parameters")


class RunStore:
    """The results in a file, created if it does not exist, or in a database on a PostgreSQL server, which must exist.

    place: the file, or an SQLAlchemy URL. Use one object per thread, as a context manager. name: for messages, and for
    another process to open it by, with the variables in ``environment``. Every method raises DataError, in one line, if
    the store cannot be read or written or is not a store of runs.
    """

    def __init__(self, place: str | Path):
        self._base = database_at(place, "--store")
        self.name, self.environment = self._base.name, self._base.environment
        try:
            with self._base.opening():
                self._prepare()
        except BaseException:
            self._base.engine.dispose()
            raise

    def __enter__(self) -> "RunStore":
        return self

    def __exit__(self, *_) -> None:
        self._base.engine.dispose()

    def _prepare(self) -> None:
        with self._writing() as base:
            try:
                version = self._base.format_of(base)
            except LookupError as error:
                raise DataError(f"{self.name}: {error}; choose another --store") from None
            if version is None:
                _SCHEMA.create_all(base)
                self._base.set_format(base, SCHEMA_VERSION)
            elif version != SCHEMA_VERSION:
                raise DataError(
                    f"{self.name}: written by another release (format {version}, this one has {SCHEMA_VERSION}); "
                    "choose another --store or use that release"
                )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise DataError(f"{self.name}: {reason_of(error)}; {self._base.advice}") from None

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """One transaction: other processes see all of it, or nothing."""
        with self._translated(), self._base.writing() as base:
            yield base

    # -- the life of a run ---------------------------------------------------------------------------------------

    @contextmanager
    def claimed(self, run: PlannedRun) -> Iterator[bool]:
        """Whether this process may do the run while this is open: not if it is done, or in progress elsewhere.

        A run that failed, or whose process is gone, may be done again.
        """
        with self._translated(), self._base.claimed(run.key) as alone:
            yield alone and not self.is_done(run)

    def is_done(self, run: PlannedRun) -> bool:
        """Whether the store has its result."""
        row = self._row(run, "error")
        return row is not None and row["error"] is None

    def status(self, run: PlannedRun) -> str:
        """``done``, ``failed``, ``running`` (a living process has claimed it) or ``missing``."""
        with self._translated():
            is_claimed = self._base.is_claimed(run.key)
        if is_claimed and not self.is_done(run):
            return "running"
        row = self._row(run, "error")
        return "missing" if row is None else "done" if row["error"] is None else "failed"

    def fail(self, run: PlannedRun, error: str) -> None:
        """Ends a claimed run with its error, kept as one line. It replaces that of an earlier attempt."""
        with self._writing() as base:
            self._put(base, run, {"error": " ".join(str(error).replace("\0", " ").split()) or "unknown error"})

    def record_death(self, run: PlannedRun, error: str) -> None:
        """Records the error of a run whose process has died. Does nothing if the run is done or in progress."""
        with self.claimed(run) as mine:
            if mine:
                self.fail(run, error)

    def finish(self, run: PlannedRun, result: RunResult, folder: str | Path = "", versions: dict | None = None) -> None:
        """Ends a claimed run with its result. Raises DataError if ranks and users do not match."""
        values: dict = {}
        more = result.only_valid
        users, order = _sorted_users([*np.asarray(result.test_users, dtype=str).tolist(), *more])
        for prefix, figures in (("", result), ("unseen_", result.unseen)):
            values |= {prefix + name: json.dumps(getattr(figures, name)) for name in _METRICS}
            ranks = _checked(figures.test_ranks, len(users) - len(more))
            values[f"{prefix}test_ranks"] = np.pad(ranks, (0, len(more)))[order].tobytes()
        ranks = _checked(result.valid_ranks, len(users) - len(more), least=0), _checked([*more.values()], len(more))
        values["valid_ranks"] = np.concatenate(ranks)[order].tobytes()
        history = [{column: row.get(column) for column in _EPOCH_COLUMNS} for row in result.history]
        values |= {name: getattr(result, name) for name in _PLAIN} | {"history": json.dumps(history)}
        values |= {"folder": str(folder), "versions": json.dumps(versions or {})}
        with self._writing() as base:
            self._put(base, run, values | {"user_list": _user_list(base, users)})

    def _put(self, base: Connection, run: PlannedRun, values: dict) -> None:
        plain = ("key", "dataset", "seed", "code", "data", "command")
        values = values | {name: getattr(run, name) for name in plain} | {"model": run.experiment, "finished": time()}
        values |= {name: json.dumps(getattr(run, name), sort_keys=True, default=str) for name in ("sources", "config")}
        base.execute(delete(_RUNS).where(_RUNS.c.key == run.key))
        base.execute(insert(_RUNS), values)

    # -- reading -------------------------------------------------------------------------------------------------

    def _rows(self, query: Select) -> list[RowMapping]:
        with self._translated(), self._base.reading() as base:
            return list(base.execute(query).mappings())

    def _row(self, run: PlannedRun, *columns: str) -> RowMapping | None:
        """The row of a run, or some columns of it; None if there is none."""
        query = select(*(_RUNS.c[name] for name in columns)) if columns else select(_RUNS)
        return next(iter(self._rows(query.where(_RUNS.c.key == run.key))), None)

    def results(self, runs: Iterable[PlannedRun]) -> list[RunResult]:
        """The results of those of ``runs`` that are done, in order. Users are sorted; equal lists are the same array.

        Name, command and trials come from the plan: the same run may have been done under another name.
        """
        users: dict[int, np.ndarray] = {}
        rows = [(run, self._row(run)) for run in runs]
        return [self._result(run, row, users) for run, row in rows if row is not None and row["error"] is None]

    def _result(self, run: PlannedRun, row: RowMapping, users: dict[int, np.ndarray]) -> RunResult:
        number = row["user_list"]
        if number not in users:
            (stored,) = self._rows(select(_USER_LISTS.c.users).where(_USER_LISTS.c.id == number))
            users[number] = np.array(json.loads(zlib.decompress(stored["users"])))
        everybody, valid, tested = users[number], _unpacked(row["valid_ranks"]), _unpacked(row["test_ranks"]) > 0
        return RunResult(
            model=run.model,
            seed=run.seed,
            command=run.command,
            trials=run.trials,
            test_users=everybody if tested.all() else everybody[tested],
            history=json.loads(row["history"]),
            unseen=UnseenResult(**_figures(row, tested, "unseen_")),
            valid_ranks=valid[tested],
            only_valid=dict(zip(everybody[~tested].tolist(), valid[~tested].tolist())),
            **_figures(row, tested),
            **{name: row[name] for name in _PLAIN},
        )

    def durations(self) -> list[dict]:
        """``model``, ``dataset``, ``sources``, ``config`` and ``seconds`` of every run that is done."""
        columns = (_RUNS.c[name] for name in ("model", "dataset", "sources", "config", "seconds"))
        rows = self._rows(select(*columns).where(_RUNS.c.error.is_(None)).order_by(_RUNS.c.finished))
        return [dict(row) | {name: json.loads(row[name]) for name in ("sources", "config")} for row in rows]

    def failures(self, runs: Iterable[PlannedRun]) -> list[FailedRun]:
        """Those of ``runs`` that failed, in order."""
        errors = [(run, row["error"]) for run in runs if (row := self._row(run, "error"))]
        return [FailedRun(run.model, run.seed, error, run.command) for run, error in errors if error is not None]


def _figures(row: RowMapping, tested: np.ndarray, prefix: str = "") -> dict:
    """Metrics and ranks of one protocol. tested: bool [U], which users have a test row."""
    metrics = {name: json.loads(row[prefix + name]) for name in _METRICS}
    return metrics | {"test_ranks": _unpacked(row[f"{prefix}test_ranks"])[tested]}


def _unpacked(ranks: bytes) -> np.ndarray:
    return np.frombuffer(ranks, dtype="<i4").astype(np.int64)


def _sorted_users(users: list[str]) -> tuple[list[str], np.ndarray]:
    """The users sorted, so that all models have one order, and the former index of each."""
    if len(set(users)) != len(users):
        raise DataError(f"{len(users)} users, but {len(set(users))} names; each user must have one rank")
    order = np.argsort(np.array(users, dtype=str), kind="stable")
    return [users[index] for index in order.tolist()], order


def _checked(ranks: np.ndarray | list[int], users: int, least: int = 1) -> np.ndarray:
    """The ranks of ``users`` many users as int32. Raises DataError for another number, or for ranks below ``least``."""
    if np.shape(ranks) != (users,):
        raise DataError(f"{users} users for {np.size(ranks)} ranks; each user must have one rank")
    packed = np.asarray(ranks).astype("<i4")
    if not np.array_equal(packed, ranks) or (packed < least).any():
        raise DataError(f"ranks must be whole numbers from {least} to 2147483647")
    return packed


def _user_list(base: Connection, users: list[str]) -> int:
    text = json.dumps(users, ensure_ascii=False).encode()
    digest = hashlib.sha256(text).hexdigest()
    number = base.execute(select(_USER_LISTS.c.id).where(_USER_LISTS.c.digest == digest)).scalar()
    if number is not None:
        return number
    return base.execute(insert(_USER_LISTS), {"digest": digest, "users": zlib.compress(text)}).inserted_primary_key[0]
