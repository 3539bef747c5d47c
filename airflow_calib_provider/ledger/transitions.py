"""The state machine: the only place where a ``state`` column is written.

A caller says which rows are to move where; :func:`move` checks every single move against :data:`GRAPHS`, writes all of
them by one statement that also checks the state they come from, and appends one event per row, all on the caller's
connection and hence in the caller's transaction.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter, itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    bindparam,
    cast,
    func,
    insert,
    literal,
    select,
    update,
)

from airflow_calib_provider.errors import IllegalTransition
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.bulk import insert_rows

if TYPE_CHECKING:
    from airflow_calib_provider.ledger.rows import Generation

GRAPHS: dict[str, dict[str | None, frozenset[str]]] = {
    "run": {None: frozenset({"recorded"}), "recorded": frozenset({"changed"})},
    # To the same state: runs were added, or what can be changed of it was.
    "campaign": {
        None: frozenset({"collecting", "grouping", "open"}),
        "collecting": frozenset({"collecting", "grouping", "cancelled"}),
        "grouping": frozenset({"grouping", "open", "paused", "closed", "cancelled"}),
        "open": frozenset({"open", "paused", "closed", "cancelled"}),
        "paused": frozenset({"paused", "grouping", "open", "closed", "cancelled"}),
        "closed": frozenset({"closed", "paused", "cancelled"}),
    },
    "membership": {
        None: frozenset({"grouped", "late", "not_selected", "refused"}),
        "grouped": frozenset({"dropped", "grouped", "removed"}),
        "late": frozenset({"grouped"}),
        # What a group of late runs, which had too little, is dropped with is late still.
        "dropped": frozenset({"grouped"}),
        # A person wants a run that is older than the workflow.
        "not_selected": frozenset({"grouped", "late"}),
        "removed": frozenset({"grouped"}),
    },
    "run_group": {
        None: frozenset({"forming"}),
        "forming": frozenset({"forming", "closed", "dropped"}),
        # Its next edition; and one of late runs, which another group has taken.
        "closed": frozenset({"closed", "dropped"}),
    },
    # To the same state: Airflow was asked once more.
    "group_edition": {
        None: frozenset({"to_clear", "settled"}),
        "to_clear": frozenset({"to_clear", "stuck", "settled"}),
        "stuck": frozenset({"settled"}),
    },
    "group_task": {
        None: frozenset({"new"}),
        "new": frozenset({"new", "waiting", "processing", "done", "failed", "skipped"}),
        "waiting": frozenset({"waiting", "new", "processing", "done", "failed", "skipped"}),
        "processing": frozenset({"processing", "done", "failed", "skipped"}),
        # To new: its group has another edition.
        "done": frozenset({"new", "processing", "waiting", "failed", "skipped"}),
        "failed": frozenset({"new", "waiting", "processing", "done", "failed", "skipped"}),
        "skipped": frozenset({"new", "waiting", "processing", "done", "failed"}),
    },
    "generation": {
        None: frozenset({"running"}),
        "running": frozenset({"done", "failed"}),
        "failed": frozenset({"running", "done"}),
    },
    # Discarded: a person goes back to one before it.
    "step": {
        None: frozenset({"planned"}),
        "planned": frozenset({"measuring", "discarded"}),
        "measuring": frozenset({"frozen", "discarded"}),
        "frozen": frozenset({"updating", "discarded"}),
        "updating": frozenset({"judged", "discarded"}),
        "judged": frozenset({"discarded"}),
    },
    "round": {
        None: frozenset({"planned"}),
        "planned": frozenset({"submitted", "finished"}),
        "submitted": frozenset({"finished"}),
    },
    "job": {
        None: frozenset({"waiting"}),
        # Succeeded from elsewhere than an attempt: a person marked the task as success, and its products exist.
        "waiting": frozenset({"submitted", "succeeded", "left_out", "removed"}),
        "submitted": frozenset({"running", "held", "succeeded", "failed", "waiting", "left_out", "removed"}),
        # Back to submitted: evicted, to run again.
        "running": frozenset({"submitted", "held", "succeeded", "failed", "waiting", "left_out", "removed"}),
        # Held to held: it was released, and the batch system has not let it go yet.
        "held": frozenset(
            {"held", "submitted", "running", "succeeded", "failed", "waiting", "left_out", "removed"},
        ),
        "failed": frozenset({"waiting", "succeeded"}),
        "removed": frozenset({"waiting", "succeeded"}),
    },
    "attempt": {
        None: frozenset({"submitted"}),
        "submitted": frozenset({"running", "held", "succeeded", "failed", "lost", "removed"}),
        "running": frozenset({"submitted", "held", "succeeded", "failed", "lost", "removed"}),
        "held": frozenset({"submitted", "running", "succeeded", "failed", "lost", "removed"}),
    },
    "product": {None: frozenset({"accepted"}), "accepted": frozenset({"dropped"})},
    # To the same state: what it waits for has changed, or somebody was reminded. Back to candidate: what it was made
    # from has changed, or the validation. From publishing back: a store has refused. What has ended stays so: the same
    # content again is a new revision.
    "payload": {
        None: frozenset({"candidate", "published"}),
        "candidate": frozenset(
            {"candidate", "validated", "approved", "publishing", "published", "rejected", "expired"},
        ),
        "validated": frozenset(
            {"candidate", "validated", "approved", "publishing", "published", "rejected", "expired"},
        ),
        "approved": frozenset({"candidate", "approved", "publishing", "published", "rejected", "expired"}),
        "publishing": frozenset({"candidate", "approved", "publishing", "published", "rejected", "expired"}),
        "published": frozenset({"superseded", "withdrawn"}),
    },
    # A set on its way to a store, or back. Returning: one has refused, and what was there before is put back.
    "publication": {
        None: frozenset({"intended"}),
        "intended": frozenset({"planned", "returning"}),
        "planned": frozenset({"applied", "returning"}),
        "applied": frozenset({"published", "withdrawn", "returning"}),
        "returning": frozenset({"refused"}),
    },
    "dag_run_request": {
        None: frozenset({"wanted"}),
        "wanted": frozenset({"claimed"}),
        "claimed": frozenset({"opened", "wanted", "claimed"}),
    },
    "skip": {None: frozenset({"skipped"})},
    "alarm": {None: frozenset({"raised"}), "raised": frozenset({"cleared"}), "cleared": frozenset({"raised"})},
    # To counting: its group was closed, or has another edition, or the file another deadline.
    "publication_deadline": {
        None: frozenset({"counting"}),
        "counting": frozenset({"counting", "near", "passed", "met", "lifted"}),
        "near": frozenset({"passed", "met", "counting", "lifted"}),
        "passed": frozenset({"met", "counting", "lifted"}),
        "met": frozenset({"counting", "lifted"}),
        "lifted": frozenset({"counting"}),
    },
    "excluded_run": {None: frozenset({"excluded"})},
    # Asked: the person is to confirm it. To the same state: somebody else, or the same person much later, is to.
    # Carrying to itself: whoever carried it out has died.
    "chat_action": {
        None: frozenset({"asked", "wanted"}),
        "asked": frozenset({"asked", "wanted"}),
        "wanted": frozenset({"carrying", "refused"}),
        "carrying": frozenset({"carrying", "done", "failed"}),
    },
}


@dataclass(frozen=True)
class Subject:
    """What an event is about; the columns of the table ``event`` of the same names."""

    campaign: str | None = None
    workflow: str | None = None
    task: str | None = None
    group_name: str | None = None
    run: int | None = None
    generation: int | None = None
    job_index: int | None = None
    attempt: int | None = None

    @classmethod
    def of_generation(cls, row: Generation) -> Subject:
        """A generation, from its row as :func:`.generations.by_id` gives it."""
        return cls(row.campaign, row.workflow, row.task, row.group_name, generation=row.n)


class Move(NamedTuple):
    """One row's change of state.

    :ivar key: the primary key, by column.
    :ivar source: the state that it is believed to be in; ``None`` for a new row.
    :ivar target: the state that it shall have.
    :ivar columns: further columns written with it; every move of one call has the same ones.
    :ivar data: what the event says beyond the states.
    """

    key: Mapping[str, object]
    source: str | None
    target: str
    subject: Subject
    columns: Mapping[str, object] = MappingProxyType({})
    data: Mapping[str, object] = MappingProxyType({})


def job_key(row: Any) -> dict[str, object]:
    """The primary key of a job, from any row that has its columns."""
    return {"generation_id": row.generation_id, "step": row.step, "job_index": row.job_index}


_clock = 0
_clock_lock = threading.Lock()


def now_ns() -> int:
    """Nanoseconds since 1970, strictly increasing within a process, also when the clock is set back."""
    global _clock
    with _clock_lock:
        _clock = max(_clock + 1, time.time_ns())
        return _clock


def _reserve_ns(count: int) -> int:
    """The first of so many nanoseconds that nothing else in this process is given."""
    global _clock
    with _clock_lock:
        first = max(_clock + 1, time.time_ns())
        _clock = first + count - 1
        return first


def move(connection: Connection, table: Table, moves: Sequence[Move]) -> None:
    """Insert new rows or change the states of existing ones, with an event each.

    :param table: its name is the entity's in :data:`GRAPHS`.
    :raises IllegalTransition: a move is not in the graph, or a row was no longer in the state it was believed to be in.
        Nothing may be committed then.
    """
    if not moves:
        return
    _check(table, moves)
    created = [item for item in moves if item.source is None]
    if created:
        insert_rows(connection, table, _rows(table, created))
    changed = [item for item in moves if item.source is not None]
    if changed:
        _update(connection, table, changed)
    _tell(connection, table, moves)


def insert_one(connection: Connection, table: Table, item: Move) -> int:
    """As :func:`move` of one new row, of a table that numbers its rows.

    :returns: its id.
    """
    _check(table, [item])
    made = connection.execute(insert(table).values(_rows(table, [item])[0])).inserted_primary_key
    assert made is not None
    _tell(connection, table, [item])
    return int(made[0])


def _check(table: Table, moves: Sequence[Move]) -> None:
    """:raises IllegalTransition: a move is not in the graph."""
    graph = GRAPHS[table.name]
    for item in moves:
        if item.target not in graph.get(item.source, frozenset()):
            raise IllegalTransition(f"{table.name} {dict(item.key)} cannot go from {item.source} to {item.target}")


def _rows(table: Table, moves: Sequence[Move]) -> list[dict[str, object]]:
    if "state" in table.c:
        return [{**item.key, **item.columns, "state": item.target} for item in moves]
    return [{**item.key, **item.columns} for item in moves]


def _tell(connection: Connection, table: Table, moves: Sequence[Move]) -> None:
    told = [(table.name, item.subject, item.source, item.target, item.data) for item in moves]
    _append(connection, told)


def _update(connection: Connection, table: Table, moves: Sequence[Move]) -> None:
    key_columns = [column.name for column in table.primary_key]
    statement = (
        update(table)
        .where(
            and_(
                *(table.c[name] == bindparam(f"key_{name}") for name in key_columns),
                table.c.state == bindparam("state_before"),
            )
        )
        .values({"state": bindparam("state_after"), **{name: bindparam(f"new_{name}") for name in moves[0].columns}})
    )
    parameters = [
        {
            **{f"key_{name}": item.key[name] for name in key_columns},
            **{f"new_{name}": value for name, value in item.columns.items()},
            "state_before": item.source,
            "state_after": item.target,
        }
        for item in moves
    ]
    if connection.dialect.supports_sane_multi_rowcount or len(parameters) == 1:
        touched = connection.execute(statement, parameters if len(parameters) > 1 else parameters[0]).rowcount
    else:
        touched = sum(connection.execute(statement, one).rowcount for one in parameters)
    if touched != len(moves):
        raise IllegalTransition(
            f"{len(moves) - touched} of {len(moves)} {table.name} rows are no longer in the state they were read in",
            "another process was faster; look again",
        )


# many rows at once, by statements whose number does not depend on theirs


@dataclass(frozen=True)
class ManyRows:
    """What the events of many rows say.

    :ivar rows: a query with a row for each event: what differs of :class:`Subject`, and ``data``, a JSON text.
    :ivar order: the column that the events are in the order of.
    """

    subject: Subject
    rows: Select[Any]
    order: str = "job_index"


def create_all(
    connection: Connection, table: Table, target: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """Insert new rows that are all in one state, as the driver takes them; :func:`tell_all` tells of them.

    :param columns: of each row, which has a value for each, without ``state``.
    """
    _check_graph(table.name, None, target)
    if not rows:
        return
    given = [*columns, "state"]
    names = [column.name for column in table.c if column.name in given]  # as the statement has them
    in_order = itemgetter(*(given.index(name) for name in names))
    full = [in_order((*row, target)) for row in rows]
    statement = insert(table).compile(dialect=connection.dialect, column_keys=names)
    named = full if statement.positional else [dict(zip(names, row, strict=True)) for row in full]
    connection.exec_driver_sql(str(statement), named)


def create_from(connection: Connection, table: Table, target: str, columns: Sequence[str], query: Select[Any]) -> None:
    """Insert what a query finds as new rows that are all in one state; :func:`tell_all` tells of them.

    :param query: the values of the columns, in their order, without ``state``.
    """
    _check_graph(table.name, None, target)
    connection.execute(insert(table).from_select([*columns, "state"], query.add_columns(literal(target))))


def move_all(
    connection: Connection,
    table: Table,
    source: str,
    target: str,
    where: Sequence[ColumnElement[bool]],
    columns: Mapping[str, object],
) -> int:
    """Change the state of all rows that are in one and fulfil conditions; :func:`tell_all` tells of them.

    :returns: how many there were.
    """
    _check_graph(table.name, source, target)
    statement = update(table).where(table.c.state == source, *where).values(state=target, **columns)
    return connection.execute(statement).rowcount


def tell_all(connection: Connection, entity: str, source: str | None, target: str, of: ManyRows, count: int) -> None:
    """Append an event for each row of a query, by one statement.

    :param count: how many there are at most.
    """
    rows, about = of.rows.subquery(), of.subject
    event = tables.event
    place = func.row_number().over(order_by=rows.c[of.order])
    values: dict[str, ColumnElement[Any]] = {
        "at": literal(_reserve_ns(count) - 1, event.c.at.type) + place,
        "entity": literal(entity, event.c.entity.type),
        "from_state": literal(source, event.c.from_state.type),
        "to_state": literal(target, event.c.to_state.type),
        **{name: literal(getattr(about, name), event.c[name].type) for name in _SUBJECT},
        **{name: rows.c[name] for name in _SUBJECT if name in rows.c},
        # Of SQLite JSON is a text, of others a type.
        "data": rows.c.data if connection.dialect.name == "sqlite" else cast(rows.c.data, event.c.data.type),
    }
    query = select(*(values[name].label(name) for name in _EVENT_COLUMNS)).order_by(rows.c[of.order])
    connection.execute(insert(event).from_select(_EVENT_COLUMNS, query))


def _check_graph(entity: str, source: str | None, target: str) -> None:
    if target not in GRAPHS[entity].get(source, frozenset()):
        raise IllegalTransition(f"{entity} cannot go from {source} to {target}")


_SUBJECT = [item.name for item in fields(Subject)]
_EVENT_COLUMNS = ["at", "entity", *_SUBJECT, "from_state", "to_state", "data"]


def append_events(connection: Connection, events: Iterable[Mapping[str, object]]) -> None:
    """Append to the outbox. Each item has ``entity``, ``subject``, and optionally states and ``data``."""
    names = ("entity", "subject", "from_state", "to_state", "data")
    _append(connection, [tuple(map(item.get, names)) for item in events])


def _append(connection: Connection, told: Sequence[tuple[Any, ...]]) -> None:
    """Append events: entity, subject, states and data of each.

    Half of what is written are events, so they go to the driver as they are, past what SQLAlchemy does for each value.
    """
    if not told:
        return
    of_subject, first = attrgetter(*_SUBJECT), _reserve_ns(len(told))
    rows = [
        (
            first + number,
            entity,
            *of_subject(subject),
            _plain(source),
            _plain(target),
            json.dumps(dict(data)) if data else "{}",
        )
        for number, (entity, subject, source, target, data) in enumerate(told)
    ]
    statement = insert(tables.event).compile(dialect=connection.dialect, column_keys=_EVENT_COLUMNS)
    named = rows if statement.positional else [dict(zip(_EVENT_COLUMNS, row, strict=True)) for row in rows]
    connection.exec_driver_sql(str(statement), named)


def _plain(state: object) -> str | None:
    """A driver may not know an enumeration."""
    return None if state is None else str(state)
