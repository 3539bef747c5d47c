"""What running jobs tell, from the reports that they are still writing, where their folders can be seen."""

from __future__ import annotations

import time
from collections.abc import Sequence

from airflow_calib_provider.domain.reducer import Job, JobState
from airflow_calib_provider.jobsets.folders import attempt_folder
from airflow_calib_provider.jobsets.reports import read_latest
from airflow_calib_provider.jobsets.watched import Watched
from airflow_calib_provider.ledger import observed
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.observed import InFlight
from airflow_calib_provider.settings import number

AT_ONCE = 1000
"""Reports that one look opens: a step must not take long because there are many jobs. The next look goes on."""

_REMEMBERED = 10_000

_looked: dict[tuple[str, int], tuple[float, int]] = {}
"""When the reports of a generation were last looked at by this process, and up to which job."""

_told: dict[tuple[str, int, int, int], dict[str, tuple[str, float, float | None]]] = {}
"""The values of each job's attempt that this process stored. Another process may tell them once more, which changes
nothing."""


def note_reports(ledger: Ledger, watched: Watched) -> None:
    """Store what the running jobs of a generation report, progress and values, if it is time to look again."""
    key = (str(ledger.url), int(watched.row.id))
    looked_at, last = _looked.get(key, (float("-inf"), -1))
    clock = time.monotonic()
    if not watched.counts.get(JobState.RUNNING) or clock - looked_at < number("REPORT_INTERVAL"):
        return
    turn = _turn(watched, last)
    if not turn:
        return
    if len(_looked) > _REMEMBERED:
        _looked.clear()
    _looked[key] = (clock, turn[-1])
    news = {index: item for index in turn if (item := _news(key, watched.row.folder, watched.known[index]))}
    if news:
        with ledger.write() as connection:
            observed.note_in_flight(connection, watched.row, 0, news)
        _remember(key, news)


def _turn(watched: Watched, last: int) -> Sequence[int]:
    """The jobs whose reports are read now: those that run, after the last one of the look before."""
    running = [job.index for job in watched.all_jobs() if job.state is JobState.RUNNING]
    turn = [index for index in running if index > last] + [index for index in running if index <= last]
    return turn[:AT_ONCE]


def _news(key: tuple[str, int], folder: str, job: Job) -> InFlight | None:
    latest = read_latest(attempt_folder(folder, job.index, job.attempt) / "report.jsonl")
    progress = latest.progress if latest.progress != job.progress else None
    known = _told.get((*key, job.index, job.attempt), {})
    values = [value for value in latest.values if known.get(value[0]) != value]
    if progress is None and not values:
        return None
    return InFlight(job.attempt, progress, values)


def _remember(key: tuple[str, int], news: dict[int, InFlight]) -> None:
    if len(_told) > _REMEMBERED:
        _told.clear()
    for index, item in news.items():
        if item.values:
            _told.setdefault((*key, index, item.attempt), {}).update({value[0]: value for value in item.values})
