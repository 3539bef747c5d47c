"""Which groups get a DAG run, and the table through which they get it (rules 27–29)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, and_, exists, or_, select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.ledger.waiting import unopened_looks

CLAIM_EXPIRES = timedelta(seconds=60)
"""A claim of a process that died is taken over after this time."""

SEEN_START = timedelta(hours=12)
"""How long before the opening of its group a start may lie, to be the time of the DAG run (rule 29)."""

group, request, group_task = tables.run_group, tables.dag_run_request, tables.group_task


SHOWN = ("id", "campaign", "workflow", "grouping", "name", "first_run", "state", "start", "opened_at")


@dataclass(frozen=True)
class Limits:
    """How many DAG runs may be open (rule 27).

    :ivar max_open: per DAG, all campaigns together.
    :ivar prompt_share: the part of it that only ``prompt`` may use (rule 26).
    :ivar window: per DAG and campaign: how many waiting groups are shown as DAG runs.
    """

    max_open: int = 100
    prompt_share: float = 0.2
    window: int = 20


@dataclass(frozen=True)
class Request:
    """A DAG run to be opened."""

    group_id: int
    dag_id: str
    run_id: str
    run_after: datetime
    note: str


def plan(connection: Connection, at: datetime, limits: Limits | None = None) -> int:
    """Add to ``dag_run_request`` every group that is to be opened now.

    :returns: how many were added.
    """
    limits = limits or Limits()
    # A group in which nothing is left to do, as all of its runs are skipped, needs no DAG run.
    unopened = connection.execute(
        select(*(group.c[name] for name in SHOWN))
        .outerjoin(request, request.c.group_id == group.c.id)
        .where(
            group.c.id.in_(_with_task("new", "waiting")),
            request.c.group_id.is_(None),
            group.c.state.in_(["forming", "closed"]),
            group.c.workflow.not_in(select(tables.spec_file.c.workflow).where(tables.spec_file.c.held)),
        )
        .order_by(group.c.first_run)
    ).all()
    if not unopened:
        return 0
    ready = _ready(connection, [row for row in unopened if row.state == "closed"])
    open_now, waiting_now = _open_counts(connection)
    chosen: list[Any] = []
    # The forming group comes first: what takes data now is what people look for in the grid.
    for row in sorted(unopened, key=lambda row: (row.campaign != "prompt", row.state != "forming", row.first_run)):
        dag = (row.workflow, row.grouping)
        if row.id in ready:
            reserved = 0 if row.campaign == "prompt" else int(limits.max_open * limits.prompt_share)
            if open_now[dag] >= limits.max_open - reserved:
                continue
            open_now[dag] += 1
        elif waiting_now[dag, row.campaign] < limits.window:
            waiting_now[dag, row.campaign] += 1
        else:
            continue
        chosen.append(row)
    _want(connection, chosen, at)
    return len(chosen)


def _ready(connection: Connection, rows: Sequence[Any]) -> set[int]:
    """Groups of which some root task has all its locks open."""
    ids = [row.id for row in rows]
    looks = unopened_looks(connection, ids)
    roots = connection.execute(
        select(group_task.c.group_id, group_task.c.task).where(
            tables.one_of(group_task.c.group_id, ids), group_task.c.is_root, group_task.c.state.in_(["new", "waiting"])
        )
    ).all()
    return {
        row.group_id for row in roots if (row.group_id, row.task) not in looks or _opens(looks[row.group_id, row.task])
    }


def _opens(look: Any) -> bool:
    # A lock that can never open has its group opened too: the task then fails there with the reason, to be seen.
    return bool(look.state != "waiting")


def _with_task(*states: str) -> Select[tuple[int]]:
    """Groups of which a task is in one of these states. Most groups are done: the states are where to begin."""
    return select(group_task.c.group_id).where(group_task.c.state.in_(states))


def _open_counts(connection: Connection) -> tuple[dict[Any, int], dict[Any, int]]:
    """DAG runs that work, per DAG, and that wait, per DAG and campaign."""
    begun = exists().where(group_task.c.group_id == group.c.id, group_task.c.state.in_(["processing", "done"]))
    # What is new behind a failed task will not run before somebody clears: the DAG run has ended.
    alive = _with_task("waiting", "processing")
    failed = exists().where(group_task.c.group_id == group.c.id, group_task.c.state == "failed")
    rows = connection.execute(
        select(group.c.id, group.c.workflow, group.c.grouping, group.c.campaign, group.c.state, begun.label("begun"))
        .join(request, request.c.group_id == group.c.id)
        .where(group.c.id.in_(_with_task("new", "waiting", "processing")), or_(group.c.id.in_(alive), ~failed))
    ).all()
    idle = [row for row in rows if not row.begun]
    ready = _ready(connection, [row for row in idle if row.state == "closed"])
    working: dict[Any, int] = defaultdict(int)
    waiting: dict[Any, int] = defaultdict(int)
    for row in rows:
        dag = (row.workflow, row.grouping)
        if row.begun or row.id in ready:
            working[dag] += 1
        else:
            waiting[dag, row.campaign] += 1
    return working, waiting


def _want(connection: Connection, rows: Sequence[Any], at: datetime) -> None:
    moves = []
    for row in rows:
        note = f"{row.grouping} from run {row.first_run} (campaign {row.campaign})"
        dag_id, run_id = f"{row.workflow}__{row.grouping}", f"{row.campaign}__{row.name}"
        moves.append(wanted(row.id, _subject(row), dag_id, run_id, _run_after(row, at), note, at))
    move(connection, request, moves)


def wanted(
    group_id: int, subject: Subject, dag_id: str, run_id: str, run_after: datetime, note: str, at: datetime
) -> Move:
    """The move that makes the request for a group's DAG run."""
    columns = {
        "dag_id": dag_id,
        "run_id": run_id,
        "run_after": run_after,
        "note": note,
        "wanted_at": at,
        "not_before": at,
        "claimed_at": None,
        "claimed_by": None,
        "opened_at": None,
        "refusals": 0,
        "error": None,
    }
    return Move({"group_id": group_id}, None, "wanted", subject, columns)


def _run_after(row: Any, at: datetime) -> datetime:
    """The group's start, so that the grid is in the order of physics; never in the future, where Airflow would wait.

    Airflow's home page shows the failures of the last day by this time: what is older, or has none, counts as opened
    now, in the order of the runs (rule 29).
    """
    if row.start is not None and row.opened_at - SEEN_START < row.start < at:
        return row.start  # type: ignore[no-any-return]
    opened = row.opened_at - timedelta(minutes=1)
    return opened + timedelta(microseconds=row.first_run % 60_000_000)  # type: ignore[no-any-return]


def _subject(row: Any) -> Subject:
    return Subject(campaign=row.campaign, workflow=row.workflow, group_name=row.name)


def claim(connection: Connection, claimant: str, at: datetime, limit: int = 50) -> list[Request]:
    """Take requests that nobody works on; a claim that expired counts as nobody's.

    :param claimant: names this process.
    """
    expired = and_(request.c.state == "claimed", request.c.claimed_at < at - CLAIM_EXPIRES)
    rows = connection.execute(
        select(request, group.c.campaign, group.c.workflow, group.c.name)
        .join(group, group.c.id == request.c.group_id)
        .where(or_(and_(request.c.state == "wanted", request.c.not_before <= at), expired))
        .order_by(request.c.wanted_at, request.c.run_after)
        .limit(limit)
        .with_for_update(of=request, skip_locked=True)
    ).all()
    columns = {"claimed_at": at, "claimed_by": claimant}
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


def opened(connection: Connection, group_id: int, claimant: str, at: datetime) -> None:
    """Airflow has the DAG run. Nothing happens if the claim was taken over meanwhile: the other one records it."""
    row = _claimed(connection, group_id, claimant)
    if row is not None:
        columns = {"opened_at": at, "error": None}
        move(connection, request, [Move({"group_id": group_id}, "claimed", "opened", _subject(row), columns)])


def refused(connection: Connection, group_id: int, claimant: str, error: str, at: datetime) -> None:
    """Airflow did not take it: it is asked again later, ever more rarely."""
    row = _claimed(connection, group_id, claimant)
    if row is None:
        return
    refusals = row.refusals + 1
    delay = timedelta(seconds=min(3600, 5 * 2 ** min(refusals, 12)))
    columns = {"refusals": refusals, "error": error, "not_before": at + delay}
    move(
        connection,
        request,
        [Move({"group_id": group_id}, "claimed", "wanted", _subject(row), columns, {"error": error})],
    )
