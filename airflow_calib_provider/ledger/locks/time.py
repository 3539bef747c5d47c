"""Locks that are shut between two times of the day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from airflow_calib_provider.domain.clocks import range_ends
from airflow_calib_provider.domain.quantities import format_time
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.ledger.locks.base import SATISFIED, LedgerLock, LockRow, Standing


class TimeLock(LedgerLock):
    """Open outside of its hours."""

    kind = "time"
    answers = True

    def look_up(self, connection: Connection, locks: Sequence[LockRow]) -> Iterable[Standing]:
        """By the clock of this machine."""
        now = datetime.now(UTC)
        said: dict[str, tuple[str, str]] = {}
        for row in locks:
            if row.text not in said:
                said[row.text] = _said(row.parameters, now)
            yield Standing(row.group_id, row.task, row.position, self.kind, *said[row.text], None)

    def never(self, what: str, counts: Mapping[str, int], total: int) -> Reason | None:
        """It always opens again."""
        return None


def _said(parameters: Mapping[str, Any], now: datetime) -> tuple[str, str]:
    begin, end, zone = (str(parameters[name]) for name in ("not_from", "not_until", "zone"))
    at = range_ends(begin, end, zone, now)
    return f"not from {begin} until {end} {zone}", SATISFIED if at is None else f"opens at {format_time(at)}"


LOCK = TimeLock()
