"""A run, as its source tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

FieldValue: TypeAlias = int | float | str | bool | None

MAX_RUN_NUMBER = 2**53
"""Larger whole numbers are not exact in JSON and InfluxDB."""


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
