"""What job sets have left: their products, and the values that their jobs reported (rule 18)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import exists, func, select

from airflow_calib_provider.errors import CommandLineError, NotFound
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.generations import with_group
from airflow_calib_provider.ledger.groups import group_by_id, task_of
from airflow_calib_provider.ledger.rows import Generation, first_row
from airflow_calib_provider.ledger.sources import the_one

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

generation, group, product, value = tables.generation, tables.run_group, tables.product, tables.value


@dataclass(frozen=True)
class ProductLine:
    """One file of an accepted attempt.

    :ivar folder: of its generation, as in the ledger.
    :ivar file: relative to the job's ``CALIB_OUT``.
    """

    workflow: str
    group: str
    task: str
    generation: int
    job: int
    name: str
    folder: str
    file: str


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
    raise NotFound(f"the campaign {campaign} has no group {what}{of}", "`calib groups` lists them")


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
    connection: Connection, group_ids: Sequence[int], task: str | None = None, n: int | None = None
) -> list[ProductLine]:
    """The products of these groups: of the latest done generation of each task, or of one that is named."""
    query = (
        select(
            group.c.workflow,
            group.c.name.label("group"),
            generation.c.task,
            generation.c.n.label("generation"),
            product.c.job_index.label("job"),
            product.c.name,
            generation.c.folder,
            product.c.file,
        )
        .select_from(product)
        .join(generation, generation.c.id == product.c.generation_id)
        .join(group, group.c.id == generation.c.group_id)
        .where(tables.one_of(generation.c.group_id, group_ids))
        .order_by(group.c.workflow, group.c.first_run, generation.c.task, product.c.job_index, product.c.name)
    )
    if task is not None:
        query = query.where(generation.c.task == task)
    return [ProductLine(**row._mapping) for row in connection.execute(_of_generation(query, n))]


def values_listed(
    connection: Connection,
    campaign: str,
    *,
    workflow: str | None = None,
    task: str | None = None,
    name: str | None = None,
    group_ids: Sequence[int] = (),
    last: int = 0,
) -> list[Value]:
    """Reported values of the latest done generations, in the order of the groups' first runs.

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
        .where(group.c.campaign == campaign)
        .order_by(group.c.workflow, generation.c.task, value.c.name, group.c.first_run, value.c.job_index)
    )
    wanted = ((group.c.workflow, workflow), (generation.c.task, task), (value.c.name, name))
    for column, text in wanted:
        if text is not None:
            query = query.where(column == text)
    if group_ids:
        query = query.where(tables.one_of(group.c.id, group_ids))
    if last:
        query = query.where(group.c.id.in_(_newest_groups(campaign, workflow, last)))
    return [Value(**row._mapping) for row in connection.execute(_of_generation(query, None))]


def _newest_groups(campaign: str, workflow: str | None, last: int) -> Select[tuple[int]]:
    place = func.row_number().over(partition_by=(group.c.workflow, group.c.grouping), order_by=group.c.first_run.desc())
    reporting = exists().where(generation.c.group_id == group.c.id, value.c.generation_id == generation.c.id)
    ranked = select(group.c.id, place.label("place")).where(group.c.campaign == campaign, reporting)
    if workflow is not None:
        ranked = ranked.where(group.c.workflow == workflow)
    numbered = ranked.subquery()
    return select(numbered.c.id).where(numbered.c.place <= last)


def _of_generation(query: Select[tuple[object, ...]], n: int | None) -> Select[tuple[object, ...]]:
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
