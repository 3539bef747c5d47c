"""``calib skip`` and ``calib retry`` (rule 20)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_calib_provider.cli.common import (
    PROMPT,
    Campaign,
    Json,
    SourceName,
    TaskName,
    WorkflowName,
    examples,
    existing_names,
    open_ledger,
    person,
    run_number,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from airflow_calib_provider.ledger.engine import Ledger
    from airflow_calib_provider.ledger.explain_airflow import Answer
    from airflow_calib_provider.rest.client import Airflow
    from airflow_calib_provider.rest.retrying import GroupStanding


FromStep = Annotated[
    int | None,
    typer.Option("--from-step", min=1, help="Of what iterates: this step and all after it are made anew."),
]
FromPhase = Annotated[
    str | None,
    typer.Option("--from-phase", help="Of what iterates: from this phase on; STAGE.PHASE if several have it."),
]


def register(app: typer.Typer) -> None:
    """Add the commands that change what is to be processed."""
    app.command(
        epilog=examples(
            'calib skip 355872 --reason "magnet off"',
            'calib skip fill-r355872 --task scale --reason "no laser data"',
            'calib skip 7 --workflow zee --campaign rereco --reason "corrupt file"',
        )
    )(skip)
    app.command(
        epilog=examples(
            "calib retry run-r355872",
            "calib retry fill-r7 --task scale",
            "calib retry fill-r7 --task fit --no-downstream",
            "calib retry fill-r7 --same-version",
            "calib retry fill-r7 --task scale --from-step 12",
        )
    )(retry)


def skip(
    what: Annotated[str, typer.Argument(metavar="RUN|GROUP", help="A run number, or a group: all of its runs.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded in every payload made without the run.")],
    task: TaskName = None,
    workflow: WorkflowName = None,
    source: SourceName = None,
    campaign: Campaign = PROMPT,
    as_json: Json = False,
) -> None:
    """Take a run out of what its groups wait for, and let the horizon pass it.

    Without --workflow a run is skipped in every workflow of its source. A skip cannot be taken back; it satisfies no
    lock.
    """
    from airflow_calib_provider.api.deciding import skip_runs
    from airflow_calib_provider.cli.output import emit_json

    run, who = run_number(what), person()
    named: dict[str, Any] = {"campaign": campaign, "workflow": workflow, "task": task, "source": source}
    found = skip_runs(open_ledger(), what if run is None else run, reason=reason, person=who, **named)
    if as_json:
        skipped = [vars(item) for item in found]
        emit_json({"campaign": campaign, "reason": reason.strip(), "person": who, "skipped": skipped})
        return
    for item in found:
        where = f"{item.workflow}.{task}" if task else item.workflow
        listed = ", ".join(map(str, item.runs))
        print(f"{where}: skipped {listed}" if listed else f"{where}: was skipped already")
        for note in item.notes:
            print(f"  note: {note}")


def retry(
    group: Annotated[str, typer.Argument(help="The group, such as fill-r355872.")],
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="This task (repeatable); else all that cannot go on.")
    ] = None,
    downstream: Annotated[
        bool, typer.Option("--downstream/--no-downstream", help="Also what comes after it in its DAG run.")
    ] = True,
    every_job: Annotated[bool, typer.Option("--all", help="Every job, also those that are done.")] = False,
    from_step: FromStep = None,
    from_phase: FromPhase = None,
    same_version: Annotated[
        bool, typer.Option("--same-version", help="The spec and the code of before, not the newest commit.")
    ] = False,
    workflow: WorkflowName = None,
    campaign: Campaign = PROMPT,
    as_json: Json = False,
) -> None:
    """Run tasks of a group again, by clearing them in Airflow.

    A failed job set is continued with the jobs that are not done; one that is done starts anew. What has to run before
    them is cleared too: sensors that have failed, or that a person marked as success too early, and tasks that are not
    done. A task that was added to the workflow since is added to the DAG run. The newest
    commit is run. Where Airflow cannot be reached nothing changes. Needs CALIB_AIRFLOW_URL.
    """
    from dataclasses import replace

    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.ledger.dag_groups import airflow_task_id
    from airflow_calib_provider.rest.client import Airflow
    from airflow_calib_provider.rest.retrying import to_clear

    if every_job and same_version:
        raise typer.BadParameter("--all and --same-version exclude each other", param_hint="--same-version")
    ledger = open_ledger()
    existing_names(ledger, campaign, workflow)
    again = _going_back(ledger, group, campaign, workflow, task or [], from_step, from_phase)
    with ledger.read() as connection:
        dag_id, run_id, found = _standing(connection, campaign, workflow, group, task or [])
    with Airflow() as airflow:
        there, added = _with_new_tasks(airflow, dag_id, run_id, found.states, task or [])
        standing = replace(found, there=there, after=airflow.edges(dag_id))
        clearing = to_clear(standing, [airflow_task_id(name) for name in task or []])
        if not clearing.tasks and not added:
            raise CalibError(f"no task of {group} has failed", "name one with --task to run it again all the same")
        how = "all" if every_job else "same_version" if same_version else again
        cleared = []
        with _told(ledger, campaign, workflow, group, [*clearing.before, *clearing.tasks], how):
            if clearing.before:
                cleared += airflow.clear(dag_id, run_id, clearing.before, downstream=False)
            if clearing.tasks:
                cleared += airflow.clear(dag_id, run_id, clearing.tasks, downstream=downstream)
        if added and cleared:  # the new tasks had brought it to life before; nothing is to be taken back any more
            airflow.see_it_go_on(dag_id, run_id, [str(item["task_id"]) for item in cleared])
    names = sorted({str(item["task_id"]) for item in cleared} | added)
    if as_json:
        emit_json({"dag_id": dag_id, "run_id": run_id, "cleared": names})
    else:
        print(f"cleared in the DAG run {run_id} of {dag_id}: {', '.join(names) or 'nothing'}")


def _going_back(
    ledger: Ledger,
    group: str,
    campaign: str,
    workflow: str | None,
    tasks: Sequence[str],
    step: int | None,
    phase: str | None,
) -> str | None:
    """How a task that iterates is to go on, if a step or a phase is named.

    :raises NotFound: there is no such step.
    :raises CalibError: it has not failed: there is nothing to go on with.
    """
    if step is None and phase is None:
        return None
    if step is not None and phase is not None:
        raise typer.BadParameter("--from-step and --from-phase exclude each other", param_hint="--from-phase")
    if len(tasks) > 1:
        raise typer.BadParameter("only one task goes back", param_hint="--task")
    from airflow_calib_provider.api.stepping import step_to_go_back_to

    name = tasks[0] if tasks else None
    return step_to_go_back_to(ledger, group, campaign, workflow, name, step, phase)


@contextmanager
def _told(
    ledger: Ledger, campaign: str, workflow: str | None, name: str, task_ids: Sequence[str], how: str | None
) -> Iterator[None]:
    """Let the tasks know how they are to run again before they start; not if nothing comes of it."""
    from airflow_calib_provider.ledger import generations, tables
    from airflow_calib_provider.ledger.dag_groups import airflow_task_id
    from airflow_calib_provider.ledger.groups import find_group

    def note(value: str | None) -> None:
        table = tables.group_task
        with ledger.write() as connection:
            group = find_group(connection, campaign, workflow, name)
            names = connection.execute(select(table.c.task).where(table.c.group_id == group.id)).scalars()
            tasks = [task for task in names if airflow_task_id(task) in task_ids]
            generations.want_rerun(connection, group.id, tasks, value)

    from sqlalchemy import select

    note(how)
    try:
        yield
    except BaseException:
        note(None)
        raise


def _with_new_tasks(
    airflow: Airflow, dag_id: str, run_id: str, states: Mapping[str, str], named: Sequence[str]
) -> tuple[dict[str, Answer], set[str]]:
    """The task instances of a DAG run, with those of tasks that were added to the workflow after the run had ended.

    :returns: them, and the names of those that were added, which run now.
    :raises CalibError: Airflow has no such task.
    """
    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.ledger.dag_groups import airflow_task_id

    there = airflow.task_instances(dag_id, run_id)
    lacking = [name for name, state in states.items() if name not in there and state not in ("done", "skipped")]
    if lacking and airflow.add_new_tasks(dag_id, run_id):
        there = airflow.task_instances(dag_id, run_id)
    if unknown := [name for name in map(airflow_task_id, named) if name not in there]:
        raise CalibError(
            f"Airflow's DAG run {run_id} of {dag_id} has no task {', '.join(unknown)}", "nothing was changed"
        )
    return there, {name for name in lacking if name in there}


def _standing(
    connection: Connection, campaign: str, workflow: str | None, name: str, tasks: Sequence[str]
) -> tuple[str, str, GroupStanding]:
    """The DAG run of a group, and how the group stands in the ledger.

    :raises NotFound: there is no such group or task, or it has no DAG run yet.
    :raises CalibError: everything is done, and no task was named.
    """
    from sqlalchemy import select

    from airflow_calib_provider.errors import CalibError, NotFound
    from airflow_calib_provider.ledger import tables
    from airflow_calib_provider.ledger.dag_groups import airflow_task_id
    from airflow_calib_provider.ledger.groups import find_group
    from airflow_calib_provider.ledger.waiting import look
    from airflow_calib_provider.rest.retrying import GroupStanding

    group = find_group(connection, campaign, workflow, name)
    table, request = tables.group_task, tables.dag_run_request
    rows = connection.execute(select(table).where(table.c.group_id == group.id).order_by(table.c.position)).all()
    states: dict[str, str] = {row.task: row.state for row in rows}
    if unknown := [task for task in tasks if task not in states]:
        raise NotFound(f"{name} has no task {', '.join(unknown)}", f"it has {', '.join(states)}")
    if not tasks and all(state in ("done", "skipped") for state in states.values()):
        raise CalibError(f"no task of {name} has failed", "name one with --task to run it again all the same")
    asked = connection.execute(select(request).where(request.c.group_id == group.id)).first()
    if asked is None or asked.state != "opened":
        raise NotFound(f"{name} has no DAG run yet: there is nothing to retry", f"`calib explain {name}` says why")
    looks = look(connection, [(group.id, task) for task in states])
    shut = frozenset(airflow_task_id(task) for (_, task), seen in looks.items() if seen.state != "open")
    named = {airflow_task_id(task): state for task, state in states.items()}
    return asked.dag_id, asked.run_id, GroupStanding(named, group.state == "closed", shut, {})
