"""The fixtures ``postgres`` and ``database``: a real PostgreSQL, and a test that runs on each kind of database."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cache import UnavailableError
from tests.postgres.places import PLACE, TEMPLATE
from tests.postgres.server import Postgres

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


def _server(servers: list[Postgres | UnavailableError]) -> Postgres:
    """The server, running; a skip if there is none."""
    if not servers:
        try:
            servers.append(Postgres().start())
        except UnavailableError as error:
            servers.append(error)
    [server] = servers
    if isinstance(server, UnavailableError):
        if os.environ.get("CALIB_REQUIRE_POSTGRES") == "1":
            raise server
        pytest.skip(str(server))
    return server.start()  # the test before may have left it dead


def _clean(server: Postgres) -> None:
    """Remove what a test made; the template stays."""
    server.start()
    for name in server.databases() - {TEMPLATE}:
        server.drop(name)


@pytest.fixture(params=[pytest.param("", marks=pytest.mark.postgres, id="postgresql")])
def postgres(postgres_servers: list[Postgres | UnavailableError]) -> Iterator[Database]:
    """A new, empty database on a real PostgreSQL.

    It skips with one line that says why there is none; an error if ``CALIB_REQUIRE_POSTGRES=1``. The server is the same
    for all tests of a process.
    """
    server = _server(postgres_servers)
    made = Database(server, f"test_{secrets.token_hex(6)}")
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
