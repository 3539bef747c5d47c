"""The process that runs the jobs of one round: ``python -m airflow_calib_provider.backends.local.supervisor FOLDER``.

It needs nothing but the standard library, talks to nobody but the folder, and outlives whoever started it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from airflow_calib_provider.backends import environment, log
from airflow_calib_provider.backends.local import processes
from airflow_calib_provider.backends.local.folder import RoundFolder, Submission, read_request
from airflow_calib_provider.backends.local.job import Outcome, RunningJob, start
from airflow_calib_provider.backends.local.slots import LOOK, Slots, WorkersSlots
from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.observation import AttemptState, FailureClass
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission

_IDLE = 0.2
"""Seconds after which requests and time-outs are looked at when nothing else happens."""

_PATIENCE = 10.0
"""Seconds to wait for the lock: who looks whether a supervisor lives holds it for a moment."""

_REMOVED = Outcome(AttemptState.REMOVED, reason="removed")


class Supervisor:
    """Runs the jobs of one round until all have ended.

    :param folder: the round's folder, whose lock this process holds.
    :param submission: its content.
    :param record: what the log says already.
    """

    def __init__(self, folder: RoundFolder, submission: Submission, record: log.Record) -> None:
        self._folder = folder
        self._submission = submission
        key = RoundKey.parse(folder.path.name)
        self._group = key.group
        self._host = processes.Host.here().name
        of_round = WorkersSlots if key.of_workers else Slots
        self._slots = of_round(folder.path.parent / "slots" / self._host, submission.slots)
        self._writer = log.Writer(folder.events)
        self._unwritten: deque[log.LogEvent] = deque()
        self._queue = deque(job for job in submission.jobs if job.index not in record.ended)
        self._running: dict[int, RunningJob] = {}
        self._unkept: list[tuple[RunningJob, Outcome]] = []
        self._stopping = False
        self._wake, wake = os.pipe()
        for end in (self._wake, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, *_: object) -> None:
        self._stopping = True

    def run(self) -> None:
        """Return when all jobs have ended and that is on disk."""
        self._unwritten.append(log.event(log.SUPERVISED, pid=os.getpid(), host=self._host))
        self._flush()
        crash_point("supervisor.after_start", self._group)
        # Should this end by an error, the keepers end their jobs.
        while True:
            self._reap()
            self._continue_stopped()
            self._end_unkept()
            self._obey()
            for running in self._running.values():
                running.enforce(self._submission.grace)
            self._start_jobs()
            on_disk = self._try_flush()
            if on_disk and not self._queue and not self._running and not self._unkept:
                return
            self._sleep()

    def _sleep(self) -> None:
        select.select([self._wake], [], [], LOOK if self._queue else _IDLE)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake, 4096):
                pass

    # What has happened

    def _reap(self) -> None:
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        with contextlib.suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, flags):
                running = self._running.pop(ended.si_pid, None)
                if running is None:
                    os.waitpid(ended.si_pid, 0)
                else:
                    outcome = running.reap()
                    if running.unkept:
                        self._unkept.append((running, outcome))
                    else:
                        self._end(running, outcome)

    def _continue_stopped(self) -> None:
        """A keeper that its job has stopped would never tell the end, nor give its slots back."""
        with contextlib.suppress(ChildProcessError):
            while stopped := os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOHANG):
                if stopped.si_pid in self._running:
                    os.kill(stopped.si_pid, signal.SIGCONT)

    def _end_unkept(self) -> None:
        """Jobs whose keepers were killed end when nothing of them is left: this process has inherited it."""
        if not self._unkept:
            return
        left = processes.kill_family(os.getpid(), self._running)
        marks = {self._submission.mark(running.job.index, self._folder.path) for running, _ in self._unkept}
        if not left and processes.kill_leftovers({}, marks, patience=0):
            for running, outcome in self._unkept:
                self._end(running, outcome)
            self._unkept.clear()

    def _end(self, running: RunningJob, outcome: Outcome) -> None:
        self._slots.release(running.slots)
        self._note(running.job, outcome, running)

    def _note(self, job: JobSubmission, outcome: Outcome, running: RunningJob | None = None) -> None:
        self._unwritten.append(
            log.event(
                outcome.state.value,
                index=job.index,
                attempt=job.attempt,
                host=self._host,
                start=running.start if running else None,
                end=datetime.now(UTC),
                exit_code=outcome.exit_code,
                signal=outcome.signal,
                reason=outcome.reason,
                failure=outcome.failure and outcome.failure.value,
                memory=outcome.memory,
            )
        )

    def _flush(self) -> None:
        if self._unwritten:
            while self._unwritten:
                self._writer.write(self._unwritten[0])
                self._unwritten.popleft()
            self._writer.sync()

    def _try_flush(self) -> bool:
        """A full disk may have space again later: until then the events wait in memory and no job starts."""
        try:
            self._flush()
        except OSError as error:
            print(f"{self._folder.events}: {error}", file=sys.stderr, flush=True)
            time.sleep(_IDLE)
            return False
        return True

    # What is wanted

    def _obey(self) -> None:
        if self._stopping:
            reason = "the supervisor was asked to end (SIGTERM)"
            lost = Outcome(AttemptState.LOST, reason=reason, failure=FailureClass.LOST)
            self._remove({job.index for job in self._submission.jobs}, lost)
        try:
            requests = self._folder.requests()
        except FileNotFoundError:
            # Somebody deleted the round's folder. Nobody will ever ask for these jobs again.
            self._remove({job.index for job in self._submission.jobs}, _REMOVED)
            return
        for request in requests:
            with contextlib.suppress(FileNotFoundError):
                self._remove(set(read_request(request)), _REMOVED)

    def _remove(self, indices: set[int], outcome: Outcome) -> None:
        for job in self._queue:
            if job.index in indices:
                self._note(job, outcome)
        self._queue = deque(job for job in self._queue if job.index not in indices)
        for running in self._running.values():
            if running.job.index in indices:
                running.ask_to_stop(outcome, self._submission.grace)

    def _start_jobs(self) -> None:
        until = time.monotonic() + _IDLE / 2
        while self._queue and time.monotonic() < until:
            job = self._queue[0]
            if job.resources.cpus > self._slots.count:
                self._queue.popleft()
                reason = f"asks for {job.resources.cpus} cpus, but the host has {self._slots.count} slots"
                self._note(job, Outcome(AttemptState.FAILED, reason=reason, failure=FailureClass.START))
                continue
            taken = self._slots.take(job.resources.cpus)
            if taken is None:
                return
            self._queue.popleft()
            if not self._start(job, taken):
                break
        if not self._queue:
            self._slots.withdraw()

    def _start(self, job: JobSubmission, taken: list[int]) -> bool:
        mark = {processes.MARK: self._submission.mark(job.index, self._folder.path)}
        try:
            own = environment.for_job(os.environ, dict(job.environment) | mark)
            running = start(job, own, taken, self._submission.grace)
        except OSError as error:
            self._slots.release(taken)
            reason = f"could not be started: {error}"
            self._note(job, Outcome(AttemptState.LOST, reason=reason, failure=FailureClass.START))
            return True
        line = log.event(
            AttemptState.RUNNING.value,
            index=job.index,
            attempt=job.attempt,
            host=self._host,
            pid=running.pid,
            ticks=running.ticks,
            start=running.start,
        )
        self._unwritten.append(line)
        if not self._try_flush():
            running.abandon()
            self._slots.release(taken)
            if self._unwritten and self._unwritten[-1] is line:
                self._unwritten.pop()
            self._queue.appendleft(job)
            return False
        self._running[running.pid] = running
        running.go()
        crash_point("supervisor.job_started", self._group)
        return True


@contextlib.contextmanager
def _only_supervisor(folder: RoundFolder) -> Iterator[log.Record | None]:
    """Hold the lock for as long as this process lives; yields ``None`` if the round has, or had, a supervisor."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        with folder.lock() as free:
            record = log.Record.of(folder.events)
            if free or record.supervised or time.monotonic() > deadline:
                yield record if free and not record.supervised else None
                return
        time.sleep(0.02)


def main(arguments: list[str]) -> int:
    """Supervise the round of the folder that is the only argument."""
    (path,) = arguments
    with contextlib.suppress(PermissionError):
        os.setsid()
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    processes.adopt_orphans()
    folder = RoundFolder(Path(path))
    with _only_supervisor(folder) as record:
        if record is not None:
            Supervisor(folder, folder.submission(), record).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
