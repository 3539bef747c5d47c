"""``calib backend``: whether the place where jobs run can be reached, and used."""

from __future__ import annotations

from typing import Annotated

import typer

from airflow_calib_provider.cli.common import Json, examples

app = typer.Typer(help="Places where jobs run.", no_args_is_help=True)


@app.command(epilog=examples("calib backend check condor", "calib backend check kubernetes kubernetes:far"))
def check(
    names: Annotated[list[str], typer.Argument(help="Backends, as in a spec.", metavar="NAME...", show_default=False)],
    as_json: Json = False,
) -> None:
    """Ask the batch systems of these backends whether they answer, as whom, and which right is missing.

    Nothing is submitted. The exit code is 1 where one cannot be used.
    """
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.errors import BackendError

    found: list[dict[str, str]] = []
    for name in dict.fromkeys(names):
        try:
            found.append({"backend": name, "said": _said(name), "error": "", "hint": ""})
        except BackendError as error:
            from airflow_calib_provider.cli.backends import not_seen

            told = f"{error.message}{not_seen(name)}"
            found.append({"backend": name, "said": "", "error": told, "hint": error.hint or ""})
    if as_json:
        emit_json({"backends": found})
    for item in found if not as_json else ():
        if item["error"]:
            typer.echo(f"error: {item['backend']}: {item['error']}", err=True)
            if item["hint"]:
                typer.echo(f"hint: {item['hint']}", err=True)
        else:
            typer.echo(f"{item['backend']}: {item['said']}")
    if any(item["error"] for item in found):
        raise typer.Exit(1)


def _said(name: str) -> str:
    """:raises BackendError: it cannot be used."""
    from airflow_calib_provider.backends.base import Remote
    from airflow_calib_provider.cli.backends import opened

    backend = opened(name)
    if not isinstance(backend, Remote):
        return "its jobs run on this machine"
    try:
        return backend.check()
    finally:
        backend.close()
