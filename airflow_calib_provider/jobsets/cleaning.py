"""Removing what ended generations leave: the backend's records, logs and failed attempts, never accepted products."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select, update

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.errors import BackendError, ProductError
from airflow_calib_provider.jobsets.code import remove_unused
from airflow_calib_provider.jobsets.folders import attempt_folder, generation_folder, promote
from airflow_calib_provider.jobsets.watched import workers_folder
from airflow_calib_provider.ledger import generations, outside, rounds, step_starts, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Generation

KEEP = timedelta(days=30)
"""For generations that were begun before specs could say how long."""

PATIENCE = 3
"""Errors of a backend after which its other generations are left for the next call: it may be silent."""

AT_ONCE = 100
"""Generations in one call; the next one goes on."""


@dataclass
class Cleaned:
    """What was done.

    :ivar generations: how many have nothing left but their products.
    """

    generations: int = 0
    errors: list[str] = field(default_factory=list)


def clean(ledger: Ledger, backend_of: Callable[[str], Backend], now: datetime, at_once: int = AT_ONCE) -> Cleaned:
    """Clean generations that ended longer ago than they are to be kept, the oldest first.

    A generation that cannot be cleaned is left for the next call; so are the others of a backend that
    is in trouble.
    """
    result = Cleaned()
    failures: Counter[str] = Counter()
    for number in _over(ledger, now, at_once):
        with ledger.read() as connection:
            row = generations.by_id(connection, number)
        if failures[row.backend] >= PATIENCE:
            continue
        try:
            backend = backend_of(row.backend)
            _clean(ledger, backend, row)
        except BackendError as error:
            failures[row.backend] += 1
            result.errors.append(str(error))
            continue
        except (OSError, ProductError) as error:
            result.errors.append(f"{row.folder} cannot be cleaned: {error}")
            continue
        with ledger.write() as connection:
            table = tables.generation
            here = (table.c.id == row.id, table.c.state != "running", table.c.ended_at == row.ended_at)
            connection.execute(update(table).where(*here).values(cleaned_at=now))
        result.generations += 1
    try:
        remove_unused(_code_in_use(ledger), now)
    except OSError as error:
        result.errors.append(f"copies of old commits cannot be removed: {error}")
    with ledger.write() as connection:
        outside.forget(connection, now)
    return result


def _code_in_use(ledger: Ledger) -> list[str]:
    """What generations name that run, or may be continued."""
    table = tables.generation
    live = (table.c.state == "running") | ((table.c.state == "failed") & table.c.cleaned_at.is_(None))
    with ledger.read() as connection:
        query = select(table.c.spec_folder).where(live, table.c.spec_folder.is_not(None)).distinct()
        return list(connection.execute(query).scalars())


def _over(ledger: Ledger, now: datetime, at_once: int) -> list[int]:
    """The oldest whose time is over. For how long they are kept differs little: it is asked for each such time."""
    table = tables.generation
    uncleaned = (table.c.cleaned_at.is_(None), table.c.state.in_(["done", "failed"]))
    found: list[tuple[datetime, int]] = []
    with ledger.read() as connection:
        for kept in connection.execute(select(table.c.keep).where(*uncleaned).distinct()).scalars().all():
            ended = now - (KEEP if kept is None else timedelta(seconds=kept))
            here = (table.c.keep.is_(None) if kept is None else table.c.keep == kept, table.c.ended_at <= ended)
            query = select(table.c.ended_at, table.c.id).where(*uncleaned, *here)
            rows = connection.execute(query.order_by(table.c.ended_at).limit(at_once)).all()
            found += [(row.ended_at, row.id) for row in rows]
    return [number for _, number in sorted(found)[:at_once]]


def _clean(ledger: Ledger, backend: Backend, row: Generation) -> None:
    """Remove what one generation has left, in the backend and in its folders.

    :raises BackendError: the backend has jobs of it that live, or does not answer.
    :raises OSError: a folder cannot be removed.
    """
    with ledger.read() as connection:
        begun = rounds.in_states(connection, [row.id], ["planned", "submitted", "finished"])
        jobs = generations.jobs_of(connection, [row.id])
        result = step_starts.result_folder(connection, row)
        starts = [] if result is None else step_starts.not_needed(connection, row)
    for item in begun:
        backend.forget(item.key)
    # Accepted, but whoever accepted it died before its folder was in its place.
    left = {
        job.job_index: number
        for job in jobs
        if (number := job.accepted_attempt) is not None and attempt_folder(row.folder, job.job_index, number).exists()
    }
    promote(row.folder, left, row.group_name)
    with suppress(FileNotFoundError):
        shutil.rmtree(generation_folder(row.folder) / "attempts")
    if result is not None:
        for place in sorted(generation_folder(result).glob("step-*")):
            shutil.rmtree(place / "attempts", ignore_errors=True)
        shutil.rmtree(generation_folder(workers_folder(row)), ignore_errors=True)
        _remove(starts)


def _remove(starts: Sequence[str]) -> None:
    """Remove first constants that nobody needs, and their folder with the last of them."""
    for file in map(generation_folder, starts):
        file.unlink(missing_ok=True)
        with suppress(OSError):
            file.parent.rmdir()
