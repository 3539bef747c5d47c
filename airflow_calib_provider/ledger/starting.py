"""Whether a task may start, asked in the transaction that starts it (rule 21).

Airflow starts a task when those before it are a success there. That is no proof: a person may have marked a sensor, or
a job set, as success while runs are missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, case, exists, func, select

from airflow_calib_provider.domain.reasons import RELEASES, Reason, render
from airflow_calib_provider.errors import NotFound, NotOpen
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.payload_states import ONLY_A_CANDIDATE, has_candidate, has_published
from airflow_calib_provider.ledger.rows import Campaign, Generation, Group, GroupTask, select_of
from airflow_calib_provider.ledger.waiting import FORMING, beside_columns, look_beside

generation, group_task, group = tables.generation, tables.group_task, tables.run_group
campaign = tables.campaign


@dataclass(frozen=True, slots=True)
class TaskStanding:
    """A task of a group before it begins.

    :ivar task: ``None``: the group has no row for it.
    :ivar last: its newest generation.
    :ivar text_known: whether the ledger has the text of its spec.
    """

    campaign: Campaign
    group: Group
    task: GroupTask | None
    last: Generation | None
    text_known: bool


def standing_of(connection: Connection, group_id: int, task: str, spec_hash: str = "") -> TaskStanding:
    """How a task of a group stands, in one statement.

    :param spec_hash: of the text that it would be begun with.
    :raises NotFound: there is no such group.
    """
    table, text = group_task, tables.spec_text
    newest = select(func.max(generation.c.n)).where(generation.c.group_id == group_id, generation.c.task == task)
    of_task = and_(table.c.group_id == group.c.id, table.c.task == task)
    of_last = and_(
        generation.c.group_id == group.c.id, generation.c.task == task, generation.c.n == newest.scalar_subquery()
    )
    parts = [select_of(Group, group), select_of(GroupTask, table), select_of(Generation, generation)]
    columns = [list(part.selected_columns) for part in parts]
    about_campaign = list(select_of(Campaign, campaign).selected_columns)
    query = select(*about_campaign, *columns[0], *columns[1], *columns[2], exists().where(text.c.hash == spec_hash))
    joined = group.join(campaign, campaign.c.name == group.c.campaign)
    joined = joined.outerjoin(table, of_task).outerjoin(generation, of_last)
    row = connection.execute(query.select_from(joined).where(group.c.id == group_id)).first()
    if row is None:
        raise NotFound(f"there is no group with the id {group_id}")
    at = len(about_campaign)
    of_campaign, of_group = Campaign(*row[:at]), list(row[at:])
    first, second = len(columns[0]), len(columns[0]) + len(columns[1])
    about = Group(*of_group[:first])
    known, last = of_group[first:second], of_group[second:-1]
    names = [about.campaign, about.workflow, about.name]
    return TaskStanding(
        campaign=of_campaign,
        group=about,
        task=GroupTask(*known) if known[0] is not None else None,
        last=Generation(*[*last, *names]) if last[0] is not None else None,
        text_known=bool(row[-1]),
    )


def require_open(
    connection: Connection, group_id: int, task: str, before: Iterable[str] = (), now: datetime | None = None
) -> tuple[Mapping[str, Any], ...]:
    """Refuse to start a task whose group is not closed, whose locks are not all open, or that comes before its turn.

    :param before: the tasks of its own DAG that it needs.
    :param now: otherwise the present.
    :returns: the locks that it goes on without, as their deadlines have passed.
    :raises NotOpen: with everything that it waits for.
    """
    wanted = list(before)
    beside = _of_tasks(group_id, wanted) if wanted else None
    found, states = look_beside(connection, [(group_id, FORMING), (group_id, task)], beside, now=now)
    closed = [item for item in found.values() if item.state != "open" and item.reason]
    reasons = [dict(item.reason or {}) for item in closed]
    if pending := _not_done(wanted, states):
        reasons.append({"code": "upstream_not_done", "tasks": pending})
    if reasons:
        raise not_open(reasons)
    return found[group_id, task].gone_on


def not_open(reasons: Sequence[Reason]) -> NotOpen:
    """The error of a task that was started though these reasons hold it."""
    inner = reasons[0] if len(reasons) == 1 else {"code": "several", "reasons": reasons}
    reason = {"code": "not_open", "reason": inner}
    return NotOpen(render(reason), RELEASES["not_open"], reason)


def _of_tasks(group_id: int, tasks: Sequence[str]) -> Select[Any]:
    """The states of tasks of a group; ``done`` where there is a done generation, or a publication.

    Of an amended group what was done with the edition before does not count, until it has run again.
    """
    made = exists().where(
        generation.c.group_id == group_id, generation.c.task == group_task.c.task, generation.c.state == "done"
    )
    published = has_published(group_task.c.group_id, group_task.c.task)
    proposed = has_candidate(group_task.c.group_id, group_task.c.task)
    own = case((group_task.c.state == "done", "new"), else_=group_task.c.state)
    amended = exists().where(group.c.id == group_task.c.group_id, group.c.edition > 1)
    as_it_is = (group_task.c.state == "done") | ~amended
    said = case(((made | published) & as_it_is, "done"), (proposed, ONLY_A_CANDIDATE), else_=own)
    columns = beside_columns(group_task.c.group_id, group_task.c.task, said)
    return select(*columns).where(group_task.c.group_id == group_id, group_task.c.task.in_(tasks))


def _not_done(tasks: Sequence[str], states: Sequence[Any]) -> list[list[str]]:
    """Those that have neither a done generation nor a publication, each with its state."""
    said = {row.task: row.kind for row in states}
    return [[name, said.get(name, "new")] for name in tasks if said.get(name) != "done"]
