"""A PostgreSQL server of the tests' own, in a folder of its own; Debian's package postgresql brings the programs."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

USER, PASSWORD = "shop", "hidden-treasure"
_numbers = count()


def _program(name: str) -> str:
    found = sorted(glob(f"/usr/lib/postgresql/*/bin/{name}"))
    return shutil.which(name) or (found[-1] if found else "")


def _unprivileged() -> dict:
    """Whom the server runs as, in words of subprocess: it refuses to be root."""
    if os.geteuid():
        return {}
    known = {entry.pw_name for entry in pwd.getpwall()}
    entry = pwd.getpwnam("postgres" if "postgres" in known else "nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class Server:
    """A server that is running: on a Unix socket without a password, on the loopback with one."""

    def __init__(self, folder: Path):
        self.folder, self._who = folder, _unprivileged()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        password = folder / "password"
        password.write_text(PASSWORD)
        words = ["--username", USER, "--pwfile", password, "--auth-local=trust", "--auth-host=scram-sha-256"]
        for path in (folder, password) if self._who else ():
            os.chown(path, self._who["user"], self._who["group"])
        self._run("initdb", "--pgdata", folder / "data", "--no-sync", "--no-locale", "--encoding=UTF8", *words)
        self.start()

    def _run(self, program: str, *words) -> None:
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        done = subprocess.run(
            [_program(program), *map(str, words)],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            **self._who,
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-D", self.folder / "data", "-l", self.folder / "log", "-o", options)

    def stop(self) -> None:
        """Whoever is connected is thrown out."""
        self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", self.folder / "data")

    def url(self, database: str, password: str = PASSWORD) -> str:
        """By the loopback, with a password."""
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def execute(self, database: str, statement: str) -> list:
        """Rows of a statement, if it has any."""
        engine = create_engine(
            self.url(database).replace("://", "+psycopg://"), isolation_level="AUTOCOMMIT", pool_pre_ping=True
        )
        with engine.connect() as connection:
            result = connection.execute(text(statement))
            rows = result.fetchall() if result.returns_rows else []
        engine.dispose()
        return rows

    def new_database(self) -> str:
        """The URL of an empty one."""
        name = f"store_{next(_numbers)}"
        self.execute("postgres", f"CREATE DATABASE {name}")
        return self.url(name)


@contextmanager
def running() -> Iterator[Server]:
    """Skips the test where there is no server to start."""
    if not _program("initdb"):
        pytest.skip("no PostgreSQL server is installed; Debian's package is postgresql")
    pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # where another user may go, unlike pytest's
    try:
        server = Server(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
