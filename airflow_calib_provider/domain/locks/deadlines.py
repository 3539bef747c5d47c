"""How long a lock is waited for, and what then (rule 61)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow_calib_provider.domain.quantities import format_duration, format_time
from airflow_calib_provider.domain.reasons import Reason

RUN_END, GROUP_CLOSED, WAITING = "run_end", "group_closed", "waiting"
FAIL, GO_ON, LAST_GOOD = "fail", "go_on", "last_good"

NEAR = 5
"""A deadline is near when this part of the time is left, or less."""


@dataclass(frozen=True)
class Limits:
    """How long a lock is waited for.

    :ivar since: from when on it counts.
    :ivar then: what happens when the time is over.
    """

    at_most: timedelta
    since: str
    then: str

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> Limits:
        """The inverse of :meth:`as_json`."""
        return cls(timedelta(seconds=found["at_most"]), found["from"], found["then"])

    def as_json(self) -> dict[str, object]:
        """As a row of the ledger has it."""
        return {"at_most": int(self.at_most.total_seconds()), "from": self.since, "then": self.then}

    def due(self, end: datetime | None, closed_at: datetime | None, waits_until: datetime | None) -> datetime | None:
        """When the time is over; ``None``: it does not run yet.

        :param end: of the group's last run; where nobody knows it, the time counts from when the group was closed.
        :param closed_at: when the group was closed; ``None``: it takes runs.
        :param waits_until: for what counts from when the wait began; of an amended group, before which it is not over:
            what its edition needs was not waited for before.
        """
        if closed_at is None:
            return None
        if self.since == WAITING:
            return waits_until
        due = (end if self.since == RUN_END and end is not None else closed_at) + self.at_most
        return due if waits_until is None else max(due, waits_until)

    def outcome(self, *, older: bool) -> str:
        """What happens when the time is over: as it was stated, but that nothing can be taken where nothing is.

        :param older: whether a payload is published that begins with the group's first run, or before it.
        """
        return FAIL if self.then == LAST_GOOD and not older else self.then

    def is_near(self, due: datetime, now: datetime) -> bool:
        """Whether not much of the time is left."""
        return due - now <= self.at_most / NEAR

    def words(self, due: datetime) -> str:
        """When it is over, and how that was stated."""
        since = self.since.replace("_", " ")
        return f"{format_time(due)}, {format_duration(self.at_most)} from {since}"


def with_deadline(reason: Reason | None, limits: Limits, due: datetime, now: datetime) -> Reason:
    """A reason for which a lock is shut, with when that ends."""
    said = {"at": due.isoformat(), "then": limits.then, "near": limits.is_near(due, now)}
    return {**(reason or {}), "deadline": said}
