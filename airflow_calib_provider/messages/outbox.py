"""Reading the events that people may be told of.

Events become visible in the order of their ids (rule 35), so that a cursor misses none.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, and_, func, or_, select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.rows import Event, read_rows, select_of
from airflow_calib_provider.messages.making import WANTED, GroupKey, GroupRuns, group_of
from airflow_calib_provider.spec.messages_file import ChannelSpec

AT_ONCE = 50_000
"""Events that are looked through by one statement."""

MOST = 2_000
"""Events of which one digest tells; the next one tells of the rest."""

_PARTS = 200
"""Groups that one statement names."""

event, run_group = tables.event, tables.run_group


class ToTell(NamedTuple):
    """Events that a channel may tell of.

    :ivar up_to: all up to this event were looked through.
    :ivar is_all: nothing is behind that yet.
    """

    events: list[Event]
    up_to: int
    is_all: bool


def last_id(connection: Connection) -> int:
    """The id of the newest event; 0: there is none."""
    return int(connection.execute(select(func.max(event.c.id))).scalar() or 0)


def first_since(connection: Connection, at: datetime) -> int:
    """The id of the last event before a time; found by halving, since times grow with ids."""
    wanted = int(at.timestamp() * 1e9)
    low, high = 0, last_id(connection)
    while low < high:
        middle = (low + high + 1) // 2
        query = select(event.c.at).where(event.c.id <= middle).order_by(event.c.id.desc()).limit(1)
        found = connection.execute(query).scalar()
        if found is None or found < wanted:
            low = middle
        else:
            high = middle - 1
    return low


def after(connection: Connection, cursor: int, channel: ChannelSpec) -> ToTell:
    """The next events that a channel may tell of, at most :data:`MOST`; of very many others a part is passed over."""
    newest = last_id(connection)
    up_to = min(newest, cursor + AT_ONCE)
    wanted = [and_(event.c.entity == entity, event.c.to_state.in_(states)) for entity, states in WANTED]
    here = [event.c.id > cursor, event.c.id <= up_to, or_(*wanted)]
    for column, names in ((event.c.workflow, channel.workflows), (event.c.campaign, channel.campaigns)):
        if names:
            here.append(or_(column.is_(None), column.in_(names)))
    rows = read_rows(connection, select_of(Event, event).where(*here).order_by(event.c.id).limit(MOST), Event)
    if len(rows) == MOST:
        up_to = rows[-1].id
    return ToTell(rows, up_to, up_to == newest)


def facts_of(connection: Connection, events: Iterable[Event]) -> dict[GroupKey, GroupRuns]:
    """What messages say of the groups of events."""
    keys = sorted({key for row in events if (key := group_of(row)) is not None})
    found: dict[GroupKey, GroupRuns] = {}
    columns = [run_group.c[name] for name in ("campaign", "workflow", "name", "lowest_run", "late")]
    columns += [run_group.c.first_run, run_group.c.last_run]
    for start in range(0, len(keys), _PARTS):
        part = [
            and_(run_group.c.campaign == key[0], run_group.c.workflow == key[1], run_group.c.name == key[2])
            for key in keys[start : start + _PARTS]
        ]
        for row in connection.execute(select(*columns).where(or_(*part))):
            first = row.first_run if row.lowest_run is None else row.lowest_run
            found[row.campaign, row.workflow, row.name] = GroupRuns(first, row.last_run, row.late)
    return found
