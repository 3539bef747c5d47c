"""Many rows at once: each value is made ready for the driver once, however many rows have it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection, Table, insert

FEW = 20
"""Rows that are not worth it."""


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows that have all the same columns, past what SQLAlchemy does for every single value."""
    if len(rows) < FEW:
        if rows:
            connection.execute(insert(table), list(rows))
        return
    dialect = connection.dialect
    columns = [column for column in table.c if column.name in rows[0]]  # in the order of the statement
    names = [column.name for column in columns]
    ready = []
    for column in columns:
        values = [row[column.name] for row in rows]
        process = column.type.dialect_impl(dialect).bind_processor(dialect)
        ready.append(values if process is None else _processed(process, values))
    statement = insert(table).compile(dialect=dialect, column_keys=names)
    full = list(zip(*ready, strict=True))
    named = full if statement.positional else [dict(zip(names, row, strict=True)) for row in full]
    connection.exec_driver_sql(str(statement), named)


def _processed(process: Callable[[object], object], values: Sequence[object]) -> list[object]:
    """Values as the driver takes them; one that stands in many rows is made ready once."""
    known: dict[int, object] = {}
    found = []
    for value in values:
        one = id(value)  # all of them live as long as this call
        if one not in known:
            known[one] = process(value)
        found.append(known[one])
    return found
