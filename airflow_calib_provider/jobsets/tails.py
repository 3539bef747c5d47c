"""The ends of what failed jobs wrote, for those who look at a failed job set first."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from airflow_calib_provider.domain.escaping import escaped
from airflow_calib_provider.jobsets.folders import log_files
from airflow_calib_provider.ledger import generations
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Generation, JobRecord

MOST_JOBS = 3
"""Failed jobs whose output is shown."""

TAIL_BYTES, TAIL_LINES = 4_000, 20


def failed_jobs(ledger: Ledger, row: Generation) -> list[str]:
    """Lines about the first jobs that failed: why, the end of their standard error, where it lies, how to see all.

    :param row: the generation, with its group's campaign, workflow and name.
    """
    with ledger.read() as connection:
        failed = [job for job in generations.jobs_of(connection, [row.id]) if job.state == "failed"]
    return [line for job in failed[:MOST_JOBS] for line in _of_job(row, job)] + (
        [f"... and {len(failed) - MOST_JOBS} more jobs failed"] if len(failed) > MOST_JOBS else []
    )


def _of_job(row: Generation, job: JobRecord) -> Iterator[str]:
    yield escaped(f"job {job.job_index}, attempt {job.attempt}, on {job.host or 'no host'}: {job.reason or job.state}")
    out, err = log_files(row.folder, job.job_index, job.attempt, job.accepted_attempt)
    lines, file, option = tail(err), err, "--stderr"
    if not lines and (said := tail(out)):
        lines, file, option = said, out, "--stdout"
    if lines is None:
        yield f"  {file}: not there, or not to be seen from here"
    elif not lines:
        yield f"  {file} is empty"
    else:
        yield f"  {file} ends with:"
        yield from (f"  | {line}" for line in lines)
    where = ["--campaign", row.campaign, "--workflow", row.workflow, option]
    yield "  all of it: " + shlex.join(["calib", "jobs", "logs", row.group_name, row.task, str(job.job_index), *where])


def tail(file: Path) -> list[str] | None:
    """The last lines of a file that a job wrote, which may be anything; ``None`` if it cannot be read."""
    try:
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        about = os.fstat(opened)
        if not stat.S_ISREG(about.st_mode):
            return None
        begin = max(0, about.st_size - TAIL_BYTES)
        data = os.pread(opened, TAIL_BYTES, begin)
    except OSError:
        return None
    finally:
        os.close(opened)
    lines = data.decode(errors="replace").rstrip().split("\n")
    shown = [escaped(line.rstrip("\r")) for line in lines[-TAIL_LINES:]]
    if shown and (begin or len(lines) > TAIL_LINES):
        shown[0] = f"... {shown[0]}"
    return shown if data.strip() else []
