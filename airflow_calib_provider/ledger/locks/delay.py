"""Locks that open some time after the runs, or after the group was closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from sqlalchemy import Connection

from airflow_calib_provider.domain.quantities import format_duration, format_time
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.ledger.locks.base import SATISFIED, LedgerLock, LockRow, Standing

ENDLESS = "endless"


class DelayLock(LedgerLock):
    """Open when the time has passed."""

    kind = "delay"
    answers = True

    def look_up(self, connection: Connection, locks: Sequence[LockRow]) -> Iterable[Standing]:
        """By the clock of this machine."""
        now = datetime.now(UTC)
        for row in locks:
            group, parameters = row.group, row.parameters
            after, lasts = str(parameters["after"]), timedelta(seconds=parameters["for"])
            what = f"{_length(lasts)} after {after}"
            since = group.end if after == "run_end" else group.closed_at
            if group.closed_at is None:
                status = "the group is forming"
            elif since is None:
                status = ENDLESS
            else:
                opens_at = since + lasts
                status = SATISFIED if opens_at <= now else f"opens at {format_time(opens_at)}"
            yield Standing(row.group_id, row.task, row.position, self.kind, what, status, None)

    def never(self, what: str, counts: Mapping[str, int], total: int) -> Reason | None:
        """Where the runs have no end, nothing can come after it."""
        if counts.get(ENDLESS):
            said = f"the lock delay {what} can never open: the runs of the group have no end"
            return {"code": "error", "message": f"{said}; write `after: group_closed`, then `calib retry`"}
        return None


_length = lru_cache(256)(format_duration)

LOCK = DelayLock()
