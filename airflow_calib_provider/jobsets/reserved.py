"""The backend of an iteration with reserved workers: its jobs are orders in a mailbox, and what comes back are results.

It is a backend as any other: what is tried again, what counts and when a step is complete is decided where it always
is. Jobs that ask for more than the workers have, such as a large update, go to the batch system.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow_calib_provider.backends.base import Backend, Elsewhere, OfOneMachine, carries, let_go
from airflow_calib_provider.backends.endings import why
from airflow_calib_provider.backends.scripts import NOT_ENTERED
from airflow_calib_provider.domain.iteration.reserving import Beat, HandedOver, Order, Worker, check_content, host_name
from airflow_calib_provider.domain.observation import AttemptState, FailureClass, Observation, RoundObservations
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission, Resources
from airflow_calib_provider.errors import BackendError, ProductError, SubmissionRefused
from airflow_calib_provider.jobsets.arrivals import unpack
from airflow_calib_provider.jobsets.folders import attempt_folder, generation_folder
from airflow_calib_provider.jobsets.mailbox import Mailbox
from airflow_calib_provider.jobsets.orders import carried_order, shared_order, with_own_lists


@dataclass(frozen=True)
class Crew:
    """The workers as they are now.

    :ivar present: those that live, for the batch system.
    :ivar beats: what they say.
    :ivar resources: of each.
    :ivar options: with which they were submitted.
    """

    present: frozenset[Worker]
    beats: Mapping[int, Beat]
    resources: Resources
    options: Mapping[str, object]

    @property
    def alive(self) -> dict[int, Worker]:
        """Those that have given a sign of life in their present epoch."""
        found = {one.worker.number: one.worker for one in self.beats.values()}
        return {number: worker for number, worker in found.items() if worker in self.present}


class Reserved:
    """Orders in a mailbox.

    :param inner: where the workers run.
    :param folder: of the generation at its step, as in the ledger.
    """

    name = "reserved"

    def __init__(self, inner: Backend, mailbox: Mailbox, crew: Crew, folder: str) -> None:
        self.inner, self.mailbox, self.crew, self.folder = inner, mailbox, crew, folder

    def jobs_make_folders(self, options: Mapping[str, object]) -> bool:
        """They do."""
        return True

    def submit(self, key: RoundKey, jobs: Sequence[JobSubmission], options: Mapping[str, object] | None = None) -> None:
        """Put the jobs into the mailbox, or find that they are there.

        :raises SubmissionRefused: they never can.
        :raises BackendError: they cannot be put there.
        """
        try:
            if self.mailbox.orders_of(key) is not None:
                return
            if not self._fit(jobs, options or {}):
                self._check_room(jobs)
                _make_folders(jobs)
                own = map(with_own_lists, jobs) if carries(self.inner, options or {}) else jobs
                self.inner.submit(key, list(own), options)
                return
            scripts = self._scripts(key, jobs)
            self.mailbox.prepare()
            self.mailbox.put(key, scripts)
        except OSError as error:
            hint = "is the disk full, or the folder not writable?"
            raise BackendError(f"{key} cannot be put into {self.mailbox.folder}: {error}", hint) from error

    def _check_room(self, jobs: Sequence[JobSubmission]) -> None:
        """On one machine a job that asks for more than the workers leave would wait for them, and they for it."""
        if not isinstance(self.inner, OfOneMachine):
            return
        slots, cpus, n = self.inner.slots, self.crew.resources.cpus, len(self.crew.present)
        kept = cpus * min(n, (slots - 1) // cpus)
        asked = max(job.resources.cpus for job in jobs)
        if asked > slots - kept:
            said = f"it asks for {asked} cpus, and the reserved workers keep {kept} of {slots} slots of this machine"
            raise SubmissionRefused(
                said, f"fewer of them, fewer cpus, or CALIB_LOCAL_SLOTS of at least {asked + n * cpus}"
            )

    def _scripts(self, key: RoundKey, jobs: Sequence[JobSubmission]) -> list[tuple[Order, str]]:
        orders = [Order(key.step, job.index, job.attempt) for job in jobs]
        if carries(self.inner, self.crew.options):
            generation = generation_folder(self.folder).parent
            return [(order, carried_order(job, key.step, generation)) for order, job in zip(orders, jobs, strict=True)]
        there = self.inner.as_there(jobs, self.crew.options) if isinstance(self.inner, Elsewhere) else jobs
        return [(order, shared_order(*pair)) for order, pair in zip(orders, zip(jobs, there, strict=True), strict=True)]

    def _fit(self, jobs: Sequence[JobSubmission], options: Mapping[str, object]) -> bool:
        return dict(options) == dict(self.crew.options) and all(
            _fits(job.resources, self.crew.resources) for job in jobs
        )

    def poll(self, rounds: Mapping[RoundKey, str]) -> Mapping[RoundKey, RoundObservations]:
        """What has come back, and what is done now.

        :raises BackendError: the mailbox cannot be read.
        """
        try:
            here = {key: orders for key in rounds if (orders := self.mailbox.orders_of(key)) is not None}
            found = {key: self._poll(orders, rounds[key]) for key, orders in here.items()}
        except OSError as error:
            raise BackendError(f"{self.mailbox.folder} cannot be read: {error}") from error
        others = {key: cursor for key, cursor in rounds.items() if key not in here}
        return {**found, **(self.inner.poll(others) if others else {})}

    def _poll(self, orders: Sequence[Order], cursor: str) -> RoundObservations:
        known: dict[str, list[int]] = json.loads(cursor) if cursor else {"running": [], "ended": []}
        running, ended = set(known["running"]), set(known["ended"])
        news = []
        for order in orders:
            if order.job in ended:
                continue
            worker = self.mailbox.given(order)
            seen = None if worker is None else self._look(order, worker, order.job in running)
            if seen is None:
                continue
            news.append(seen)
            (ended if seen.state.final else running).add(order.job)
        text = json.dumps({"running": sorted(running - ended), "ended": sorted(ended)}, separators=(",", ":"))
        return RoundObservations(news, text if news else cursor, finished=len(ended) == len(orders))

    def _look(self, order: Order, worker: Worker, running: bool) -> Observation | None:
        at = datetime.now(UTC)
        result = self.mailbox.result(HandedOver(order, worker))
        if result is not None:
            place = attempt_folder(self.folder, order.job, order.attempt)
            seen = _ended(order, worker, result, at, place)
            if isinstance(result, dict) and "files" in result and seen.failure is not FailureClass.LOST:
                return self._arrived(HandedOver(order, worker), result, seen, place)
            return seen
        if worker not in self.crew.present:
            said = f"{worker}, which had it, is gone"
            return Observation(order.job, order.attempt, AttemptState.LOST, at, reason=said, failure=FailureClass.LOST)
        beat = self.crew.beats.get(worker.number)
        if not running and beat is not None and (beat.worker, beat.order) == (worker, str(order)):
            start = at - timedelta(seconds=beat.age)
            return Observation(
                order.job, order.attempt, AttemptState.RUNNING, at, host=host_name(beat.host), start=start
            )
        return None

    def _arrived(self, name: HandedOver, result: dict[str, object], seen: Observation, place: Path) -> Observation:
        try:
            unpack(self.mailbox.folder / "outputs", name, result, place)
        except ProductError as error:
            said = f"what {name.worker} has left cannot be used: {error}"
            return replace(seen, state=AttemptState.LOST, failure=FailureClass.TRANSFER, reason=said)
        return seen

    def release(self, key: RoundKey, jobs: Iterable[int]) -> None:
        """Nothing in the mailbox is ever held.

        :raises BackendError: as that of the batch system does.
        """
        if self.mailbox.orders_of(key) is None:
            self.inner.release(key, jobs)

    def remove(self, key: RoundKey, jobs: Iterable[int] | None = None) -> None:
        """Whoever does what the ledger does not want any more sees it in the mailbox, and stops.

        :raises BackendError: as that of the batch system does.
        """
        if self.mailbox.orders_of(key) is None:
            self.inner.remove(key, jobs)

    def dismiss(self, key: RoundKey, jobs: Iterable[int] | None, patience: float) -> None:
        """As :meth:`remove`; it is the batch system that is given the patience.

        :raises BackendError: as that of the batch system does.
        """
        if self.mailbox.orders_of(key) is None:
            let_go(self.inner, key, jobs, patience)

    def rounds(self) -> Sequence[RoundKey]:
        """Those of the batch system."""
        return self.inner.rounds()

    def forget(self, key: RoundKey) -> None:
        """Drop the batch system's records; the mailbox goes with the generation's files."""
        self.inner.forget(key)


def _fits(asked: Resources, given: Resources) -> bool:
    pairs = ((asked.memory, given.memory), (asked.disk, given.disk))
    return (
        asked.cpus <= given.cpus
        and asked.gpus <= given.gpus
        and all(one is None or (other is not None and one <= other) for one, other in pairs)
    )


def _make_folders(jobs: Iterable[JobSubmission]) -> None:
    """For a batch system that begins with what is there."""
    for job in jobs:
        (Path(job.folder) / "out").mkdir(parents=True, exist_ok=True)
        for name, text in job.lists.items():
            Path(job.folder, name).write_text(text, encoding="utf-8")


def _ended(order: Order, worker: Worker, result: object, at: datetime, place: Path) -> Observation:
    """What a result says of an attempt; one that is of something else is worth nothing.

    :param place: the folder of the attempt.
    """
    wrong = check_content(result, HandedOver(order, worker))
    if wrong or not isinstance(result, dict):
        said = f"the result of {worker} is refused: {wrong}"
        return Observation(order.job, order.attempt, AttemptState.LOST, at, reason=said, failure=FailureClass.LOST)
    hundredths = result.get("hundredths")
    seconds = hundredths / 100 if type(hundredths) is int and 0 <= hundredths < 10**10 else 0.0
    known = Observation(
        order.job,
        order.attempt,
        AttemptState.SUCCEEDED,
        at,
        host=host_name(result.get("host")),
        start=at - timedelta(seconds=seconds),
        end=at,
    )
    return _failed(known, int(result["exit_code"]), place, late=bool(result["timeout"]))


def _failed(known: Observation, code: int, place: Path, *, late: bool) -> Observation:
    if late:
        said = "it ran longer than its time limit"
        return replace(known, state=AttemptState.FAILED, failure=FailureClass.TIMEOUT, reason=said)
    if code == 0:
        return known
    if code == NOT_ENTERED:
        said = "its folder could not be made"
        return replace(known, state=AttemptState.LOST, failure=FailureClass.START, reason=said)
    signal = code - 128 if code > 128 else None
    exit_code = code if signal is None else None
    failure, reason = why(place, exit_code, signal)
    return replace(known, state=AttemptState.FAILED, exit_code=exit_code, signal=signal, failure=failure, reason=reason)
