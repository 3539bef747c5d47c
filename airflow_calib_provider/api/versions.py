"""The version of the ledger's schema."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_calib_provider.errors import LedgerError
from airflow_calib_provider.ledger.engine import Ledger


@dataclass(frozen=True)
class UpgradedLedger:
    """What became of a ledger.

    :ivar ledger: where it is, without a password.
    :ivar before: the version that it had; ``None``: it was empty, or not there.
    :ivar after: the version that it has.
    """

    ledger: str
    before: str | None
    after: str


def upgrade_ledger(url: str | None = None) -> UpgradedLedger:
    """Create the tables of the ledger, or bring them to this software's version. Doing it again changes nothing.

    :param url: an SQLAlchemy URL; ``CALIB_LEDGER`` if left out.
    :raises LedgerError: it is newer than this software, or cannot be written; or it is new, and the jobs of another one
        are there, which it would take for its own.
    """
    from airflow_calib_provider.ledger import schema, sqlite_file

    with Ledger(url) as ledger:
        if (ledger.file and not sqlite_file.is_there(ledger.file)) or schema.current_version(ledger) is None:
            _refuse_spool_of_another()
        return UpgradedLedger(ledger.place, *schema.upgrade(ledger))


@dataclass(frozen=True)
class LedgerVersion:
    """The version of a ledger that fits this software.

    :ivar ledger: where it is, without a password.
    """

    ledger: str
    version: str


def ledger_version(url: str | None = None) -> LedgerVersion:
    """The version of the ledger's tables, where they can be used as they are.

    :param url: an SQLAlchemy URL; ``CALIB_LEDGER`` if left out.
    :raises LedgerError: there is none, or it is older or newer than this software wants.
    """
    from airflow_calib_provider.ledger import schema

    with Ledger(url) as ledger:
        return LedgerVersion(ledger.place, schema.check(ledger))


def _refuse_spool_of_another() -> None:
    """:raises LedgerError: the spool has rounds, which only another ledger can know."""
    from airflow_calib_provider.settings import calib_home, spool_folder

    spool = spool_folder()
    if spool.is_dir() and any(spool.iterdir()):
        raise LedgerError(
            f"there is no ledger yet, but {spool} holds the jobs of another one, whose results a new one would take "
            "for its own",
            f"is CALIB_LEDGER right? For a new beginning move {calib_home()} away, or set CALIB_HOME to a new folder",
        )
