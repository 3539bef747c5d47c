"""``calib jobs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_calib_provider.cli.common import (
    MAX_LINES,
    PROMPT,
    Campaign,
    Json,
    SourceName,
    State,
    TaskName,
    WorkflowName,
    examples,
    existing_state,
    open_ledger,
    run_number,
)

if TYPE_CHECKING:
    from airflow_calib_provider.ledger.lines import JobLine

app = typer.Typer(help="Jobs and their logs.", no_args_is_help=True)

GroupName = Annotated[str | None, typer.Option("--group", "-g", help="Only this group.", metavar="GROUP")]


@app.command(
    "list",
    epilog=examples(
        "calib jobs list --state failed", "calib jobs list --group fill-r7 --task scale", "calib jobs list --json"
    ),
)
def list_jobs(
    group: GroupName = None,
    task: TaskName = None,
    state: State = None,
    campaign: Campaign = PROMPT,
    workflow: WorkflowName = None,
    last: Annotated[int, typer.Option("--last", "-n", min=0, max=MAX_LINES, help="So many jobs; 0: all.")] = 100,
    as_json: Json = False,
) -> None:
    """List the jobs of the latest generation of each job set: state, attempts, exit code, memory, host, reason.

    States: waiting, submitted, running, held, succeeded, failed, left_out, removed. Memory is the peak of the last
    attempt, and after the slash what it asked for.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import as_dict, emit_json, table
    from airflow_calib_provider.domain.reducer import JobState

    existing_state(state, [known.value for known in JobState])
    named: dict[str, Any] = {"campaign": campaign, "workflow": workflow, "group": group, "task": task}
    rows = api.jobs(open_ledger(), state=state, last=last, **named)
    if as_json:
        emit_json([as_dict(row) for row in rows])
        return
    heads = ["job", "state", "attempts", "exit", "memory", "host", "start", "end", "reason"]
    iterates = any(row.step for row in rows)
    table(
        ["group", "task", "gen", *(["step"] if iterates else []), *heads],
        [
            [
                row.group_name,
                f"{row.workflow}.{row.task}",
                row.generation,
                *([row.step] if iterates else []),
                row.job_index,
                row.state,
                row.attempt,
                _exit(row),
                _memory(row),
                row.host,
                row.start,
                row.end,
                _why(row),
            ]
            for row in rows
        ],
        empty="no jobs",
    )


def _exit(row: JobLine) -> str:
    if row.signal is not None:
        return f"signal {row.signal}"
    return "" if row.exit_code is None else str(row.exit_code)


def _memory(row: JobLine) -> str:
    """Peak and request, such as ``1.9/2 GB``."""
    if row.memory is None and row.request_memory is None:
        return ""
    largest = max(row.memory or 0, row.request_memory or 0)
    units = ((10**12, "TB"), (10**9, "GB"))
    unit, name = next((known for known in units if largest >= known[0]), (10**6, "MB"))
    used = "" if row.memory is None else f"{row.memory / unit:.3g}"
    asked = "" if row.request_memory is None else f"/{row.request_memory / unit:.3g}"
    return f"{used}{asked} {name}"


_OPEN = ("waiting", "submitted", "running", "held")
"""States of a job that can be held up."""


def _why(row: JobLine) -> str:
    code = f"hold code {row.hold_code}" if row.hold_code is not None and "held (" not in (row.reason or "") else ""
    kind = f"class {row.failure}" if row.failure else ""
    done = f"{row.progress:.0%} done" if row.state == "running" and row.progress is not None else ""
    action = {"waiting": "again at", "held": "released or tried anew at"}.get(row.state)
    again = f"{action} {row.retry_at:%H:%M:%S}" if action and row.retry_at else ""
    held_up = row.trouble if row.state in _OPEN else ""
    return "; ".join(part for part in (row.reason or "", code, kind, done, again, held_up) if part)


@app.command(
    epilog=examples(
        "calib jobs logs run-r7 skim",
        "calib jobs logs 355872 skim --generation 1",
        "calib jobs logs fill-r7 scale 3 --attempt 1 --stderr",
        "calib jobs logs run-r7 skim --tail 20",
    )
)
def logs(
    group: Annotated[str, typer.Argument(metavar="RUN|GROUP", help="The group, such as run-r7, or a run of it.")],
    task: Annotated[str, typer.Argument(help="The task.")],
    job: Annotated[int, typer.Argument(help="The job's index.", min=0, max=MAX_LINES)] = 0,
    campaign: Campaign = PROMPT,
    workflow: WorkflowName = None,
    attempt: Annotated[
        int | None,
        typer.Option("--attempt", "-a", min=1, max=MAX_LINES, help="The attempt; the accepted or else the last one."),
    ] = None,
    generation: Annotated[
        int | None, typer.Option("--generation", min=1, max=MAX_LINES, help="The generation; the latest one.")
    ] = None,
    step: Annotated[
        int | None,
        typer.Option("--step", min=1, max=MAX_LINES, help="Of what iterates; the present or else the last one."),
    ] = None,
    stderr: Annotated[bool, typer.Option("--stderr/--stdout", help="Which of the two.")] = False,
    source: SourceName = None,
    tail: Annotated[int, typer.Option("--tail", min=0, max=MAX_LINES, help="Only so many last lines; 0: all.")] = 0,
    as_json: Json = False,
) -> None:
    """Print what a job wrote to its standard output, or to its standard error."""
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json

    run = run_number(group)
    named: dict[str, Any] = {"campaign": campaign, "workflow": workflow, "source": source}
    chosen: dict[str, Any] = {"attempt": attempt, "generation": generation, "step": step, "stderr": stderr}
    log = api.job_log(open_ledger(), group if run is None else run, task, job, **named, **chosen)
    if as_json:
        emit_json({**vars(log), "text": log.text(tail)})
        return
    for chunk in log.chunks(tail):
        typer.echo(chunk, nl=False)
