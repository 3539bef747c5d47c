"""What an execution of a job set's Airflow task means for the ledger (rule 14)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import exc

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import CalibError, IllegalTransition, NotOpen, NotPublished, RenderError
from airflow_calib_provider.jobsets.accepted import gone
from airflow_calib_provider.jobsets.code import Code, code_of, lacks
from airflow_calib_provider.jobsets.context import SPEC_FOLDER, GroupContext, gather
from airflow_calib_provider.jobsets.first_step import first_step, iteration_code, with_start
from airflow_calib_provider.jobsets.inputs import require_inputs
from airflow_calib_provider.jobsets.iteration_plan import RenderedIteration
from airflow_calib_provider.jobsets.render import Rendered, query_of, render
from airflow_calib_provider.ledger import exclusions, generations, groups, spec_files
from airflow_calib_provider.ledger.campaign_view import applied, as_run
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Campaign, Definition, Generation, Used
from airflow_calib_provider.ledger.starting import TaskStanding, require_open, standing_of
from airflow_calib_provider.ledger.steps import Planned, StoredPlan
from airflow_calib_provider.spec.by_hand import by_hand_fields
from airflow_calib_provider.spec.language import PRESET
from airflow_calib_provider.spec.loader import load_text
from airflow_calib_provider.spec.models import Task, Workflow

_NEWEST = "`calib retry` without --same-version takes the newest one"

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
    params: Mapping[str, object] | None = None,
    bundle_version: str | None = None,
) -> Begun:
    """Attach to the generation that runs, return the recorded result, continue a cleared one, or start the next.

    :param max_tries: Airflow's ``ti.max_tries``: only a user's clear makes it larger.
    :param bundle_version: of the DAG bundle that the workflow comes from: a commit.
    :raises RenderError: the jobs cannot be rendered; the task has failed with that reason.
    :raises NotOpen: the group is not closed, a lock is not open, or a task of its own DAG that it needs is not done; or
        the campaign's own spec does not fit the DAG.
    """
    with ledger.read() as connection:
        before = standing_of(connection, group_id, task.name, workflow.hash)
        flow = as_run(connection, before.campaign, workflow)
    own = flow.tasks[task.name]
    stated = stated_params(workflow, params)
    if before.task is None:
        with ledger.write() as connection:
            groups.ensure_task(connection, flow, group_id, own, now)
    return _begin(
        ledger,
        before,
        task.name,
        lambda: _of_spec(ledger, flow, own, before, max_tries, dag_run_id, stated, bundle_version, now),
        max_tries=max_tries,
        now=now,
        needed=flow.names_inside(own),
        text=_text(workflow, before, now),
    )


def stated_params(workflow: Workflow, params: Mapping[str, object] | None) -> dict[str, object]:
    """What a DAG run sets otherwise than the file does, whose values Airflow fills in.

    A campaign's own values stand between both. The preset is named, and not what it sets.
    """
    given, form = params or {}, by_hand_fields(workflow).values()
    of_file = {**workflow.params, **({PRESET: workflow.preset} if workflow.presets else {})}
    return {
        name: value
        for name, value in given.items()
        if name not in form and (name not in of_file or of_file[name] != value)
    }


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
        stand = standing_of(connection, group_id, task)
    return _begin(ledger, stand, task, make, max_tries=max_tries, now=now, needed=before)


def _begin(
    ledger: Ledger,
    before: TaskStanding,
    task: str,
    make: Callable[[], generations.NewGeneration],
    *,
    max_tries: int,
    now: datetime,
    needed: Sequence[str],
    text: spec_files.KeptText | None = None,
) -> Begun:
    last = before.last
    # A clear makes it larger. A worker that slept through one knows a smaller one, and is nobody's wish.
    if last is not None and (max_tries <= last.max_tries or last.state == "running"):
        if max_tries > last.max_tries:
            with ledger.write() as connection:
                generations.note_max_tries(connection, last.id, max_tries)
        return Begun(last.id, last.n, last.state, last.reason, attached=True)
    return _start(ledger, make(), before, needed, now, text)


def _of_spec(
    ledger: Ledger,
    workflow: Workflow,
    task: Task,
    before: TaskStanding,
    max_tries: int,
    dag_run_id: str,
    params: Mapping[str, object] | None,
    bundle_version: str | None,
    now: datetime,
) -> generations.NewGeneration:
    old = before.last if _is_of_before(before) else None
    if old is not None:
        with ledger.read() as connection:
            kept = spec_files.text_of(connection, old.spec_hash)
        workflow, task = _as_it_was(old, kept, workflow, task, before.campaign)
    assert task.jobs is not None
    with ledger.read() as connection:
        context = gather(connection, workflow, task, before.group.id, params, before.group, now)
    place = None if old is None else _old_code(old)
    folder = f"{context.campaign}/{workflow.name}/{task.name}/{context.group}"
    if task.iteration is not None:
        code, phases = iteration_code(task, context, place, bundle_version)
        made = _of_iteration(ledger, task, context, phases, folder)
    else:
        code, rendered = _rendered(task, context, place, bundle_version)
        require_inputs(context, rendered)
        made = _of_jobs(task, context, rendered)
    return generations.NewGeneration(
        group_id=before.group.id,
        task=task.name,
        max_tries=max_tries,
        backend=task.backend,
        spec_hash=workflow.hash,
        git_commit=code.commit,
        spec_folder=str(code.folder),
        runs=context.runs,
        excluded_runs=context.excluded_runs,
        drops={name: kept.total_seconds() for name, kept in task.drops.items()},
        folder=folder,
        dag_run_id=dag_run_id,
        keep=int(task.jobs.keep.total_seconds()),
        failed_runs=context.failed_runs,
        definitions_hash=made.digest,
        used=made.used,
        inputs=made.inputs,
        retries=made.retries,
        quorum=made.quorum,
        products=made.products,
        failures=made.failures,
        options=made.options,
        definitions=made.definitions,
        plan=made.plan,
        first=made.first,
    )


class _Made(NamedTuple):
    """What differs between a job set and one that iterates, whose first job set is that of its first step."""

    digest: str
    used: Used
    inputs: Sequence[str]
    retries: int
    quorum: float
    products: Mapping[str, str]
    failures: Sequence[Mapping[str, object]]
    options: Mapping[str, object]
    definitions: Sequence[Definition] = ()
    plan: StoredPlan | None = None
    first: Planned | None = None


def _of_jobs(task: Task, context: GroupContext, rendered: Rendered) -> _Made:
    assert task.jobs is not None
    return _Made(
        digest=rendered.digest,
        used=context.used,
        inputs=rendered.inputs,
        retries=task.jobs.retries,
        quorum=task.jobs.quorum,
        products=task.products,
        failures=rendered.failures,
        options=rendered.options,
        definitions=rendered.definitions,
    )


def _of_iteration(ledger: Ledger, task: Task, context: GroupContext, rendered: RenderedIteration, folder: str) -> _Made:
    plan, first = first_step(ledger, task, context, rendered, folder)
    part = plan["phases"][first.phase]["measure"]
    return _Made(
        digest=rendered.digest,
        used=with_start(context.used, task, plan),
        inputs=part["inputs"],
        retries=part["retries"],
        quorum=part["quorum"],
        products=part["products"],
        failures=part["failures"],
        options=part["options"],
        plan=plan,
        first=first,
    )


def _is_of_before(before: TaskStanding) -> bool:
    """Whether a person wants it to run again as it was made then (rule 44)."""
    return before.last is not None and before.last.rerun == generations.SAME_VERSION


def _text(workflow: Workflow, before: TaskStanding, now: datetime) -> spec_files.KeptText | None:
    """What is begun with a text can be begun with it again: the text, if the ledger lacks it."""
    if before.text_known or _is_of_before(before):
        return None
    return spec_files.KeptText(workflow.name, Path(workflow.file).name, workflow.hash, workflow.text, now)


def _as_it_was(
    old: Generation, text: str | None, workflow: Workflow, task: Task, campaign: Campaign
) -> tuple[Workflow, Task]:
    """The workflow and the task that a generation was made from.

    :raises RenderError: they are not known any more.
    """
    if old.spec_hash == workflow.hash:
        return workflow, task
    if text is None:
        raise RenderError(f"the text of {workflow.name} that generation {old.n} was made from is not known", _NEWEST)
    found = applied(campaign, load_text(text, Path(workflow.file)))
    if task.name not in found.tasks:
        raise RenderError(f"the text of {workflow.name} then had no task {task.name}", _NEWEST)
    return found, found.tasks[task.name]


def _old_code(old: Generation) -> Code:
    """:raises RenderError: the copy is gone."""
    folder = Path(old.spec_folder or "")
    if not old.spec_folder or not folder.is_dir():
        said = f"the files of commit {old.git_commit} that generation {old.n} was made from are not there any more"
        raise RenderError(said, _NEWEST)
    return Code(folder, old.git_commit)


def _rendered(
    task: Task, context: GroupContext, code: Code | None, bundle_version: str | None
) -> tuple[Code, Rendered]:
    """The jobs, and where the spec's own files are: the folder itself if they name one that the commit lacks."""
    assert task.jobs is not None
    found = code or code_of(context.folder, bundle_version)
    itself = Code(context.folder, f"{found.commit}-dirty")
    if code is None and lacks(query_of(task.jobs, context), SPEC_FOLDER, found, context.folder):
        found = itself
    rendered = render(task, context, found.folder)
    if code is None and lacks(rendered.named, SPEC_FOLDER, found, context.folder):
        return itself, render(task, context, itself.folder)
    return found, rendered


def _start(
    ledger: Ledger,
    new: generations.NewGeneration,
    before: TaskStanding,
    needed: Sequence[str],
    now: datetime,
    text: spec_files.KeptText | None,
) -> Begun:
    name, last = before.group.name, before.last
    continues = (
        last is not None
        and last.state == "failed"
        and last.definitions_hash == new.definitions_hash
        and last.rerun != generations.ALL
        and not _products_gone(ledger, last)
    )
    crash_point("generation.before_create", name)
    try:
        with ledger.write() as connection:
            require_open(connection, new.group_id, new.task, needed, now)
            stand = standing_of(connection, new.group_id, new.task)
            current = stand.last
            same = (current and (current.id, current.state)) == (last and (last.id, last.state))
            # Of another edition the jobs would have other runs.
            if not same or stand.group.edition != before.group.edition:
                raise IllegalTransition(f"{new.task} of {name} was changed by another process meanwhile")
            exclusions.record(connection, stand.group, new.task, new.failed_runs, now)
            if text is not None:
                spec_files.keep_text(connection, text)
            if current is not None and continues:
                generations.continue_failed(connection, current, new.max_tries, now, new)
                begun = Begun(current.id, current.n, "running", None, attached=False)
            else:
                n = current.n + 1 if current else 1
                begun = Begun(generations.create(connection, new, now, stand), n, "running", None, attached=False)
    except exc.IntegrityError as error:
        raise IllegalTransition(f"{new.task} of {name} was begun by another process meanwhile") from error
    crash_point("generation.after_create", name)
    return begun


def _products_gone(ledger: Ledger, before: Generation) -> bool:
    """Whether a job that succeeded must run again, because somebody deleted what it made, or a part of it."""
    with ledger.read() as connection:
        jobs = generations.jobs_of(connection, [before.id])
        products = generations.products_of(connection, before.id)
    return bool(gone(before.folder, jobs, products))


def record_failure(ledger: Ledger, group_id: int, task: str, failure: CalibError | str, now: datetime) -> None:
    """The task has failed before it had a generation, such as by a template: say so in the ledger.

    A task that a person skipped stays skipped.
    """
    reason = (
        dict(failure.reason)
        if isinstance(failure, NotOpen | NotPublished)
        else {"code": "error", "message": str(failure)}
    )
    with ledger.write() as connection:
        groups.set_task_states(connection, group_id, "failed", reason, now, task=task, only=FAILING)
