"""Actions from chat in the ledger: what is declared, and each press of a button, used once (rule 68)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, or_, select, update

from airflow_calib_provider.domain.chat_actions import CONFIRMED, WantedAction
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.transitions import Move, Subject, append_events, move

endpoint, action = tables.chat_endpoint, tables.chat_action

SAID_WITHIN = timedelta(minutes=15)
"""What nobody has declared for so long is declared no more."""

CONFIRM_AFTER, CONFIRM_WITHIN = timedelta(seconds=2), timedelta(minutes=2)
"""Between the two presses that a skip needs: a double click is one press."""

CARRIED_WITHIN = timedelta(minutes=2)
"""Whoever has carried an action out for longer has died."""

OVER = ("asked", "done", "failed", "refused")
"""States in which nothing becomes of an action any more; a second press comes within minutes."""

KEPT = timedelta(days=30)
"""How long it is known after that; longer than any button is good for."""

FORGOTTEN_AT_ONCE = 1_000
"""Rows that one transaction removes."""

AT_ONCE = 20
"""Actions that are carried out one after the other in one look."""


def declare(ledger: Ledger, team: str, declared: Mapping[str, Any] | None, now: datetime) -> None:
    """Say once more what may be done from chat.

    :param declared: as ``messages.yaml`` says it; ``None``: nothing.
    """
    with ledger.write() as connection:
        if declared is None:
            connection.execute(delete(endpoint).where(endpoint.c.team == team))
            return
        values = {"declared": dict(declared), "seen_at": now}
        if connection.execute(update(endpoint).where(endpoint.c.team == team).values(values)).rowcount == 0:
            connection.execute(insert(endpoint).values(team=team, **values))


def declared_of(ledger: Ledger, team: str, now: datetime) -> Mapping[str, Any] | None:
    """What may be done from chat; ``None``: nothing."""
    here = (endpoint.c.team == team, endpoint.c.seen_at > now - SAID_WITHIN)
    with ledger.read() as connection:
        found: Mapping[str, Any] | None = connection.execute(select(endpoint.c.declared).where(*here)).scalar()
    return found


@dataclass(frozen=True)
class StateSince:
    """In which state a task or a campaign is, and since when."""

    state: str
    since: str


def standing(connection: Connection, campaign: str, workflow: str = "", group: str = "", task: str = "") -> StateSince:
    """How a group's task stands, or without one the campaign; of what is not there both are empty."""
    if not group:
        table = tables.campaign
        row = connection.execute(select(table.c.state, table.c.since).where(table.c.name == campaign)).first()
    else:
        of, member = tables.run_group, tables.group_task
        here = (of.c.campaign == campaign, of.c.workflow == workflow, of.c.name == group, member.c.task == task)
        row = connection.execute(
            select(member.c.state, member.c.since).join(of, of.c.id == member.c.group_id).where(*here)
        ).first()
    if row is None:
        return StateSince("", "")
    return StateSince(row.state, row.since.isoformat() if row.since is not None else "")


def is_as_expected(connection: Connection, wanted: WantedAction) -> bool:
    """Whether what is to be acted on is as it was when the button was made."""
    found = standing(connection, wanted.campaign, wanted.workflow, wanted.group, wanted.task)
    return (found.state, found.since) == (wanted.state, wanted.since)


def press(ledger: Ledger, wanted: WantedAction, person: str, user_id: str, now: datetime) -> str:
    """Take a press of a button whose signature is right and whose person has the right; all in one transaction.

    :returns: ``wanted``: it will be carried out; ``asked``: the person is to press once more; ``too_soon``; ``used``;
        ``stale``: something has happened since the button was made.
    """
    with ledger.write() as connection:
        outcome = _press(connection, wanted, person, user_id, now)
        if outcome not in ("wanted", "asked"):
            tell_refused(connection, outcome, user_id, person, wanted)
    return outcome


def _press(connection: Connection, wanted: WantedAction, person: str, user_id: str, now: datetime) -> str:
    row = connection.execute(select(action).where(action.c.nonce == wanted.nonce)).first()
    if row is not None and row.state != "asked":
        return "used"
    if not is_as_expected(connection, wanted):
        return "stale"
    target = "wanted" if wanted.action not in CONFIRMED else "asked"
    if row is not None and row.user_id == user_id and now - row.at <= CONFIRM_WITHIN:
        if now - row.at < CONFIRM_AFTER:
            return "too_soon"
        target = "wanted"
    who = {"person": person, "user_id": user_id, "at": now}
    columns = {**who, "action": wanted.action, "wanted": asdict(wanted)} if row is None else who
    source = row.state if row is not None else None
    told = {"action": wanted.action, "person": person, "user_id": user_id}
    move(connection, action, [Move({"nonce": wanted.nonce}, source, target, _subject(wanted), columns, told)])
    return target


def tell_refused(
    connection: Connection, outcome: str, user_id: str, person: str = "", wanted: WantedAction | None = None
) -> None:
    """Keep as an event that a press has come to nothing."""
    said = {"action": wanted.action if wanted is not None else "", "person": person, "user_id": user_id}
    about = _subject(wanted) if wanted is not None else Subject()
    event = {"entity": action.name, "subject": about, "to_state": "refused", "data": {**said, "outcome": outcome}}
    append_events(connection, [event])


def taken(ledger: Ledger, nonce: str) -> tuple[str, str, str] | None:
    """State, person and outcome of what a button was used for; ``None``: it was not, or that is long ago."""
    query = select(action.c.state, action.c.person, action.c.outcome).where(action.c.nonce == nonce)
    with ledger.read() as connection:
        row = connection.execute(query).first()
    return (row.state, row.person, row.outcome or "") if row is not None else None


def forget(ledger: Ledger, now: datetime) -> int:
    """Remove what was asked for long ago, and is over; its events stay.

    A button that was pressed then has expired since: its nonce cannot be used any more.

    :returns: how many rows.
    """
    old = (action.c.state.in_(OVER), action.c.at < now - KEPT)
    removed = 0
    while True:
        with ledger.write() as connection:
            some = select(action.c.nonce).where(*old).limit(FORGOTTEN_AT_ONCE)
            gone = connection.execute(delete(action).where(action.c.nonce.in_(some))).rowcount
        removed += gone
        if gone < FORGOTTEN_AT_ONCE:
            return removed


def due(ledger: Ledger, now: datetime) -> list[Row[Any]]:
    """The actions that are to be carried out now."""
    left = and_(action.c.state == "carrying", action.c.at < now - CARRIED_WITHIN)
    query = select(action).where(or_(action.c.state == "wanted", left)).order_by(action.c.at).limit(AT_ONCE)
    with ledger.read() as connection:
        return list(connection.execute(query))


def take(ledger: Ledger, row: Row[Any], now: datetime) -> bool:
    """Begin to carry an action out; False: it is another's, or nothing for anybody any more."""
    wanted = WantedAction(**row.wanted)
    with ledger.write() as connection:
        held = connection.execute(select(action.c.at, action.c.state).where(action.c.nonce == row.nonce)).one()
        if (held.state, held.at) != (row.state, row.at):
            return False
        # What somebody has begun may have changed the state already: all of it can be done again.
        if row.state == "wanted" and not is_as_expected(connection, wanted):
            _end(connection, row, "wanted", "refused", "stale", now)
            return False
        begun = Move({"nonce": row.nonce}, row.state, "carrying", _subject(wanted), {"at": now}, _told(row))
        move(connection, action, [begun])
    return True


def finish(ledger: Ledger, row: Row[Any], state: str, outcome: str, now: datetime) -> None:
    """Record what has become of an action.

    :param state: ``done`` or ``failed``.
    """
    with ledger.write() as connection:
        now_state = connection.execute(select(action.c.state).where(action.c.nonce == row.nonce)).scalar_one()
        if now_state == "carrying":
            _end(connection, row, "carrying", state, outcome, now)


def _end(connection: Connection, row: Row[Any], source: str, state: str, outcome: str, now: datetime) -> None:
    said = {**_told(row), "outcome": outcome}
    columns = {"at": now, "outcome": outcome}
    about = _subject(WantedAction(**row.wanted))
    move(connection, action, [Move({"nonce": row.nonce}, source, state, about, columns, said)])


def _told(row: Row[Any]) -> dict[str, object]:
    return {"action": row.action, "person": row.person, "user_id": row.user_id}


def _subject(wanted: WantedAction) -> Subject:
    return Subject(wanted.campaign, wanted.workflow or None, wanted.task or None, wanted.group or None)
