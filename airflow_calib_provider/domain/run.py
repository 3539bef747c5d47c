"""A run, as its source tells of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

FieldValue: TypeAlias = int | float | str | bool | None

MAX_RUN_NUMBER = 2**53
"""Larger whole numbers are not exact in JSON and InfluxDB."""


YEARS = (1900, 2199)
"""In which runs are taken. A year 9999, as databases have it for what has no end, leaves no room for calculations, and
is no time of InfluxDB, nor, in some time zones, one that PostgreSQL's driver reads."""

FILL = "fill"
"""The field that names the fill of a run, where its source has it."""


@dataclass(frozen=True)
class RunRecord:
    """One run.

    :ivar start: with the time zone UTC, as ``end``; ``None`` when the source does not say.
    :ivar completed: whether data taking and bookkeeping of the run have ended.
    :ivar fields: the metadata that the source declares besides the attributes here; times in ISO 8601.
    :ivar files: input files: absolute paths or URLs.
    """

    number: int
    start: datetime | None = None
    end: datetime | None = None
    completed: bool = True
    fields: Mapping[str, FieldValue] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def values(self) -> dict[str, object]:
        """Everything by name, as conditions and templates see a run."""
        return {
            **self.fields,
            "number": self.number,
            "start": self.start,
            "end": self.end,
            "completed": self.completed,
            "files": list(self.files),
        }


def time_fault(at: datetime | None) -> tuple[str, str] | None:
    """Why a time is none at which a run starts or ends, and what was expected; ``None``: it is one."""
    if at is None or YEARS[0] <= at.year <= YEARS[1]:
        return None
    return f"{at.isoformat()} is no time of a run", f"a year from {YEARS[0]} to {YEARS[1]}, or nothing"


@dataclass(frozen=True)
class RunListing:
    """What one read of a source has found.

    :ivar runs: by ascending number, each once.
    :ivar complete: these are all that it lists now; else those that are new or may have changed.
    :ivar mark: up to where it was read, as JSON, from which the next read may go on; ``None``: it reads all again.
    """

    runs: Sequence[RunRecord]
    complete: bool = True
    mark: Mapping[str, object] | None = None
