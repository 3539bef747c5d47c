"""Runs × tasks: where the runs of a campaign stand, and why they wait or have failed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, func, null, or_, select, tuple_

from airflow_calib_provider.domain.page_addresses import GROUP, view_address
from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.domain.run_ranges import RunRanges, parse_ranges
from airflow_calib_provider.errors import CalibError, NotFound
from airflow_calib_provider.ledger import planner, publication_deadlines, queries, tables
from airflow_calib_provider.ledger.cells import Cell, Column, Rows
from airflow_calib_provider.ledger.exclusions import EXCLUDED, left_out
from airflow_calib_provider.ledger.publication_deadlines import PublicationDeadline
from airflow_calib_provider.page.rights import Rights, in_pairs

run, membership, group, group_task = tables.run, tables.membership, tables.run_group, tables.group_task
skip, grouping = tables.skip, tables.grouping

STATES = ("new", "waiting", "processing", "failed", "done", "skipped", EXCLUDED, "late", "not_selected", "refused")
"""By which runs can be chosen, those of a task and those of a run that is in no group."""

FEW = 2_000
"""Tasks in a state that are few: their runs are found first, else each run is asked for one."""

MOST_RANGES = 100

TOLD = ("waiting", "failed", "skipped", "processing", "new")
"""States of tasks that have a reason which is told."""


@dataclass(frozen=True)
class Wanted:
    """Which runs are to be shown.

    :ivar search: runs and ranges, or a group's name.
    :ivar before: only runs that come after this one in the list, newest first; with the source that it is of.
    """

    campaign: str
    workflow: str = ""
    state: str = ""
    search: str = ""
    before: int | None = None
    source: str = ""
    size: int = 50


class Shown(NamedTuple):
    """A cell as it is shown.

    :ivar link: to the page of its group; empty: the run is in none.
    :ivar reason: in words.
    :ivar deadline: until when its group is to have published; ``None``: there is no time, or it has.
    """

    state: str
    late: bool
    link: str
    reason: str
    deadline: PublicationDeadline | None = None


class RunOfMatrix(NamedTuple):
    """A run with its cells, in the order of the columns."""

    number: int
    source: str
    completed: bool
    cells: Sequence[Shown]


@dataclass(frozen=True)
class Matrix:
    """Runs × tasks.

    :ivar workflows: those that can be chosen.
    :ivar following: number and source of the last run that was looked at; ``None``: there are no older ones.
    :ivar fault: what is wrong with what was searched for.
    """

    columns: Sequence[Column]
    lines: Sequence[RunOfMatrix]
    workflows: Sequence[str]
    several_sources: bool
    following: tuple[int, str] | None
    fault: str = ""


def matrix(connection: Connection, rights: Rights, wanted: Wanted) -> Matrix:
    """What is to be shown, in a number of statements that does not depend on how much it is.

    :raises NotFound: no such campaign or workflow, or none that may be seen.
    """
    planner.allow_memory(connection)
    all_pairs = rights.in_campaign(wanted.campaign)
    workflows = sorted({workflow for workflow, _ in all_pairs})
    if wanted.workflow and wanted.workflow not in workflows:
        raise NotFound(f"there is no workflow {wanted.workflow} in {wanted.campaign}, or none that you may read")
    pairs = [pair for pair in all_pairs if wanted.workflow in ("", pair[0])]
    sources = _sources(connection, wanted.campaign, pairs)
    try:
        chosen = _chosen(connection, wanted, pairs, sorted(set().union(*sources.values())))
    except CalibError as error:
        return Matrix((), (), workflows, False, None, f"{error.message}; {error.hint}")
    runs = connection.execute(chosen).all()
    following = (runs[-1].number, runs[-1].source) if len(runs) == wanted.size else None
    rows = _rows(connection, wanted.campaign, pairs, runs)
    columns = _columns(connection, wanted.campaign, pairs, rows.tasks.values())
    deadlines = publication_deadlines.unmet(connection, {group_id for group_id, _ in rows.tasks})
    made = _lines(wanted.campaign, columns, runs, rows, sources, deadlines)
    lines = [line for line in made if _is_wanted(line, wanted.state)]
    return Matrix(columns, lines, workflows, len({row.source for row in runs}) > 1, following)


def _sources(connection: Connection, campaign: str, pairs: Collection[tuple[str, str]]) -> dict[str, set[str]]:
    """Workflow → the sources of its runs, by the first and the last one of each grouping."""
    here = (
        membership.c.campaign == grouping.c.campaign,
        membership.c.workflow == grouping.c.workflow,
        membership.c.grouping == grouping.c.label,
    )
    ends = [
        select(membership.c.source).where(*here).order_by(order).limit(1).scalar_subquery()
        for order in (membership.c.run, membership.c.run.desc())
    ]
    query = select(grouping.c.workflow, *ends).where(
        grouping.c.campaign == campaign, tuple_(grouping.c.workflow, grouping.c.label).in_(pairs)
    )
    found: dict[str, set[str]] = {workflow: set() for workflow, _ in pairs}
    for workflow, *sources in connection.execute(query).all():
        found[workflow] |= {source for source in sources if source is not None}
    return found


def _chosen(
    connection: Connection, wanted: Wanted, pairs: Collection[tuple[str, str]], sources: Sequence[str]
) -> Select[Any]:
    """:raises CalibError: what is searched for can be no run."""
    query = queries.campaign_runs(connection, wanted.campaign).add_columns(run.c.completed)
    query = query.where(run.c.source.in_(sources))
    if wanted.search:
        query = query.where(_searched(wanted, pairs))
    if wanted.state:
        query = query.where(_in_state(connection, wanted, pairs))
    if wanted.before is not None:
        older = run.c.number < wanted.before
        query = query.where(or_(older, and_(run.c.number == wanted.before, run.c.source > wanted.source)))
    return query.order_by(run.c.number.desc(), run.c.source).limit(wanted.size)


def _searched(wanted: Wanted, pairs: Collection[tuple[str, str]]) -> ColumnElement[bool]:
    """:raises CalibError: it is neither runs nor a group's name, or these are too many ranges."""
    if not wanted.search[:1].isdecimal():
        here = select(membership.c.run).join(group, group.c.id == membership.c.group_id)
        named = (group.c.campaign == wanted.campaign, group.c.name == wanted.search, in_pairs(group, pairs))
        return run.c.number.in_(here.where(*named, membership.c.state == "grouped"))
    found: RunRanges = parse_ranges(wanted.search)
    if len(found.ranges) > MOST_RANGES:
        raise CalibError(f"these are {len(found.ranges)} ranges", f"search for at most {MOST_RANGES}")
    return or_(*(run.c.number.between(first, last) for first, last in found.ranges))


def _in_state(connection: Connection, wanted: Wanted, pairs: Collection[tuple[str, str]]) -> ColumnElement[bool]:
    """Runs that may have a cell in a state: what is shown is looked at once more."""
    here = (membership.c.campaign == wanted.campaign, in_pairs(membership, pairs))
    of_run = (membership.c.run == run.c.number, membership.c.source == run.c.source)
    skipped = exists().where(skip.c.campaign == wanted.campaign, skip.c.run == run.c.number)
    if wanted.state == "new":
        # Where a grouping has not taken a run yet, that is a cell, too.
        missing = select(func.count()).where(*here, *of_run).scalar_subquery() < len(pairs)
        return or_(missing, _has_task(here, of_run, "new"))
    if wanted.state == EXCLUDED:
        excluded = tables.excluded_run
        left = exists().where(excluded.c.run == run.c.number, excluded.c.group_id == group.c.id)
        return exists().where(left, group.c.campaign == wanted.campaign, in_pairs(group, pairs))
    if wanted.state in ("not_selected", "refused"):
        return exists().where(*here, *of_run, membership.c.state == wanted.state)
    if wanted.state == "late":
        late = exists().where(*here, *of_run, membership.c.group_id == group.c.id, group.c.late)
        return or_(late, exists().where(*here, *of_run, membership.c.state == "late"))
    some = select(group_task.c.group_id).where(group_task.c.state == wanted.state).limit(FEW).subquery()
    if connection.execute(select(func.count()).select_from(some)).scalar_one() < FEW:
        of_task = select(membership.c.run).join(group_task, group_task.c.group_id == membership.c.group_id)
        in_task: ColumnElement[bool] = run.c.number.in_(of_task.where(*here, group_task.c.state == wanted.state))
    else:
        in_task = _has_task(here, of_run, wanted.state)
    if wanted.state != "skipped":
        return in_task
    return or_(in_task, skipped, exists().where(*here, *of_run, membership.c.state == "dropped"))


def _has_task(
    here: Sequence[ColumnElement[bool]], of_run: Sequence[ColumnElement[bool]], state: str
) -> ColumnElement[bool]:
    task = (group_task.c.group_id == membership.c.group_id, group_task.c.state == state)
    return exists().where(*here, *of_run, *task)


def _rows(connection: Connection, campaign: str, pairs: Collection[tuple[str, str]], runs: Sequence[Any]) -> Rows:
    """What the cells of these runs are made of, by three statements."""
    numbers = tables.one_of(membership.c.run, {row.number for row in runs})
    here = (membership.c.campaign == campaign, in_pairs(membership, pairs), numbers)
    columns = (membership.c.workflow, membership.c.grouping, membership.c.source, membership.c.run)
    found = connection.execute(
        select(*columns, membership.c.state, membership.c.group_id, membership.c.reason).where(*here)
    ).all()
    members = {(row.workflow, row.grouping, row.source, row.run): row for row in found}
    ids = {row.group_id for row in found if row.state == "grouped"}
    skips = select(skip.c.workflow, skip.c.task, skip.c.run, skip.c.at).where(
        skip.c.campaign == campaign, tables.one_of(skip.c.run, {row.number for row in runs})
    )
    at = {(row.workflow, row.task, row.run): row.at for row in connection.execute(skips).all()}
    # What is done tells nothing that is shown, and is most of all; since when matters only to what was skipped.
    reason = case((group_task.c.state.in_(TOLD), group_task.c.reason), else_=null()).label("reason")
    since = group_task.c.since if at else null().label("since")
    about = (group_task.c.group_id, group_task.c.task, group_task.c.position, group_task.c.state, since, reason)
    query = select(*about, group.c.late, group.c.workflow, group.c.grouping, group.c.name)
    query = query.join(group, group.c.id == group_task.c.group_id).where(tables.one_of(group.c.id, ids))
    tasks = {(row.group_id, row.task): row for row in connection.execute(query).all()}
    return Rows(members, tasks, at, left_out(connection, campaign))


def _columns(
    connection: Connection, campaign: str, pairs: Collection[tuple[str, str]], rows: Collection[Any]
) -> list[Column]:
    """The tasks of what is shown, and those of the newest group of each grouping: it may have none that is shown."""
    newest = (
        select(group.c.id)
        .where(
            group.c.campaign == grouping.c.campaign,
            group.c.workflow == grouping.c.workflow,
            group.c.grouping == grouping.c.label,
        )
        .order_by(group.c.first_run.desc())
        .limit(1)
        .correlate(grouping)
        .scalar_subquery()
    )
    query = (
        select(grouping.c.workflow, grouping.c.label.label("grouping"), group_task.c.task, group_task.c.position)
        .select_from(grouping)
        .join(group_task, group_task.c.group_id == newest)
        .where(grouping.c.campaign == campaign, tuple_(grouping.c.workflow, grouping.c.label).in_(pairs))
    )
    places: dict[tuple[str, str, str], int] = {}
    for row in [*rows, *connection.execute(query).all()]:
        key = (row.workflow, row.grouping, row.task)
        places[key] = max(row.position, places.get(key, 0))
    return sorted(Column(key[0], place, *key[1:]) for key, place in places.items())


def _lines(
    campaign: str,
    columns: Sequence[Column],
    runs: Sequence[Any],
    rows: Rows,
    sources: Mapping[str, Collection[str]],
    deadlines: Mapping[tuple[int, str], PublicationDeadline],
) -> list[RunOfMatrix]:
    groups = {key[0]: (row.workflow, row.name) for key, row in rows.tasks.items()}
    links = {
        number: view_address(GROUP, campaign=campaign, workflow=workflow, name=name)
        for number, (workflow, name) in groups.items()
    }
    said: dict[tuple[int, str], str] = {}

    def shown(column: Column, row: Any) -> Shown:
        if row.source not in sources[column.workflow]:
            return Shown("", False, "", "")
        cell = rows.cell(column, row.source, row.number)
        if cell.task is None:
            link = links.get(cell.member.group_id) if cell.member is not None else None
            return Shown(cell.state, cell.late, f"{link}#task-{column.task}" if link else "", _reason(cell, said))
        link = f"{links[cell.task.group_id]}#task-{column.task}"
        deadline = deadlines.get((cell.task.group_id, column.task)) if cell.state != "skipped" else None
        return Shown(cell.state, cell.late, link, _reason(cell, said), deadline)

    return [RunOfMatrix(row.number, row.source, row.completed, [shown(one, row) for one in columns]) for row in runs]


def _reason(cell: Cell, said: dict[tuple[int, str], str]) -> str:
    """Why, in words; of a task once for all of its runs."""
    if cell.task is None:
        return render(cell.member.reason) if cell.member is not None and cell.member.state != "grouped" else ""
    if cell.state not in TOLD or not cell.task.reason:
        return ""
    key = (cell.task.group_id, cell.task.task)
    if key not in said:
        said[key] = render(cell.task.reason)
    return said[key]


def _is_wanted(line: RunOfMatrix, state: str) -> bool:
    return not state or any(cell.state == state or (state == "late" and cell.late) for cell in line.cells)
