"""Opening the ledger: which database, which version, and how its transactions behave."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.engine import make_url

from airflow_calib_provider.errors import LedgerError
from airflow_calib_provider.settings import calib_home

BUSY_TIMEOUT = 30.0
"""Seconds that a writer waits for another one on SQLite (rule 35)."""

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "glusterfs", "fuse.sshfs", "beegfs", "9p"}
)


def default_url() -> str:
    """``CALIB_LEDGER``, else an SQLite file under :func:`~airflow_calib_provider.settings.calib_home`."""
    return os.environ.get("CALIB_LEDGER") or f"sqlite:///{calib_home() / 'ledger.db'}"


class Ledger:
    """The transactional database that is the truth about runs, groups, jobs and payloads.

    :param url: an SQLAlchemy URL; :func:`default_url` if left out.
    :raises LedgerError: the URL cannot be used, or an SQLite file would lie on a network file system.
    """

    def __init__(self, url: str | None = None) -> None:
        try:
            self.url = make_url(url or default_url())
        except exc.ArgumentError as error:
            raise LedgerError("the ledger's address is not an SQLAlchemy URL", "check CALIB_LEDGER") from error
        self.engine = self._create()

    @property
    def place(self) -> str:
        """The address without its password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def file(self) -> Path | None:
        """The file of an SQLite ledger."""
        if self.url.get_backend_name() == "sqlite" and self.url.database not in (None, "", ":memory:"):
            return Path(str(self.url.database))
        return None

    def _create(self) -> Engine:
        if self.url.get_backend_name() != "sqlite":
            return create_engine(self.url, pool_pre_ping=True)
        if self.file:
            refuse_network_file_system(self.file)
        engine = create_engine(self.url, connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False})
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading: one consistent view, no lock taken."""
        with self._errors(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: everything in it happens, or nothing. On SQLite it is immediate, so it never fails late."""
        with self._errors(), self.engine.connect() as connection:
            with connection.execution_options(calib_immediate=True).begin():
                yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except exc.OperationalError as error:
            raise LedgerError(f"the ledger {self.place} {_explain(str(error.orig))}", _remedy(str(error.orig))) from error
        except exc.DatabaseError as error:
            if isinstance(error, exc.IntegrityError):
                raise
            raise LedgerError(f"the ledger {self.place}: {error.orig}", _remedy(str(error.orig))) from error

    def close(self) -> None:
        self.engine.dispose()


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
    immediate = connection.get_execution_options().get("calib_immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def refuse_network_file_system(file: Path, mounts: Path = Path("/proc/self/mounts")) -> None:
    """SQLite's locks do not hold on network file systems (rule 35).

    :raises LedgerError: the file lies, or would lie, on one.
    """
    if not mounts.exists():
        return
    resolved = file.resolve()
    best, kind = Path("/"), ""
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        _, point, file_system, *_ = line.split(" ")
        mounted = Path(point.encode().decode("unicode_escape"))
        if resolved.is_relative_to(mounted) and len(mounted.parts) >= len(best.parts):
            best, kind = mounted, file_system
    if kind in NETWORK_FILE_SYSTEMS:
        raise LedgerError(
            f"the ledger {file} would lie on a network file system ({kind} at {best}), where SQLite's locks do not hold",
            "set CALIB_HOME to a local folder, or CALIB_LEDGER to a PostgreSQL URL",
        )


def _explain(text: str) -> str:
    if "no such table" in text or "does not exist" in text:
        return f"has no tables of ours yet, or not all ({text})"
    return f"cannot be used: {text}"


def _remedy(text: str) -> str:
    if "no such table" in text or "does not exist" in text:
        return "run `calib db upgrade`"
    if "readonly" in text or "read-only" in text:
        return "give this user write permission on the file and its folder"
    if "full" in text:
        return "free space on its disk (or raise the limit on the database's size), then repeat; nothing was changed"
    if "locked" in text:
        return f"another process held it for more than {BUSY_TIMEOUT:g} s; look for a hanging one"
    if "unable to open" in text:
        return "check that its folder exists and is writable"
    if "not a database" in text or "malformed" in text:
        return "the file is damaged: restore it from a backup"
    return "check that the database is up and reachable"
