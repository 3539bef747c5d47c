"""``calib db``: the ledger's schema."""

from __future__ import annotations

import typer

from airflow_calib_provider.cli.common import Json, examples

app = typer.Typer(help="The ledger's database: create, upgrade, check.", no_args_is_help=True)


@app.command(epilog=examples("calib db upgrade", "CALIB_LEDGER=postgresql+psycopg://calib@db/calib calib db upgrade"))
def upgrade(as_json: Json = False) -> None:
    """Create the ledger's tables, or bring them to this software's version. Doing it again changes nothing."""
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.ledger import schema
    from airflow_calib_provider.ledger.engine import Ledger

    ledger = Ledger()
    before, after = schema.upgrade(ledger)
    if as_json:
        emit_json({"ledger": ledger.place, "before": before, "after": after})
    elif before == after:
        print(f"the ledger {ledger.place} is at version {after} already")
    else:
        print(f"the ledger {ledger.place} was brought from version {before or 'none'} to {after}")


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
