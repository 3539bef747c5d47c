"""What a group's templates may use: gathered from the ledger in one read (rules 18, 20, 22, 33)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, select

from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.jobsets.folders import product_path
from airflow_calib_provider.kinds import NEEDS
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.groups import group_by_id
from airflow_calib_provider.ledger.locks.base import NO_PAYLOAD, ledger_lock, parameter
from airflow_calib_provider.ledger.rows import Group, Made, Used, UsedPayload, read_rows
from airflow_calib_provider.ledger.skips import remaining_runs
from airflow_calib_provider.ledger.starting import not_open, require_open
from airflow_calib_provider.payloads import store
from airflow_calib_provider.spec.models import Need, Task, Workflow

SPEC_FOLDER = "⟦spec⟧"
"""For the folder of the spec, so that a definition (and its hash) is the same wherever a copy of its commit lies."""


@dataclass(frozen=True)
class GroupContext:
    """Everything that one task of one group is made from.

    :ivar variables: what templates see.
    :ivar runs: the runs that are processed.
    :ivar excluded_runs: runs of the group that were skipped, here or in what was made for it.
    :ivar used: the generations and payloads whose files the variables name, and the runs that needed workflows did not
        select.
    :ivar folder: of the YAML file.
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


def gather(
    connection: Connection, workflow: Workflow, task: Task, group_id: int, params: Mapping[str, object] | None = None
) -> GroupContext:
    """Read the context of a task of a group.

    :param params: values of the DAG run's params, over the spec's defaults.
    :raises RenderError: every run of the group is skipped.
    :raises NotOpen: the group is not closed, or anything that the task needs is missing for one of the runs.
    """
    group = group_by_id(connection, group_id)
    kept, excluded = remaining_runs(connection, group_id, task.name, _needed_inside(workflow, task))
    if not kept and group.state != "dropped":
        raise _nothing_left(group)
    require_open(connection, group_id, task.name, workflow.names_inside(task))
    needed = {need: _needed(connection, workflow, task, need, group, kept) for need in task.needs}
    if left_out := {run for item in needed.values() for run in item.left_out(group, [*kept, *excluded])}:
        kept, excluded = [run for run in kept if run not in left_out], sorted(left_out.union(excluded))
        if not kept:
            raise _nothing_left(group)
    records = _records(connection, group_id, set(kept))
    tasks, others = _products(connection, workflow, task, needed)
    payloads, used_payloads = _payloads(connection, task, group.campaign, kept)
    variables: dict[str, object] = {
        "campaign": group.campaign,
        "workflow": workflow.name,
        "task": task.name,
        "group": _described(group, kept, records),
        "runs": records,
        "params": {**workflow.params, **(params or {})},
        "tasks": tasks,
        "workflows": others,
        "payloads": payloads,
        "spec": {"folder": SPEC_FOLDER},
    }
    if task.policy.kind == "run":
        variables["run"] = records[0]
    used: Used = {
        "generations": {
            f"{need.workflow}.{need.task}": [row.id for row in item.generations] for need, item in needed.items()
        },
        "payloads": used_payloads,
    }
    if not_selected := _not_selected(needed, kept):
        used["not_selected"] = not_selected
    return GroupContext(
        campaign=group.campaign,
        workflow=workflow.name,
        task=task.name,
        group_id=group_id,
        group=group.name,
        variables=variables,
        runs=kept,
        excluded_runs=excluded,
        used=used,
        folder=Path(workflow.file).resolve().parent,
    )


def _described(group: Group, runs: Sequence[int], records: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """A group as templates see it."""
    return {
        "name": group.name,
        "first_run": group.first_run,
        "last_run": group.last_run,
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


def _records(connection: Connection, group_id: int, kept: set[int]) -> list[dict[str, object]]:
    member = tables.membership
    rows = connection.execute(
        select(member.c.run, member.c.record)
        .where(member.c.group_id == group_id, member.c.state == "grouped")
        .order_by(member.c.run)
    ).all()
    return [dict(row.record) for row in rows if row.run in kept]


def _nothing_left(group: Group) -> RenderError:
    return RenderError(f"all runs of {group.name} are skipped: there is nothing to process")


def _products(
    connection: Connection, workflow: Workflow, task: Task, needed: Mapping[Need, _Needed]
) -> tuple[dict[str, object], dict[str, dict[str, dict[str, object]]]]:
    """Product variables of this workflow and of others."""
    variables: dict[str, object] = {}
    others: dict[str, dict[str, dict[str, object]]] = {}
    inside = set(workflow.inside_needs(task))
    for need, item in needed.items():
        files = _files(connection, item.generations)
        if need.workflow == workflow.name:
            made_by = workflow.tasks[need.task]
            single = need in inside and made_by.jobs is not None and _is_single(made_by)
            values: dict[str, object] = {name: paths[0] if single else paths for name, paths in files.items()}
            variables[need.task] = {"products": values}
        else:
            other = others.setdefault(need.workflow, {"tasks": {}})
            other["tasks"][need.task] = {"products": dict(files)}
    return variables, others


def _is_single(task: Task) -> bool:
    return task.jobs is not None and task.jobs.split.count is None and task.jobs.split.per_job is None


@dataclass(frozen=True)
class _Needed:
    """What there is of a needed task.

    :ivar generations: the latest done one of each group that holds one of the runs, in run order; none of a publishing
        task.
    :ivar not_selected: runs that the other workflow did not select.
    """

    generations: Sequence[Made]
    not_selected: Sequence[int] = ()

    def left_out(self, group: Group, runs: Sequence[int]) -> set[int]:
        """Those of a group's runs that the products were made without, because of a skip.

        A group inside a larger one asks for the larger one's product, and that is there for it.
        """
        found: set[int] = set()
        for row in self.generations:
            if row.group_id == group.id or not {*row.runs, *row.excluded_runs} > set(runs):
                found |= set(row.excluded_runs)
        return found & set(runs)


def _needed(
    connection: Connection, workflow: Workflow, task: Task, need: Need, group: Group, runs: Sequence[int]
) -> _Needed:
    """Find what another task has left for these runs.

    :raises NotOpen: the task has not been done for all of the runs. The locks say so too, unless the spec that runs is
        another than the one that they were made from.
    """
    if need in workflow.inside_needs(task):
        return _Needed(_done_generations(connection, need.task, [group.id]))
    member = tables.membership
    grouping = workflow.tasks[need.task].policy.label if need.workflow == workflow.name else need.grouping
    rows = connection.execute(
        select(member.c.run, member.c.state, member.c.group_id).where(
            member.c.campaign == group.campaign,
            member.c.workflow == need.workflow,
            member.c.grouping == (grouping or _grouping(connection, need, group)),
            tables.one_of(member.c.run, runs),
        )
    ).all()
    there = {row.run: row for row in rows}
    holding = {row.group_id for row in rows if row.state == "grouped"}
    made = _done_generations(connection, need.task, holding)
    done = {row.group_id for row in made} | _published(connection, need.task, holding)
    not_selected = [run for run in runs if run in there and there[run].state == "not_selected"]
    missing = [
        [run, _why_missing(there[run].state if run in there else None)]
        for run in runs
        if run not in there or not (there[run].state == "not_selected" or there[run].group_id in done)
    ]
    name = f"{need.workflow}.{need.task}"
    if missing:
        total = len(runs) - len(not_selected)
        said = {"done": total - len(missing), "total": total, "missing": missing}
        raise not_open([{"code": "needs", "needs": name, **said}])
    if len(not_selected) == len(runs):
        raise not_open([{"code": "needs_selected_none", "needs": name, "total": len(runs)}])
    return _Needed(made, not_selected)


def _why_missing(state: str | None) -> str:
    if state is None:
        return ledger_lock(NEEDS).texts["not_assigned"]
    return "not done" if state == "grouped" else ledger_lock(NEEDS).texts.get(state, state)


def _done_generations(connection: Connection, task: str, groups: Iterable[int]) -> list[Made]:
    """The latest done generation of a task in each of these groups, in run order."""
    generation, about = tables.generation, tables.run_group
    newest = (
        select(generation.c.group_id, func.max(generation.c.n).label("n"))
        .where(tables.one_of(generation.c.group_id, groups), generation.c.task == task, generation.c.state == "done")
        .group_by(generation.c.group_id)
        .subquery()
    )
    query = (
        select(
            generation.c.id,
            generation.c.group_id,
            generation.c.folder,
            generation.c.runs,
            generation.c.excluded_runs,
            generation.c.used,
        )
        .join(newest, (newest.c.group_id == generation.c.group_id) & (newest.c.n == generation.c.n))
        .join(about, about.c.id == generation.c.group_id)
        .where(generation.c.task == task)
        .order_by(about.c.first_run)
    )
    return read_rows(connection, query, Made)


def _published(connection: Connection, task: str, groups: Iterable[int]) -> set[int]:
    payload = tables.payload
    here = (tables.one_of(payload.c.group_id, groups), payload.c.task == task)
    return set(connection.execute(select(payload.c.group_id).where(*here).distinct()).scalars())


def _not_selected(needed: Mapping[Need, _Needed], runs: Sequence[int]) -> dict[str, list[int]]:
    """Need → those of the runs that it did not select, for these needs and all that stands behind them."""
    found: dict[str, set[int]] = defaultdict(set)
    for need, item in needed.items():
        found[f"{need.workflow}.{need.task}"] |= set(item.not_selected)
        for row in item.generations:
            for name, left in row.used.get("not_selected", {}).items():
                found[name] |= set(left)
    return {name: sorted(left & set(runs)) for name, left in found.items() if left & set(runs)}


def _grouping(connection: Connection, need: Need, group: Group) -> str:
    lock = tables.lock
    grouping = connection.execute(
        select(parameter("grouping")).where(
            lock.c.group_id == group.id, parameter("workflow") == need.workflow, parameter("task") == need.task
        )
    ).scalar()
    return str(grouping)


def _files(connection: Connection, generations: Sequence[Made]) -> dict[str, list[str]]:
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
) -> tuple[dict[str, list[str]], list[UsedPayload]]:
    files: dict[str, list[str]] = {}
    used: list[UsedPayload] = []
    for lock in task.locks:
        if "tag" not in lock.parameters:
            continue
        tag = str(lock.parameters["tag"])
        rows = store.covering(connection, campaign, tag, runs)
        missing = [run for run in runs if not any(run in Iov(row.first_run, row.last_run) for row in rows)]
        if missing:
            texts = [[run, NO_PAYLOAD] for run in missing]
            said = {"done": len(runs) - len(missing), "total": len(runs), "missing": texts}
            raise not_open([ledger_lock(lock.kind).reason(tag, said)])
        files[tag] = [str(store.content_path(row)) for row in rows]
        used += [{"id": row.id, "tag": row.tag, "revision": row.revision, "hash": row.content_hash} for row in rows]
    return files, used
