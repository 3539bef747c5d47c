"""The watcher's step: submit, look, treat what is held, resubmit, end (rules 13–17, 37).

One call serves all job sets of a process: one query for the generations, one for their rounds, one for the states of
their jobs, and one poll of each backend; they are read again where the step has written something. Any number of
processes may do it at the same time for the same job sets: whoever stores news first wins, the others look again at the
next step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import LedgerError
from airflow_calib_provider.jobsets.ending import end_cancelled, end_if_complete
from airflow_calib_provider.jobsets.holds import treat_held
from airflow_calib_provider.jobsets.iterating import step_on
from airflow_calib_provider.jobsets.lapses import lapses
from airflow_calib_provider.jobsets.mailbox import AwaitedResults
from airflow_calib_provider.jobsets.observing import poll
from airflow_calib_provider.jobsets.progress import note_reports
from airflow_calib_provider.jobsets.submitting import submit_due, to_submit
from airflow_calib_provider.jobsets.watched import GenerationWatch, Troubles, Watched, by_backend
from airflow_calib_provider.jobsets.worker_pool import give_orders, put_away, tend, with_workers
from airflow_calib_provider.ledger import observed
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.live_reasons import live_reasons
from airflow_calib_provider.settings import number


@dataclass(frozen=True)
class GenerationStanding:
    """How a generation stands after a step.

    :ivar state: ``running``, ``done``, ``failed``; ``unknown`` to this ledger.
    :ivar trouble: why this step could not take it further, or not see everything; empty if it could. The next one tries
        again.
    :ivar said: what is said about most of the jobs of which something is said: why they are idle, or held.
    :ivar awaited: with which results of its reserved workers the next step is worth taking at once.
    """

    generation_id: int
    state: str
    reason: Reason | None
    counts: Mapping[str, int]
    trouble: str = ""
    said: str = ""
    awaited: AwaitedResults | None = None


def advance(
    ledger: Ledger,
    backend_of: Callable[[str], Backend],
    generation_ids: Iterable[int],
    now: datetime,
    base_delay: float | None = None,
) -> dict[int, GenerationStanding]:
    """Take every one of these generations as far as it goes now.

    :param backend_of: a backend by name.
    :param base_delay: seconds before the second attempt of a job; ``CALIB_RETRY_DELAY`` if left out.
    :raises BackendError: a backend does not answer, for none of these generations; what was done until then is stored.
        Where others could be taken further, it stands in ``trouble``.
    """
    base_delay = number("RETRY_DELAY") if base_delay is None else base_delay
    ids = sorted(set(generation_ids))
    troubles = Troubles()
    watch = GenerationWatch(ledger, ids, now)
    before = {item.row.id: item.row.trouble or "" for item in watch.running()}
    for watched in watch.running():
        if watched.hold.state == "cancelled":
            watched.stale = True
            with troubles.of(watched.row.id):
                end_cancelled(ledger, backend_of, watched.row, now)
    troubles.lapses = lapses(watch.running(), now)
    _submit(ledger, backend_of, watch.running(), now, troubles)
    for watched in watch.running():
        with troubles.of(watched.row.id):
            tend(ledger, backend_of(watched.row.backend), watched, now)
    _look(ledger, backend_of, watch.running(), now, base_delay, troubles)
    held_up = {item.row.id for item in watch.running() if item.held_due}
    for watched in watch.running():
        with troubles.of(watched.row.id):
            if watched.held_due:
                watched.stale = True
                treat_held(ledger, with_workers(backend_of, watched), watched, now, base_delay)
                held_up.discard(watched.row.id)
    note_reports(ledger, watch.running(), troubles)
    for watched in watch.running():
        with troubles.of(watched.row.id):
            if watched.row.id not in held_up:
                end = step_on if watched.row.step else end_if_complete
                end(ledger, with_workers(backend_of, watched), watched, now)
    # What a step has just made ready must not wait for another look.
    _submit(ledger, backend_of, [item for item in watch.running() if item.row.step and item.due], now, troubles)
    awaited: dict[int, AwaitedResults | None] = {}
    for watched in watch.running():
        with troubles.of(watched.row.id):
            awaited[watched.row.id] = give_orders(watched)
            put_away(ledger, watched, now)
    _note(ledger, before, troubles, now)
    if ids and len(troubles.errors) == len(ids):
        raise next(iter(troubles.errors.values()))
    return _standings(ledger, watch, ids, troubles, awaited)


def _submit(
    ledger: Ledger,
    backend_of: Callable[[str], Backend],
    running: Iterable[Watched],
    now: datetime,
    troubles: Troubles,
) -> None:
    for watched in to_submit(ledger, (item for item in running if item.row.id not in troubles.lapses), now):
        watched.stale = True
        with troubles.of(watched.row.id):
            backend = with_workers(backend_of, watched)(watched.row.backend)
            submit_due(ledger, backend, watched.row, now)


def _look(
    ledger: Ledger,
    backend_of: Callable[[str], Backend],
    all_watched: Iterable[Watched],
    now: datetime,
    base_delay: float,
    troubles: Troubles,
) -> None:
    watched_all = list(all_watched)
    for watched in watched_all:
        if watched.crew is not None:
            with troubles.of(watched.row.id):
                backend = with_workers(backend_of, watched)(watched.row.backend)
                troubles.notes.update(poll(ledger, backend, [watched], now, base_delay))
    for name, watched_here in by_backend(item for item in watched_all if item.crew is None).items():
        with troubles.of(*(watched.row.id for watched in watched_here)):
            backend = backend_of(name)
            try:
                troubles.notes.update(poll(ledger, backend, watched_here, now, base_delay))
            except (LedgerError, SQLAlchemyError):
                raise
            except Exception:
                if len(watched_here) == 1:
                    raise
                # One round that is damaged must not hide the news of all others.
                for watched in watched_here:
                    with troubles.of(watched.row.id):
                        troubles.notes.update(poll(ledger, backend, [watched], now, base_delay))


def _note(ledger: Ledger, before: Mapping[int, str], troubles: Troubles, now: datetime) -> None:
    """Keep what is in the way for those who ask why nothing moves; most steps have nothing new to say."""
    news = {number: text for number, old in before.items() if (text := troubles.text(number)[:2000]) != old}
    if news:
        with ledger.write() as connection:
            observed.note_trouble(connection, news, now)


def _standings(
    ledger: Ledger,
    watch: GenerationWatch,
    ids: Sequence[int],
    troubles: Troubles,
    awaited: Mapping[int, AwaitedResults | None],
) -> dict[int, GenerationStanding]:
    watch.running()
    stuck = [one for one, item in watch.all.items() if item.counts.keys() & {"submitted", "held"}]
    said = {}
    if stuck:
        with ledger.read() as connection:
            said = live_reasons(connection, stuck)
    # One that is gone, with the ledger that it was in, must end its watch and not that of the others.
    standings = {
        unknown: GenerationStanding(unknown, "unknown", None, {}) for unknown in ids if unknown not in watch.all
    }
    for one, item in watch.all.items():
        most = str(said[one][0]) if one in said else ""
        trouble = troubles.text(one)
        row = item.row
        standings[one] = GenerationStanding(one, row.state, row.reason, item.counts, trouble, most, awaited.get(one))
    return standings
