"""A running generation as a step of the watcher sees it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection

from airflow_calib_provider.domain.reducer import Job
from airflow_calib_provider.errors import BackendError, CalibError, IllegalTransition, LedgerError
from airflow_calib_provider.ledger import generations, present_jobs, rounds, workers
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Generation, Round
from airflow_calib_provider.ledger.throttle import NO_HOLD, Hold, with_holds
from airflow_calib_provider.ledger.workers import WORKERS, WorkerSettings


@dataclass
class Watched:
    """A generation, as it was when it was read.

    :ivar row: with its group's campaign, workflow and name.
    :ivar ledger: where its jobs are read.
    :ivar hold: what its campaign lets it do.
    :ivar stale: something was written in this step: what the ledger says of it now is to be read.
    :ivar rounds: those that have not finished.
    :ivar counts: state → number of jobs.
    :ivar due: whether a job waits whose delay is over.
    :ivar held_due: held jobs about which something is to be done now.
    :ivar credentials: kind → path of what its jobs use.
    :ivar known: the jobs that were read, or changed, in this step.
    :ivar workers: how those are that it reserves, if it does, :ivar crew: and they themselves, as a job set.
    """

    row: Generation
    ledger: Ledger
    hold: Hold = NO_HOLD
    stale: bool = False
    rounds: list[Round] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    due: bool = False
    held_due: set[int] = field(default_factory=set)
    credentials: Mapping[str, str] = field(default_factory=dict)
    known: dict[int, Job] = field(default_factory=dict)
    workers: WorkerSettings | None = None
    crew: Watched | None = None

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.row.state == "running"

    def jobs_of(self, indices: Iterable[int]) -> Mapping[int, Job]:
        """Jobs by their indices, among them at least these, as far as there are any.

        A step reads only those that there is news of.
        """
        if unread := set(indices) - self.known.keys():
            self._read(unread)
        return self.known

    def all_jobs(self) -> list[Job]:
        """Every job, in order."""
        if len(self.known) < sum(self.counts.values()):
            self._read(None)
        return [self.known[index] for index in sorted(self.known)]

    def _read(self, indices: Iterable[int] | None) -> None:
        with self.ledger.read() as connection:
            rows = generations.jobs_of(connection, [self.row.id], indices, step=self.row.step)
        self.known = {item.job_index: generations.as_job(item) for item in rows} | self.known


class GenerationWatch:
    """The generations of one step: read once, and again where something was written meanwhile.

    What others write in that time, the next step sees; what is decided of what was read is checked when it is written.

    :ivar all: those that the ledger knows, by id; ended ones too.
    """

    def __init__(self, ledger: Ledger, ids: Sequence[int], now: datetime) -> None:
        self._ledger = ledger
        self._now = now
        self.all = _load(ledger, ids, now)

    def running(self) -> list[Watched]:
        """Those that run, as they are now."""
        stale = [number for number, item in self.all.items() if item.stale]
        if stale:
            current = {number: item for number, item in self.all.items() if not item.stale}
            self.all = dict(sorted((current | _load(self._ledger, stale, self._now)).items()))
        return [item for item in self.all.values() if item.running]


def _load(ledger: Ledger, ids: Sequence[int], now: datetime) -> dict[int, Watched]:
    """Generations by one query each for themselves, their rounds, their jobs by state, and held jobs that are due."""
    with ledger.read() as connection:
        found = {row.id: Watched(row, ledger, hold) for row, hold in with_holds(connection, ids)}
        live = [number for number, item in found.items() if item.running]
        _add_workers(ledger, connection, [found[number] for number in live if found[number].row.step], now)
        for item in rounds.in_states(connection, live, ["planned", "submitted"]) if live else ():
            of = found[item.generation_id]
            (of.crew if item.step == WORKERS and of.crew is not None else of).rounds.append(item)
        for number, credentials in _credentials(ledger, connection, live).items():
            found[number].credentials = credentials
        held = []
        for count in present_jobs.jobs_by_state(connection, list(found), now) if found else ():
            watched = found[count.generation_id]
            watched.counts[count.state] = count.n
            if count.n_due and count.state == "waiting":
                watched.due = True
            elif count.n_due and watched.running:
                held.append(count.generation_id)
        for number, index in present_jobs.held_due(connection, held, now) if held else ():
            found[number].held_due.add(index)
    return found


def workers_folder(row: Generation) -> str:
    """Where the files of the workers of a generation lie, relative to the products folder.

    :param row: at any of its steps.
    """
    return f"{row.folder.rpartition('/')[0] if row.step else row.folder}/workers"


def _add_workers(ledger: Ledger, connection: Connection, iterating: Sequence[Watched], now: datetime) -> None:
    """The workers of those that reserve any, as job sets of their own."""
    by_id = {item.row.id: item for item in iterating}
    for number, settings in (workers.settings_of(connection, by_id) if by_id else {}).items():
        item = by_id[number]
        row = replace(
            item.row,
            step=WORKERS,
            folder=workers_folder(item.row),
            inputs=[],
            products={},
            failures=[],
            options=settings["options"],
            quorum=1.0,
            retries=0,
            drops={},
        )
        item.workers, item.crew = settings, Watched(row, ledger, item.hold)
        jobs = generations.jobs_of(connection, [number], step=WORKERS)
        jobs = [job for job in jobs if job.job_index < settings["count"]]
        item.crew.known = {job.job_index: generations.as_job(job) for job in jobs}
        item.crew.counts = dict(Counter(job.state for job in jobs))
        item.crew.due = any(job.state == "waiting" and (job.retry_at is None or job.retry_at <= now) for job in jobs)


_REMEMBERED = 10_000

_known: dict[tuple[str, int], Mapping[str, str]] = {}
"""The credentials of generations that this process has seen: they are a part of the definitions, and never change."""


def _credentials(ledger: Ledger, connection: Connection, ids: Iterable[int]) -> dict[int, Mapping[str, str]]:
    place = str(ledger.url)
    wanted = list(ids)
    if unread := [number for number in wanted if (place, number) not in _known]:
        if len(_known) > _REMEMBERED:
            _known.clear()
            unread = wanted
        _known.update({(place, number): one for number, one in generations.credentials(connection, unread).items()})
    return {number: _known[place, number] for number in wanted}


def by_backend(watched: Iterable[Watched]) -> Mapping[str, list[Watched]]:
    """The generations of each backend."""
    result = defaultdict(list)
    for item in watched:
        result[item.row.backend].append(item)
    return result


class Troubles:
    """Why generations could not be taken further in a step.

    :ivar errors: what stopped the step for a generation.
    :ivar notes: what a backend could not see, though the step was taken.
    :ivar lapses: credentials that do not hold.
    """

    def __init__(self) -> None:
        self.errors: dict[int, BackendError] = {}
        self.notes: dict[int, str] = {}
        self.lapses: dict[int, str] = {}

    def text(self, generation_id: int) -> str:
        """The trouble of a generation; empty if there is none."""
        error = self.errors.get(generation_id)
        said = self.notes.get(generation_id, "") if error is None else str(error)
        return "; ".join(filter(None, [self.lapses.get(generation_id, ""), said]))

    @contextmanager
    def of(self, *ids: int) -> Iterator[None]:
        """Let one generation's trouble be its own: the others go on."""
        try:
            yield
        except IllegalTransition:
            pass  # another watcher was faster
        except LedgerError:
            raise  # concerns all
        except BackendError as error:
            self.errors.update(dict.fromkeys(ids, error))
        except OSError as error:
            self.errors.update(dict.fromkeys(ids, BackendError(f"the files of the job set cannot be used: {error}")))
        except Exception as error:  # noqa: BLE001 - a job set that nothing can be done with must not hold up the others
            said = str(error) if isinstance(error, CalibError) else f"{type(error).__name__}: {error}"
            self.errors.update(dict.fromkeys(ids, BackendError(said)))
