"""Starting one job below a keeper of its own, in such a way that it runs only after its start is on record."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from airflow_calib_provider.backends.endings import killed_by
from airflow_calib_provider.backends.local import keeper, processes
from airflow_calib_provider.domain.observation import AttemptState, FailureClass
from airflow_calib_provider.domain.submission import JobSubmission


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    :ivar memory: the peak of its largest process, in bytes.
    """

    state: AttemptState
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    failure: FailureClass | None = None
    memory: int | None = None


@dataclass
class RunningJob:
    """A keeper that waits for :meth:`go`, or has the job as its child.

    :ivar pid: of the keeper.
    :ivar ticks: its start, see :func:`processes.start_ticks`.
    :ivar slots: what it has taken, to be given back at its end.
    :ivar stop: the outcome that was decided for it when it was asked to stop.
    :ivar kill_at: monotonic time after which it is not asked any more.
    :ivar time_out_at: monotonic time of its time-out.
    :ivar unkept: its keeper was killed: what the job had started may live on, as the supervisor's own children.
    """

    job: JobSubmission
    pid: int
    ticks: int
    slots: list[int]
    start: datetime
    _go: int
    _status: int
    stop: Outcome | None = None
    kill_at: float = field(default=float("inf"))
    time_out_at: float = field(default=float("inf"))
    unkept: bool = False

    def go(self) -> None:
        """Let it run."""
        if self.job.timeout is not None:
            self.time_out_at = time.monotonic() + self.job.timeout
        with contextlib.suppress(BrokenPipeError):
            os.write(self._go, keeper.GO)
        os.close(self._go)

    def abandon(self) -> None:
        """End it before it has become the job."""
        os.close(self._go)
        os.close(self._status)
        os.waitpid(self.pid, 0)

    def ask_to_stop(self, outcome: Outcome, grace: float) -> None:
        """Send SIGTERM to all processes of the job; the first decision about the outcome stays.

        :param grace: seconds until SIGKILL follows.
        """
        if self.stop is None:
            self.stop = outcome
            self.kill_at = time.monotonic() + grace
            # First of all: a shell ends at once, and what it has started is to have its time all the same.
            os.kill(self.pid, keeper.ASKED)
            processes.signal_family(self.pid, signal.SIGTERM)

    def enforce(self, grace: float) -> None:
        """Do what its time-out and an earlier request to stop demand."""
        clock = time.monotonic()
        if clock >= self.time_out_at:
            reason = f"time-out after {self.job.timeout:g} s"
            self.ask_to_stop(Outcome(AttemptState.FAILED, reason=reason, failure=FailureClass.TIMEOUT), grace)
        if clock >= self.kill_at:
            processes.kill_family(self.pid)

    def reap(self) -> Outcome:
        """The outcome of a job whose keeper has ended, and with it everything that the job had started.

        Only a keeper that was killed leaves something behind, and says nothing: see :attr:`unkept`.
        """
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        said = self._said()
        self.unkept = "end" not in said and code < 0
        if "end" not in said:
            why = f"could not be started: {said['setup']}" if "setup" in said else "the process that watched it died"
            return self.stop or Outcome(AttemptState.LOST, reason=why, failure=FailureClass.LOST)
        status, memory = said["end"].split(":")
        return replace(self._outcome(os.waitstatus_to_exitcode(int(status)), said), memory=int(memory))

    def _said(self) -> dict[str, str]:
        message = b""
        with contextlib.suppress(BlockingIOError):
            message = os.read(self._status, 16_384)
        os.close(self._status)
        texts = message.decode(errors="replace").split(keeper.SEPARATOR)
        return {stage: text for stage, _, text in (text.partition(":") for text in texts) if stage}

    def _outcome(self, code: int, said: Mapping[str, str]) -> Outcome:
        exit_code, number = (None, -code) if code < 0 else (code, None)
        if self.stop is not None:
            return replace(self.stop, exit_code=exit_code, signal=number)
        if "exec" in said:
            return Outcome(AttemptState.FAILED, exit_code, number, said["exec"], FailureClass.START)
        if "setup" in said:
            return Outcome(AttemptState.LOST, None, None, f"could not be started: {said['setup']}", FailureClass.START)
        if number is not None:
            return Outcome(AttemptState.FAILED, None, number, killed_by(number), FailureClass.SIGNAL)
        if exit_code:
            return Outcome(AttemptState.FAILED, exit_code, None, f"exit code {exit_code}", FailureClass.EXIT)
        return Outcome(AttemptState.SUCCEEDED, 0)


def start(job: JobSubmission, environment: Mapping[str, str], slots: list[int], grace: float) -> RunningJob:
    """Fork a keeper that will start the job after :meth:`RunningJob.go`, and never if this process dies before.

    :param environment: the complete environment.
    :param slots: what the job has taken.
    :param grace: seconds between SIGTERM and SIGKILL.
    :raises OSError: no process can be made.
    """
    go_read, go_write = os.pipe()
    status_read, status_write = os.pipe()
    # No signal may run the parent's handlers in the child.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            keeper.keep(job, environment, go_read, status_write, slots, grace)
    except OSError:
        os.close(go_write)
        os.close(status_read)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(go_read)
        os.close(status_write)
    # From here on it will end the job if this process dies.
    os.read(status_read, 1)
    os.set_blocking(status_read, False)
    return RunningJob(job, pid, processes.start_ticks(pid) or 0, slots, datetime.now(UTC), go_write, status_read)
