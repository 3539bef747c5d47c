"""What people ask the ledger: lists and overviews, each a fixed number of statements, never one per run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, case, exists, func, or_, select

from airflow_calib_provider.ledger import campaigns, editions, planner, source_changes, sources, tables
from airflow_calib_provider.ledger.cells import Cell, Column, Rows
from airflow_calib_provider.ledger.exclusions import EXCLUDED, counted_by_task, left_out
from airflow_calib_provider.ledger.lines import CampaignLine, JobLine, RunLine
from airflow_calib_provider.ledger.rows import read_rows, select_of

run, membership, group, group_task = tables.run, tables.membership, tables.run_group, tables.group_task
generation, job, attempt = tables.generation, tables.job, tables.attempt
skip, request = tables.skip, tables.dag_run_request

UNASSIGNED, LATE = "unassigned", "late"


@dataclass(frozen=True)
class StatusRow:
    """One run; ``states`` in the order of the columns, empty where the task does not concern the run."""

    source: str
    run: int
    states: tuple[str, ...]


@dataclass(frozen=True)
class Status:
    """Runs × tasks.

    :ivar totals: per column, how many of all runs of the campaign (not only of the shown ones) are in which state.
    """

    columns: Sequence[Column]
    rows: Sequence[StatusRow]
    totals: Sequence[dict[str, int]]


def status(
    connection: Connection,
    campaign: str,
    *,
    workflow: str | None = None,
    runs: Sequence[int] = (),
    last: int = 20,
    source: str | None = None,
) -> Status:
    """The state of each task for each run (rule 1), for these runs or the last ones.

    :param last: how many runs are shown if none are named; 0: all.
    :param source: only runs of this one.
    """
    planner.allow_memory(connection)
    counted = connection.execute(_runs_by_task(campaign, workflow)).all()
    columns = _columns(counted)
    decided = _decided(connection, campaign, workflow)
    by_workflow = _sources(decided)
    shown = sorted(set().union(*by_workflow.values())) if by_workflow else []
    # Of runs that are named every source's are shown, unless the workflow says which.
    shown = [source] if source is not None else [] if runs and workflow is None else shown
    chosen = _chosen_runs(connection, campaign, runs, last, shown)
    wanted = select(chosen.c.number)
    members = {
        (row.workflow, row.grouping, row.source, row.run): row
        for row in connection.execute(
            select(
                membership.c.workflow,
                membership.c.grouping,
                membership.c.source,
                membership.c.run,
                membership.c.state,
                membership.c.group_id,
            ).where(membership.c.campaign == campaign, membership.c.run.in_(wanted))
        ).all()
    }
    ids = select(membership.c.group_id).where(membership.c.campaign == campaign, membership.c.run.in_(wanted))
    tasks = {
        (row.group_id, row.task): row
        for row in connection.execute(
            select(group_task.c.group_id, group_task.c.task, group_task.c.state, group_task.c.since, group.c.late)
            .join(group, group.c.id == group_task.c.group_id)
            .where(group_task.c.group_id.in_(ids))
        ).all()
    }
    skipped = select(skip.c.workflow, skip.c.task, skip.c.run, skip.c.at)
    skipped = skipped.where(skip.c.campaign == campaign, skip.c.run.in_(wanted))
    skips = {(row.workflow, row.task, row.run): row.at for row in connection.execute(skipped).all()}
    left = left_out(connection, campaign)
    cells = Rows(members, tasks, skips, left)
    rows = []
    for number, of in connection.execute(select(chosen.c.number, chosen.c.source).order_by(*chosen.c)).all():
        states = tuple(
            _said(cells.cell(column, of, number)) if of in by_workflow[column.workflow] else "" for column in columns
        )
        rows.append(StatusRow(of, number, states))
    return Status(columns, rows, _totals(connection, campaign, columns, counted, decided, by_workflow, left))


def _said(cell: Cell) -> str:
    return f"{cell.state} ({LATE})" if cell.late else cell.state


def _columns(counted: Iterable[Any]) -> list[Column]:
    """The tasks of :func:`_runs_by_task`, as they stand in the specs."""
    places: dict[tuple[str, str, str], int] = {}
    for row in counted:
        key = (row.workflow, row.grouping, row.task)
        places[key] = max(row.position, places.get(key, 0))
    return sorted(Column(key[0], place, *key[1:]) for key, place in places.items())


def _sources(decided: Iterable[Any]) -> dict[str, set[str]]:
    """Workflow → the sources that its runs came from."""
    result: dict[str, set[str]] = defaultdict(set)
    for row in decided:
        result[row.workflow].add(row.source)
    return result


def _decided(connection: Connection, campaign: str, workflow: str | None) -> Sequence[Row[Any]]:
    """How many runs of each source have which state in each grouping."""
    what = (membership.c.workflow, membership.c.grouping, membership.c.state, membership.c.source)
    query = select(*what, func.count().label("n")).where(membership.c.campaign == campaign).group_by(*what)
    return connection.execute(query if workflow is None else query.where(membership.c.workflow == workflow)).all()


def campaign_runs(connection: Connection, campaign: str) -> Select[Any]:
    """The runs of a finite campaign; of a streamed one every run; none of that of hand-written DAGs."""
    kind = connection.execute(select(tables.campaign.c.kind).where(tables.campaign.c.name == campaign)).scalar()
    query = select(run.c.number, run.c.source)
    if kind not in ("finite", campaigns.DAGS):
        return query
    listed = tables.campaign_run
    here = and_(listed.c.campaign == campaign, listed.c.source == run.c.source, listed.c.run == run.c.number)
    return query.join(listed, here)


def _chosen_runs(connection: Connection, campaign: str, runs: Sequence[int], last: int, sources: Sequence[str]) -> Any:
    query = campaign_runs(connection, campaign)
    if runs:
        query = query.where(run.c.number.in_(list(runs)))
    if sources:
        query = query.where(run.c.source.in_(list(sources)))
    if not runs and last:
        query = query.order_by(run.c.number.desc()).limit(last)
    return query.subquery("chosen")


def _runs_by_task(campaign: str, workflow: str | None) -> Select[Any]:
    """How many runs of groups that were not dropped have a task in a state: by task, state, grouping and workflow.

    Runs are counted by group first, in an index: most of the time would go into their rows. What differs most from row
    to row is what is grouped by first: these rows are sorted.
    """
    of_group = select(membership.c.group_id, func.count().label("n")).where(membership.c.group_id.is_not(None))
    sizes = of_group.group_by(membership.c.group_id).subquery("sizes")
    what = (group_task.c.task, group_task.c.state, group.c.grouping, group.c.workflow)
    n_runs = func.sum(case((group.c.state != "dropped", sizes.c.n), else_=0)).label("n")
    query = select(*what, n_runs, func.max(group_task.c.position).label("position"))
    query = query.select_from(group).join(group_task, group_task.c.group_id == group.c.id)
    query = query.join(sizes, sizes.c.group_id == group.c.id).where(group.c.campaign == campaign)
    return (query if workflow is None else query.where(group.c.workflow == workflow)).group_by(*what)


def _skipped_by_task(campaign: str) -> Select[Any]:
    """How many runs have a task in a state that was not reached before they were skipped: as :func:`_runs_by_task`."""
    what = (membership.c.workflow, membership.c.grouping, group_task.c.task, group_task.c.state)
    here = (membership.c.campaign == campaign, membership.c.state == "grouped")
    concerned = and_(
        membership.c.campaign == skip.c.campaign,
        membership.c.workflow == skip.c.workflow,
        membership.c.run == skip.c.run,
    )
    skipped = (
        select(*what, membership.c.run)
        .select_from(skip)
        .join(membership, concerned)
        .join(group_task, group_task.c.group_id == membership.c.group_id)
        .where(
            *here,
            skip.c.task.in_(["", group_task.c.task]),
            or_(group_task.c.state != "done", skip.c.at <= group_task.c.since),
        )
        .distinct()
        .subquery()
    )
    columns_of = (skipped.c.workflow, skipped.c.grouping, skipped.c.task, skipped.c.state)
    return select(*columns_of, func.count()).group_by(*columns_of)


def _totals(
    connection: Connection,
    campaign: str,
    columns: Sequence[Column],
    runs_by_task: Iterable[Any],
    decided: Iterable[Any],
    sources: dict[str, set[str]],
    left: Collection[tuple[int, str, int]],
) -> list[dict[str, int]]:
    by_task: dict[tuple[str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in runs_by_task:
        by_task[row.workflow, row.grouping, row.task][row.state] += int(row.n)
    # Few are skipped: these are counted by themselves, instead of asking for each of all.
    for workflow, grouping, task, shown, n in connection.execute(_skipped_by_task(campaign)).all():
        by_task[workflow, grouping, task][shown] -= n
        by_task[workflow, grouping, task]["skipped"] += n
    for (workflow, grouping, task, shown), n in counted_by_task(connection, campaign, left).items():
        by_task[workflow, grouping, task][shown] -= n
        by_task[workflow, grouping, task][EXCLUDED] += n
    by_grouping: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in decided:
        by_grouping[row.workflow, row.grouping][row.state] += row.n
    listed = campaign_runs(connection, campaign).subquery()
    per_source: dict[str, int] = dict(
        connection.execute(select(listed.c.source, func.count()).group_by(listed.c.source)).all()
    )
    result = []
    for column in columns:
        of_task = by_task[column.workflow, column.grouping, column.task]
        counts = {shown: n for shown, n in of_task.items() if n}
        elsewhere = by_grouping[column.workflow, column.grouping]
        for shown, n in elsewhere.items():
            if shown != "grouped":
                name = "skipped" if shown == "dropped" else shown
                counts[name] = counts.get(name, 0) + n
        unassigned = sum(per_source.get(source, 0) for source in sources[column.workflow]) - sum(elsewhere.values())
        if unassigned > 0:
            counts["new"] = counts.get("new", 0) + unassigned
        result.append(counts)
    return result


def runs_listed(
    connection: Connection,
    campaign: str,
    *,
    workflow: str | None = None,
    state: str | None = None,
    last: int = 0,
    source: str | None = None,
) -> list[RunLine]:
    """Runs with what each workflow and grouping of a campaign decided about them.

    A run that nothing decided about yet has one row without.

    :param workflow: only this one, and only runs of its source.
    :param state: of the membership, or :data:`UNASSIGNED`; of :data:`LATE` ones also those in groups of late runs.
    :param last: only the last rows; 0: all.
    :param source: only runs of this one.
    """
    here = and_(
        membership.c.campaign == campaign, membership.c.run == run.c.number, membership.c.source == run.c.source
    )
    if workflow is not None:
        here = and_(here, membership.c.workflow == workflow)
    shown = func.coalesce(membership.c.state, UNASSIGNED)
    query = (
        select(
            run.c.number,
            run.c.source,
            *source_changes.COLUMNS,
            membership.c.record,
            membership.c.workflow,
            membership.c.grouping,
            shown.label("state"),
            group.c.name.label("group_name"),
            membership.c.reason,
            membership.c.assigned_at,
        )
        .outerjoin(membership, here)
        .outerjoin(group, group.c.id == membership.c.group_id)
    )
    of_workflow = sources.of_workflows(connection, [workflow]) if workflow is not None else {}
    for wanted in (*of_workflow.values(), *([{source}] if source is not None else [])):
        query = query.where(run.c.source.in_(sorted(wanted)))
    if state is not None:
        # Late ones may be in a group of late ones.
        query = query.where(or_(shown == state, group.c.late) if state == LATE else shown == state)
    query = query.order_by(
        run.c.number.desc(), run.c.source.desc(), membership.c.workflow.desc(), membership.c.grouping.desc()
    )
    return read_rows(connection, query.limit(last) if last else query, RunLine)[::-1]


@dataclass
class GroupLine:
    """One group with the states of its tasks."""

    row: Row[Any]
    tasks: dict[str, str] = field(default_factory=dict)


def groups_listed(
    connection: Connection,
    campaign: str,
    *,
    workflow: str | None = None,
    state: str | None = None,
    last: int = 0,
) -> list[GroupLine]:
    """Groups of a campaign with their number of runs, their DAG run and the states of their tasks.

    :param state: of the group (``forming``, ``closed``, ``dropped``), or of any of its tasks.
    """
    members = (
        select(func.count())
        .where(membership.c.group_id == group.c.id, membership.c.state == "grouped")
        .scalar_subquery()
    )
    of_request = (request.c.dag_id, request.c.run_id, request.c.state.label("dag_run_state"))
    query = (
        select(group, members.label("n_runs"), *of_request, editions.is_stuck(group.c.id).label("stuck"))
        .outerjoin(request, request.c.group_id == group.c.id)
        .where(group.c.campaign == campaign)
    )
    if workflow is not None:
        query = query.where(group.c.workflow == workflow)
    if state is not None:
        of_task = exists().where(group_task.c.group_id == group.c.id, group_task.c.state == state)
        query = query.where(or_(group.c.state == state, of_task))
    query = query.order_by(group.c.first_run.desc(), group.c.workflow.desc(), group.c.grouping.desc())
    query = query.limit(last) if last else query
    lines = {row.id: GroupLine(row) for row in reversed(connection.execute(query).all())}
    ids = query.with_only_columns(group.c.id).subquery()
    tasks = connection.execute(
        select(group_task.c.group_id, group_task.c.task, group_task.c.state)
        .where(group_task.c.group_id.in_(select(ids.c.id)))
        .order_by(group_task.c.position)
    ).all()
    for row in tasks:
        if row.group_id in lines:
            lines[row.group_id].tasks[row.task] = row.state
    return list(lines.values())


def jobs_listed(
    connection: Connection,
    campaign: str,
    *,
    workflow: str | None = None,
    group_name: str | None = None,
    task: str | None = None,
    state: str | None = None,
    last: int = 0,
) -> list[JobLine]:
    """The jobs of the latest generation of every job set of a campaign."""
    query = _latest_jobs(campaign)
    filters = (
        (group.c.workflow, workflow),
        (group.c.name, group_name),
        (generation.c.task, task),
        (job.c.state, state),
    )
    for column, value in filters:
        if value is not None:
            query = query.where(column == value)
    query = query.order_by(group.c.first_run.desc(), generation.c.id.desc(), job.c.step.desc(), job.c.job_index.desc())
    return read_rows(connection, query.limit(last) if last else query, JobLine)[::-1]


def _latest_jobs(campaign: str) -> Select[Any]:
    newer = generation.alias("newer")
    latest = ~exists().where(
        newer.c.group_id == generation.c.group_id, newer.c.task == generation.c.task, newer.c.n > generation.c.n
    )
    return (
        select(
            group.c.workflow,
            group.c.name.label("group_name"),
            generation.c.task,
            generation.c.n.label("generation"),
            job.c.step,
            job.c.job_index,
            job.c.state,
            job.c.attempt,
            job.c.exit_code,
            job.c.signal,
            job.c.host,
            job.c.start,
            job.c.end,
            job.c.reason,
            job.c.retry_at,
            job.c.failure,
            job.c.hold_code,
            job.c.memory,
            attempt.c.request_memory,
            job.c.releases,
            job.c.progress,
            generation.c.trouble,
        )
        .outerjoin(
            attempt,
            and_(
                attempt.c.generation_id == job.c.generation_id,
                attempt.c.step == job.c.step,
                attempt.c.job_index == job.c.job_index,
                attempt.c.n == job.c.attempt,
            ),
        )
        .join(generation, generation.c.id == job.c.generation_id)
        .join(group, group.c.id == generation.c.group_id)
        .where(group.c.campaign == campaign, latest)
    )


def campaigns_listed(connection: Connection) -> list[CampaignLine]:
    """All campaigns, by age, with the numbers of their runs (finite ones), groups and groups with a failed task."""
    table, listed = tables.campaign, tables.campaign_run
    runs = select(func.count()).where(listed.c.campaign == table.c.name).scalar_subquery()
    groups = select(func.count()).where(group.c.campaign == table.c.name).scalar_subquery()
    has_failed = exists().where(group_task.c.group_id == group.c.id, group_task.c.state == "failed")
    failed = select(func.count()).where(group.c.campaign == table.c.name, has_failed).scalar_subquery()
    counted = (runs.label("n_runs"), groups.label("n_groups"), failed.label("n_failed"))
    query = select_of(CampaignLine, table).add_columns(*counted)
    return read_rows(connection, query.order_by(table.c.created_at), CampaignLine)
