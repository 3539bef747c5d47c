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
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json

    found = api.upgrade_ledger()
    if as_json:
        emit_json(vars(found))
    elif found.before == found.after:
        print(f"the ledger {found.ledger} is at version {found.after} already")
    else:
        print(f"the ledger {found.ledger} was brought from version {found.before or 'none'} to {found.after}")


@app.command(epilog=examples("calib db check"))
def check(as_json: Json = False) -> None:
    """Check that the ledger is there, and that its version fits this software."""
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json

    found = api.ledger_version()
    if as_json:
        emit_json(vars(found))
    else:
        print(f"the ledger {found.ledger} is at version {found.version}, which fits")
