"""What a group's templates may use: gathered from the ledger in one read (rules 18, 20, 22, 33)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.jobsets.folders import product_path
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.groups import group_by_id
from airflow_calib_provider.ledger.skips import remaining_runs
from airflow_calib_provider.payloads import store
from airflow_calib_provider.spec.models import Need, Task, Workflow


@dataclass(frozen=True)
class GroupContext:
    """Everything that one task of one group is made from.

    :ivar variables: what templates see.
    :ivar runs: the runs that are processed.
    :ivar excluded_runs: runs of the group that were skipped.
    :ivar used: the generations and payloads whose files the variables name.
    """

    campaign: str
    workflow: str
    task: str
    group_id: int
    group: str
    variables: Mapping[str, Any]
    runs: Sequence[int]
    excluded_runs: Sequence[int]
    used: Mapping[str, Any]


def gather(
    connection: Connection, workflow: Workflow, task: Task, group_id: int, params: Mapping[str, Any] | None = None
) -> GroupContext:
    """Read the context of a task of a group.

    :param params: values of the DAG run's params, over the spec's defaults.
    :raises RenderError: every run of the group is skipped.
    """
    group = group_by_id(connection, group_id)
    kept, excluded = remaining_runs(connection, group_id, task.name, _needed_inside(workflow, task))
    if not kept:
        raise RenderError(f"all runs of {group.name} are skipped: there is nothing to process")
    records = _records(connection, group_id, set(kept))
    tasks, others, generations = _products(connection, workflow, task, group, kept)
    payloads, used_payloads = _payloads(connection, task, group.campaign, kept)
    variables: dict[str, Any] = {
        "campaign": group.campaign,
        "workflow": workflow.name,
        "task": task.name,
        "group": {
            "name": group.name,
            "first_run": group.first_run,
            "last_run": group.last_run,
            "start": group.start.isoformat() if group.start else None,
            "end": group.end.isoformat() if group.end else None,
            "runs": kept,
            "n_runs": len(kept),
            "files": [file for record in records for file in record["files"]],
        },
        "runs": records,
        "params": {**workflow.params, **(params or {})},
        "tasks": tasks,
        "workflows": others,
        "payloads": payloads,
        "spec": {"folder": str(Path(workflow.file).resolve().parent)},
    }
    if task.grouping.kind == "run":
        variables["run"] = records[0]
    used = {"generations": generations, "payloads": used_payloads}
    return GroupContext(group.campaign, workflow.name, task.name, group_id, group.name, variables, kept, excluded, used)


def _needed_inside(workflow: Workflow, task: Task) -> set[str]:
    """All tasks of its own DAG that a task comes after."""
    found: set[str] = set()
    left = [task]
    while left:
        for need in workflow.inside_needs(left.pop()):
            if need.task not in found:
                found.add(need.task)
                left.append(workflow.tasks[need.task])
    return found


def _records(connection: Connection, group_id: int, kept: set[int]) -> list[dict[str, Any]]:
    member = tables.membership
    rows = connection.execute(
        select(member.c.run, member.c.record)
        .where(member.c.group_id == group_id, member.c.state == "grouped")
        .order_by(member.c.run)
    ).all()
    return [dict(row.record) for row in rows if row.run in kept]


def _products(
    connection: Connection, workflow: Workflow, task: Task, group: Any, runs: Sequence[int]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Product variables of this workflow and of others, and the ids of the generations that they come from."""
    variables: dict[str, Any] = {}
    others: dict[str, Any] = {}
    generations: dict[str, Any] = {}
    inside = set(workflow.inside_needs(task))
    for need in task.needs:
        found = _done_generations(connection, need, group, runs, inside=need in inside)
        generations[f"{need.workflow}.{need.task}"] = [row.id for row in found]
        files = _files(connection, found)
        if need.workflow == workflow.name:
            needed = workflow.tasks[need.task]
            single = need in inside and needed.jobs is not None and _is_single(needed)
            values: dict[str, Any] = {name: paths[0] if single else paths for name, paths in files.items()}
            variables[need.task] = {"products": values}
        else:
            other = others.setdefault(need.workflow, {"tasks": {}})
            other["tasks"][need.task] = {"products": dict(files)}
    return variables, others, generations


def _is_single(task: Task) -> bool:
    return task.jobs is not None and task.jobs.split.count is None and task.jobs.split.per_job is None


def _done_generations(
    connection: Connection, need: Need, group: Any, runs: Sequence[int], *, inside: bool
) -> list[Any]:
    """The latest done generation of the needed task for each group that holds one of the runs, in run order."""
    generation, member, about = tables.generation, tables.membership, tables.run_group
    if inside:
        groups = select(about.c.id).where(about.c.id == group.id)
    else:
        here = (member.c.campaign == group.campaign, member.c.workflow == need.workflow, member.c.run.in_(list(runs)))
        groups = select(member.c.group_id).where(
            *here, member.c.state == "grouped", member.c.grouping == _label(connection, need, group)
        )
    newest = (
        select(generation.c.group_id, func.max(generation.c.n).label("n"))
        .where(generation.c.group_id.in_(groups), generation.c.task == need.task, generation.c.state == "done")
        .group_by(generation.c.group_id)
        .subquery()
    )
    query = (
        select(generation.c.id, generation.c.folder, about.c.first_run)
        .join(newest, (newest.c.group_id == generation.c.group_id) & (newest.c.n == generation.c.n))
        .join(about, about.c.id == generation.c.group_id)
        .where(generation.c.task == need.task)
        .order_by(about.c.first_run)
    )
    return list(connection.execute(query).all())


def _label(connection: Connection, need: Need, group: Any) -> str:
    if need.grouping is not None:
        return need.grouping
    lock = tables.lock
    label = connection.execute(
        select(lock.c.needs_grouping).where(
            lock.c.group_id == group.id, lock.c.needs_workflow == need.workflow, lock.c.needs_task == need.task
        )
    ).scalar()
    return str(label)


def _files(connection: Connection, generations: Sequence[Any]) -> dict[str, list[str]]:
    """Product name → files, in the order of the groups and of the jobs."""
    product = tables.product
    folders = {row.id: row.folder for row in generations}
    order = {row.id: position for position, row in enumerate(generations)}
    rows = connection.execute(select(product).where(product.c.generation_id.in_(folders))).all()
    files: dict[str, list[str]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (order[row.generation_id], row.job_index)):
        files[row.name].append(str(product_path(folders[row.generation_id], row.job_index, row.file)))
    return dict(files)


def _payloads(
    connection: Connection, task: Task, campaign: str, runs: Sequence[int]
) -> tuple[dict[str, list[str]], list[dict[str, Any]]]:
    files: dict[str, list[str]] = {}
    used: list[dict[str, Any]] = []
    for item in task.payload_locks:
        rows = store.covering(connection, campaign, item.tag, runs)
        files[item.tag] = [str(store.content_path(row.content_hash)) for row in rows]
        used += [{"id": row.id, "tag": row.tag, "revision": row.revision, "hash": row.content_hash} for row in rows]
    return files, used
