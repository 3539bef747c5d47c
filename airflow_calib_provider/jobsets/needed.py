"""What the tasks that a task needs have left for the runs of its group (rules 18, 21)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, Connection, String, and_, cast, func, null, or_, select

from airflow_calib_provider.kinds import NEEDS
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.locks.base import ledger_lock, parameter
from airflow_calib_provider.ledger.payload_states import WAS_PUBLISHED
from airflow_calib_provider.ledger.rows import Group, Made
from airflow_calib_provider.ledger.starting import not_open
from airflow_calib_provider.spec.models import Need, Task, Workflow

Held = Mapping[int, Any]
"""Run → what is decided about it elsewhere: its state there, and its group."""


@dataclass(frozen=True)
class Needed:
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


@dataclass(frozen=True)
class _Done:
    """What has been done of needed tasks: by task and group."""

    made: Mapping[tuple[str, int], Made]
    published: frozenset[tuple[str, int]]

    def of(self, task: str, groups: Iterable[int]) -> tuple[list[Made], set[int]]:
        """The generations of a task in these groups, in run order, and the groups in which it is done."""
        here = set(groups)
        found = [row for (name, group_id), row in self.made.items() if name == task and group_id in here]
        return found, {row.group_id for row in found} | {one for one in here if (task, one) in self.published}


def all_needed(
    connection: Connection, workflow: Workflow, task: Task, group: Group, runs: Sequence[int]
) -> dict[Need, Needed]:
    """Find what other tasks have left for these runs: two statements, however many are needed.

    :raises NotOpen: one has not been done for all of the runs. The locks say so too, unless the spec that runs is
        another than the one that they were made from.
    """
    if not task.needs:
        return {}
    inside = set(workflow.inside_needs(task))
    places = {need: _place(connection, workflow, need, group) for need in task.needs if need not in inside}
    there = _members(connection, group, set(runs), places.values()) if places else {}
    groups: dict[str, set[int]] = defaultdict(set)
    for need in task.needs:
        held = [group.id] if need in inside else _holding(there.get(places[need], {}))
        groups[need.task].update(held)
    done = _done(connection, groups)
    return {
        need: Needed(done.of(need.task, [group.id])[0])
        if need in inside
        else _needed(need, there.get(places[need], {}), done, runs, workflow.base_of(need))
        for need in task.needs
    }


def _needed(need: Need, there: Held, done: _Done, runs: Sequence[int], base: str | None) -> Needed:
    """:raises NotOpen: it has not been done for all of the runs."""
    of_base = {} if base is None else {"campaign": base}
    made, complete = done.of(need.task, _holding(there))
    of_group = {row.group_id: {*row.runs, *row.excluded_runs} for row in made}
    added = ((run, row.group_id) for run, row in there.items() if row.why == "added")
    without = {run for run, group_id in added if group_id in of_group and run not in of_group[group_id]}
    not_selected = [run for run in runs if run in there and there[run].state == "not_selected"]
    missing = [
        [run, _why_missing(there[run].state if run in there else None)]
        for run in runs
        if run not in there
        or not (there[run].state == "not_selected" or there[run].group_id in complete)
        or run in without
    ]
    name = f"{need.workflow}.{need.task}"
    if missing:
        total = len(runs) - len(not_selected)
        said = {"done": total - len(missing), "total": total, "missing": missing}
        raise not_open([{"code": "needs", "needs": name, **said, **of_base}])
    if len(not_selected) == len(runs):
        raise not_open([{"code": "needs_selected_none", "needs": name, "total": len(runs), **of_base}])
    return Needed(made, not_selected)


def _why_missing(state: str | None) -> str:
    if state is None:
        return ledger_lock(NEEDS).texts["not_assigned"]
    return "not done" if state == "grouped" else ledger_lock(NEEDS).texts.get(state, state)


def _holding(there: Held) -> set[int]:
    return {row.group_id for row in there.values() if row.state == "grouped"}


Place = tuple[str, str, str]
"""Campaign, workflow and grouping."""


def _place(connection: Connection, workflow: Workflow, need: Need, group: Group) -> Place:
    """Where a needed task is: in this campaign, or in the base that has it (rule 55)."""
    campaign = workflow.base_of(need) or group.campaign
    if need.workflow == workflow.name:
        return campaign, need.workflow, workflow.tasks[need.task].policy.label
    return campaign, need.workflow, need.grouping or _grouping(connection, need, group)


def _grouping(connection: Connection, need: Need, group: Group) -> str:
    lock = tables.lock
    grouping = connection.execute(
        select(parameter("grouping")).where(
            lock.c.group_id == group.id, parameter("workflow") == need.workflow, parameter("task") == need.task
        )
    ).scalar()
    return str(grouping)


def _members(
    connection: Connection, group: Group, runs: set[int], places: Iterable[Place]
) -> dict[Place, dict[int, Any]]:
    """Place → run → what is decided about it there."""
    mine, other = tables.membership.alias("mine"), tables.membership.alias("other")
    wanted = set(places)
    rows = connection.execute(
        select(other.c.campaign, other.c.workflow, other.c.grouping, other.c.run, other.c.state, other.c.group_id)
        .add_columns(other.c.reason["code"].as_string().label("why"))
        .join(mine, other.c.run == mine.c.run)
        .where(
            mine.c.group_id == group.id,
            mine.c.state == "grouped",
            other.c.campaign.in_(sorted({campaign for campaign, _, _ in wanted})),
            other.c.workflow.in_(sorted({name for _, name, _ in wanted})),
        )
    )
    found: dict[Place, dict[int, Any]] = defaultdict(dict)
    for row in rows:
        if (row.campaign, row.workflow, row.grouping) in wanted and row.run in runs:
            found[row.campaign, row.workflow, row.grouping][row.run] = row
    return found


def _done(connection: Connection, groups: Mapping[str, Iterable[int]]) -> _Done:
    """The latest done generation of each task in each of its groups, in run order; and where one was published.

    :param groups: by task.
    """
    generation, about, payload = tables.generation, tables.run_group, tables.payload
    of_task = [
        and_(generation.c.task == task, tables.one_of(generation.c.group_id, here)) for task, here in groups.items()
    ]
    key = (generation.c.group_id, generation.c.task)
    newest = select(*key, func.max(generation.c.n).label("n")).where(or_(*of_task), generation.c.state == "done")
    last = newest.group_by(*key).subquery()
    columns = (generation.c.id, generation.c.group_id, generation.c.folder, generation.c.runs)
    made = (
        select(about.c.first_run, generation.c.task, *columns, generation.c.excluded_runs, generation.c.used)
        .join(last, and_(last.c.group_id == key[0], last.c.task == key[1], last.c.n == generation.c.n))
        .join(about, about.c.id == generation.c.group_id)
    )
    nothing = cast(null(), JSON)
    published = select(
        payload.c.first_run, payload.c.task, payload.c.id, payload.c.group_id, cast(null(), String), *[nothing] * 3
    ).where(
        payload.c.state.in_(WAS_PUBLISHED),
        or_(*(and_(payload.c.task == task, tables.one_of(payload.c.group_id, here)) for task, here in groups.items())),
    )
    rows = connection.execute(made.union_all(published)).all()
    return _Done(
        {(row.task, row.group_id): Made(*row[2:]) for row in sorted(rows, key=_first_run) if row.folder is not None},
        frozenset((row.task, row.group_id) for row in rows if row.folder is None),
    )


def _first_run(row: Any) -> int:
    return int(row.first_run)
