"""Runs from a CSV file: one line for each run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from airflow_calib_provider.domain.run import FieldValue, RunRecord, time_fault
from airflow_calib_provider.domain.scalars import one_of
from airflow_calib_provider.runsources.csv_kind import CsvKeys
from airflow_calib_provider.runsources.faults import Faults, TooManyFaults
from airflow_calib_provider.runsources.text_file import read_text, refuse_open_end
from airflow_calib_provider.runsources.times import read_span
from airflow_calib_provider.runsources.values import BadValue, read_bool, read_run_number, read_value, shown
from airflow_calib_provider.spec.models import RESERVED, FieldType
from airflow_calib_provider.spec.problems import nearest
from airflow_calib_provider.spec.regular import open_regular

MAX_CELL = 16_000_000
"""Characters of a cell: a run may have very many files. Python's own limit is 131,072."""


def read_csv(path: Path, source: CsvKeys, fields: Mapping[str, FieldType]) -> list[RunRecord]:
    """Read the runs of a CSV file with a header line.

    ``start``, ``end``, ``completed`` and ``files`` are read where the file has such a column; all other fields, and
    these where they are declared, must be there.

    :param path: absolute.
    :param fields: the declared fields with their types.
    :raises RunSourceError: anything is wrong with the file.
    """
    faults = Faults(path)
    reader = _CsvReader(path, source, fields, faults)
    try:
        text = read_text(path, faults, "CSV")
        if text is not None:
            reader.read(text)
            refuse_open_end(text, faults)
    except TooManyFaults:
        pass
    faults.raise_if_any()
    return [record for _, record in sorted(reader.runs.values(), key=lambda pair: pair[1].number)]


def faults_of_header(path: Path, source: CsvKeys, fields: Mapping[str, FieldType]) -> list[str]:
    """What the first line lacks, for those who ask before there is a DAG; all else is said when the runs are read."""
    faults = Faults(path)
    reader = _CsvReader(path, source, fields, faults)
    try:
        with open_regular(path) as stream:
            line = stream.readline(MAX_CELL).decode("utf-8-sig")
        if line.strip() and line.count('"') % 2 == 0:
            reader.read(line)
    except (OSError, UnicodeDecodeError, TooManyFaults):
        pass
    return faults.messages


class _CsvReader:
    """Reads the lines of one file.

    :ivar runs: by number, with the line where each was found first.
    """

    def __init__(self, path: Path, source: CsvKeys, fields: Mapping[str, FieldType], faults: Faults) -> None:
        self.folder = path.parent
        self.source = source
        self.fields = fields
        self.faults = faults
        self.runs: dict[int, tuple[int, RunRecord]] = {}
        self.positions: dict[str, int] = {}
        self.times = source.times()

    def read(self, text: str) -> None:
        csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL))
        lines = self._lines(text)
        header = next(lines, None)
        if header is None:
            self.faults.add(1, 1, "the file is empty", "a header line")
            return
        if not self._find_columns(*header):
            return
        n_columns = len(header[1])
        for line, row in lines:
            if len(row) != n_columns:
                hint = "the file may be truncated" if len(row) < n_columns else "quote values with separators"
                self.faults.add(line, len(row), f"the line has {len(row)} columns", f"{n_columns} columns", hint)
                continue
            self._add(line, row)

    def _lines(self, text: str) -> Iterator[tuple[int, list[str]]]:
        """Rows that are not blank, each with the line it starts in."""
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=self.source.separator, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self.faults.add(line, 1, f"not CSV: {error}", "quotes that are closed", "the file may be truncated")
                return
            if any(cell.strip() for cell in row):
                yield line, row

    def _find_columns(self, line: int, header: list[str]) -> bool:
        headers = [cell.strip() for cell in header]
        before = len(self.faults.messages)
        for position, name in enumerate(headers):
            if name and name in headers[:position]:
                self.faults.add(line, name, f"the column {name!r} is there twice", "each column once")
        for name in dict.fromkeys([*RESERVED, *self.fields]):
            column = self.source.columns.get(name, name)
            needed = name == "number" or name in self.fields or name in self.source.columns
            if column in headers:
                self.positions[name] = headers.index(column)
            elif needed:
                self.faults.add(
                    line,
                    column,
                    f"there is no column {column!r} for the field {name!r}",
                    one_of(name for name in headers if name),
                    nearest(column, headers) or "say under 'columns' how the file calls it",
                )
        return len(self.faults.messages) == before

    def _add(self, line: int, row: list[str]) -> None:
        before = len(self.faults.messages)
        values: dict[str, FieldValue] = {}
        number = 0
        files: tuple[str, ...] = ()
        for name, position in self.positions.items():
            cell = row[position]
            try:
                if name == "number":
                    number = read_run_number(cell)
                elif name == "files":
                    files = self._files(cell)
                elif name == "completed":
                    values[name] = read_bool(cell)
                else:
                    kind = FieldType.TIME if name in ("start", "end") else self.fields[name]
                    values[name] = read_value(cell, kind, name, self.times)
            except BadValue as error:
                self.faults.add(line, self.source.columns.get(name, name), str(error), error.expected)
        if len(self.faults.messages) > before:
            return
        values.pop("start", None), values.pop("end", None)
        start, end = self._span(line, row, number)
        completed = bool(values.pop("completed", True))
        if len(self.faults.messages) == before:
            self._keep(line, RunRecord(number, start, end, completed, values, files))

    def _span(self, line: int, row: list[str], number: int) -> tuple[datetime | None, datetime | None]:
        start, end = read_span(self.times, self._cell(row, "start"), self._cell(row, "end"))
        for name, at in (("start", start), ("end", end)):
            if fault := time_fault(at):
                self.faults.add(line, self.source.columns.get(name, name), *fault)
        if start is not None and end is not None and end < start:
            self.faults.add(
                line, self.source.columns.get("end", "end"), f"run {number} ends before it starts", "end after start"
            )
        return start, end

    def _cell(self, row: list[str], name: str) -> str | None:
        return row[self.positions[name]].strip() or None if name in self.positions else None

    def _keep(self, line: int, record: RunRecord) -> None:
        first, known = self.runs.setdefault(record.number, (line, record))
        if known != record:
            self.faults.add(
                line,
                self.source.columns.get("number", "number"),
                f"run {record.number} is there twice with different content",
                f"each run once (first in line {first})",
            )

    def _files(self, cell: str) -> tuple[str, ...]:
        files = []
        for part in cell.split(self.source.files_separator):
            file = part.strip()
            if not file:
                continue
            if not file.isprintable():
                raise BadValue(f"the file {shown(file)} has a control character", "one path or URL")
            files.append(file if "://" in file else str(self.folder / file))
        return tuple(files)
