"""Boundaries between groups, from a CSV file beside the spec."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.domain.run import MAX_RUN_NUMBER
from airflow_calib_provider.errors import Place, SpecError, SpecErrors
from airflow_calib_provider.spec.places import end_of
from airflow_calib_provider.spec.problems import nearest
from airflow_calib_provider.spec.regular import open_regular

LARGEST = 5_000_000
"""Bytes of a file of boundaries."""

MOST = 20
"""Mistakes of a file that are told at once."""

_WHAT = "expected UTF-8, a header, and below it one line for each boundary"


def read(policy: Grouping, folder: Path) -> Grouping:
    """A policy with the runs that its file has now.

    :param folder: of the workflow's file.
    :raises SpecErrors: it cannot be read, or has no boundaries in order; each mistake with its line.
    """
    file: Any = policy.options.get("file")
    if file is None:
        return policy
    runs, digest = _read(folder / file, str(policy.options.get("column")))
    return policy.model_copy(update={"options": {**policy.options, "first_runs": runs, "sha256": digest}})


def _read(file: Path, column: str) -> tuple[list[int], str]:
    """:raises SpecErrors: there are no boundaries in order."""
    content = _content(file)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        said = f"byte 0x{content[error.start]:02x} is not UTF-8"
        raise _wrong(file, said, _WHAT, line=end_of(content[: error.start])[0]) from error
    found: list[int] = []
    mistakes: list[SpecError] = []
    for line, cell in _cells(file, text, column):
        before = found[-1] if found else 0
        if wrong := _mistake(cell, before):
            mistakes.append(SpecError(wrong[0], Place(file, line), expected=wrong[1]))
            if len(mistakes) == MOST:
                break
        else:
            found.append(int(cell))
    if mistakes:
        raise SpecErrors(mistakes)
    if not found:
        raise _wrong(file, "it has no boundaries", "expected at least one line below the header")
    if text[-1] not in "\r\n":
        said = "the last line does not end: the file is truncated, or still being written"
        hint = "write it under another name, and rename it when it is complete"
        raise _wrong(file, said, "expected a line break at its end", hint, len(text.splitlines()))
    return found, hashlib.sha256(content).hexdigest()


def _content(file: Path) -> bytes:
    """:raises SpecErrors: it cannot be read, or is too large."""
    try:
        with open_regular(file) as stream:
            content = stream.read(LARGEST + 1)
    except OSError as error:
        said = f"the boundaries cannot be read: {error.strerror or error}"
        raise _wrong(file, said, hint="is the path right? It is relative to the workflow's file") from error
    except ValueError as error:
        raise _wrong(file, f"the boundaries cannot be read: {error}") from error
    if len(content) > LARGEST:
        raise _wrong(file, f"it has more than {LARGEST:,} bytes", "expected one line for each boundary")
    return content


def _cells(file: Path, text: str, column: str) -> Iterator[tuple[int, str]]:
    """What stands in the column, each with the line in which its row begins; blank lines say nothing.

    :raises SpecErrors: it is no CSV file, or has no such column.
    """
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    place: int | None = None
    while True:
        line = rows.line_num + 1
        try:
            row = [cell.strip() for cell in next(rows)]
        except StopIteration:
            break
        except csv.Error as error:
            raise _wrong(file, f"it is no CSV file: {error}", _WHAT, line=line) from error
        if not any(row):
            continue
        if place is not None:
            yield line, row[place] if place < len(row) else ""
        elif row.count(column) != 1:
            has = "no column" if column not in row else "more than one column"
            names = f"expected one of {', '.join(map(repr, dict.fromkeys(row)))}, named under 'column'"
            raise _wrong(file, f"it has {has} {column!r}", names, nearest(column, row), line)
        else:
            place = row.index(column)
    if place is None:
        raise _wrong(file, "it is empty", _WHAT)


def _mistake(cell: str, before: int) -> tuple[str, str] | None:
    """What is wrong with a boundary, and what was expected."""
    if not re.fullmatch(r"[0-9]{1,16}", cell) or not 1 <= int(cell) <= MAX_RUN_NUMBER:
        return f"{cell[:60]!r} is no run number", f"expected a whole number from 1 to {MAX_RUN_NUMBER}"
    if int(cell) <= before:
        return f"{int(cell)} comes after {before}", "expected each to be larger than the one before"
    return None


def _wrong(file: Path, said: str, expected: str = "", hint: str = "", line: int = 0) -> SpecErrors:
    return SpecErrors([SpecError(said, Place(file, line), expected=expected, suggestion=hint)])
