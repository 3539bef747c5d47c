"""A real PostgreSQL server on this machine alone."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

from tests import owned
from tests.cache import UnavailableError
from tests.influx.server import free_port
from tests.postgres.programs import Programs, programs

USER = "calib"
SYSTEM_USER = "nobody"  # who runs it where the tests are root's: PostgreSQL refuses to be root
START_SECONDS = 60.0
STOP_SECONDS = 30.0
TRIES = 5  # at a free port
FOLDERS = "calib-postgres-"
MAKING_SECONDS = 300.0  # a folder without a server is no younger than this if its maker died
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "jit": "off",
    # What was committed outlives the server, but not the machine.
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "deadlock_timeout": "200ms",
    "log_lock_waits": "off",
    # What people in many time zones have: the ledger's times must not depend on it.
    "timezone": "Asia/Kolkata",
}


SHAPE = """
SELECT md5(string_agg(concat_ws(' ', relname, relkind, relacl, attname, atttypid, attnotnull), ',' ORDER BY relname, attnum)),
    (SELECT string_agg(version_num, ' ') FROM calib_version),
    (SELECT count(*) FROM pg_statistic JOIN pg_class ON pg_class.oid = starelid WHERE relnamespace = 'public'::regnamespace)
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped
"""  # noqa: E501
"""Tables, columns and indexes, the version of the ledger, and whether the planner remembers what was in it."""

OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

FILLED = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND pg_relation_size(oid) > 0
    AND relname <> 'calib_version'
"""


class Postgres:
    """A server: a context manager, or :meth:`start` and :meth:`stop`.

    Its data lie in a folder of its own below the system's one for temporary files, where another user may come.
    """

    def __init__(self, found: Programs | None = None) -> None:
        """``found``: the programs, if not the ones that this machine has."""
        self._found = found
        self.folder = Path()
        self.port = 0
        self.password = secrets.token_hex(12)
        self._server: owned.Owned | None = None
        self._admin: psycopg.Connection[tuple[Any, ...]] | None = None
        self._shapes: dict[str, list[tuple[Any, ...]]] = {}

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "postgres.log"

    def url(self, database: str) -> str:
        """The address of one of its databases, for SQLAlchemy."""
        return f"postgresql+psycopg://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    # --- Life

    def start(self) -> Self:
        """Start it with the data that it had, if any, and wait until it answers; a running one is left alone.

        Raises:
            UnavailableError: it cannot be had or started here.
        """
        if self.running():
            return self
        self._found = self._found or programs()
        fresh = not self.port
        if fresh:
            self._create(self._found)
        for _ in range(TRIES if fresh else 1):
            if fresh:
                self.port = free_port()
            command = [str(self._found.folder / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
            command += [item for name, value in SETTINGS.items() for item in ("-c", f"{name}={value}")]
            environment = {**os.environ, **self._found.environment, "LC_ALL": "C"}
            self._server = owned.start(command, self.log, user=system_user(), environment=environment)
            if self._answers():
                return self
            self.kill()
        raise UnavailableError(f"PostgreSQL does not start (log: {self.log}): {self._last_words()}")

    def running(self) -> bool:
        """Whether its process has not ended."""
        return self._server is not None and self._server.running()

    def stop(self) -> None:
        """End it, and whatever its clients do."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill -9."""
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        """Stop it, and remove its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()

    # --- Databases

    def execute(self, statement: str | sql.Composable, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement with every right; what it returns."""
        if database != "postgres":
            with self._connected(database) as connection:
                return _said(connection, statement)
        if self._admin is None or self._admin.closed:
            self._admin = self._connected(database)  # it stays, since there is much to do for each test
        return _said(self._admin, statement)

    def create(self, name: str, template: str = "template1") -> None:
        """Make a database, as a copy of another one that nobody uses at the moment."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def emptied(self, name: str, template: str) -> bool:
        """Remove all rows that the template has not, unless more than rows is other than there.

        Returns:
            Whether the database is as new.
        """
        if template not in self._shapes:
            self._shapes[template] = self.execute(SHAPE, template)
        with self._connected(name) as connection:
            [(others,)] = connection.execute(OTHERS).fetchall()
            if others or connection.execute(SHAPE).fetchall() != self._shapes[template]:
                return False
            if tables := [sql.Identifier(table) for (table,) in connection.execute(FILLED)]:
                clear = sql.SQL("TRUNCATE {0} RESTART IDENTITY CASCADE; ANALYZE {0}")
                connection.execute(clear.format(sql.SQL(", ").join(tables)))
        return True

    def databases(self) -> set[str]:
        """The names of those that were made here."""
        rows = self.execute("SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'")
        return {name for (name,) in rows}

    # --- Inner

    def _connected(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=self.password, dbname=database, autocommit=True
        )

    def _create(self, found: Programs) -> None:
        """Make the folder, and an empty cluster in it."""
        remove_leftovers()
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDERS))
        if user := system_user():
            os.chown(self.folder, int(user), int(user))
            if found.root:  # it may lie where only root comes
                shutil.copytree(found.root / "usr", self.folder / "usr", symlinks=True)
                inside = self.folder / found.folder.relative_to(found.root)
                places = {
                    name: value.replace(str(found.root), str(self.folder)) for name, value in found.environment.items()
                }
                found = self._found = Programs(inside, self.folder, places)
        secret = self.folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)  # in a folder that is the server's alone
        self._server = owned.start(
            [
                *(str(found.folder / "initdb"), "--pgdata", str(self.folder / "data"), "--username", USER),
                *("--auth", "scram-sha-256", "--pwfile", str(secret), "--encoding", "UTF8", "--locale", "C"),
                "--no-sync",
            ],
            self.log,
            user=system_user(),
            environment={**os.environ, **found.environment, "LC_ALL": "C"},
        )
        try:
            self._server.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        if not (self.folder / "data" / "postgresql.conf").exists():
            raise UnavailableError(f"PostgreSQL cannot be set up (log: {self.log}): {self._last_words()}")

    def _answers(self) -> bool:
        """Wait until it is ready; whether it is."""
        end = time.monotonic() + START_SECONDS
        while self.running() and time.monotonic() < end:
            with suppress(psycopg.OperationalError):
                self.execute("SELECT 1")
                return self.running()
            time.sleep(0.05)
        return False

    def _end(self, number: int) -> None:
        server, self._server = self._server, None
        if self._admin is not None:
            self._admin.close()
        if server is None:
            return
        server.send(number)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.send(signal.SIGKILL)
            server.wait(STOP_SECONDS)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1] if lines else "nothing was said"


def _said(connection: psycopg.Connection[tuple[Any, ...]], statement: str | sql.Composable) -> list[tuple[Any, ...]]:
    cursor = connection.execute(statement)  # type: ignore[arg-type]
    return cursor.fetchall() if cursor.description else []


def system_user() -> str:
    """As whom the server runs, by number; empty: as who runs the tests."""
    return "" if os.geteuid() else str(pwd.getpwnam(SYSTEM_USER).pw_uid)


def remove_leftovers() -> None:
    """Remove the folders of servers that ended with their owners."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDERS}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime < MAKING_SECONDS:
                continue
            lines = []
            with suppress(FileNotFoundError):
                lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
            if not lines or not Path(f"/proc/{lines[0]}").exists():
                shutil.rmtree(folder, ignore_errors=True)
