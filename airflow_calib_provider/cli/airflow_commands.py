"""``calib airflow``."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli.common import Json, examples, open_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from airflow_calib_provider.cli.airflow_server import AirflowServer

app = typer.Typer(help="An Airflow of one's own, to try things.", no_args_is_help=True)

ENVIRONMENT = "environment"
"""The file in Airflow's folder for other shells."""

PASSED_ON = ("CALIB_", "AIRFLOW_CONN_", "AIRFLOW_VAR_")
"""Variables of this shell that are the new Airflow's too. Its settings are its own: it must not touch another's
database."""


@app.callback()
def _group() -> None:
    """A group, although it has one command."""


@app.command(epilog=examples("calib airflow start", "calib airflow start --home /tmp/try --dags dags --port 8090"))
def start(
    home: Annotated[
        Path, typer.Option("--home", help="Airflow's folder: database, logs, secrets.", metavar="FOLDER")
    ] = Path("airflow"),
    dags: Annotated[Path, typer.Option("--dags", help="The folder of the stubs.", metavar="FOLDER")] = Path("dags"),
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Of the UI; 8080, or another where that is taken.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start an Airflow for a try on this machine, with safe settings on free ports; Ctrl-C ends all of it.

    Its metadata are in SQLite, so only few tasks run at once (jobs do not count). Many at once need an Airflow with
    PostgreSQL. Nothing outside of its folder is touched, and nobody on another machine can reach it.
    """
    from airflow_calib_provider.errors import NotFound

    if not dags.is_dir():
        raise NotFound(f"there is no folder {dags}", "`calib spec stubs` makes it")
    open_ledger()
    server = _server(home, dags, port)
    server.lock()
    signals = _interruptible()
    try:
        next(signals)
        if not as_json:
            print("starting Airflow: a database, then four processes …", flush=True)
        server.prepare()
        server.start()
        server.wait_healthy()
        _say(server, as_json)
        while True:
            server.check_alive()
            time.sleep(1)
    except KeyboardInterrupt:
        if not as_json:
            print("\nstopping", flush=True)
    finally:
        # Who is impatient presses Ctrl-C again: nothing must be left all the same.
        next(signals, None)
        server.stop()


def _server(home: Path, dags: Path, port: int | None) -> AirflowServer:
    """:raises CalibError: there can be none in this folder, or at this port."""
    from airflow_calib_provider.cli.airflow_server import AirflowServer, free_port, usual_port
    from airflow_calib_provider.errors import CommandLineError
    from airflow_calib_provider.settings import calib_home

    try:
        chosen = usual_port() if port is None else free_port(port)
    except OSError as error:
        raise CommandLineError(f"the port {port} cannot be used: {error.strerror}", "leave --port out") from None
    own = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    own.pop("CALIB_AIRFLOW_URL", None)
    return AirflowServer(home, dags, {**own, "CALIB_HOME": str(calib_home())}, chosen)


def _interruptible() -> Iterator[None]:
    """First: every wish to end is an interrupt; then: it is ignored, because the end has begun."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)
    yield
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _say(server: AirflowServer, as_json: bool) -> None:
    import shlex
    import sys

    from airflow_calib_provider.cli.airflow_server import REFRESH
    from airflow_calib_provider.cli.output import emit_json

    file = server.write_environment(server.home / ENVIRONMENT)
    if as_json:
        emit_json({"url": server.url, "home": str(server.home), "environment": str(file), "logs": str(server.logs)})
    else:
        print(f"Airflow runs at {server.url} (no login needed). Ctrl-C ends it.")
        print(f"In other terminals: . {shlex.quote(str(file))}")
        print(f"New and edited YAML files and stubs are seen within {2 * REFRESH} s. Logs: {server.logs}")
    sys.stdout.flush()
