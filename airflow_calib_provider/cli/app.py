"""All commands of ``calib``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from airflow_calib_provider.cli import (
    airflow_commands,
    backend_commands,
    campaign_commands,
    compare_command,
    db_commands,
    explain_command,
    group_commands,
    job_commands,
    message_commands,
    mirror_commands,
    new_command,
    orphan_commands,
    payload_commands,
    plan_command,
    product_commands,
    run_commands,
    spec_commands,
    stale_commands,
    status_command,
    steering_commands,
    step_commands,
    value_commands,
)
from airflow_calib_provider.cli.common import examples
from airflow_calib_provider.cli.root import RootGroup

if TYPE_CHECKING:
    from airflow_calib_provider.outside.connections import OutsideConnection

app = typer.Typer(
    cls=RootGroup,
    name="calib",
    help="Detector calibration with Airflow: where every run stands, why it does not move, and how to steer it.\n\n"
    "Exit codes: 0 fine, 1 an error, 2 a wrong command line or mistakes in a workflow's YAML file. "
    "Every command knows --json.\n\n"
    "Environment: CALIB_HOME (folder of everything written), CALIB_LEDGER (database, an SQLAlchemy URL), "
    "CALIB_AIRFLOW_URL with CALIB_AIRFLOW_TOKEN or CALIB_AIRFLOW_TOKEN_FILE (Airflow's REST API).",
    epilog=examples("calib status --last 50", "calib explain 355872", "calib spec check", "calib retry run-r355872"),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        from airflow_calib_provider import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    from airflow_calib_provider.cli.hooks import ask_airflow
    from airflow_calib_provider.outside.connections import look_up_with

    look_up_with(lambda name: cast("OutsideConnection | None", ask_airflow("connections", "task_connection", name)))


app.add_typer(spec_commands.app, name="spec")
app.add_typer(group_commands.app, name="group")
app.add_typer(run_commands.app, name="runs")
app.add_typer(job_commands.app, name="jobs")
app.add_typer(campaign_commands.app, name="campaign")
app.add_typer(payload_commands.app, name="payload")
app.add_typer(product_commands.app, name="products")
app.add_typer(value_commands.app, name="values")
app.add_typer(mirror_commands.app, name="mirror")
app.add_typer(message_commands.app, name="messages")
app.add_typer(db_commands.app, name="db")
app.add_typer(backend_commands.app, name="backend")
app.add_typer(airflow_commands.app, name="airflow")
orphan_commands.register(job_commands.app)
plan_command.register(spec_commands.app)
new_command.register(spec_commands.app)
compare_command.register(campaign_commands.app)
status_command.register(app)
explain_command.register(app)
group_commands.register(app)
steering_commands.register(app)
stale_commands.register(app)
step_commands.register(app)
