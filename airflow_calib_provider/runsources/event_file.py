"""Runs derived from an event file: one run for each number in its run column, with the count of its events."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from airflow_calib_provider.domain.run import FieldValue, RunRecord
from airflow_calib_provider.domain.scalars import one_of
from airflow_calib_provider.runsources.events_kind import EventsKeys
from airflow_calib_provider.runsources.faults import Faults, TooManyFaults
from airflow_calib_provider.runsources.values import BadValue, read_run_number
from airflow_calib_provider.spec.models import FieldType
from airflow_calib_provider.spec.places import end_of
from airflow_calib_provider.spec.problems import nearest
from airflow_calib_provider.spec.regular import open_regular

MAX_LINE = 1_000_000
"""Bytes of a line; a file without line ends must not fill the memory."""


def read_events(path: Path, source: EventsKeys, fields: Mapping[str, FieldType]) -> list[RunRecord]:
    """Count the events of each run, in memory that grows with the runs, not with the events.

    All runs are completed, have no times, the event file itself as input file, and only the field ``events``; other
    declared fields are null.

    :param path: absolute.
    :raises RunSourceError: anything is wrong with the file.
    """
    faults = Faults(path)
    counts: dict[int, int] = {}
    try:
        with open_regular(path) as stream:
            counts = _count(stream, source.run, faults)
    except OSError as error:
        faults.add(0, 0, f"cannot read the file: {error.strerror or error}", "a readable event file")
    except TooManyFaults:
        pass
    faults.raise_if_any()
    others: dict[str, FieldValue] = dict.fromkeys(name for name in fields if name not in ("number", "events"))
    for name in ("start", "end", "completed", "files"):
        others.pop(name, None)
    return [
        RunRecord(number, fields={**others, "events": counts[number]}, files=(str(path),)) for number in sorted(counts)
    ]


def _count(stream: BinaryIO, column: str, faults: Faults) -> dict[int, int]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    reader = csv.reader(_lines(stream, faults), strict=True)
    headers = _headers(reader, column, faults)
    if not headers:
        return {}
    position, n_columns = headers.index(column), len(headers)
    # Counting by text and reading each distinct text once is what makes this fast.
    by_text: dict[str, int] = {}
    numbers: dict[str, int] = {}
    while (row := _next(reader, faults)) is not None:
        if len(row) != n_columns:
            if row:
                hint = "the file may be truncated" if len(row) < n_columns else ""
                faults.add(reader.line_num, len(row), f"the line has {len(row)} columns", f"{n_columns} columns", hint)
            continue
        text = row[position]
        if text in by_text:
            by_text[text] += 1
            continue
        try:
            numbers[text] = read_run_number(text)
        except BadValue as error:
            faults.add(reader.line_num, column, str(error), error.expected)
            continue
        by_text[text] = 1
    if by_text and position == n_columns - 1 and not _ends(stream):
        # Cut inside its last value, the file would otherwise give a run that there never was.
        faults.add(
            reader.line_num,
            column,
            "the last line does not end: the file is truncated, or still being written",
            "a line break at its end",
            "write the file under another name, and rename it when it is complete",
        )
    counts: dict[int, int] = {}
    for text, count in by_text.items():
        counts[numbers[text]] = counts.get(numbers[text], 0) + count
    return counts


def _headers(reader: Iterator[list[str]], column: str, faults: Faults) -> list[str]:
    """The headers of the file; empty where it has not this column once, which is noted as a fault."""
    header = _next(reader, faults)
    if header is None:
        if not faults.messages:
            faults.add(1, 1, "the file is empty", "a header line")
        return []
    headers = [cell.strip() for cell in header]
    if column not in headers:
        faults.add(1, column, f"there is no column {column!r}", one_of(headers[:15]), nearest(column, headers))
        return []
    if headers.count(column) > 1:
        faults.add(1, column, f"the column {column!r} is there twice", "each column once")
        return []
    return headers


def _ends(stream: BinaryIO) -> bool:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) in (b"\n", b"\r")


def _next(reader: Iterator[list[str]], faults: Faults) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        line = getattr(reader, "line_num", 0)
        faults.add(line, 1, f"not CSV: {error}", "quotes that are closed", "the file may be truncated")
        return None


def _lines(stream: BinaryIO, faults: Faults) -> Iterator[str]:
    """The lines as text; ends at the first that is none, because what follows cannot be trusted."""
    number = 0
    while content := stream.readline(MAX_LINE + 1):
        number += 1
        if len(content) > MAX_LINE:
            faults.add(number, 1, "the line is too long", f"at most {MAX_LINE:,} bytes")
            return
        if (position := content.find(b"\x00")) >= 0:
            faults.add(number, end_of(content[:position])[1], "a NUL byte", "text in UTF-8")
            return
        try:
            yield content.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            column = end_of(content[: error.start])[1]
            faults.add(number, column, f"byte 0x{content[error.start]:02x} is not UTF-8", "text in UTF-8")
            return
