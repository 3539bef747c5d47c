"""What grouping needs to know of a run, and of the values that were found in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

REPORTED = "reported values"
"""Where what was frozen of a run at its assignment has its values: no field is called so."""


COUNT, SUM, MIN, MAX = "count", "sum", "min", "max"
"""What a condition may ask of a group: how many of its runs have values, and what is made of these."""


class ReportedValue(NamedTuple):
    """A value that a task has reported for a run: of its jobs the sum, the least and the largest."""

    total: float
    least: float
    most: float


@dataclass(frozen=True)
class RunFacts:
    """What grouping needs to know of one run.

    :ivar selected: whether it enters the workflow; a run that does not still marks the end of an earlier fill.
    :ivar values: task → its values by name; a task for which the run was skipped, or left out, is not among them.
    """

    number: int
    start: datetime | None
    end: datetime | None
    fields: Mapping[str, object]
    selected: bool = True
    values: Mapping[str, Mapping[str, ReportedValue]] = field(default_factory=dict)

    @classmethod
    def frozen(cls, number: int, record: Mapping[str, Any], *, selected: bool = True) -> RunFacts:
        """From what was recorded when it was assigned."""
        start, end = (datetime.fromisoformat(text) if (text := record.get(name)) else None for name in ("start", "end"))
        known = record.get(REPORTED) or {}
        values = {task: {name: ReportedValue(*one) for name, one in of_it.items()} for task, of_it in known.items()}
        return cls(number, start, end, record, selected, values)
