"""Where results and trials are kept: an SQLite file, or a PostgreSQL server that several machines reach.

A password in a URL stays in this process. What is shown, stored or passed to another process is the URL without it. A
run's process gets it as libpq's PGPASSWORD, which no other user on its machine can read.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.files import locked, no_empty_file_left

# "MRec": in the head of an SQLite file, where `file` shows it, and the name of a server's lock
_APPLICATION = 0x4D526563
# for another process, which holds SQLite's lock for milliseconds, and for a server that is restarted
_WAIT_SECONDS = 120
_CLAIM_SECONDS = 2.0  # another command holds a claim for milliseconds when it asks whether a run is in progress
_PAUSE_SECONDS = 0.05
# Both sides notice a lost network within a minute; by default it takes two hours.
_TO_SERVER = {"connect_timeout": 10, "client_encoding": "utf8", "keepalives_idle": 30, "keepalives_interval": 10}
_NEVER_IDLE = text(  # a claim is silent as long as its run; PostgreSQL < 14 ends no idle session
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'"
)
_FROM_SERVER = ("tcp_keepalives_idle = 30", "tcp_keepalives_interval = 10", "tcp_keepalives_count = 3")


def parsed(url: str, option: str) -> URL:
    """A database's URL. Raises ConfigError if it is not one, or has a password where it cannot be hidden."""
    # an error hides a password up to white space only; the name of a file may have some
    if re.search(r"\s", url) and not url.startswith("sqlite"):
        raise ConfigError(f"{option}: white space in a URL; write a space as %20")
    try:
        address = make_url(url)
    except (SQLAlchemyError, ValueError):
        advice = "use one such as sqlite:///saved/tuning.sqlite or postgresql://user@host/database"
        raise ConfigError(f"{option}: {url} is not the URL of a storage; {advice}") from None
    if any("password" in name for name in address.query):
        raise ConfigError(f"{option}: a password is no part of a query; set PGPASSWORD, or write it to ~/.pgpass")
    if address.get_backend_name() in ("postgresql", "postgres"):
        address = address.set(drivername="postgresql+psycopg")
    return address


def shown(address: URL) -> str:
    """The URL without its password, as it may be typed again."""
    parts = address._asdict() | {"password": None, "drivername": address.drivername.removesuffix("+psycopg")}
    return URL.create(**parts).render_as_string()


def connect_args(address: URL) -> dict:
    """The driver's arguments for connecting, but for those that the URL itself sets."""
    known = {"sqlite": {"timeout": _WAIT_SECONDS}, "postgresql": _TO_SERVER}
    return {
        name: value for name, value in known.get(address.get_backend_name(), {}).items() if name not in address.query
    }


def without_driver(address: URL, error: ImportError) -> ConfigError:
    """The error if a database's driver is not installed."""
    is_known = address.get_backend_name() == "postgresql"
    advice = "pip install 'recbole-metarec[postgresql]'" if is_known else "install the driver of that database"
    return ConfigError(f"{shown(address)}: {error}; {advice}")


def reason_of(error: Exception) -> str:
    """The driver's message, in one line."""
    return " ".join(str(getattr(error, "orig", None) or error).split())


class SQLiteFile:
    """A file, created if it does not exist, that several processes may write.

    The journal is SQLite's default and not a write-ahead log: writes are few, and a single file can be copied and
    mailed. A claim is a lock file beside it, which the system frees when its process ends. Machines may share the file
    on a file system whose locks work, as SQLite itself needs.
    """

    advice = "check that it is a store of runs, its permissions and the space on its disk"

    def __init__(self, path: str | Path):
        self._path = Path(path)
        self.name, self.environment = str(path), {}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{path}: cannot be opened ({error}); choose another --store") from None
        address = URL.create("sqlite", database=str(path))
        self.engine = create_engine(address, isolation_level="AUTOCOMMIT", connect_args=connect_args(address))
        self._writing = self.engine.execution_options()
        event.listen(self._writing, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))

    @contextmanager
    def opening(self) -> Iterator[None]:
        """For the first use of the file: if that fails while this is open, no empty file is left behind."""
        with no_empty_file_left(self._path):
            yield

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection on which every statement commits by itself."""
        return self.engine.connect()

    def writing(self) -> AbstractContextManager[Connection]:
        """A connection with one transaction: other processes see all of it, or nothing."""
        return self._writing.begin()

    def format_of(self, connection: Connection) -> int | None:
        """The number of the file's format; None if the file is empty. Raises LookupError if it is not of this
        package."""
        if not inspect(connection).get_table_names():
            return None
        application, version = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("application_id", "user_version")
        )
        if application != _APPLICATION:
            raise LookupError("an SQLite file, but not one of runs")
        return version

    def set_format(self, connection: Connection, number: int) -> None:
        """Marks the file as one of this package in this format."""
        connection.exec_driver_sql(f"PRAGMA application_id = {_APPLICATION}")
        connection.exec_driver_sql(f"PRAGMA user_version = {number}")

    def _lock(self, key: str) -> Path:
        return self._path.with_name(f"{self._path.name}.running") / key

    def claimed(self, key: str) -> AbstractContextManager[bool]:
        """Whether this process has the claim on ``key`` while this is open; at the latest it ends with the process."""
        return locked(self._lock(key), _CLAIM_SECONDS)

    def is_claimed(self, key: str) -> bool:
        """Whether a living process has claimed it."""
        if not self._lock(key).exists():
            return False
        with locked(self._lock(key), seconds=0) as free:
            return not free


class PostgreSQLServer:
    """A database on a server, which must exist, with the same methods.

    A claim is an advisory lock in a session of its own. The server frees it when the session's process or its machine
    is gone, and when the server restarts.
    """

    advice = "check the server's address, the user's password and rights"

    def __init__(self, address: URL):
        self.name = shown(address)
        self.environment = {"PGPASSWORD": address.password} if address.password else {}
        self._patience = 0  # a server that is not there at first will not be there soon
        try:
            self.engine = create_engine(
                address, isolation_level="AUTOCOMMIT", pool_pre_ping=True, connect_args=connect_args(address)
            )
        except ImportError as error:
            raise without_driver(address, error) from None
        self._writing = self.engine.execution_options(isolation_level="READ COMMITTED")
        # writes are few and short: one at a time, as in a file, they need no care for each other
        lock = text(f"SELECT pg_advisory_xact_lock({_APPLICATION})")
        event.listen(self._writing, "begin", lambda connection: connection.execute(lock))

    @contextmanager
    def opening(self) -> Iterator[None]:
        yield
        self._patience = _WAIT_SECONDS

    def _connected(self, engine: Engine) -> Connection:
        deadline = monotonic() + self._patience
        while True:
            try:
                return engine.connect()
            except OperationalError:
                if monotonic() > deadline:
                    raise
                sleep(1.0)

    def reading(self) -> AbstractContextManager[Connection]:
        return self._connected(self.engine)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with self._connected(self._writing) as connection, connection.begin():
            yield connection

    def format_of(self, connection: Connection) -> int | None:
        tables = set(inspect(connection).get_table_names())
        if "run_store" in tables:
            return connection.execute(text("SELECT format FROM run_store")).scalar_one()
        if tables & {"runs", "user_lists"}:
            raise LookupError("it has a table of runs that is not this program's")
        return None

    def set_format(self, connection: Connection, number: int) -> None:
        connection.execute(text("CREATE TABLE run_store (format integer NOT NULL)"))
        connection.execute(text("INSERT INTO run_store VALUES (:number)"), {"number": number})

    @contextmanager
    def claimed(self, key: str) -> Iterator[bool]:
        session = self._connected(self.engine)
        try:
            session.detach()  # from the pool: closing it here frees its lock
            for setting in _FROM_SERVER:
                session.execute(text(f"SET {setting}"))
            session.execute(_NEVER_IDLE)
            yield self._has_lock(session, _number_of(key))
        finally:
            with suppress(SQLAlchemyError):  # a session that is lost holds nothing any more
                session.close()

    def _has_lock(self, session: Connection, number: int) -> bool:
        """Whether the session gets the lock. Waits a moment: a session that has just ended may still hold it."""
        deadline = monotonic() + _CLAIM_SECONDS
        query = text("SELECT pg_try_advisory_lock(:number)")
        while not (alone := session.execute(query, {"number": number}).scalar_one()) and monotonic() < deadline:
            sleep(_PAUSE_SECONDS)
        return alone

    def is_claimed(self, key: str) -> bool:
        query = text(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND (classid::bigint << 32) | objid::bigint = :number"
        )
        with self.reading() as connection:
            return bool(connection.execute(query, {"number": _number_of(key)}).scalar_one())


def _number_of(key: str) -> int:
    """The server's number for the lock of a key: 64 bits of its hexadecimal digits."""
    return int(key[:16], 16) - 2**63


Database = SQLiteFile | PostgreSQLServer


def database_at(place: str | Path, option: str) -> Database:
    """The database at a URL, or in the file of that name. Raises MetaRecError."""
    if not re.match(r"\w[\w+]*://", str(place)):
        return SQLiteFile(place)
    address = parsed(str(place), option)
    kind = address.get_backend_name()
    if kind == "sqlite" and address.database:
        return SQLiteFile(address.database)
    if kind != "postgresql":
        raise ConfigError(f"{option}: {shown(address)} cannot hold runs; use a file or postgresql://user@host/database")
    return PostgreSQLServer(address)
