"""Databases behind Airflow connections: one SELECT, which changes nothing and ends in time."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_calib_provider.errors import OutsideError
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.outside.limits import CONNECT, Deadline, without_secrets

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, CursorResult

ROWS_AT_ONCE = 1_000

_DRIVERS = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg", "sqlite": "sqlite"}
_OF_LIBPQ = ("sslmode", "sslrootcert", "sslcert", "sslkey", "application_name", "target_session_attrs", "options")
_LATER = 2.0
"""Seconds after which a server that has not ended a SELECT by itself is hung up on."""


@dataclass(frozen=True)
class Database:
    """A database, and how it is reached.

    :ivar name: of the connection.
    :ivar place: where it is, without what may be secret.
    """

    name: str
    place: str
    url: URL = field(repr=False)
    arguments: Mapping[str, object] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, connection: OutsideConnection) -> Database:
        """What a connection says.

        :raises OutsideError: it is not of a database that is known here, or names no place.
        """
        from sqlalchemy import URL

        driver = str(connection.extra.get("sqlalchemy_scheme") or _DRIVERS.get(connection.kind) or "")
        if not driver:
            raise OutsideError(
                f"the connection {connection.name} has the type {connection.kind!r}, which is no known database",
                f"known are {', '.join(_DRIVERS)}; else name SQLAlchemy's driver in the extra field sqlalchemy_scheme",
            )
        if driver == "sqlite":
            file = connection.host or connection.schema
            if not file:
                raise OutsideError(f"the connection {connection.name} names no file", "its host is the file's path")
            if not file.startswith("/"):
                said = f"the connection {connection.name} names the relative path {file[:200]!r}"
                raise OutsideError(said, "its host is the absolute path: each process would look for another file")
            # What stands behind a '?' would take the place of `mode=ro`.
            url = URL.create(driver, database=f"file:{quote(file)}", query={"mode": "ro", "uri": "true"})
            return cls(connection.name, f"sqlite {file}", url)
        if not connection.host:
            raise OutsideError(f"the connection {connection.name} has no host")
        url = URL.create(
            driver,
            connection.login or None,
            connection.password or None,
            connection.host,
            connection.port,
            connection.schema or None,
        )
        more = {name: connection.extra[name] for name in _OF_LIBPQ if name in connection.extra}
        arguments = {"connect_timeout": int(CONNECT), **more} if driver.startswith("postgresql") else {}
        place = url.set(username=None, password=None).render_as_string()
        return cls(connection.name, place, url, arguments, (connection.password,) if connection.password else ())

    @contextmanager
    def selected(
        self, statement: str, parameters: Mapping[str, object], deadline: Deadline, *, zone: str = "UTC"
    ) -> Iterator[CursorResult[Any]]:
        """The rows of a SELECT, streamed, in a transaction that can change nothing.

        :param statement: in which ``:name`` is a parameter.
        :param zone: of times that have none, for a database that knows zones.
        :raises OutsideError: the database cannot be asked, does not have it, or is not ready in time.
        """
        from sqlalchemy import create_engine, text
        from sqlalchemy.exc import SQLAlchemyError
        from sqlalchemy.pool import NullPool

        try:
            engine = create_engine(self.url, poolclass=NullPool, connect_args=dict(self.arguments))
        except (SQLAlchemyError, ImportError, TypeError) as error:
            raise OutsideError(self._told(error), "is the database's driver installed?") from error
        try:
            with engine.connect() as connection, _ended(connection, deadline):
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SELECT set_config('TimeZone', :zone, true)"), {"zone": zone})
                options = connection.execution_options(stream_results=True, max_row_buffer=ROWS_AT_ONCE)
                yield options.execute(text(statement), dict(parameters))
        except SQLAlchemyError as error:
            if time.monotonic() >= deadline.end - 0.05 or _was_ended(error):
                raise deadline.passed() from error
            raise OutsideError(self._told(error), "correct the SELECT, or the connection") from error
        finally:
            engine.dispose()

    def _told(self, error: Exception) -> str:
        original = getattr(error, "orig", None) or error
        return f"{self.place}: {without_secrets(f'{type(original).__name__}: {original}', self.secrets)}"


def _was_ended(error: Exception) -> bool:
    original = getattr(error, "orig", None)
    return getattr(original, "sqlstate", None) == "57014" or str(original) == "interrupted"


@contextmanager
def _ended(connection: Connection, deadline: Deadline) -> Iterator[None]:
    """Within it, whatever is asked ends with the deadline: by the database itself, else because we hang up."""
    own: Any = connection.connection.dbapi_connection
    dialect = connection.dialect.name
    watch: threading.Timer | None = None
    if dialect == "postgresql":
        watch = threading.Timer(deadline.left() + _LATER, _hang_up, [own])
        watch.daemon = True
        watch.start()
    try:
        if dialect == "postgresql":
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, int(deadline.left() * 1000))}")
        elif dialect == "sqlite":
            own.set_progress_handler(lambda: time.monotonic() > deadline.end, 10_000)
        yield
    finally:
        if watch is not None:
            watch.cancel()


def _hang_up(connection: Any) -> None:
    """Close the socket, so that whoever waits for the server is told: it does not answer any more."""
    with suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
