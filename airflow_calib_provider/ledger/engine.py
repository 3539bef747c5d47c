"""Opening the ledger: which database, which version, and how its transactions behave."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, text
from sqlalchemy.engine import make_url

from airflow_calib_provider.errors import LedgerDown, LedgerError, SettingError
from airflow_calib_provider.ledger import sqlite_file
from airflow_calib_provider.settings import absolute, calib_home

BUSY_TIMEOUT = 30.0
"""Seconds that a writer waits for another one (rule 35)."""

IDLE_TIMEOUT = 300.0
"""Seconds after which PostgreSQL ends a transaction whose process is silent: its host may be gone."""

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "glusterfs", "fuse.sshfs", "beegfs", "9p"}
)


MOUNTS = Path("/proc/self/mounts")


def default_url() -> str:
    """``CALIB_LEDGER``, else an SQLite file under :func:`~airflow_calib_provider.settings.calib_home`."""
    return os.environ.get("CALIB_LEDGER") or f"sqlite:///{calib_home() / 'ledger.db'}"


def _with_absolute_file(url: URL) -> URL:
    """:raises LedgerError: an SQLite ledger has no file, or a relative one: each process would open another one."""
    if url.get_backend_name() != "sqlite":
        return url
    named = url.database or ""
    hint = f"{_ADDRESS}, write sqlite:/// and the absolute path: four slashes in all"
    if named in ("", ":memory:"):
        raise LedgerError("a ledger in the memory of a process is another one for each process", hint)
    if named.startswith("file:"):
        raise LedgerError(f"the ledger's address {named!r} is a URI of SQLite's own", hint)
    try:
        return url.set(database=str(absolute(named, "the file of the ledger's address")))
    except SettingError as error:
        raise LedgerError(error.message, hint) from error


class Ledger:
    """The transactional database that is the truth about runs, groups, jobs and payloads.

    :param url: an SQLAlchemy URL; :func:`default_url` if left out.
    :raises LedgerError: the URL cannot be used, or an SQLite file would lie on a network file system.
    """

    def __init__(self, url: str | None = None) -> None:
        try:
            self.url = _with_absolute_file(make_url(url or default_url()))
            self.engine = self._create()
        except (exc.ArgumentError, ValueError):
            # Without its cause, which may quote a part of the address, hence of the password.
            raise LedgerError(
                "the ledger's address is not an SQLAlchemy URL that works",
                "check CALIB_LEDGER, or the connection calib_ledger; such as "
                "postgresql+psycopg://user:password@host/name, where a password with :, @ or / in it is to be quoted",
            ) from None
        except ImportError as error:
            hint = "pip install airflow-calib-provider[postgres]"
            if self.url.get_backend_name() not in ("postgresql", "sqlite"):
                hint = "a ledger is an SQLite file, or lies in PostgreSQL: postgresql+psycopg://user:password@host/name"
            raise LedgerError(f"the driver of the ledger {self.place} is not installed: {error}", hint) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def place(self) -> str:
        """The address without its password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def file(self) -> Path | None:
        """The file of an SQLite ledger."""
        return Path(str(self.url.database)) if self.url.get_backend_name() == "sqlite" else None

    def _create(self) -> Engine:
        self._of_readers: dict[str, object] = {}
        if self.url.get_backend_name() != "sqlite":
            if self.url.get_backend_name() == "postgresql":
                self._of_readers = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            return create_engine(self.url, pool_pre_ping=True)
        if self.file:
            refuse_network_file_system(self.file)
        self._of_readers = {"calib_reading": True}
        if self.file and self.url == URL.create(self.url.drivername, database=self.url.database):
            return _listening(create_engine(self.url, creator=partial(sqlite_file.connect, self.file, BUSY_TIMEOUT)))
        return _listening(create_engine(self.url, connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False}))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading: one consistent view, no lock taken."""
        with self._errors(), self.engine.connect() as plain:
            connection = plain.execution_options(**self._of_readers)
            with connection.begin():
                yield connection
                snapshot = plain.connection.dbapi_connection
                if isinstance(snapshot, sqlite_file.Snapshot) and snapshot.changed:
                    raise LedgerError(f"the ledger {self.place} was changed while it was read", "repeat the command")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: everything in it happens, or nothing.

        There is one writer at a time, on every database: what a writer reads stays true until it commits, two never
        wait for each other, and events become visible in the order of their numbers.
        """
        with self._errors(), self.engine.connect() as plain:
            connection = plain.execution_options(calib_immediate=True)
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    connection.execute(_ONE_WRITER)
                yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except exc.IntegrityError:
            raise
        except exc.DBAPIError as error:
            raise self.error(error.orig or error) from error

    def error(self, cause: BaseException) -> LedgerDown:
        """What the driver said, for people: the place, and what to do."""
        # PostgreSQL's drivers add the statement to what the server said.
        said = " ".join(str(getattr(getattr(cause, "diag", None), "message_primary", None) or cause).split())
        missing = is_missing(cause)
        if self.file and "unable to open" in said and (found := sqlite_file.obstacle(self.file)):
            return LedgerDown(f"the ledger {self.place} cannot be read: {found[0]}", found[1])
        what = f"has no tables of ours yet, or not all ({said})" if missing else f"cannot be used: {said}"
        return LedgerDown(f"the ledger {self.place} {what}", _UPGRADE if missing else _remedy(said))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _listening(engine: Engine) -> Engine:
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "checkout", _refuse_outdated)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _refuse_outdated(connection: object, _record: object, _proxy: object) -> None:
    """A snapshot of before is opened anew, as the file is to be opened now."""
    if isinstance(connection, sqlite_file.Snapshot) and connection.outdated:
        raise exc.DisconnectionError


def _configure_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = FULL")
        if pages := os.environ.get("CALIB_SQLITE_MAX_PAGES"):
            cursor.execute(f"PRAGMA max_page_count = {int(pages)}")
    finally:
        cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    # As on PostgreSQL: what only reads takes no lock by a write that somebody did not expect there.
    connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if options.get('calib_reading') else 'OFF'}")
    immediate = options.get("calib_immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def is_missing(cause: BaseException | None) -> bool:
    """Whether the driver said that there is no such table, or column."""
    return getattr(cause, "sqlstate", None) in _MISSING or "no such table" in str(cause)


_ONE_WRITER = text(
    "SELECT set_config('lock_timeout', :wait, true), set_config('idle_in_transaction_session_timeout', :idle, true),"
    " pg_advisory_xact_lock(hashtext('calib ' || coalesce(current_schema(), '')))"
).bindparams(wait=f"{BUSY_TIMEOUT * 1000:.0f}", idle=f"{IDLE_TIMEOUT * 1000:.0f}")


def refuse_network_file_system(file: Path, mounts: Path | None = None) -> None:
    """SQLite's locks do not hold on network file systems (rule 35).

    :raises LedgerError: the file lies, or would lie, on one.
    """
    mounts = mounts or MOUNTS
    if not mounts.exists():
        return
    resolved = Path(os.path.realpath(file))  # unlike resolve() it says nothing of a loop of links: opening it does
    best, kind = Path("/"), ""
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        point, file_system = parts[1:3]
        mounted = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point))
        if resolved.is_relative_to(mounted) and len(mounted.parts) >= len(best.parts):
            best, kind = mounted, file_system
    if kind in NETWORK_FILE_SYSTEMS:
        raise LedgerError(
            f"the ledger {file} would lie on a network file system ({kind} at {best}): SQLite's locks fail there",
            "set CALIB_HOME to a local folder, or CALIB_LEDGER to a PostgreSQL URL",
        )


_MISSING = frozenset({"42P01", "42703"})  # PostgreSQL's numbers of missing tables and columns
_UPGRADE = "run `calib db upgrade`"
_ADDRESS = "in CALIB_LEDGER, or in the connection calib_ledger"
_BUSY = f"another process held it for more than {BUSY_TIMEOUT:g} s; look for a hanging one"
_SPACE = "free space on its disk (or raise the limit on the database's size), then repeat; nothing was changed"

_REMEDIES = {
    # PostgreSQL
    r"database .* does not exist": f"create it, or correct its name {_ADDRESS}",
    r"password authentication failed|role .* does not exist|no pg_hba.conf entry": (
        f"check the user and the password {_ADDRESS}, and what the server lets in"
    ),
    r"permission denied": "give this user the right to make and use tables there, or a schema of its own",
    r"read-only transaction": "the server takes no changes, as a standby does: name the primary one",
    r"lock timeout": _BUSY,
    r"too many (connections|clients)|remaining connection slots": "raise the server's max_connections",
    r"No space left": _SPACE,
    # either
    r"already exists": (
        "it holds tables of another program: give the ledger a database (on PostgreSQL: or a schema) of its own"
    ),
    r"no schema has been selected": "create the schema that search_path names, or correct that name",
    # SQLite
    r"readonly|read-only": "give this user write permission on the file and its folder",
    r"full": _SPACE,
    r"disk I/O error": "look at the disk of the ledger's file: is there space, and does it work? Nothing was changed",
    r"locked": _BUSY,
    r"unable to open": "check that its folder exists and is writable",
    r"not a database|malformed": "the file is damaged: restore it from a backup",
}


def _remedy(said: str) -> str:
    """What to do about what the driver said."""
    found = (remedy for pattern, remedy in _REMEDIES.items() if re.search(pattern, said))
    return next(found, "check that the database is up and reachable")
