"""``calib groups``."""

from __future__ import annotations

from typing import Annotated

import typer

from airflow_calib_provider.cli.common import (
    MAX_LINES,
    PROMPT,
    Campaign,
    Json,
    State,
    WorkflowName,
    examples,
    existing_names,
    existing_state,
    open_ledger,
)


def register(app: typer.Typer) -> None:
    """Add the commands that list groups."""
    app.command(epilog=examples("calib groups", "calib groups --state failed", "calib groups --state forming -w zee"))(
        groups
    )


def groups(
    campaign: Campaign = PROMPT,
    workflow: WorkflowName = None,
    state: State = None,
    last: Annotated[int, typer.Option("--last", "-n", min=0, max=MAX_LINES, help="So many groups; 0: all.")] = 50,
    as_json: Json = False,
) -> None:
    """List groups: their runs, amounts, DAG run and the states of their tasks.

    --state is the group's (forming, closed, dropped) or that of any of its tasks (waiting, done, failed, …).
    """
    from airflow_calib_provider.cli.output import as_dict, emit_json, table
    from airflow_calib_provider.ledger import names, queries

    existing_state(state, names.states("run_group", "group_task"))
    ledger = open_ledger()
    existing_names(ledger, campaign, workflow)
    with ledger.read() as connection:
        lines = queries.groups_listed(connection, campaign, workflow=workflow, state=state, last=last)
    if as_json:
        columns = (
            "workflow",
            "grouping",
            "name",
            "first_run",
            "last_run",
            "n_runs",
            "state",
            "amounts",
            "fills",
            "start",
        )
        more = ("end", "opened_at", "closed_at", "close_reason", "dag_id", "run_id", "dag_run_state")
        emit_json([{**as_dict(line.row, *columns, *more), "tasks": line.tasks} for line in lines])
        return
    heads = ["group", "workflow", "runs", "first", "last", "amounts", "state", "DAG run", "tasks"]
    rows = [
        [
            line.row.name,
            line.row.workflow,
            line.row.n_runs,
            line.row.first_run,
            line.row.last_run,
            ", ".join(f"{amount:g} {name}" for name, amount in line.row.amounts.items()),
            line.row.state,
            line.row.dag_run_state or "in the ledger",
            ", ".join(f"{task} {shown}" for task, shown in line.tasks.items()),
        ]
        for line in lines
    ]
    table(heads, rows, empty="no groups")
