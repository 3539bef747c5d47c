"""Where the ledgers of tests are: a file in a folder, or a database that is that folder's."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import make_url

from airflow_calib_provider.ledger import schema
from airflow_calib_provider.ledger.engine import Ledger

PLACE = "CALIB_TEST_POSTGRES"  # the address of a server, in the environment of tests on PostgreSQL
TEMPLATE = "template_ledger"
OF_FOLDER = "of_"  # begins the names of databases of folders
SPARE = "spare_"  # begins the names of those that were a folder's, and are as the template again

_MADE: dict[tuple[str, str], bytes] = {}
"""Server and state → the file, if it is one."""


def migrated(url: str | None = None) -> Ledger:
    """A ledger with the present tables; a new file is a copy of one that this process has migrated once.

    Args:
        url: its address; of a database on PostgreSQL, :func:`is_new` has made the tables.
    """
    ledger = Ledger(url)
    if ledger.file and not ledger.file.exists():
        ledger.file.parent.mkdir(parents=True, exist_ok=True)
        ledger.file.write_bytes(_file_with_tables())
    return ledger


@cache
def _file_with_tables() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        made = Ledger(f"sqlite:///{folder}/ledger.db")
        schema.upgrade(made)
        made.close()
        return Path(folder, "ledger.db").read_bytes()


def ledger_url(folder: Path) -> str:
    """The address of the ledger of this folder."""
    place = os.environ.get(PLACE)
    return f"{place}{_name(folder)}" if place else f"sqlite:///{folder / 'ledger.db'}"


def is_new(folder: Path, *, empty: bool = False) -> bool:
    """Whether this folder had no ledger before; on PostgreSQL it has one then.

    Args:
        folder: whose ledger.
        empty: make it an empty database, and not, which is quicker, one with the present tables.
    """
    if PLACE not in os.environ:
        return not (folder / "ledger.db").exists()
    with _server() as connection:
        names = set(connection.execute(text("SELECT datname FROM pg_database")).scalars())
        spare = next((name for name in names if name.startswith(SPARE)), None)
        if _name(folder) in names:
            return False
        if spare and not empty:
            connection.execute(text(f'ALTER DATABASE "{spare}" RENAME TO "{_name(folder)}"'))
            return True
        if not empty and TEMPLATE not in names:
            connection.execute(text(f'CREATE DATABASE "{TEMPLATE}"'))
            made = Ledger(f"{os.environ[PLACE]}{TEMPLATE}")
            schema.upgrade(made)
            made.close()
        connection.execute(text(f'CREATE DATABASE "{_name(folder)}" TEMPLATE "{"template1" if empty else TEMPLATE}"'))
    return True


def once(folder: Path, name: str, make: Callable[[Ledger], object]) -> Ledger:
    """A new ledger of this folder in a state that takes long to make: made once in this process, and copied after that.

    Args:
        folder: whose ledger.
        name: of the state.
        make: makes it of a new ledger.
    """
    assert is_new(folder)
    ledger = migrated(ledger_url(folder))
    key = (os.environ.get(PLACE, ""), name)
    if key not in _MADE:
        make(ledger)
        ledger.close()
        keep(ledger, name)
        _MADE[key] = ledger.file.read_bytes() if ledger.file else b""
        return ledger
    ledger.close()
    bring_back(ledger, name)
    if ledger.file:
        ledger.file.write_bytes(_MADE[key])
    return ledger


def keep(ledger: Ledger, name: str) -> None:
    """Keep a ledger as it is now for :func:`bring_back`; nobody may be connected. A file is its folder's to keep."""
    if not ledger.file:
        _do(f'CREATE DATABASE "{_kept(name)}" TEMPLATE "{ledger.url.database}"')


def bring_back(ledger: Ledger, kept: str) -> None:
    """Let a new ledger be as another one was that was kept under this name; nobody may be connected."""
    if not ledger.file:
        name = ledger.url.database
        _do(f'ALTER DATABASE "{name}" RENAME TO "{spare()}"')
        _do(f'CREATE DATABASE "{name}" TEMPLATE "{_kept(kept)}"')


def spare() -> str:
    """A new name for a database that is as the template is, and nobody's: the next folder gets it."""
    return f"{SPARE}{secrets.token_hex(6)}"


def _kept(name: str) -> str:
    return f"template_of_{name}"


def _name(folder: Path) -> str:
    return f"{OF_FOLDER}{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}"


def _do(statement: str) -> None:
    with _server() as connection:
        connection.execute(text(statement))


@contextmanager
def _server() -> Iterator[Connection]:
    """For statements outside all databases of tests."""
    with _engine(os.environ[PLACE]).connect() as connection:
        yield connection


@cache
def _engine(place: str) -> Engine:
    """Its connection stays, since each test has something to do here; a server that was killed gets another one."""
    url = make_url(place).set(database="postgres")
    return create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1, pool_pre_ping=True)
