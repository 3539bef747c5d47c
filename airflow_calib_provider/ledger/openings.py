"""Which groups get a DAG run, and the table through which they get it (rules 27–29)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, func, or_, select, update

from airflow_calib_provider.ledger import campaigns, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.locks.base import Look, parameter
from airflow_calib_provider.ledger.locks.elements import Key, start_clocks
from airflow_calib_provider.ledger.opening_order import Dag, OpenCounts, Queue, Room, in_order
from airflow_calib_provider.ledger.opening_order import OpeningLimits as OpeningLimits
from airflow_calib_provider.ledger.rows import Group, Queued, read_rows
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.ledger.waiting import unopened_looks

CLAIM_EXPIRES = timedelta(seconds=60)
"""A claim of a process that died is taken over after this time."""

SEEN_START = timedelta(hours=12)
"""How long before the opening of its group a start may lie, to be the time of the DAG run (rule 29)."""

STARTS_WITHIN = timedelta(minutes=5)
"""What has not begun so long after it could keeps nothing else from starting: Airflow may have lost it."""

ENDS_WITHIN = timedelta(minutes=1)
"""Likewise for the task that ends with the last jobs of its group."""

AT_ONCE = 300
"""Groups of each DAG and campaign that are looked at, and runs in them (the oldest group whatever its size)."""

RUNS_AT_ONCE = 2_000

SWEEPS = 10
"""How often such a number is replaced by the next, where nothing is left to do in any of them."""

UNASKED = ("queued", "ready")
"""``opening`` of a group without a DAG run; ready: it was found so far behind, and waits for room only. (The column's
comment, which is older, calls both queued.)"""

group, request, group_task = tables.run_group, tables.dag_run_request, tables.group_task
membership = tables.membership

SHOWN = ("id", "campaign", "workflow", "grouping", "name", "first_run", "state", "start", "opened_at")


@dataclass(frozen=True)
class Request:
    """A DAG run to be opened."""

    group_id: int
    dag_id: str
    run_id: str
    run_after: datetime
    note: str


def plan(
    connection: Connection,
    now: datetime,
    limits: OpeningLimits | None = None,
    about: Iterable[int] = (),
    *,
    only: Dag | None = None,
    ended: int | None = None,
) -> int:
    """Add to ``dag_run_request`` every group that is to be opened now, among the next of each DAG and campaign.

    However many wait, the same number is looked at: the oldest, and those about which the caller has news.

    :param about: further groups that may have become ready.
    :param only: the DAG in which something has changed; ``None``: all.
    :param ended: a group of which a task of Airflow's has seen the end of a job set.
    :returns: how many were added.
    """
    limits = limits or OpeningLimits.as_set()
    counts = open_counts(connection, now, ended)
    if counts.over:
        connection.execute(update(group).where(tables.one_of(group.c.id, counts.over)).values(opening=None))
    queues = [queue for queue in _queues(connection) if only in (None, (queue.workflow, queue.grouping))]
    room = Room(limits, counts, {queue.campaign: queue for queue in queues})
    rows = {row.id: row for queue in queues if (n := room.of(queue, AT_ONCE)) for row in _next_of(connection, queue, n)}
    behind = {row.id: row for row in _queued_among(connection, about, queues) if row.id not in rows}
    rows |= behind
    if not rows:
        return 0
    ids = [row.id for row in rows.values() if row.state == "closed"]
    looks = unopened_looks(connection, ids)
    start_clocks(connection, looks, now)
    ready = _ready(connection, ids, looks)
    chosen = [row for row in in_order(rows.values(), queues) if room.take(row, ready=row.id in ready)]
    _want(connection, chosen, now)
    _remember_ready(connection, behind.keys() & ready - {row.id for row in chosen}, rows.keys() - ready)
    return len(chosen)


def _remember_ready(connection: Connection, ready: Collection[int], others: Collection[int]) -> None:
    """What is ready behind those at which every plan looks is found by the next ones without a thorough look."""
    for opening, before, ids in (("ready", "queued", ready), ("queued", "ready", others)):
        here = (tables.one_of(group.c.id, ids), group.c.opening == before)
        # Asked first: where nothing is new nothing is written.
        if ids and (found := connection.execute(select(group.c.id).where(*here)).scalars().all()):
            connection.execute(update(group).where(tables.one_of(group.c.id, found)).values(opening=opening))


def _queues(connection: Connection) -> list[Queue]:
    """All groupings whose groups may be opened.

    Of a finite campaign none is, before it is grouped completely (rule 3); nor of one that is paused or cancelled (rule
    56), whose tasks do not fit the DAG any more (rule 53), or of a workflow that two files declare (rule 43).
    """
    table, campaign = tables.grouping, tables.campaign
    newest = (func.coalesce(campaign.c.run_order, "") == campaigns.NEWEST).label("newest")
    columns = (table.c.campaign, table.c.workflow, table.c.label, campaign.c.priority, newest, campaign.c.max_groups)
    rows = connection.execute(
        select(*columns, campaign.c.first_tasks)
        .join(campaign, campaign.c.name == table.c.campaign)
        .where(
            campaign.c.state.in_(campaigns.OPENING),
            or_(campaign.c.kind != "finite", table.c.assigned_below > 0),
            table.c.spec_changed.is_(None),
            table.c.workflow.not_in(select(tables.spec_file.c.workflow).where(tables.spec_file.c.held)),
        )
        .order_by(table.c.campaign, table.c.workflow, table.c.label)
    ).all()
    return [
        Queue(row.campaign, row.workflow, row.label, row.priority, row.newest, row.max_groups, bool(row.first_tasks))
        for row in rows
    ]


def half_grouped(connection: Connection, row: Group) -> bool:
    """Whether a group is of a finite campaign and a grouping that is not grouped completely (rule 3)."""
    table, campaign = tables.grouping, tables.campaign
    query = select(campaign.c.name).join(table, table.c.campaign == campaign.c.name)
    here = (campaign.c.name == row.campaign, table.c.workflow == row.workflow, table.c.label == row.grouping)
    partly = query.where(*here, campaign.c.kind == "finite", table.c.assigned_below == 0)
    return connection.execute(partly).first() is not None


def _next_of(connection: Connection, queue: Queue, most: int) -> list[Queued]:
    """The forming group and so many of the next closed ones of a queue.

    Those in which nothing is left to do, as all of their runs are skipped, leave it: they need no DAG run.
    """
    query = _queued(*_of_queue(queue), group.c.opening == "queued")
    found_ready = _queued(*_of_queue(queue), group.c.opening == "ready")
    if queue.newest:
        query, found_ready = (item.order_by(None).order_by(group.c.first_run.desc()) for item in (query, found_ready))
    for _ in range(SWEEPS):
        closed = read_rows(connection, query.where(group.c.state != "forming").limit(most), Queued)
        over = [row.id for row in closed if not row.left]
        if over:
            connection.execute(update(group).where(tables.one_of(group.c.id, over)).values(opening=None))
        if not over or len(over) < len(closed):
            break
    now_forming = query.where(group.c.state == "forming").order_by(None).limit(AT_ONCE)
    forming = read_rows(connection, now_forming, Queued)
    ready = read_rows(connection, found_ready.limit(most), Queued)
    return [*(row for row in forming if row.left), *_so_many(closed), *_so_many(ready)]


def _so_many(rows: Sequence[Queued]) -> list[Queued]:
    """Of these as many as have no more runs than are looked at; one at least."""
    runs, found = 0, list[Queued]()
    for row in rows:
        if row.left and (not found or runs + row.n_runs <= RUNS_AT_ONCE):
            runs += row.n_runs
            found.append(row)
    return found


def _of_queue(queue: Queue) -> tuple[ColumnElement[bool], ...]:
    here = (group.c.campaign == queue.campaign, group.c.workflow == queue.workflow)
    return (*here, group.c.grouping == queue.grouping)


def _queued_among(connection: Connection, ids: Iterable[int], queues: Iterable[Queue]) -> list[Queued]:
    wanted = sorted(set(ids))
    allowed = {queue[:3] for queue in queues}
    query = _queued(group.c.opening.in_(UNASKED), tables.one_of(group.c.id, wanted))
    rows = read_rows(connection, query, Queued) if wanted else []
    return [row for row in rows if row.left and (row.campaign, row.workflow, row.grouping) in allowed]


def _queued(*where: ColumnElement[bool]) -> Select[Any]:
    """Groups without a DAG run, the oldest first; ``left``: whether anything is to be done."""
    left = exists().where(group_task.c.group_id == group.c.id, group_task.c.state.in_(["new", "waiting"]))
    n_runs = select(func.count()).where(membership.c.group_id == group.c.id).scalar_subquery()
    alive = and_(group.c.state != "dropped", left)
    columns = (*(group.c[name] for name in SHOWN), alive.label("left"), n_runs.label("n_runs"))
    return select(*columns).where(*where).order_by(group.c.first_run)


def concerned(connection: Connection, group_id: int) -> list[int]:
    """The next groups without a DAG run that hold runs between those of this group, here and in campaigns based on it.

    What has become of it may be what they wait for.
    """
    about = connection.execute(
        select(
            group.c.campaign, func.coalesce(group.c.lowest_run, group.c.first_run).label("first_run"), group.c.last_run
        ).where(group.c.id == group_id)
    )
    row = about.first()
    if row is None:
        return []
    campaign = tables.campaign
    based = select(campaign.c.name).where(
        campaign.c.base_campaign == row.campaign, campaign.c.state.in_(campaigns.OPENING)
    )
    found: list[int] = []
    for name in [row.campaign, *connection.execute(based).scalars()]:
        here = (membership.c.campaign == name, membership.c.run.between(row.first_run, row.last_run))
        query = select(group.c.id).join(membership, membership.c.group_id == group.c.id)
        waiting = query.where(*here, group.c.opening.in_(UNASKED), group.c.state == "closed").distinct()
        found += connection.execute(waiting.limit(AT_ONCE)).scalars()
    return found


def ready_beyond(ledger: Ledger) -> list[int]:
    """Groups that have become ready behind those at which :func:`plan` looks by itself.

    What each of them waits for is looked at, in pieces, and nobody is kept from writing meanwhile.
    """
    found: list[int] = []
    with ledger.read() as connection:
        queues = _queues(connection)
    for queue in queues:
        here = _of_queue(queue)
        after = -1
        with ledger.read() as connection:
            known = _queued(*here, group.c.opening == "ready").limit(AT_ONCE)
            n = len(connection.execute(known).all())
        while n < AT_ONCE:
            with ledger.read() as connection:
                queued = (group.c.opening == "queued", group.c.state == "closed", group.c.first_run > after)
                rows = connection.execute(_queued(*here, *queued).limit(AT_ONCE)).all()
                ready = _ready(connection, [row.id for row in rows if row.left])
            found += [row.id for row in rows if row.id in ready]
            if len(rows) < AT_ONCE:
                break
            after, n = rows[-1].first_run, n + len(ready)
    return found


def _ready(connection: Connection, ids: Sequence[int], looks: Mapping[Key, Look] | None = None) -> set[int]:
    """Groups of which some root task has all its locks open, and all tasks those on what a base campaign has."""
    looks = unopened_looks(connection, ids) if looks is None else looks
    lock = tables.lock
    of_base = select(lock.c.group_id, lock.c.task).where(
        tables.one_of(lock.c.group_id, ids), parameter("campaign").is_not(None)
    )
    held = {row.group_id for row in connection.execute(of_base) if not _opens(looks[row.group_id, row.task])}
    roots = connection.execute(
        select(group_task.c.group_id, group_task.c.task).where(
            tables.one_of(group_task.c.group_id, ids), group_task.c.is_root, group_task.c.state.in_(["new", "waiting"])
        )
    ).all()
    return {
        row.group_id for row in roots if (row.group_id, row.task) not in looks or _opens(looks[row.group_id, row.task])
    } - held


def _opens(look: Look) -> bool:
    # A lock that can never open has its group opened too: the task then fails there with the reason, to be seen.
    return look.state != "waiting"


def open_counts(connection: Connection, now: datetime, ended: int | None = None) -> OpenCounts:
    """How many DAG runs are open. Nothing is written: whoever explains asks this, too.

    :param ended: as in :func:`plan`.
    """
    # Of what has nothing left to do, a person may clear something: then it works, and is found by that.
    works = select(group_task.c.group_id).where(group_task.c.state.in_(["waiting", "processing"]))
    concerned = select(group.c.id).where(group.c.opening == "asked").union(works)

    def any_in(*states: str) -> ColumnElement[int]:
        return func.max(case((group_task.c.state.in_(states), 1), else_=0))

    columns = (group.c.id, group.c.workflow, group.c.grouping, group.c.campaign, group.c.state, request.c.wanted_at)
    rows = connection.execute(
        select(
            *columns,
            any_in("processing", "done").label("begun"),
            any_in("waiting", "processing").label("alive"),
            any_in("new").label("new"),
            any_in("failed").label("failed"),
            any_in("processing").label("runs"),
            any_in("waiting").label("held"),
            func.max(group_task.c.since).label("newest"),
        )
        .join(request, request.c.group_id == group.c.id)
        .join(group_task, group_task.c.group_id == group.c.id)
        .where(group.c.id.in_(concerned))
        .group_by(*columns)
    ).all()
    others = _opening_beside_prompt(connection)
    # Between two tasks, or after the last one: what Airflow has seen the end of is not among them any more.
    recent = [row for row in rows if row.campaign in others and row.id != ended and row.newest > now - ENDS_WITHIN]
    ending = {row.id: row for row in recent if row.begun and not (row.alive or row.failed)}
    over = [row.id for row in rows if not (row.alive or row.new or row.failed or row.id in ending)]
    # What is new behind a failed task will not run before somebody clears: the DAG run has ended.
    lively = [row for row in rows if row.alive or (row.new and not row.failed)]
    ready = _ready(connection, [row.id for row in lively if row.state == "closed" and not row.begun])
    working: dict[Dag, int] = defaultdict(int)
    waiting: dict[tuple[Dag, str], int] = defaultdict(int)
    of_campaign: dict[str, int] = defaultdict(int)
    starting: dict[Dag, int] = defaultdict(int)
    for row in ending.values():
        starting[row.workflow, row.grouping] += 1
    for row in lively:
        dag = (row.workflow, row.grouping)
        if row.begun or row.id in ready:
            working[dag] += 1
            # What has begun and waits for others again must not keep from opening what it waits for.
            of_campaign[row.campaign] += bool(row.runs or not row.begun or not row.held)
            asked_lately = row.wanted_at > now - STARTS_WITHIN
            starting[dag] += row.campaign in others and asked_lately and not row.begun
        else:
            waiting[dag, row.campaign] += 1
    return OpenCounts(working, waiting, of_campaign, over, starting)


def _opening_beside_prompt(connection: Connection) -> set[str]:
    """The campaigns other than ``prompt`` that may open groups; what a paused one has asked for does not start."""
    campaign = tables.campaign
    here = (campaign.c.state.in_(campaigns.OPENING), campaign.c.name != campaigns.PROMPT)
    return set(connection.execute(select(campaign.c.name).where(*here)).scalars())


def _want(connection: Connection, rows: Sequence[Queued], now: datetime) -> None:
    moves = []
    for row in rows:
        note = f"{row.grouping} from run {row.first_run} (campaign {row.campaign})"
        dag_id, run_id = f"{row.workflow}__{row.grouping}", f"{row.campaign}__{row.name}"
        moves.append(wanted(row.id, _subject(row), dag_id, run_id, _run_after(row, now), note, now))
    move(connection, request, moves)
    if rows:
        here = tables.one_of(group.c.id, [row.id for row in rows])
        connection.execute(update(group).where(here).values(opening="asked"))


def wanted(
    group_id: int, subject: Subject, dag_id: str, run_id: str, run_after: datetime, note: str, now: datetime
) -> Move:
    """The move that makes the request for a group's DAG run."""
    columns = {
        "dag_id": dag_id,
        "run_id": run_id,
        "run_after": run_after,
        "note": note,
        "wanted_at": now,
        "not_before": now,
        "claimed_at": None,
        "claimed_by": None,
        "opened_at": None,
        "refusals": 0,
        "error": None,
    }
    return Move({"group_id": group_id}, None, "wanted", subject, columns)


def _run_after(row: Queued, now: datetime) -> datetime:
    """The group's start, so that the grid is in the order of physics; never in the future, where Airflow would wait.

    Airflow's home page shows the failures of the last day by this time: what is older, or has none, counts as opened
    now, in the order of the runs (rule 29).
    """
    if row.start is not None and row.opened_at - SEEN_START < row.start < now:
        return row.start
    opened = row.opened_at - timedelta(minutes=1)
    return opened + timedelta(microseconds=row.first_run % 60_000_000)


def _subject(row: Any) -> Subject:
    return Subject(campaign=row.campaign, workflow=row.workflow, group_name=row.name)


def claim(connection: Connection, claimant: str, now: datetime, limit: int = 50) -> list[Request]:
    """Take requests that nobody works on; a claim that expired counts as nobody's.

    Those of ``prompt`` come first. Those of a campaign that is paused wait, and those of a cancelled one for ever.

    :param claimant: names this process.
    """
    campaign = tables.campaign
    expired = and_(request.c.state == "claimed", request.c.claimed_at < now - CLAIM_EXPIRES)
    rows = connection.execute(
        select(request, group.c.campaign, group.c.workflow, group.c.name)
        .join(group, group.c.id == request.c.group_id)
        .join(campaign, campaign.c.name == group.c.campaign)
        .where(campaign.c.state.in_(campaigns.OPENING))
        .where(or_(and_(request.c.state == "wanted", request.c.not_before <= now), expired))
        .order_by(case((group.c.campaign == campaigns.PROMPT, 0), else_=1), request.c.wanted_at, request.c.run_after)
        .limit(limit)
        .with_for_update(of=request, skip_locked=True)
    ).all()
    columns = {"claimed_at": now, "claimed_by": claimant}
    move(
        connection,
        request,
        [Move({"group_id": row.group_id}, row.state, "claimed", _subject(row), columns) for row in rows],
    )
    return [Request(row.group_id, row.dag_id, row.run_id, row.run_after, row.note) for row in rows]


def _claimed(connection: Connection, group_id: int, claimant: str) -> Any:
    return connection.execute(
        select(request, group.c.campaign, group.c.workflow, group.c.name)
        .join(group, group.c.id == request.c.group_id)
        .where(request.c.group_id == group_id, request.c.state == "claimed", request.c.claimed_by == claimant)
    ).first()


def opened(connection: Connection, group_id: int, claimant: str, now: datetime) -> None:
    """Airflow has the DAG run. Nothing happens if the claim was taken over meanwhile: the other one records it."""
    row = _claimed(connection, group_id, claimant)
    if row is not None:
        columns = {"opened_at": now, "error": None}
        move(connection, request, [Move({"group_id": group_id}, "claimed", "opened", _subject(row), columns)])


def refused(connection: Connection, group_id: int, claimant: str, error: str, now: datetime) -> None:
    """Airflow did not take it: it is asked again later, ever more rarely."""
    row = _claimed(connection, group_id, claimant)
    if row is None:
        return
    refusals = row.refusals + 1
    delay = timedelta(seconds=min(3600, 5 * 2 ** min(refusals, 12)))
    columns = {"refusals": refusals, "error": error, "not_before": now + delay}
    move(
        connection,
        request,
        [Move({"group_id": group_id}, "claimed", "wanted", _subject(row), columns, {"error": error})],
    )
