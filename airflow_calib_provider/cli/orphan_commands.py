"""``calib jobs orphans``: jobs that live although nothing wants them."""

from __future__ import annotations

from typing import Annotated

import typer

from airflow_calib_provider.cli.common import Json, examples, open_ledger


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "orphans",
        epilog=examples("calib jobs orphans", "calib jobs orphans --backend condor:calib_condor --remove"),
    )(orphans)


def orphans(
    remove: Annotated[bool, typer.Option("--remove", help="Remove those that this ledger knows to be over.")] = False,
    backend: Annotated[str | None, typer.Option("--backend", "-b", help="Only this backend.", metavar="NAME")] = None,
    as_json: Json = False,
) -> None:
    """List jobs that live although their generation has ended, or is unknown to this ledger.

    Asked are the local backend and every backend that generations of the last 30 days name. What this ledger does not
    know is never removed: it may belong to another installation. The exit code is 1 when something is left.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.backends import not_seen, opened
    from airflow_calib_provider.cli.output import emit_json, table

    answer = api.orphans(open_ledger(), backends=[backend] if backend else (), remove=remove, opened=opened)
    found = [vars(item) for item in answer.found]
    errors = [
        {"backend": item.backend, "error": item.error if item.asked else f"{item.error}{not_seen(item.backend)}"}
        for item in answer.troubles
    ]
    if as_json:
        emit_json({"orphans": found, "errors": errors})
    else:
        heads = ["backend", "round", "why", "removed"]
        if found or not errors:  # a backend that did not answer may have some
            table(heads, [[item[head] for head in heads] for item in found], empty="no orphans")
        for problem in errors:
            typer.echo(f"error: {problem['backend']}: {problem['error']}", err=True)
    if errors or not all(item["removed"] for item in found):
        raise typer.Exit(1)
