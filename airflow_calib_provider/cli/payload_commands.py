"""``calib payload``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli import payload_decisions
from airflow_calib_provider.cli.common import (
    PROMPT,
    Campaign,
    Json,
    WorkflowName,
    examples,
    open_ledger,
    person,
)
from airflow_calib_provider.domain.listing import of_runs

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_calib_provider.ledger.rows import Payload

app = typer.Typer(help="Published constants.", no_args_is_help=True)
payload_decisions.register(app)

COLUMNS = ("tag", "first_run", "last_run", "revision", "state", "content_hash", "file_name", "size")
MORE = ("workflow", "task", "group_name", "published_at", "superseded_at")


@app.command(
    "list",
    epilog=examples("calib payload list", "calib payload list --tag ZeeScale --history", "calib payload list --json"),
)
def list_payloads(
    tag: Annotated[str | None, typer.Option("--tag", help="Only this tag.")] = None,
    campaign: Campaign = PROMPT,
    history: Annotated[
        bool, typer.Option("--history", help="What is superseded, withdrawn, rejected or expired, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List payloads with their intervals of validity (first and last run, both inclusive).

    What a group of late runs has made is a candidate, until `calib payload publish`.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import as_dict, emit_json, table

    rows = api.payloads(open_ledger(), tag, campaign=campaign, history=history)
    if as_json:
        emit_json([{**as_dict(row, *COLUMNS, *MORE), "published_at": _published_at(row)} for row in rows])
        return
    heads = ["tag", "first", "last", "revision", "state", "content", "file", "bytes", "made by", "published"]
    table(
        heads,
        [
            [
                row.tag,
                row.first_run,
                row.last_run,
                row.revision,
                row.state,
                row.content_hash[:12],
                row.file_name,
                row.size,
                f"{row.workflow}.{row.task} of {row.group_name}",
                _published_at(row),
            ]
            for row in rows
        ],
        empty="no payloads",
    )


def _published_at(row: Payload) -> datetime | None:
    """What is not published has a time, but it is that at which it was made."""
    return row.published_at if row.state in ("published", "superseded", "withdrawn") else None


@app.command(
    epilog=examples("calib payload publish fill-r355872", "calib payload publish fill-r355872 --tag ZeeScale -w zee")
)
def publish(
    group: Annotated[str, typer.Argument(help="The group of late runs, such as fill-r355872.")],
    tag: Annotated[str | None, typer.Option("--tag", help="Only this tag; else all that the group has made.")] = None,
    workflow: WorkflowName = None,
    campaign: Campaign = PROMPT,
    as_json: Json = False,
) -> None:
    """Publish what a group of late runs has made, and what is a candidate so far.

    It is refused where another payload of the tag holds for one of the runs. Whatever waits for it goes on by itself.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json

    found = api.publish_candidates(open_ledger(), group, campaign=campaign, workflow=workflow, tag=tag, person=person())
    if as_json:
        emit_json(
            [
                {"tag": one.tag, "revision": one.revision, "first_run": one.iov.first, "last_run": one.iov.last}
                for one in found
            ]
        )
        return
    for one in found:
        print(f"published {one.tag} revision {one.revision} for {of_runs(one.iov.first, one.iov.last)}")


@app.command(
    epilog=examples(
        "calib payload get ZeeScale 355872 > constants.json",
        "calib payload get ZeeScale 355872 --output constants.json",
        "calib payload get ZeeScale 355872 --provenance",
    )
)
def get(
    tag: Annotated[str, typer.Argument(help="The tag.")],
    run: Annotated[int, typer.Argument(min=0, max=2**53, help="The run for which it shall hold.")],
    campaign: Campaign = PROMPT,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the content to this file.")] = None,
    provenance: Annotated[bool, typer.Option("--provenance", help="Print where it comes from instead.")] = False,
    as_json: Json = False,
) -> None:
    """Print the constants that hold for a run: the campaign's own, else its base campaign's.

    With --json the content is not printed, but what is known about it, and where it lies.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json

    row = api.payload_for(open_ledger(), tag, run, campaign=campaign)
    content = api.payload_content(row)
    if output is not None:
        _write(output, content)
    if as_json:
        emit_json(_about(row, output, provenance))
    elif provenance:
        emit_json(row.provenance)
    elif output is not None:
        print(f"{output}: {row.tag} revision {row.revision}, {of_runs(row.first_run, row.last_run)}")
    else:
        sys.stdout.flush()
        typer.echo(content.read_bytes(), nl=False)


def _about(row: Payload, output: Path | None, provenance: bool) -> dict[str, object]:
    from airflow_calib_provider.cli.output import as_dict
    from airflow_calib_provider.payloads import store

    about = as_dict(row, "campaign", *COLUMNS, "workflow", "task", "published_at")
    about["path"] = str(store.content_path(row))
    if output is not None:
        about["output"] = str(output)
    return {**about, "provenance": row.provenance} if provenance else about


def _write(output: Path, content: Path) -> None:
    """Whole or not at all: whoever reads it meanwhile sees the old file or the new one.

    :raises CalibError: it cannot be written.
    """
    import os
    import shutil

    from airflow_calib_provider.errors import CalibError

    if output.exists() and not output.is_file():
        raise CalibError(f"{output} is no file" if not output.is_dir() else f"{output} is a folder", "name a file")
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        try:
            shutil.copyfile(content, unfinished)
            unfinished.replace(output)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        # Without the name in the error: that of the unfinished copy says nothing to anybody.
        hint = "" if output.parent.is_dir() else f"there is no folder {output.parent}"
        raise CalibError(f"{output} cannot be written: {error.strerror}", hint) from error
