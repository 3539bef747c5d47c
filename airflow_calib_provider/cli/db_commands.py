"""``calib db``: the ledger's schema."""

from __future__ import annotations

import typer

from airflow_calib_provider.cli.common import Json, examples

app = typer.Typer(help="The ledger's database: create, upgrade, check.", no_args_is_help=True)


@app.command(epilog=examples("calib db upgrade", "CALIB_LEDGER=postgresql+psycopg://calib@db/calib calib db upgrade"))
def upgrade(as_json: Json = False) -> None:
    """Create the ledger's tables, or bring them to this software's version. Doing it again changes nothing.

    A new ledger does not begin beside the spool of another one: it would take the jobs of that one for its own.
    """
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.ledger import schema, sqlite_file
    from airflow_calib_provider.ledger.engine import Ledger

    ledger = Ledger()
    if (ledger.file and not sqlite_file.is_there(ledger.file)) or schema.current_version(ledger) is None:
        _refuse_spool_of_another()
    before, after = schema.upgrade(ledger)
    if as_json:
        emit_json({"ledger": ledger.place, "before": before, "after": after})
    elif before == after:
        print(f"the ledger {ledger.place} is at version {after} already")
    else:
        print(f"the ledger {ledger.place} was brought from version {before or 'none'} to {after}")


def _refuse_spool_of_another() -> None:
    """:raises LedgerError: the spool has rounds, which only another ledger can know."""
    from airflow_calib_provider.errors import LedgerError
    from airflow_calib_provider.settings import calib_home, spool_folder

    spool = spool_folder()
    if spool.is_dir() and any(spool.iterdir()):
        raise LedgerError(
            f"there is no ledger yet, but {spool} holds the jobs of another one, whose results a new one would take "
            "for its own",
            f"is CALIB_LEDGER right? For a new beginning move {calib_home()} away, or set CALIB_HOME to a new folder",
        )


@app.command(epilog=examples("calib db check"))
def check(as_json: Json = False) -> None:
    """Check that the ledger is there, and that its version fits this software."""
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.ledger import schema
    from airflow_calib_provider.ledger.engine import Ledger

    ledger = Ledger()
    version = schema.check(ledger)
    if as_json:
        emit_json({"ledger": ledger.place, "version": version})
    else:
        print(f"the ledger {ledger.place} is at version {version}, which fits")
