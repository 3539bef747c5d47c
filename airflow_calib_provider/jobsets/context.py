"""What a group's templates may use: gathered from the ledger in one read (rules 18, 20, 22, 33)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.jobsets.folders import product_path
from airflow_calib_provider.jobsets.locked import former_payloads, locked_payloads
from airflow_calib_provider.jobsets.needed import Needed, all_needed
from airflow_calib_provider.ledger import exclusions, tables
from airflow_calib_provider.ledger.groups import group_by_id
from airflow_calib_provider.ledger.products import DROPPED
from airflow_calib_provider.ledger.rows import Group, Made, Used
from airflow_calib_provider.ledger.skips import Member, members_of
from airflow_calib_provider.ledger.starting import require_open
from airflow_calib_provider.spec.models import Need, Task, Workflow

SPEC_FOLDER = "⟦spec⟧"
"""For the folder of the spec, so that a definition (and its hash) is the same wherever a copy of its commit lies."""


@dataclass(frozen=True)
class GroupContext:
    """Everything that one task of one group is made from.

    :ivar variables: what templates see.
    :ivar runs: the runs that are processed.
    :ivar excluded_runs: runs of the group that were skipped, or had failed, here or in what was made for it.
    :ivar failed_runs: those that had failed in what the task needs, and without which it goes on, each with why.
    :ivar used: the generations and payloads whose files the variables name, and the runs that needed workflows did not
        select.
    :ivar folder: of the YAML file.
    :ivar dropped: those of the files that the variables name which are dropped, and when that was due.
    """

    campaign: str
    workflow: str
    task: str
    group_id: int
    group: str
    variables: Mapping[str, object]
    runs: Sequence[int]
    excluded_runs: Sequence[int]
    used: Used
    folder: Path = Path()
    dropped: Mapping[str, datetime] = field(default_factory=dict)
    failed_runs: Mapping[int, Reason] = field(default_factory=dict)


def gather(
    connection: Connection,
    workflow: Workflow,
    task: Task,
    group_id: int,
    params: Mapping[str, object] | None = None,
    group: Group | None = None,
    now: datetime | None = None,
) -> GroupContext:
    """Read the context of a task of a group.

    :param params: values of the DAG run's params, over the spec's defaults.
    :param group: its row, if that was read already.
    :param now: otherwise the present.
    :raises RenderError: every run of the group is skipped.
    :raises NotOpen: the group is not closed, or anything that the task needs is missing for one of the runs.
    """
    group = group or group_by_id(connection, group_id)
    members = members_of(connection, group, task.name, _needed_inside(workflow, task))
    kept, excluded = _parted(group, members)
    now = now or datetime.now(UTC)
    gone_on = require_open(connection, group_id, task.name, workflow.names_inside(task), now)
    failed = exclusions.of_task(connection, group, task.name, len(members), now).excluded
    kept, excluded = _without(group, kept, excluded, failed)
    needed = all_needed(connection, workflow, task, group, kept)
    left_out = {run for item in needed.values() for run in item.left_out(group, [*kept, *excluded])}
    kept, excluded = _without(group, kept, excluded, left_out)
    still = set(kept)
    records = [dict(member.record) for member in members if member.run in still]
    files, dropped = _files(connection, [row for item in needed.values() for row in item.generations])
    tasks, others = _products(files, workflow, task, needed)
    payloads, former, used_payloads = _payloads(connection, workflow, task, group, kept, gone_on)
    variables: dict[str, object] = {
        "campaign": group.campaign,
        "workflow": workflow.name,
        "task": task.name,
        "group": _described(group, kept, records),
        "runs": records,
        "params": workflow.params_with(params or {}),
        "tasks": tasks,
        "workflows": others,
        "payloads": payloads,
        "former": former,
        "spec": {"folder": SPEC_FOLDER},
        **({"run": records[0]} if task.policy.kind == "run" else {}),
    }
    return GroupContext(
        campaign=group.campaign,
        workflow=workflow.name,
        task=task.name,
        group_id=group_id,
        group=group.name,
        variables=variables,
        runs=kept,
        excluded_runs=excluded,
        used=_used(needed, used_payloads, kept, excluded, failed, gone_on),
        folder=Path(workflow.file).resolve().parent,
        dropped=dropped,
        failed_runs=failed,
    )


def _payloads(
    connection: Connection,
    workflow: Workflow,
    task: Task,
    group: Group,
    runs: Sequence[int],
    gone_on: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, list[str]], dict[str, list[str]], Used]:
    """The files of locked tags, and of those that the task validates what held before; and what these are."""
    files, used = locked_payloads(connection, task, group.campaign, runs, gone_on)
    tags = workflow.validated_by(task.name)
    former, compared = former_payloads(connection, group.campaign, tags, group.span[0])
    if compared:
        used["former"] = compared
    return files, former, used


def _parted(group: Group, members: Sequence[Member]) -> tuple[list[int], list[int]]:
    """The runs of a group, and those that are skipped."""
    kept = [member.run for member in members if not member.skipped]
    if not kept and group.state != "dropped":
        raise _nothing_left(group)
    return kept, [member.run for member in members if member.skipped]


def _without(group: Group, kept: list[int], excluded: list[int], gone: Collection[int]) -> tuple[list[int], list[int]]:
    """The runs that are left without some, and those that are not."""
    left = [run for run in kept if run not in gone]
    if gone and not left:
        raise _nothing_left(group)
    return left, sorted({*excluded, *gone})


def _used(
    needed: Mapping[Need, Needed],
    payloads: Used,
    runs: Sequence[int],
    excluded: Sequence[int],
    failed: Mapping[int, Reason],
    gone_on: Sequence[Mapping[str, Any]],
) -> Used:
    """What a generation remembers of what it was made from."""
    made = {f"{need.workflow}.{need.task}": [row.id for row in item.generations] for need, item in needed.items()}
    used: Used = {"generations": made, **payloads}
    if not_selected := _not_selected(needed, runs):
        used["not_selected"] = not_selected
    if gone_on:
        used["gone_on"] = list(gone_on)
    before = {
        run: reason
        for item in needed.values()
        for row in item.generations
        for run, reason in row.used.get("failed_runs", {}).items()
        if int(run) in excluded
    }
    if left_out := {**before, **{str(run): reason for run, reason in failed.items()}}:
        used["failed_runs"] = left_out
    return used


def _described(group: Group, runs: Sequence[int], records: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """A group as templates see it."""
    return {
        "name": group.name,
        "first_run": group.span[0],
        "last_run": group.span[1],
        "start": group.start.isoformat() if group.start else None,
        "end": group.end.isoformat() if group.end else None,
        "runs": runs,
        "n_runs": len(runs),
        "files": [file for one in records if isinstance(files := one["files"], list) for file in files],
    }


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


def _nothing_left(group: Group) -> RenderError:
    return RenderError(f"all runs of {group.name} are skipped, or have failed: there is nothing to process")


def _products(
    files_of: Mapping[int, Sequence[tuple[str, str]]], workflow: Workflow, task: Task, needed: Mapping[Need, Needed]
) -> tuple[dict[str, object], dict[str, dict[str, dict[str, object]]]]:
    """Product variables of this workflow and of others."""
    variables: dict[str, object] = {}
    others: dict[str, dict[str, dict[str, object]]] = {}
    inside = set(workflow.inside_needs(task))
    for need, item in needed.items():
        files: dict[str, list[str]] = defaultdict(list)
        for made in item.generations:
            for name, file in files_of.get(made.id, ()):
                files[name].append(file)
        if need.workflow == workflow.name:
            made_by = workflow.tasks[need.task]
            same = need in inside or made_by.policy.label == task.policy.label
            single = same and made_by.jobs is not None and _is_single(made_by)
            if single and len(item.generations) > 1:
                raise _several_of_base(workflow, need, task)
            values: dict[str, object] = {name: paths[0] if single else paths for name, paths in files.items()}
            variables[need.task] = {"products": values}
        else:
            other = others.setdefault(need.workflow, {"tasks": {}})
            other["tasks"][need.task] = {"products": dict(files)}
    return variables, others


def _several_of_base(workflow: Workflow, need: Need, task: Task) -> RenderError:
    """In a campaign from the middle groups may be others than those of its base."""
    return RenderError(
        f"{task.name} takes one product of {need.task}, but in the campaign {workflow.base} the runs of this group lie "
        "in several groups",
        f"begin the campaign with {need.task}, or take runs that are grouped as there",
    )


def _is_single(task: Task) -> bool:
    return task.jobs is not None and task.jobs.split.count is None and task.jobs.split.per_job is None


def _not_selected(needed: Mapping[Need, Needed], runs: Sequence[int]) -> dict[str, list[int]]:
    """Need → those of the runs that it did not select, for these needs and all that stands behind them."""
    found: dict[str, set[int]] = defaultdict(set)
    for need, item in needed.items():
        found[f"{need.workflow}.{need.task}"] |= set(item.not_selected)
        for row in item.generations:
            for name, left in row.used.get("not_selected", {}).items():
                found[name] |= set(left)
    return {name: sorted(left & set(runs)) for name, left in found.items() if left & set(runs)}


def _files(
    connection: Connection, generations: Sequence[Made]
) -> tuple[dict[int, list[tuple[str, str]]], dict[str, datetime]]:
    """Generation → names and files of its products, in the order of the jobs; and which of these are dropped."""
    product = tables.product
    if not generations:
        return {}, {}
    folders = {row.id: row.folder for row in generations}
    query = select(product).where(tables.one_of(product.c.generation_id, folders))
    found: dict[int, list[tuple[str, str]]] = defaultdict(list)
    dropped: dict[str, datetime] = {}
    for row in connection.execute(query.order_by(product.c.generation_id, product.c.job_index)):
        path = str(product_path(folders[row.generation_id], row.job_index, row.file))
        found[row.generation_id].append((row.name, path))
        if row.state == DROPPED:
            dropped[path] = row.drop_at
    return found, dropped
