"""``calib jobs orphans``: jobs that live although nothing wants them."""

from __future__ import annotations

from datetime import UTC, datetime
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
    from airflow_calib_provider.cli.backends import not_seen
    from airflow_calib_provider.cli.output import emit_json, table
    from airflow_calib_provider.errors import BackendError

    found: list[dict[str, object]] = []
    errors: list[dict[str, str]] = []
    for name in [backend] if backend else _named():
        try:
            found += _of_backend(name, remove, errors)
        except BackendError as error:
            errors.append({"backend": name, "error": f"{error}{not_seen(name)}"})
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


def _named() -> list[str]:
    from airflow_calib_provider.jobsets.kill import recent_backends

    return recent_backends(open_ledger(), datetime.now(UTC))


def _of_backend(name: str, remove: bool, errors: list[dict[str, str]]) -> list[dict[str, object]]:
    from airflow_calib_provider.cli.backends import opened
    from airflow_calib_provider.jobsets.kill import leftovers, remove_leftovers

    backend = opened(name)
    found = leftovers(open_ledger(), backend)
    removed, failed = remove_leftovers(backend, found) if remove else ([], [])
    errors += [{"backend": name, "error": text} for text in failed]
    return [{"backend": name, "round": str(item.key), "why": item.why, "removed": item in removed} for item in found]
