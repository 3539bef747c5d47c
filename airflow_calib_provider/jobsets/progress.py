"""What running jobs tell, from the reports that they are still writing, where their folders can be seen."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from airflow_calib_provider.domain.reducer import JobState
from airflow_calib_provider.jobsets.folders import attempt_folder
from airflow_calib_provider.jobsets.reports import read_latest
from airflow_calib_provider.jobsets.watched import Troubles, Watched
from airflow_calib_provider.ledger import observed, present_jobs
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.observed import InFlight
from airflow_calib_provider.ledger.rows import ReportingJob
from airflow_calib_provider.settings import number

AT_ONCE = 1000
"""Reports that one look opens: a step must not take long because there are many jobs. The next look goes on."""

_REMEMBERED = 10_000

_looked: dict[tuple[str, int], tuple[float, int]] = {}
"""When the reports of a generation were last looked at by this process, and up to which job."""

_told: dict[tuple[str, int, int, int, int], dict[str, tuple[str, float, float | None]]] = {}
"""The values of each job's attempt that this process stored. Another process may tell them once more, which changes
nothing."""


def note_reports(ledger: Ledger, all_watched: Iterable[Watched], troubles: Troubles) -> None:
    """Store what the running jobs of generations report, progress and values, where it is time to look again."""
    clock = time.monotonic()
    due, left = [], AT_ONCE
    for watched in sorted(all_watched, key=lambda item: _last_look(ledger, item)[0]):
        n_running = watched.counts.get(JobState.RUNNING, 0)
        if left > 0 and n_running and clock - _last_look(ledger, watched)[0] >= number("REPORT_INTERVAL"):
            due.append(watched)
            left -= n_running
    if not due:
        return
    running: dict[int, list[ReportingJob]] = defaultdict(list)
    with ledger.read() as connection:
        for job in present_jobs.running_jobs(connection, [watched.row.id for watched in due]):
            running[job.generation_id].append(job)
    for watched in due:
        with troubles.of(watched.row.id):
            _note_reports(ledger, watched, running[watched.row.id], clock)


def _last_look(ledger: Ledger, watched: Watched) -> tuple[float, int]:
    return _looked.get((str(ledger.url), watched.row.id), (float("-inf"), -1))


def _note_reports(ledger: Ledger, watched: Watched, running: Sequence[ReportingJob], clock: float) -> None:
    key, (_, last) = (str(ledger.url), watched.row.id), _last_look(ledger, watched)
    # Those after the last one of the look before, then from the beginning again.
    turn = [job for job in running if job.job_index > last] + [job for job in running if job.job_index <= last]
    turn = turn[:AT_ONCE]
    if not turn:
        return
    if len(_looked) > _REMEMBERED:
        _looked.clear()
    _looked[key] = (clock, turn[-1].job_index)
    of_step = (*key, watched.row.step)
    news = {job.job_index: item for job in turn if (item := _news(of_step, watched.row.folder, job))}
    if news:
        with ledger.write() as connection:
            observed.note_in_flight(connection, watched.row, watched.row.step, news)
        _remember(of_step, news)


def _news(key: tuple[str, int, int], folder: str, job: ReportingJob) -> InFlight | None:
    latest = read_latest(attempt_folder(folder, job.job_index, job.attempt) / "report.jsonl")
    progress = latest.progress if latest.progress != job.progress else None
    known = _told.get((*key, job.job_index, job.attempt), {})
    values = [value for value in latest.values if known.get(value[0]) != value]
    if progress is None and not values:
        return None
    return InFlight(job.attempt, progress, values)


def _remember(key: tuple[str, int, int], news: dict[int, InFlight]) -> None:
    if len(_told) > _REMEMBERED:
        _told.clear()
    for index, item in news.items():
        if item.values:
            _told.setdefault((*key, index, item.attempt), {}).update({value[0]: value for value in item.values})
