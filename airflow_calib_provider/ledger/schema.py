"""The ledger's schema version: upgrade, and refusal of what does not fit."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from airflow_calib_provider.errors import LedgerError
from airflow_calib_provider.ledger.engine import BUSY_TIMEOUT, Ledger
from airflow_calib_provider.ledger.planner import refresh_in

VERSION_TABLE = "calib_version"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def current_version(ledger: Ledger) -> str | None:
    """The revision that the database is at; ``None`` for an empty one."""
    with ledger.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return context.get_current_revision()


def head_version() -> str:
    """The revision that this software wants."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


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
        with ledger.write() as connection:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            refresh_in(connection)
    if ledger.file:
        _write_ahead(ledger)
    return before, head_version()


def check(ledger: Ledger) -> str:
    """The version, if the ledger can be used as it is.

    :raises LedgerError: it is empty, older or newer than this software wants.
    """
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
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if version not in known:
        raise LedgerError(
            f"the ledger {ledger.place} is at version {version}, which this software ({head_version()}) does not know",
            "upgrade airflow-calib-provider on this host; the ledger was not touched",
        )
