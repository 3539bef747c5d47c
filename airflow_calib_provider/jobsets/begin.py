"""What an execution of a job set's Airflow task means for the ledger (rule 14)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import exc

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import CalibError, IllegalTransition, NotOpen
from airflow_calib_provider.jobsets.accepted import gone
from airflow_calib_provider.jobsets.context import gather
from airflow_calib_provider.jobsets.render import git_commit, render
from airflow_calib_provider.ledger import generations, groups
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.starting import require_open
from airflow_calib_provider.spec.models import Task, Workflow

FAILING = ("new", "waiting", "processing", "done", "failed")


@dataclass(frozen=True)
class Begun:
    """The generation that the Airflow task now stands for.

    :ivar state: ``running``, ``done`` or ``failed``.
    :ivar attached: True if it was there already: nothing new was started.
    """

    generation_id: int
    n: int
    state: str
    reason: Reason | None
    attached: bool


def begin(
    ledger: Ledger,
    workflow: Workflow,
    task: Task,
    group_id: int,
    *,
    max_tries: int,
    dag_run_id: str,
    now: datetime,
    params: Mapping[str, Any] | None = None,
) -> Begun:
    """Attach to the generation that runs, return the recorded result, continue a cleared one, or start the next.

    :param max_tries: Airflow's ``ti.max_tries``: only a user's clear makes it larger.
    :raises RenderError: the jobs cannot be rendered; the task has failed with that reason.
    :raises NotOpen: the group is not closed, a lock is not open, or a task of its own DAG that it needs is not done.
    """
    with ledger.read() as connection:
        known = groups.has_task(connection, group_id, task.name)
    if not known:
        with ledger.write() as connection:
            groups.ensure_task(connection, workflow, group_id, task, now)
    return begin_with(
        ledger,
        group_id,
        task.name,
        lambda: _of_spec(ledger, workflow, task, group_id, max_tries, dag_run_id, params),
        max_tries=max_tries,
        now=now,
        before=workflow.names_inside(task),
    )


def begin_with(
    ledger: Ledger,
    group_id: int,
    task: str,
    make: Callable[[], generations.NewGeneration],
    *,
    max_tries: int,
    now: datetime,
    before: Sequence[str] = (),
) -> Begun:
    """As :func:`begin`, of a job set that no spec describes. The group has a row for the task already.

    :param make: what a new generation would be; called only where one may be needed.
    :param before: the tasks of its own DAG that must be done.
    :raises RenderError: as ``make`` does.
    :raises NotOpen: as :func:`begin` does.
    """
    with ledger.read() as connection:
        last = generations.latest(connection, group_id, task)
    # A clear makes it larger. A worker that slept through one knows a smaller one, and is nobody's wish.
    if last is not None and (max_tries <= last.max_tries or last.state == "running"):
        if max_tries > last.max_tries:
            with ledger.write() as connection:
                generations.note_max_tries(connection, last.id, max_tries)
        return Begun(last.id, last.n, last.state, last.reason, attached=True)
    return _start(ledger, make(), last, before, now)


def _of_spec(
    ledger: Ledger,
    workflow: Workflow,
    task: Task,
    group_id: int,
    max_tries: int,
    dag_run_id: str,
    params: Mapping[str, Any] | None,
) -> generations.NewGeneration:
    assert task.jobs is not None
    with ledger.read() as connection:
        context = gather(connection, workflow, task, group_id, params)
    rendered = render(task, context)
    return generations.NewGeneration(
        group_id=group_id,
        task=task.name,
        max_tries=max_tries,
        backend=task.backend,
        spec_hash=workflow.hash,
        git_commit=git_commit(Path(workflow.file).resolve().parent),
        definitions_hash=rendered.digest,
        inputs=rendered.inputs,
        runs=context.runs,
        excluded_runs=context.excluded_runs,
        used=context.used,
        retries=task.jobs.retries,
        quorum=task.jobs.quorum,
        products=task.products,
        folder=f"{context.campaign}/{workflow.name}/{task.name}/{context.group}",
        dag_run_id=dag_run_id,
        definitions=rendered.definitions,
        failures=rendered.failures,
        options=rendered.options,
        keep=int(task.jobs.keep.total_seconds()),
    )


def _start(ledger: Ledger, new: generations.NewGeneration, last: Any, before: Sequence[str], now: datetime) -> Begun:
    with ledger.read() as connection:
        name = groups.group_by_id(connection, new.group_id).name
    continued = (
        last is not None
        and last.state == "failed"
        and last.definitions_hash == new.definitions_hash
        and not _products_gone(ledger, last)
    )
    crash_point("generation.before_create", name)
    try:
        with ledger.write() as connection:
            require_open(connection, new.group_id, new.task, before)
            current = generations.latest(connection, new.group_id, new.task)
            if (current and (current.id, current.state)) != (last and (last.id, last.state)):
                raise IllegalTransition(f"{new.task} of {name} was changed by another process meanwhile")
            if continued:
                row = generations.by_id(connection, last.id)
                generations.continue_failed(connection, row, new.max_tries, now, new)
                generation_id = int(last.id)
            else:
                generation_id = generations.create(connection, new, now)
            begun = generations.by_id(connection, generation_id)
    except exc.IntegrityError as error:
        raise IllegalTransition(f"{new.task} of {name} was begun by another process meanwhile") from error
    crash_point("generation.after_create", name)
    return Begun(begun.id, begun.n, begun.state, begun.reason, attached=False)


def _products_gone(ledger: Ledger, before: Any) -> bool:
    """Whether a job that succeeded must run again, because somebody deleted what it made, or a part of it."""
    with ledger.read() as connection:
        jobs = generations.job_states_of(connection, [before.id])
        products = generations.products_of(connection, before.id)
    return bool(gone(before.folder, jobs, products))


def record_failure(ledger: Ledger, group_id: int, task: str, failure: CalibError | str, now: datetime) -> None:
    """The task has failed before it had a generation, such as by a template: say so in the ledger.

    A task that a person skipped stays skipped.
    """
    reason = dict(failure.reason) if isinstance(failure, NotOpen) else {"code": "error", "message": str(failure)}
    with ledger.write() as connection:
        groups.set_task_states(connection, group_id, "failed", reason, now, task=task, only=FAILING)
