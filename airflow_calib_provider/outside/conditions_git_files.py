"""The two forms of a tag's file in a git repository: intervals, or first runs only. Pure functions of texts."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from airflow_calib_provider.outside.conditions import PlacedPayload

_COLUMNS = ("first_run", "last_run", "file", "sha256")


@dataclass(frozen=True)
class Layout:
    """A form.

    :ivar suffix: of the file. :ivar ends: whether intervals have ends of their own.
    """

    suffix: str
    ends: bool
    read: Callable[[str], list[PlacedPayload]]
    write: Callable[[Sequence[PlacedPayload]], str]


def _run(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise ValueError(f"{text[:60]!r} is not a run number")
    return int(text)


def _read_intervals(text: str) -> list[PlacedPayload]:
    try:
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    found = []
    for row in rows:
        file, last = row.get("file") or "", row.get("last_run") or ""
        if not file or not file.isprintable():
            raise ValueError(f"the interval from {str(row.get('first_run'))[:60]!r} has no file")
        first = _run(row.get("first_run") or "")
        found.append(PlacedPayload(first, _run(last) if last else None, file, (row.get("sha256") or "")[:200]))
    return found


def _write_intervals(placed: Sequence[PlacedPayload]) -> str:
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in placed:
        writer.writerow([one.first_run, "" if one.last_run is None else one.last_run, one.file, one.hash])
    return made.getvalue()


def _read_since(text: str) -> list[PlacedPayload]:
    found = []
    for line in text.splitlines():
        stated = line.partition("#")[0].split()
        if not stated:
            continue
        if len(stated) != 2 or not stated[1].isprintable():
            raise ValueError(f"the line {line[:60]!r} is not a run and a file")
        stem = PurePosixPath(stated[1]).name.partition(".")[0]
        digest = stem if len(stem) == 64 and set(stem) <= set("0123456789abcdef") else ""
        found.append(PlacedPayload(_run(stated[0]), None, stated[1], digest))
    return found


def _write_since(placed: Sequence[PlacedPayload]) -> str:
    return "".join(f"{one.first_run} {one.file}\n" for one in placed)


LAYOUTS = {
    "intervals": Layout(".csv", True, _read_intervals, _write_intervals),
    "since": Layout(".txt", False, _read_since, _write_since),
}
"""Name, in a connection → form."""
