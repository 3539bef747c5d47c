"""The ledger's schema version: upgrade, and refusal of what does not fit."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import column, exc, select, table

from airflow_calib_provider.errors import LedgerError
from airflow_calib_provider.ledger.engine import BUSY_TIMEOUT, Ledger, is_missing
from airflow_calib_provider.ledger.planner import refresh_in
from airflow_calib_provider.ledger.sqlite_file import obstacle

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = "calib_version"

MIGRATIONS = Path(__file__).parent / "migrations" / "versions"

_VERSION = table(VERSION_TABLE, column("version_num")).c.version_num

HEAD = "0039"
"""The newest of the migrations. It is written down, since importing Alembic takes longer than most commands do."""


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS.parent).replace("%", "%%"))
    return config


def current_version(ledger: Ledger) -> str | None:
    """The revision that the database is at; ``None`` for an empty one."""
    with ledger.read() as connection:
        try:
            found = connection.execute(select(_VERSION)).scalar()
        except (exc.OperationalError, exc.ProgrammingError) as error:
            if not is_missing(error.orig):
                raise
            return None
    return None if found is None else str(found)


def head_version() -> str:
    """The revision that this software wants."""
    return HEAD


def upgrade(ledger: Ledger) -> tuple[str | None, str]:
    """Create the tables, or bring them to this software's version. Doing it again changes nothing.

    :returns: the versions before and after.
    :raises LedgerError: the ledger is newer than this software, or cannot be written.
    """
    if ledger.file:
        _prepare_file(ledger.file)
    before = current_version(ledger)
    _refuse_newer(ledger, before)
    if before != head_version():
        from alembic import command

        with ledger.write() as connection:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            refresh_in(connection)
    if ledger.file:
        _write_ahead(ledger)
    return before, head_version()


def opened(url: str | None = None) -> Ledger:
    """The ledger, checked.

    :raises LedgerError: it is not there, or its version does not fit.
    """
    ledger = Ledger(url)
    check(ledger)
    return ledger


def check(ledger: Ledger) -> str:
    """The version, if the ledger can be used as it is.

    :raises LedgerError: it is empty, older or newer than this software wants.
    """
    if ledger.file and (found := obstacle(ledger.file)):
        raise LedgerError(f"the ledger {ledger.place} cannot be read: {found[0]}", found[1])
    if ledger.file and not ledger.file.exists():
        raise LedgerError(f"there is no ledger at {ledger.place}", "run `calib db upgrade`, or set CALIB_HOME")
    version = current_version(ledger)
    _refuse_newer(ledger, version)
    if version != head_version():
        raise LedgerError(
            f"the ledger {ledger.place} is at version {version or 'none'}, this software wants {head_version()}",
            "run `calib db upgrade`",
        )
    return version


def _prepare_file(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"the folder of the ledger {file} cannot be made: {error.strerror}", "set CALIB_HOME to a writable folder"
        ) from error


def _write_ahead(ledger: Ledger) -> None:
    """Let readers and a writer work at the same time. SQLite does not wait for a lock here, so we do."""
    until = time.monotonic() + BUSY_TIMEOUT
    while True:
        with ledger._errors():
            raw = ledger.engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.Error as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise ledger.error(error) from error
        finally:
            raw.close()
        time.sleep(0.05)


def _refuse_newer(ledger: Ledger, version: str | None) -> None:
    if version is None:
        return
    if version not in {file.name.partition("_")[0] for file in MIGRATIONS.glob("[0-9]*.py")}:
        raise LedgerError(
            f"the ledger {ledger.place} is at version {version}, which this software ({head_version()}) does not know",
            "upgrade airflow-calib-provider on this host; the ledger was not touched",
        )
