"""How far running jobs are, from the reports that they are still writing, where their folders can be seen."""

from __future__ import annotations

import time

from airflow_calib_provider.backends.reducer import JobState
from airflow_calib_provider.jobsets.folders import attempt_folder
from airflow_calib_provider.jobsets.reports import read_progress
from airflow_calib_provider.jobsets.watched import Watched
from airflow_calib_provider.ledger import observed
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.settings import number

INTERVAL = 30.0
"""Seconds between two looks at the reports of a generation, unless ``CALIB_REPORT_INTERVAL`` says otherwise."""

AT_ONCE = 1000
"""Reports that one look opens: a step must not take long because there are many jobs. The next look goes on."""

_REMEMBERED = 10_000

_looked: dict[tuple[str, int], tuple[float, int]] = {}
"""When the reports of a generation were last looked at by this process, and up to which job."""


def note_progress(ledger: Ledger, watched: Watched) -> None:
    """Store what the running jobs of a generation say of their progress, if it is time to look again."""
    key = (str(ledger.url), int(watched.row.id))
    at, last = _looked.get(key, (float("-inf"), -1))
    clock = time.monotonic()
    if not watched.counts.get(JobState.RUNNING) or clock - at < number("REPORT_INTERVAL", INTERVAL):
        return
    running = [job.index for job in watched.all_jobs() if job.state is JobState.RUNNING]
    if not running:
        return
    turn = [index for index in running if index > last] + [index for index in running if index <= last]
    turn = turn[:AT_ONCE]
    if len(_looked) > _REMEMBERED:
        _looked.clear()
    _looked[key] = (clock, turn[-1])
    news = {}
    for index in turn:
        job = watched.known[index]
        done = read_progress(attempt_folder(watched.row.folder, index, job.attempt) / "report.jsonl")
        if done is not None and done != job.progress:
            news[index] = done
    if news:
        with ledger.write() as connection:
            observed.note_progress(connection, watched.row, 0, news)
