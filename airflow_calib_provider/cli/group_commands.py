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
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import as_dict, emit_json, table
    from airflow_calib_provider.ledger import names

    existing_state(state, names.states("run_group", "group_task"))
    lines = api.groups(open_ledger(), campaign=campaign, workflow=workflow, state=state, last=last)
    if as_json:
        emit_json([as_dict(line) for line in lines])
        return
    heads = ["group", "workflow", "runs", "first", "last", "amounts", "state", "DAG run", "tasks"]
    rows = [
        [
            line.name,
            line.workflow,
            line.n_runs,
            line.first_run,
            line.last_run,
            ", ".join(f"{amount:g} {name}" for name, amount in line.amounts.items()),
            line.state,
            line.dag_run_state or "in the ledger",
            ", ".join(f"{task} {shown}" for task, shown in line.tasks.items()),
        ]
        for line in lines
    ]
    table(heads, rows, empty="no groups")
