"""What is said about jobs that live: why they are idle, held or suspended."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from airflow_calib_provider.ledger import tables

job = tables.job

MOST = 1_000
"""Different texts that are read at once, of all generations together: each may name a job's own folder."""

_OF_ONE_JOB = re.compile(r"job-\d+-a\d+|\bslot\d+(_\d+)?@|\bdir_\d+|\d\d:\d\d:\d\d")


@dataclass(frozen=True)
class LiveReason:
    """What is said about some jobs of a generation.

    :ivar text: of one of them: what differs from job to job, as a folder's name, is that one's.
    :ivar until: when something is due about the first of them.
    """

    state: str
    text: str
    n_jobs: int
    until: datetime | None

    def __str__(self) -> str:
        return f"{self.n_jobs} {self.state}: {self.text}"


def live_reasons(connection: Connection, generation_ids: Iterable[int]) -> dict[int, list[LiveReason]]:
    """What is said about the jobs of each generation, that of most jobs first."""
    n = func.count().label("n")
    query = select(job.c.generation_id, job.c.state, job.c.reason, n, func.min(job.c.retry_at).label("until")).where(
        tables.one_of(job.c.generation_id, generation_ids),
        job.c.state.in_(["submitted", "running", "held"]),
        job.c.reason.is_not(None),
    )
    query = query.group_by(job.c.generation_id, job.c.state, job.c.reason)
    query = query.order_by(n.desc(), job.c.generation_id, job.c.reason)
    found: dict[tuple[int, str, str], LiveReason] = {}
    for row in connection.execute(query.limit(MOST)).all():
        key = row.generation_id, row.state, _OF_ONE_JOB.sub("", row.reason)
        one = found.get(key) or LiveReason(row.state, row.reason, 0, row.until)
        until = min((at for at in (one.until, row.until) if at is not None), default=None)
        found[key] = LiveReason(row.state, one.text, one.n_jobs + row.n, until)
    result: dict[int, list[LiveReason]] = {}
    for (number, _, _), one in sorted(found.items(), key=lambda item: (-item[1].n_jobs, item[0])):
        result.setdefault(number, []).append(one)
    return result
