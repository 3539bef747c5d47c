"""Where the ledgers of tests are: a file in a folder, or a database that is that folder's."""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from airflow_calib_provider.ledger import schema
from airflow_calib_provider.ledger.engine import Ledger

PLACE = "CALIB_TEST_POSTGRES"  # the address of a server, in the environment of tests on PostgreSQL
TEMPLATE = "template_ledger"
OF_FOLDER = "of_"  # begins the names of databases of folders


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
    if _exists(_name(folder)):
        return False
    if not empty and not _exists(TEMPLATE):
        _do(f'CREATE DATABASE "{TEMPLATE}"')
        made = Ledger(f"{os.environ[PLACE]}{TEMPLATE}")
        schema.upgrade(made)
        made.close()
    _do(f'CREATE DATABASE "{_name(folder)}" TEMPLATE "{"template1" if empty else TEMPLATE}"')
    return True


def keep(ledger: Ledger, name: str) -> None:
    """Keep a ledger as it is now for :func:`bring_back`; nobody may be connected. A file is its folder's to keep."""
    if not ledger.file:
        _do(f'CREATE DATABASE "{_kept(name)}" TEMPLATE "{ledger.url.database}"')


def bring_back(ledger: Ledger, name: str) -> None:
    """Let a ledger be as it was when it was kept under this name; nobody may be connected."""
    if not ledger.file:
        _do(f'DROP DATABASE "{ledger.url.database}"')
        _do(f'CREATE DATABASE "{ledger.url.database}" TEMPLATE "{_kept(name)}"')


def _kept(name: str) -> str:
    return f"template_of_{name}"


def _name(folder: Path) -> str:
    return f"{OF_FOLDER}{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}"


def _exists(name: str) -> bool:
    return bool(_do("SELECT 1 FROM pg_database WHERE datname = :name", name=name))


def _do(statement: str, **values: str) -> list[object]:
    """Run a statement outside all databases of tests."""
    engine = create_engine(make_url(os.environ[PLACE]).set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        result = connection.execute(text(statement), values)
        rows = list(result.all()) if result.returns_rows else []
    engine.dispose()
    return rows
