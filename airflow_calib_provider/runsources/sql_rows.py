"""Runs from a database: the rows of a SELECT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from airflow_calib_provider.domain.run import RunListing, RunRecord
from airflow_calib_provider.errors import RunSourceError
from airflow_calib_provider.outside.connections import outside_connection
from airflow_calib_provider.outside.databases import ROWS_AT_ONCE, Database
from airflow_calib_provider.outside.limits import Deadline
from airflow_calib_provider.runsources.faults import Faults, TooManyFaults
from airflow_calib_provider.runsources.marks import Height, highest, read_marked
from airflow_calib_provider.runsources.objects import ObjectReader
from airflow_calib_provider.runsources.sql_kind import SqlKeys
from airflow_calib_provider.spec.models import FieldType
from airflow_calib_provider.spec.problems import nearest

MAX_ROWS = 1_000_000


def read_rows_of(
    name: str, keys: SqlKeys, fields: Mapping[str, FieldType], mark: Mapping[str, object], now: datetime
) -> RunListing:
    """Read the runs of a database.

    :param name: of the source.
    :param fields: the declared fields with their types.
    :param mark: what the last read has left.
    :raises RunSourceError: its rows are not what they should be.
    :raises OutsideError: it cannot be asked, or is not ready in time.
    """
    database = Database.of(outside_connection(keys.connection))
    deadline = Deadline.within(keys.timeout.total_seconds(), f"{name} ({database.place})")
    rows = _Rows(name, database, deadline, keys, fields)
    return read_marked(keys, keys.times(), mark, now, rows.fetch)


class _Rows:
    """The rows of one SELECT."""

    def __init__(
        self, name: str, database: Database, deadline: Deadline, keys: SqlKeys, fields: Mapping[str, FieldType]
    ) -> None:
        self._name = name
        self._database = database
        self._deadline = deadline
        self._keys = keys
        self._fields = fields

    def fetch(self, since: Height | None) -> tuple[list[RunRecord], Height | None]:
        """All runs, or those from a watermark on, and the highest watermark."""
        statement, parameters = self._statement(since)
        faults = Faults()
        reader = ObjectReader({}, self._fields, self._keys.times(), faults)
        top: Height | None = None
        count = 0
        with self._database.selected(statement, parameters, self._deadline, zone=self._keys.zone) as result:
            columns = list(result.keys())
            position = self._check(columns, reader, faults)
            try:
                for part in result.partitions(ROWS_AT_ONCE):
                    self._deadline.left()
                    objects = [dict(zip(columns, row, strict=True)) for row in part]
                    reader.add_all([(f"{self._name}: row {count + i}", item) for i, item in enumerate(objects, 1)])
                    count += len(objects)
                    if count > MAX_ROWS:
                        raise RunSourceError(f"{self._name}: more than {MAX_ROWS:,} rows", "select fewer runs")
                    if position is not None:
                        top = self._highest(top, [row[position] for row in part])
            except TooManyFaults:
                pass
        faults.raise_if_any()
        return reader.records(), top

    def _highest(self, top: Height | None, found: Sequence[object]) -> Height | None:
        where = f"{self._name} ({self._database.place})"
        if any(isinstance(value, str) for value in found):
            raise RunSourceError(
                f"{where}: the watermark is a text",
                "a watermark is a time or a number: cast it, in SQLite as unixepoch(…)",
            )
        return highest([top, *found], self._keys.times(), where)

    def _check(self, columns: Sequence[str], reader: ObjectReader, faults: Faults) -> int | None:
        """Where the watermark is; ``None``: there is none.

        :raises RunSourceError: a column is not there, or there twice.
        """
        where = f"{self._name} ({self._database.place})"
        for name in dict.fromkeys(name for name in columns if columns.count(name) > 1):
            faults.at(where, f"the column {name!r} is there twice", "each column once")
        for name in [name for name in dict.fromkeys(["number", *self._fields]) if name not in columns]:
            reader.refuse_missing(where, name, columns)
        watermark = self._keys.watermark
        if watermark is not None and watermark not in columns:
            faults.at(where, f"there is no column {watermark!r}, the watermark", "", nearest(watermark, columns))
        faults.raise_if_any()
        return None if watermark is None else columns.index(watermark)

    def _statement(self, since: Height | None) -> tuple[str, dict[str, object]]:
        """What is asked: the SELECT as it is written, whose colons and percent signs are its own."""
        select = f"SELECT * FROM (\n{_literal(self._keys.select)}\n) calib_runs"  # noqa: S608 - a spec is code
        if since is None or self._keys.watermark is None:
            return select, {}
        column = 'calib_runs."' + _literal(self._keys.watermark.replace('"', '""')) + '"'
        return f"{select} WHERE {column} >= :since OR {column} IS NULL", {"since": since}


def _literal(text: str) -> str:
    """A part of a statement whose colons do not begin a parameter."""
    return text.replace(":", "\\:")
