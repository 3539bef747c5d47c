"""What is left to do after a campaign was cancelled, if nobody watches its jobs (rule 56)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.errors import BackendError
from airflow_calib_provider.jobsets.ending import end_cancelled
from airflow_calib_provider.ledger import steering, throttle
from airflow_calib_provider.ledger.engine import Ledger


@dataclass
class Finished:
    """What was ended.

    :ivar groups: in how many groups something that had not begun was ended.
    :ivar job_sets: which job sets were ended, and their jobs removed.
    :ivar errors: backends that could not remove jobs; the next call tries again.
    """

    groups: int = 0
    job_sets: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def finish_cancelled(ledger: Ledger, backend_of: Callable[[str], Backend], now: datetime) -> Finished:
    """End what is open in cancelled campaigns, wherever a process died that was ending it."""
    done = Finished(groups=steering.end_cancelled_groups(ledger, now))
    with ledger.read() as connection:
        rows = throttle.of_cancelled(connection)
    for row in rows:
        try:
            end_cancelled(ledger, backend_of, row, now)
        except BackendError as error:
            done.errors.append(str(error))
            continue
        done.job_sets.append(f"{row.campaign} {row.workflow}.{row.task} {row.group_name}: cancelled, jobs removed")
    return done
