"""Starting one job as a child process, in such a way that it runs only after its start is on record."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NoReturn

from airflow_calib_provider.backends.local import processes
from airflow_calib_provider.backends.local.log import now
from airflow_calib_provider.domain.observation import AttemptState, FailureClass
from airflow_calib_provider.domain.submission import JobSubmission

_GO = b"g"
_READY = b"r"


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
    """A child process that waits for :meth:`go` or already is the job.

    :ivar ticks: its start, see :func:`processes.start_ticks`.
    :ivar slots: what it has taken, to be given back at its end.
    :ivar stop: the outcome that was decided for it when it was asked to stop.
    :ivar kill_at: monotonic time after which it is not asked any more.
    :ivar time_out_at: monotonic time of its time-out.
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

    def go(self) -> None:
        """Let it run."""
        if self.job.timeout is not None:
            self.time_out_at = time.monotonic() + self.job.timeout
        with contextlib.suppress(BrokenPipeError):
            os.write(self._go, _GO)
        os.close(self._go)

    def abandon(self) -> None:
        """End it before it has become the job."""
        os.close(self._go)
        os.close(self._status)
        os.waitpid(self.pid, 0)

    def ask_to_stop(self, outcome: Outcome, grace: float) -> None:
        """Send SIGTERM; the first decision about the outcome stays.

        :param grace: seconds until SIGKILL follows.
        """
        if self.stop is None:
            self.stop = outcome
            self.kill_at = time.monotonic() + grace
            processes.signal_group(self.pid, signal.SIGTERM)

    def enforce(self, grace: float) -> None:
        """Do what its time-out and an earlier request to stop demand."""
        clock = time.monotonic()
        if clock >= self.time_out_at:
            reason = f"time-out after {self.job.timeout:g} s"
            self.ask_to_stop(Outcome(AttemptState.FAILED, reason=reason, failure=FailureClass.TIMEOUT), grace)
        if clock >= self.kill_at:
            processes.signal_group(self.pid, signal.SIGKILL)

    def reap(self, patience: float = 2.0) -> Outcome:
        """The outcome of a child that has ended; what is left of its process group is killed.

        The child must not have been waited for: until then its process id cannot belong to others.

        :param patience: seconds to wait for the rest of the group to be gone.
        """
        processes.signal_group(self.pid, signal.SIGKILL)
        _, status, usage = os.wait4(self.pid, 0)
        deadline = time.monotonic() + patience
        # Orphans are adopted by the supervisor (a subreaper), so the group can be waited for.
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < deadline:
                if os.waitid(os.P_PGID, self.pid, os.WEXITED | os.WNOHANG) is None:
                    time.sleep(0.002)
        return replace(self._outcome(os.waitstatus_to_exitcode(status)), memory=usage.ru_maxrss * 1024)

    def _outcome(self, code: int) -> Outcome:
        message = b""
        with contextlib.suppress(BlockingIOError):
            message = os.read(self._status, 4096)
        os.close(self._status)
        exit_code, number = (None, -code) if code < 0 else (code, None)
        if self.stop is not None:
            return replace(self.stop, exit_code=exit_code, signal=number)
        if message:
            stage, _, text = message.decode(errors="replace").partition(":")
            if stage == "exec":
                return Outcome(AttemptState.FAILED, exit_code, number, text, FailureClass.START)
            return Outcome(AttemptState.LOST, None, None, f"could not be started: {text}", FailureClass.START)
        if number is not None:
            return Outcome(AttemptState.FAILED, None, number, f"killed by {_signal_name(number)}", FailureClass.SIGNAL)
        if exit_code:
            return Outcome(AttemptState.FAILED, exit_code, None, f"exit code {exit_code}", FailureClass.EXIT)
        return Outcome(AttemptState.SUCCEEDED, 0)


def start(job: JobSubmission, environment: Mapping[str, str], slots: list[int]) -> RunningJob:
    """Fork a child that will become the job after :meth:`RunningJob.go`, and never if this process dies before.

    :param environment: the complete environment.
    :param slots: what the job has taken.
    :raises OSError: no process can be made.
    """
    go_read, go_write = os.pipe()
    status_read, status_write = os.pipe()
    # No signal may run the parent's handlers in the child.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            os.close(go_write)
            _become(job, environment, go_read, status_write)
    except OSError:
        os.close(go_write)
        os.close(status_read)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(go_read)
        os.close(status_write)
    # From here on it is the leader of its own process group.
    os.read(status_read, 1)
    os.set_blocking(status_read, False)
    return RunningJob(job, pid, processes.start_ticks(pid) or 0, slots, now(), go_write, status_read)


def _become(job: JobSubmission, environment: Mapping[str, str], go: int, status: int) -> NoReturn:
    """The child: nothing may escape from here into the code of the parent."""
    stage, code = "setup", 125
    try:
        os.setsid()
        processes.die_with_parent()
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.write(status, _READY)
        if os.read(go, 1) == _GO:
            _redirect(job)
            stage, code = "exec", 126
            _limit_memory(job.resources.memory)
            os.execvpe(job.command[0], job.command, dict(environment))  # noqa: S606 (there is no shell on purpose)
    except FileNotFoundError as error:
        code = 127 if stage == "exec" else code
        text = f"command not found: {job.command[0]} (or its interpreter)" if stage == "exec" else str(error)
        os.write(status, f"{stage}:{text}".encode())
    except OSError as error:
        text = f"{job.command[0]}: {error.strerror}" if stage == "exec" else str(error)
        os.write(status, f"{stage}:{text}".encode())
    except MemoryError:
        os.write(status, f"{stage}:the memory limit of {job.resources.memory} bytes is too low to start".encode())
    finally:
        os._exit(code)


def _redirect(job: JobSubmission) -> None:
    os.chdir(job.folder / "out")
    null = os.open(os.devnull, os.O_RDONLY)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    out = os.open(job.folder / "stdout", flags, 0o666)
    err = os.open(job.folder / "stderr", flags, 0o666)
    for file, number in ((null, 0), (out, 1), (err, 2)):
        os.dup2(file, number)


def _limit_memory(limit: int | None) -> None:
    if limit is None:
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except ValueError as error:
        raise OSError(errno.EINVAL, f"memory limit of {limit} bytes: {error}") from error


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
