"""The editions of amended groups, and what Airflow has yet to run again because of them (rule 51)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, exists, select

from airflow_calib_provider.errors import SpecErrors
from airflow_calib_provider.ledger import campaigns, spec_files, tables
from airflow_calib_provider.ledger.rows import read_rows
from airflow_calib_provider.ledger.transitions import Move, Subject, move

edition, group, group_task, request = tables.group_edition, tables.run_group, tables.group_task, tables.dag_run_request

TO_CLEAR, STUCK, SETTLED = "to_clear", "stuck", "settled"

MOST_ASKED = 8
"""How often Airflow is asked to run an edition, in somewhat more than three hours; then a person is to look."""

STALE = "stale"
"""The code of the reason of a task that is to run again, since its group has another edition."""


class ToClear(NamedTuple):
    """A DAG run whose tasks are to run again.

    :ivar tasks: those that were done, or had failed, with the edition before.
    :ivar asked: how often Airflow was asked for it.
    :ivar not_before: when it is asked again.
    :ivar error: why it refused the last time.
    """

    group_id: int
    n: int
    campaign: str
    workflow: str
    group_name: str
    dag_id: str
    run_id: str
    tasks: Sequence[str]
    state: str
    asked: int
    not_before: datetime | None
    error: str | None


@dataclass
class Review:
    """What is to be done about editions.

    :ivar begun: groups of whose editions all has begun that could.
    :ivar given_up: those for which Airflow was asked often enough, :ivar due: and for which it is asked now.
    """

    begun: list[int] = field(default_factory=list)
    given_up: list[ToClear] = field(default_factory=list)
    due: list[ToClear] = field(default_factory=list)


def to_clear(connection: Connection, group_ids: Sequence[int] | None = None) -> list[ToClear]:
    """What Airflow has not been asked for, or has not answered, the oldest first.

    A DAG run that is there without the ledger's knowledge, as who opened it has died, is asked for when it is known.

    :param group_ids: only of these groups.
    """
    return [row for row in _unsettled(connection, group_ids) if row.state == TO_CLEAR]


def _unsettled(connection: Connection, group_ids: Sequence[int] | None = None) -> list[ToClear]:
    columns = (edition.c.group_id, edition.c.n, group.c.campaign, group.c.workflow, group.c.name.label("group_name"))
    asking = (edition.c.state, edition.c.asked, edition.c.not_before, edition.c.error)
    query = (
        select(*columns, request.c.dag_id, request.c.run_id, edition.c.tasks, *asking)
        .join(group, group.c.id == edition.c.group_id)
        .join(request, request.c.group_id == group.c.id)
        .where(edition.c.state.in_([TO_CLEAR, STUCK]), request.c.state == "opened")
        .order_by(edition.c.at, edition.c.group_id)
    )
    if group_ids is not None:
        query = query.where(tables.one_of(edition.c.group_id, group_ids))
    return read_rows(connection, query, ToClear)


def review(connection: Connection, now: datetime) -> Review:
    """Whose editions have begun, and for which of the others Airflow is to be asked now.

    It is not asked while a task of the group runs: a clear would end that one, and begin it anew.
    """
    found, rows = Review(), _unsettled(connection)
    of_group = _tasks(connection, [row.group_id for row in rows])
    order = {key: _before(connection, *key) for key in {(row.campaign, row.workflow) for row in rows}}
    for row in rows:
        tasks = of_group.get(row.group_id, {})
        if not _not_begun(row, tasks, order[row.campaign, row.workflow]):
            found.begun.append(row.group_id)
        elif row.state == STUCK or (row.not_before or now) > now or _is_running(tasks):
            continue
        elif row.asked >= MOST_ASKED:
            found.given_up.append(row)
        else:
            found.due.append(row)
    return found


class _Task(NamedTuple):
    state: str
    is_root: bool
    is_stale: bool


def _tasks(connection: Connection, group_ids: Sequence[int]) -> dict[int, dict[str, _Task]]:
    columns = (group_task.c.group_id, group_task.c.task, group_task.c.state, group_task.c.is_root, group_task.c.reason)
    found: dict[int, dict[str, _Task]] = {}
    for row in connection.execute(select(*columns).where(tables.one_of(group_task.c.group_id, group_ids))):
        here = _Task(row.state, row.is_root, is_stale(row.state, row.reason))
        found.setdefault(row.group_id, {})[row.task] = here
    return found


def _is_running(tasks: Mapping[str, _Task]) -> bool:
    return any(task.state == "processing" for task in tasks.values())


def is_stale(state: str, reason: Mapping[str, object] | None) -> bool:
    """Whether a task is to run again, and nobody has begun with it: neither we, after a clear, nor a person."""
    return state == "new" and (reason or {}).get("code") == STALE


def _not_begun(row: ToClear, tasks: Mapping[str, _Task], before: Mapping[str, set[str]] | None) -> list[str]:
    """The tasks that are to run again, wait for no other one of these, and have not begun.

    What the spec has no more never runs again, and nobody waits for it.

    :param before: task → all that come before it; ``None``: it is not known.
    """
    stale = [name for name in row.tasks if name in tasks and tasks[name].is_stale]
    if not stale:
        return []
    if before is None:
        return [name for name in stale if tasks[name].is_root] or ([] if len(stale) < len(row.tasks) else stale)
    first = [name for name in row.tasks if name in before and not before[name] & set(row.tasks) & set(before)]
    return [name for name in first if name in stale]


def _before(connection: Connection, campaign: str, workflow: str) -> dict[str, set[str]] | None:
    """Task → all tasks of its DAG that come before it, by the spec that the campaign follows, if its text is known."""
    from airflow_calib_provider.spec.loader import load_text

    owner = spec_files.owner_of(connection, workflow)
    of_campaign = campaigns.get(connection, campaign)
    own = of_campaign.spec_hashes.get(workflow) if of_campaign.kind == "finite" else None
    text_hash = own or (owner.hash if owner is not None else None)
    text = None if text_hash is None else spec_files.text_of(connection, text_hash)
    if text is None:
        return None
    try:
        spec = load_text(text, Path(owner.file if owner is not None else workflow))
    except SpecErrors:
        return None  # of an older version of the language: what the ledger knows of the tasks has to do
    before: dict[str, set[str]] = {}

    def all_before(name: str) -> set[str]:
        if name not in before:
            needed = spec.names_inside(spec.tasks[name])
            before[name] = set(needed).union(*(all_before(other) for other in needed))
        return before[name]

    return {name: all_before(name) for name in spec.tasks}


def note_asked(connection: Connection, row: ToClear, error: str | None, now: datetime) -> None:
    """Airflow was asked to run an edition; the longer it takes to begin, the more rarely it is asked.

    :param error: why it refused.
    """
    wait = timedelta(minutes=min(60, 2 ** min(row.asked, 12)))
    columns = {"asked": row.asked + 1, "not_before": now + wait, "error": error}
    _move_one(connection, row, TO_CLEAR, columns, {"asked": row.asked + 1, "error": error})


def give_up(connection: Connection, row: ToClear) -> None:
    """Airflow is asked no more, until the group is amended again; what a person clears begins nevertheless."""
    _move_one(connection, row, STUCK, {}, {"asked": row.asked, "error": row.error})


def _move_one(
    connection: Connection, row: ToClear, target: str, columns: Mapping[str, object], data: Mapping[str, object]
) -> None:
    """Nothing is written of what was settled meanwhile."""
    key = {"group_id": row.group_id, "n": row.n}
    here = (edition.c.group_id == row.group_id, edition.c.n == row.n)
    if connection.execute(select(edition.c.state).where(*here)).scalar() != TO_CLEAR:
        return
    subject = Subject(row.campaign, row.workflow, group_name=row.group_name)
    move(connection, edition, [Move(key, TO_CLEAR, target, subject, columns, {"edition": row.n, **data})])


def why_stale(connection: Connection, group_id: int, n: int) -> dict[str, object]:
    """What is said of a task that is to run again, with what Airflow was asked for, and has answered."""
    columns = (edition.c.state, edition.c.asked, edition.c.not_before, edition.c.error)
    row = connection.execute(select(*columns).where(edition.c.group_id == group_id, edition.c.n == n)).one()
    said: dict[str, object] = {"code": STALE, "edition": n}
    if row.state == SETTLED:
        return {**said, "code": "stale_cleared"}
    if row.state == STUCK:
        return {**said, "code": "stale_stuck", "asked": row.asked, "error": row.error}
    if row.error:
        until = row.not_before.isoformat(timespec="seconds")
        return {**said, "code": "stale_refused", "asked": row.asked, "error": row.error, "until": until}
    return said


def settle(connection: Connection, group_ids: Sequence[int]) -> None:
    """Nothing is to be asked of Airflow any more for these groups."""
    columns = (edition.c.group_id, edition.c.n, edition.c.state, group.c.campaign, group.c.workflow, group.c.name)
    unsettled = edition.c.state.in_([TO_CLEAR, STUCK])
    query = select(*columns).join(group, group.c.id == edition.c.group_id).where(unsettled)
    rows = connection.execute(query.where(tables.one_of(edition.c.group_id, group_ids))).all()
    moves = [
        Move(
            {"group_id": row.group_id, "n": row.n},
            row.state,
            SETTLED,
            Subject(row.campaign, row.workflow, group_name=row.name),
            {},
            {"edition": row.n},
        )
        for row in rows
    ]
    move(connection, edition, moves)


def is_stuck(group_id: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether Airflow is asked no more for the edition of a group, though nothing of it has begun."""
    return exists().where(edition.c.group_id == group_id, edition.c.state == STUCK)
