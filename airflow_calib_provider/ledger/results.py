"""What job sets have left: their products, and the values that their jobs reported (rule 18)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import case, exists, func, or_, select

from airflow_calib_provider.errors import CommandLineError, NotFound
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.generations import with_group
from airflow_calib_provider.ledger.groups import group_by_id, no_group, task_of
from airflow_calib_provider.ledger.payload_states import PUBLISHED
from airflow_calib_provider.ledger.products import StoredProduct, with_places
from airflow_calib_provider.ledger.rows import Generation, first_row, read_rows
from airflow_calib_provider.ledger.sources import the_one

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Select

generation, group, product, value = tables.generation, tables.run_group, tables.product, tables.value


@dataclass(frozen=True)
class Value:
    """One number that an accepted attempt reported.

    :ivar start: of the group's data.
    """

    workflow: str
    task: str
    group: str
    first_run: int
    start: datetime | None
    generation: int
    job: int
    name: str
    value: float
    error: float | None


@dataclass(frozen=True)
class GroupValue:
    """One value of a group: the mean of what its jobs reported.

    :ivar start: of the group's data.
    :ivar n: of how many jobs.
    :ivar error: that which the job reported, if it is one.
    """

    workflow: str
    task: str
    name: str
    group: str
    first_run: int
    last_run: int
    start: datetime | None
    n: int
    value: float
    error: float | None


class PublishedLine(NamedTuple):
    """What a payload is, for a comparison of many."""

    tag: str
    first_run: int
    last_run: int
    revision: int
    content_hash: str
    size: int
    group: str


@dataclass(frozen=True)
class Meant:
    """A group that a person means."""

    id: int
    workflow: str
    name: str


def meant(
    connection: Connection,
    campaign: str,
    workflow: str | None,
    what: str,
    run: int | None,
    task: str | None = None,
    source: str | None = None,
) -> list[Meant]:
    """The groups that a person means by a group's name, or by a run: those that hold it.

    :param run: the number, where ``what`` is one.
    :param task: only groups that have this task.
    :param source: of the run.
    :raises NotFound: there is none; or runs of several sources have the number.
    """
    of_task = tables.group_task
    member = tables.membership
    query = select(group.c.id, group.c.workflow, group.c.name).where(group.c.campaign == campaign)
    if run is None:
        if source is not None:
            raise CommandLineError(f"--source says which run is meant, but {what} is no run", "leave it out")
        query = query.where(group.c.name == what)
    else:
        query = query.add_columns(member.c.source).join(member, member.c.group_id == group.c.id)
        query = query.where(member.c.source == source) if source is not None else query
        query = query.where(member.c.campaign == campaign, member.c.run == run, member.c.state == "grouped")
    if workflow is not None:
        query = query.where(group.c.workflow == workflow)
    query = query.order_by(group.c.workflow, group.c.first_run)
    having = query
    if task is not None:
        having = query.join(of_task, of_task.c.group_id == group.c.id).where(of_task.c.task == task)
    rows = connection.execute(having).all()
    if run is not None:
        the_one(run, {row.source for row in rows})
    if rows:
        return [Meant(row.id, row.workflow, row.name) for row in rows]
    if run is None and task is not None and len(without := connection.execute(query).all()) == 1:
        task_of(connection, group_by_id(connection, without[0].id), task)  # says which tasks it has
    of = f" with a task {task}" if task is not None else ""
    if run is not None:
        raise NotFound(
            f"the run {run} is in no group{of} of the campaign {campaign}", f"`calib explain {run}` says why"
        )
    raise no_group(connection, campaign, what, of)


def generation_numbered(connection: Connection, group_id: int, task: str, n: int, last: int) -> Generation:
    """The nth generation of a group's task.

    :param last: the number of the latest.
    :raises NotFound: there is none of this number.
    """
    here = (generation.c.group_id == group_id, generation.c.task == task, generation.c.n == n)
    row = first_row(connection, with_group().where(*here), Generation)
    if row is None:
        raise NotFound(f"the task {task} has no generation {n}", f"its latest is {last}")
    return row


def products_listed(
    connection: Connection,
    campaign: str,
    *,
    workflow: str | None = None,
    task: str | None = None,
    group_ids: Sequence[int] = (),
    runs: Sequence[tuple[int, int]] = (),
    n: int | None = None,
    last: int = 0,
) -> list[StoredProduct]:
    """Products of the latest done generation of each task, or of one that is named, in run order.

    :param runs: only groups that hold a run of these ranges.
    :param last: only so many, those with the newest data; 0: all.
    """
    here = of_groups(campaign, workflow, group_ids, runs)
    query = with_places().where(*here)
    if last:
        # Each of these groups has a product at least, so that more of them are never needed.
        made = select(generation.c.id).where(generation.c.group_id == group.c.id)
        made = made.where(exists().where(product.c.generation_id == generation.c.id))
        made = made.where(generation.c.task == task) if task is not None else made
        newest = select(group.c.id).where(*here, _of_generation(made, n).correlate(group).exists())
        newest = newest.order_by(group.c.first_run.desc(), group.c.id.desc()).limit(last)
        query = query.where(tables.one_of(group.c.id, connection.execute(newest).scalars().all()))
    if task is not None:
        query = query.where(generation.c.task == task)
    order = (group.c.first_run, group.c.workflow, generation.c.task, group.c.id, product.c.job_index, product.c.name)
    query = _of_generation(query, n).order_by(*(column.desc() for column in order))
    return read_rows(connection, query.limit(last) if last else query, StoredProduct)[::-1]


def of_groups(
    campaign: str, workflow: str | None, group_ids: Sequence[int], runs: Sequence[tuple[int, int]]
) -> list[ColumnElement[bool]]:
    """The conditions of the groups that are meant."""
    found = [group.c.campaign == campaign]
    if workflow is not None:
        found.append(group.c.workflow == workflow)
    if group_ids:
        found.append(tables.one_of(group.c.id, group_ids))
    if runs:
        member = tables.membership
        inside = or_(*(member.c.run.between(first, last) for first, last in runs))
        held = select(member.c.group_id).where(member.c.campaign == campaign, member.c.state == "grouped", inside)
        found.append(group.c.id.in_(held))
    return found


def values_listed(
    connection: Connection,
    campaign: str,
    *,
    workflow: str | None = None,
    task: str | None = None,
    name: str | None = None,
    group_ids: Sequence[int] = (),
    runs: Sequence[tuple[int, int]] = (),
    last: int = 0,
) -> list[Value]:
    """Reported values of the latest done generations, in the order of the groups' first runs.

    :param runs: only groups that hold a run of these ranges.
    :param last: only the groups with the newest data, so many of each grouping; 0: all.
    """
    query = (
        select(
            group.c.workflow,
            generation.c.task,
            group.c.name.label("group"),
            group.c.first_run,
            group.c.start,
            generation.c.n.label("generation"),
            value.c.job_index.label("job"),
            value.c.name,
            value.c.value,
            value.c.error,
        )
        .select_from(value)
        .join(generation, generation.c.id == value.c.generation_id)
        .join(group, group.c.id == generation.c.group_id)
        .order_by(group.c.workflow, generation.c.task, value.c.name, group.c.first_run, value.c.job_index)
    )
    here = of_groups(campaign, workflow, group_ids, runs)
    return read_rows(connection, _values(query, here, (campaign, workflow, last), task, name), Value)


def values_by_group(
    connection: Connection,
    campaign: str,
    *,
    workflow: str | None = None,
    task: str | None = None,
    name: str | None = None,
    group_ids: Sequence[int] = (),
    runs: Sequence[tuple[int, int]] = (),
    last: int = 0,
) -> list[GroupValue]:
    """As :func:`values_listed`, one for each group: the mean of its jobs."""
    columns = (group.c.workflow, generation.c.task, value.c.name, group.c.name.label("group"))
    about = (group.c.first_run, group.c.last_run, group.c.start)
    n = func.count()
    query = (
        select(
            *columns,
            *about,
            n.label("n"),
            func.avg(value.c.value).label("value"),
            case((n == 1, func.max(value.c.error))).label("error"),
        )
        .select_from(value)
        .join(generation, generation.c.id == value.c.generation_id)
        .join(group, group.c.id == generation.c.group_id)
        .group_by(*columns, *about, group.c.id)
        .order_by(group.c.workflow, generation.c.task, value.c.name, group.c.first_run, group.c.id)
    )
    here = of_groups(campaign, workflow, group_ids, runs)
    return read_rows(connection, _values(query, here, (campaign, workflow, last), task, name), GroupValue)


def _values(
    query: Select[Any],
    here: Sequence[ColumnElement[bool]],
    newest: tuple[str, str | None, int],
    task: str | None,
    name: str | None,
) -> Select[Any]:
    """A query for values, of what is meant only.

    :param newest: campaign, workflow, and of how many groups.
    """
    query = query.where(*here, value.c.step == 0)  # of what iterates: of its result
    if task is not None:
        query = query.where(generation.c.task == task)
    if name is not None:
        query = query.where(value.c.name == name)
    if newest[2]:
        query = query.where(group.c.id.in_(_newest_groups(*newest)))
    return _of_generation(query, None)


def published(
    connection: Connection, campaign: str, workflow: str | None, task: str | None, tag: str | None
) -> list[PublishedLine]:
    """The payloads of a campaign that hold now, by tag and first run."""
    row = tables.payload.c
    query = select(
        row.tag, row.first_run, row.last_run, row.revision, row.content_hash, row.size, group.c.name.label("group")
    ).join(group, group.c.id == row.group_id)
    query = query.where(row.campaign == campaign, row.state == PUBLISHED)
    for column, wanted in ((row.workflow, workflow), (row.task, task), (row.tag, tag)):
        if wanted is not None:
            query = query.where(column == wanted)
    return read_rows(connection, query.order_by(row.tag, row.first_run), PublishedLine)


def _newest_groups(campaign: str, workflow: str | None, last: int) -> Select[tuple[int]]:
    place = func.row_number().over(partition_by=(group.c.workflow, group.c.grouping), order_by=group.c.first_run.desc())
    reporting = exists().where(generation.c.group_id == group.c.id, value.c.generation_id == generation.c.id)
    ranked = select(group.c.id, place.label("place")).where(group.c.campaign == campaign, reporting)
    if workflow is not None:
        ranked = ranked.where(group.c.workflow == workflow)
    numbered = ranked.subquery()
    return select(numbered.c.id).where(numbered.c.place <= last)


def _of_generation(query: Select[Any], n: int | None) -> Select[Any]:
    """Only the named generation of each task, or its latest done one."""
    if n is not None:
        return query.where(generation.c.n == n)
    other = generation.alias("other")
    latest = (
        select(func.max(other.c.n))
        .where(other.c.group_id == generation.c.group_id, other.c.task == generation.c.task, other.c.state == "done")
        .correlate(generation)
        .scalar_subquery()
    )
    return query.where(generation.c.n == latest)
