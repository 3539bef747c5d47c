"""What waits for a person: payloads to decide about, deadlines, failed tasks, locks shut for long, broken files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select

from airflow_calib_provider.domain.reasons import Cause
from airflow_calib_provider.ledger import editions, publication_deadlines, source_reads, spec_files, tables
from airflow_calib_provider.ledger.payload_states import UNPUBLISHED
from airflow_calib_provider.ledger.publication_deadlines import PublicationDeadline
from airflow_calib_provider.page.rights import Rights

payload, group, group_task, generation = tables.payload, tables.run_group, tables.group_task, tables.generation
request, deadline = tables.dag_run_request, tables.publication_deadline

LONG = timedelta(hours=24)
"""After which a task that waits is worth a look."""

MOST = 50
"""Of each kind that are listed; all are counted."""


@dataclass(frozen=True)
class FirstRows:
    """What is listed of a kind.

    :ivar n: how many there are; the first ones are ``rows``.
    """

    rows: Sequence[Any]
    n: int


@dataclass(frozen=True)
class FileTrouble:
    """What is wrong with a YAML file, or a run source."""

    about: str
    cause: Cause


@dataclass(frozen=True)
class PeopleView:
    """What waits for a person.

    :ivar undecided: payloads, :ivar failed: tasks, :ivar waiting: tasks that have waited for long.
    :ivar due: publications whose deadline is near or has passed.
    :ivar deadlines: group and task → until when what is undecided is to be published.
    :ivar stuck: groups whose edition Airflow does not begin, :ivar troubled: job sets that cannot be watched.
    """

    undecided: FirstRows
    due: FirstRows
    failed: FirstRows
    waiting: FirstRows
    stuck: FirstRows
    troubled: FirstRows
    files: Sequence[FileTrouble]
    deadlines: Mapping[tuple[int, str], PublicationDeadline]

    @property
    def n(self) -> int:
        """All of it."""
        listings = (self.undecided, self.due, self.failed, self.waiting, self.stuck, self.troubled)
        return sum(one.n for one in listings) + len(self.files)


def people_view(connection: Connection, rights: Rights, now: datetime) -> PeopleView:
    """What waits, in a number of statements that does not depend on how much it is."""
    undecided = _undecided(connection, rights)
    return PeopleView(
        undecided,
        _due(connection, rights),
        _tasks(connection, rights, group_task.c.state == "failed", group_task.c.since.desc()),
        _tasks(
            connection,
            rights,
            (group_task.c.state == "waiting") & (group_task.c.since < now - LONG) & (group.c.state == "closed"),
            group_task.c.since,
        ),
        _stuck(connection, rights),
        _troubled(connection, rights),
        _files(connection, rights),
        publication_deadlines.unmet(connection, {row.group_id for row in undecided.rows}),
    )


def _listing(connection: Connection, query: Select[Any], order: Any) -> FirstRows:
    rows = connection.execute(query.order_by(order).limit(MOST)).all()
    if len(rows) < MOST:
        return FirstRows(rows, len(rows))
    return FirstRows(rows, connection.execute(select(func.count()).select_from(query.subquery())).scalar_one())


def _groups(rights: Rights, *columns: Any) -> Select[Any]:
    named = (group.c.campaign, group.c.workflow, group.c.name.label("group_name"))
    return select(*named, *columns).where(rights.of_group())


def _undecided(connection: Connection, rights: Rights) -> FirstRows:
    """With the DAG run in which persons are asked, where they were."""
    names = (
        "group_id",
        "tag",
        "task",
        "first_run",
        "last_run",
        "revision",
        "state",
        "reason",
        "asked_at",
        "expires_at",
    )
    columns = (*(payload.c[name] for name in names), payload.c.published_at.label("since"))
    query = _groups(rights, *columns, request.c.dag_id, request.c.run_id)
    query = query.join(payload, payload.c.group_id == group.c.id).where(payload.c.state.in_(UNPUBLISHED))
    query = query.outerjoin(request, request.c.group_id == group.c.id)
    return _listing(connection, query, payload.c.published_at)


def _due(connection: Connection, rights: Rights) -> FirstRows:
    """What publishes late is still to be published, but not what somebody has skipped."""
    here = and_(group_task.c.group_id == deadline.c.group_id, group_task.c.task == deadline.c.task)
    told = (publication_deadlines.NEAR, publication_deadlines.PASSED)
    query = _groups(rights, deadline, group_task.c.state.label("task_state"), group_task.c.reason)
    query = query.join(deadline, deadline.c.group_id == group.c.id).join(group_task, here)
    found = _listing(
        connection, query.where(deadline.c.state.in_(told), group_task.c.state != "skipped"), deadline.c.due
    )
    return FirstRows([(row, publication_deadlines.of_row(row)) for row in found.rows], found.n)


def _tasks(connection: Connection, rights: Rights, which: ColumnElement[bool], order: Any) -> FirstRows:
    columns = (group_task.c.task, group_task.c.state, group_task.c.reason, group_task.c.since)
    query = _groups(rights, *columns).join(group_task, group_task.c.group_id == group.c.id).where(which)
    return _listing(connection, query, order)


def _stuck(connection: Connection, rights: Rights) -> FirstRows:
    edition = tables.group_edition
    stuck = select(edition.c.group_id).where(edition.c.state == editions.STUCK)
    return _listing(connection, _groups(rights).where(group.c.id.in_(stuck)), group.c.id.desc())


def _troubled(connection: Connection, rights: Rights) -> FirstRows:
    columns = (generation.c.task, generation.c.n, generation.c.trouble, generation.c.trouble_since.label("since"))
    query = _groups(rights, *columns).join(generation, generation.c.group_id == group.c.id)
    return _listing(
        connection,
        query.where(generation.c.state == "running", generation.c.trouble.is_not(None)),
        generation.c.trouble_since,
    )


def _files(connection: Connection, rights: Rights) -> list[FileTrouble]:
    """Broken files of workflows that they may read, and of what has no DAG yet for those who read injections.

    Run sources that cannot be read are told in the same place, to those who read all injections.
    """
    table = tables.spec_file
    teams = {row.workflow: row.team for row in connection.execute(select(table.c.workflow, table.c.team)).all()}
    found = []
    for name, trouble in sorted(spec_files.troubles(connection).items()):
        about = name.partition("@")[0]
        of_nobody = name not in rights.others and rights.reader.reads_injection(teams.get(name, ""))
        if name in rights.workflows or of_nobody:
            found.append(FileTrouble(about, Cause(about, dict(trouble.reason), "failed", trouble.since, workflow=name)))
    if not all(rights.reader.reads_injection(team) for team in {*teams.values()} or {""}):
        return found
    for one in source_reads.unreadable(connection):
        reason = {"code": "source_unreadable", "source": one.source, "said": one.said}
        found.append(FileTrouble(one.source, Cause(one.source, reason, "failed", one.since)))
    return found
