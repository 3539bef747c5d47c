"""The fixtures ``postgres`` and ``database``: a real PostgreSQL, and a test that runs on each kind of database."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from psycopg import sql

from tests.cache import UnavailableError
from tests.postgres.places import OF_FOLDER, PLACE, TEMPLATE, spare
from tests.postgres.server import Postgres

OWN = "test_"  # begins the names of databases that one test has
DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@dataclass(frozen=True)
class Database:
    """A database of the test's own, empty at first.

    Attributes:
        server: the server that it is on, with everything that a test may do to that.
        name: its name.
    """

    server: Postgres
    name: str

    @property
    def url(self) -> str:
        """Its address for SQLAlchemy."""
        return self.server.url(self.name)


@pytest.fixture(scope="session")
def postgres_servers() -> Iterator[list[Postgres | UnavailableError]]:
    """The server of this process, started when first wanted, or why there is none."""
    servers: list[Postgres | UnavailableError] = []
    yield servers
    for server in servers:
        if isinstance(server, Postgres):
            server.remove()


def running_server(servers: list[Postgres | UnavailableError]) -> Postgres:
    """The server, started if it does not run.

    Raises:
        UnavailableError: there is none.
    """
    if not servers:
        try:
            servers.append(Postgres().start())
        except UnavailableError as error:
            servers.append(error)
    [server] = servers
    if isinstance(server, UnavailableError):
        raise server
    return server.start()  # the test before may have left it dead


def _server(servers: list[Postgres | UnavailableError]) -> Postgres:
    """The server, running; a skip if there is none."""
    try:
        return running_server(servers)
    except UnavailableError as error:
        if os.environ.get("CALIB_REQUIRE_POSTGRES") == "1":
            raise
        pytest.skip(str(error))


def _clean(server: Postgres) -> None:
    """Remove what a test made; a database that can be as new is kept for the next, since to make one takes long."""
    server.start()
    for name in (names := server.databases()):
        if name.startswith(OF_FOLDER) and TEMPLATE in names and server.emptied(name, TEMPLATE):
            server.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(*map(sql.Identifier, (name, spare()))))
        elif name.startswith((OWN, OF_FOLDER)):
            server.drop(name)


@pytest.fixture(params=[pytest.param("", marks=pytest.mark.postgres, id="postgresql")])
def postgres(postgres_servers: list[Postgres | UnavailableError]) -> Iterator[Database]:
    """A new, empty database on a real PostgreSQL.

    It skips with one line that says why there is none; an error if ``CALIB_REQUIRE_POSTGRES=1``. The server is the same
    for all tests of a process.
    """
    server = _server(postgres_servers)
    made = Database(server, f"{OWN}{secrets.token_hex(6)}")
    server.create(made.name)
    yield made
    _clean(server)


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Runs the test on SQLite and on PostgreSQL, whose name it gives.

    Where ledgers are then, :mod:`tests.postgres.places` says, to this process and to those that it starts.
    """
    if request.param == "sqlite":
        yield request.param
        return
    server = _server(request.getfixturevalue("postgres_servers"))
    monkeypatch.setenv(PLACE, server.url(""))
    yield request.param
    _clean(server)
