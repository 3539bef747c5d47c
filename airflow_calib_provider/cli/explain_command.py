"""``calib explain``: why something does not move."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli.common import (
    PROMPT,
    SPECS,
    Campaign,
    Json,
    SourceName,
    Specs,
    TaskName,
    WorkflowName,
    examples,
    existing_names,
    open_ledger,
    opening_limits,
    run_number,
    served_specs,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from airflow_calib_provider.domain.reasons import Cause
    from airflow_calib_provider.ledger.explain import Scope


def register(app: typer.Typer) -> None:
    """Add ``calib explain``."""
    app.command(
        epilog=examples(
            "calib explain 355872",
            "calib explain fill-r355872 --task scale",
            "calib explain run-r7 --no-airflow --json",
        )
    )(explain)


def explain(
    what: Annotated[str, typer.Argument(metavar="RUN|GROUP", help="A run number, or a group such as fill-r355872.")],
    campaign: Campaign = PROMPT,
    workflow: WorkflowName = None,
    task: TaskName = None,
    source: SourceName = None,
    specs: Specs = SPECS,
    ask_airflow: Annotated[bool, typer.Option("--airflow/--no-airflow", help="Ask Airflow, too.")] = True,
    as_json: Json = False,
) -> None:
    """Say why a run or a group does not move: every cause, since when, what would release it, and who looked last.

    The ledger is asked first, then Airflow (CALIB_AIRFLOW_URL) about paused DAGs, full pools, components that are down.
    """
    from dataclasses import replace

    from airflow_calib_provider.cli.facts import airflow_facts
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.errors import CommandLineError, NotFound
    from airflow_calib_provider.ledger.explain import Scope, explain_group, explain_run
    from airflow_calib_provider.ledger.explain_airflow import airflow_causes, with_airflow

    run = run_number(what)
    if run is None and source is not None:
        raise CommandLineError(f"--source says which run is meant, but {what} is no run", "leave it out")
    limits = opening_limits()
    ledger = open_ledger()
    workflows, troubles = served_specs(specs, ledger)
    scope = Scope(campaign, datetime.now(UTC), workflow, task, workflows, limits, troubles, source)
    existing_names(ledger, campaign, workflow, task, scope.specs, source=source)
    with ledger.read() as connection:
        if task is not None and run is None:
            _check_task_of_group(connection, scope, what, task)
        found = explain_group(connection, scope, what) if run is None else explain_run(connection, scope, run)
    causes = found.causes
    if unknown := [cause for cause in causes if cause.code == "run_unknown"]:
        raise NotFound(unknown[0].text, f"it becomes known by {unknown[0].release}")
    if ask_airflow:
        causes = with_airflow(causes, airflow_causes(found, airflow_facts(found.dag_runs)))
    causes = [replace(cause, campaign=campaign) for cause in causes]
    if as_json:
        emit_json({"what": what, "campaign": campaign, "causes": [_as_dict(cause) for cause in causes]})
    else:
        _show(causes)


def _check_task_of_group(connection: Connection, scope: Scope, name: str, task: str) -> None:
    """:raises NotFound: neither the group nor the spec of its grouping has this task."""
    from airflow_calib_provider.ledger.groups import find_group, task_of

    group = find_group(connection, scope.campaign, scope.workflow, name)
    spec = scope.specs.get(group.workflow)
    if spec is None or all(item.name != task for item in spec.tasks_of(group.grouping)):
        task_of(connection, group, task)


def _as_dict(cause: Cause) -> dict[str, object]:
    return {**vars(cause), "code": cause.code, "text": cause.text, "release": cause.release}


def _show(causes: Sequence[Cause]) -> None:
    from rich.text import Text

    from airflow_calib_provider.cli.output import COLOURS, console, printable, shown

    screen = console()
    if not causes:
        screen.print("nothing is known about it that would hold it")
    for cause in causes:
        screen.print(Text.assemble((cause.about, "bold"), ": ", (cause.state, COLOURS.get(cause.state, ""))))
        screen.print(f"  {printable(cause.text)}")
        details = (
            ("since", shown(cause.since)),
            ("released by", cause.release),
            ("last looked at", shown(cause.looked_at)),
        )
        for name, text in details:
            if text:
                screen.print(Text(f"  {name}: {text}", style="dim"))
