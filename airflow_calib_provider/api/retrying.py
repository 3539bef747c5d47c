"""Running tasks of a group again, by clearing them in Airflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import select

from airflow_calib_provider.api.reading import PROMPT, check_names
from airflow_calib_provider.api.stepping import step_to_go_back_to
from airflow_calib_provider.errors import CalibError, CommandLineError, NotFound
from airflow_calib_provider.ledger import generations, tables
from airflow_calib_provider.ledger.dag_groups import airflow_task_id
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import find_group
from airflow_calib_provider.ledger.waiting import look
from airflow_calib_provider.rest.client import Airflow
from airflow_calib_provider.rest.retrying import GroupStanding, following, to_clear
from airflow_calib_provider.spec.language import APPROVE_SUFFIX

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from airflow_calib_provider.ledger.explain_airflow import Answer


@dataclass(frozen=True)
class Retried:
    """What runs again.

    :ivar dag_id: Airflow's DAG, and
    :ivar run_id: its DAG run.
    :ivar cleared: the ids of the tasks that were cleared in it, or added to it.
    :ivar discarded: the numbers of the steps of an iteration that are made anew.
    """

    dag_id: str
    run_id: str
    cleared: Sequence[str]
    discarded: Sequence[int] = ()


def retry_group(
    ledger: Ledger,
    group: str,
    *,
    tasks: Sequence[str] = (),
    downstream: bool = True,
    every_job: bool = False,
    same_version: bool = False,
    from_step: int | None = None,
    from_phase: str | None = None,
    campaign: str = PROMPT,
    workflow: str | None = None,
) -> Retried:
    """Run tasks of a group again, by clearing them in Airflow (``CALIB_AIRFLOW_URL``).

    A failed job set is continued with the jobs that are not done; one that is done starts anew. What has to run before
    them is cleared, too. Where Airflow cannot be reached nothing changes.

    :param tasks: these; all that cannot go on if left out.
    :param downstream: also what comes after them in their DAG run.
    :param every_job: also the jobs that are done.
    :param same_version: the spec and the code of before, not the newest commit.
    :param from_step: of what iterates: this step and all after it are made anew.
    :param from_phase: of what iterates: from this phase on; ``STAGE.PHASE`` if several have it.
    :raises NotFound: there is no such campaign, workflow, group, task, step or phase, or no DAG run yet.
    :raises AirflowUnreachable: Airflow does not answer, or refuses the token.
    :raises CalibError: nothing has failed and no task is named, or Airflow refuses it.
    """
    _refuse_contradictions(tasks, every_job, same_version, from_step, from_phase)
    with ledger.read() as connection:
        check_names(connection, campaign, workflow)
    back = None
    if from_step is not None or from_phase is not None:
        one = tasks[0] if tasks else None
        back = step_to_go_back_to(ledger, group, campaign, workflow, one, from_step, from_phase)
    with ledger.read() as connection:
        dag_id, run_id, found = _standing(connection, campaign, workflow, group, tasks)
    with Airflow() as airflow:
        there, added = _with_new_tasks(airflow, dag_id, run_id, found.states, tasks)
        standing = replace(found, there=there, after=airflow.edges(dag_id))
        clearing = to_clear(standing, [airflow_task_id(name) for name in tasks])
        if not clearing.tasks and not added:
            raise CalibError(f"no task of {group} has failed", "name one with --task to run it again all the same")
        how = "all" if every_job else "same_version" if same_version else back.rerun if back else None
        cleared = []
        with _told(ledger, campaign, workflow, group, [*clearing.before, *clearing.tasks], how):
            again = {*clearing.before, *(following(standing, clearing.tasks) if downstream else clearing.tasks)}
            asking = [name for name in there if name.endswith(APPROVE_SUFFIX) and name in again]
            airflow.forget_questions(dag_id, run_id, asking)
            if clearing.before:
                cleared += airflow.clear(dag_id, run_id, clearing.before, downstream=False)
            if clearing.tasks:
                cleared += airflow.clear(dag_id, run_id, clearing.tasks, downstream=downstream)
        if added and cleared:  # the new tasks had brought it to life before; nothing is to be taken back any more
            airflow.see_it_go_on(dag_id, run_id, [str(item["task_id"]) for item in cleared])
    ids = sorted({str(item["task_id"]) for item in cleared} | added)
    return Retried(dag_id, run_id, ids, back.discarded if back else ())


def _refuse_contradictions(
    tasks: Sequence[str], every_job: bool, same_version: bool, step: int | None, phase: str | None
) -> None:
    """:raises CommandLineError: two of them exclude each other."""
    if every_job and same_version:
        raise CommandLineError("all jobs and the same version exclude each other", "leave one out")
    if step is not None and phase is not None:
        raise CommandLineError("a step and a phase exclude each other", "leave one out")
    if len(tasks) > 1 and (step is not None or phase is not None):
        raise CommandLineError("only one task goes back", "name one")


@contextmanager
def _told(
    ledger: Ledger, campaign: str, workflow: str | None, name: str, task_ids: Sequence[str], how: str | None
) -> Iterator[None]:
    """Let the tasks know how they are to run again before they start; not if nothing comes of it."""

    def note(value: str | None) -> None:
        table = tables.group_task
        with ledger.write() as connection:
            group = find_group(connection, campaign, workflow, name)
            names = connection.execute(select(table.c.task).where(table.c.group_id == group.id)).scalars()
            tasks = [task for task in names if airflow_task_id(task) in task_ids]
            generations.want_rerun(connection, group.id, tasks, value)

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
