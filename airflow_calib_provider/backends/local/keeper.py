"""The process between the supervisor and one job: whatever the job starts is this process's, to its end.

The kernel hands every orphan to its nearest ancestor that is a *subreaper*. The keeper is one, and has no other
children than the job: so nothing that the job starts can leave it, by a session of its own, a double fork, or an empty
environment, and the kernel tells exactly when nothing is left. The keeper ends after the job and all of that.

It outlives the supervisor for just as long as it takes to end the job, and holds the job's slots meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import signal
import time
from collections.abc import Iterable, Mapping
from typing import NoReturn

from airflow_calib_provider.backends.endings import not_found
from airflow_calib_provider.backends.local import processes
from airflow_calib_provider.checksums import write_sums
from airflow_calib_provider.domain.submission import JobSubmission

GO = b"g"
READY = b"r"

SEPARATOR = "\0"
"""Ends each text on the status pipe: ``setup:…`` and ``exec:…`` if the job could not start, ``end:STATUS:MEMORY``."""

ASKED = signal.SIGUSR1
"""From the supervisor, before it sends SIGTERM to the job and all that descends from it."""

_LOOK = 10.0
"""Seconds between two looks whether the supervisor lives, should the kernel's word have been missed."""

_LONGEST_PAUSE = 0.5

_SUMMING = 20.0
"""Seconds for the checksums of what a job has left; what takes longer is made later, elsewhere."""

_MARGIN = 2.0
"""Seconds before the job's time-out: it ended in time, and must not seem to run over it now."""


def keep(
    job: JobSubmission, environment: Mapping[str, str], go: int, status: int, slots: Iterable[int], grace: float
) -> NoReturn:
    """Be the keeper of a job: start it after the supervisor's word, report its end when nothing of it lives.

    :param environment: the job's, complete.
    :param go: the pipe from the supervisor.
    :param status: the pipe to it.
    :param slots: open files that are to be held until the end.
    :param grace: seconds that all of the job has to end by itself, after it was asked to.
    """
    supervisor = os.getppid()
    try:
        gc.disable()
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # They are waited for below; everything else is for the job only.
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGCHLD, signal.SIGTERM, ASKED})
        processes.adopt_orphans()
        processes.die_with_parent(signal.SIGTERM)
        _close_all_but({0, 1, 2, go, status, *slots})
        os.write(status, READY)
        if os.read(go, 1) == GO:
            begun = time.monotonic()
            pid = os.fork()
            if pid == 0:
                _become(job, environment, status)
            ended, memory = _watch(pid, supervisor, grace)
            if ended == 0 and job.products:
                _sum(job, begun, supervisor)
            if ended is not None:
                _say(status, f"end:{ended}:{memory}")
    except OSError as error:
        _say(status, f"setup:{error}")
    finally:
        os._exit(0)


def _close_all_but(kept: set[int]) -> None:
    """The supervisor's lock, its log, and the slots of other jobs must not be held open from here."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - of its 200 us each the job waits for one
        if int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _say(status: int, text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(status, (text[:2000] + SEPARATOR).encode(errors="replace"))


def _watch(job: int, supervisor: int, grace: float) -> tuple[int | None, int]:
    """Wait for the job, reap what it leaves, and end the rest: at once, but for what was asked to end by itself.

    :returns: the job's status, and the peak of its memory in bytes.
    """
    ended: int | None = None
    spared_until = 0.0
    memory = 0
    pause = 0.001
    while True:
        try:
            pid, code, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid:
            memory = max(memory, usage.ru_maxrss * 1024)
            ended = code if pid == job else ended
            continue
        if signal.sigtimedwait({ASKED}, 0):
            spared_until = spared_until or time.monotonic() + grace
        if ended is None and os.getppid() == supervisor:
            signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, _LOOK)
        elif os.getppid() == supervisor and (left := spared_until - time.monotonic()) > 0:
            signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, left)
        elif not processes.kill_family(os.getpid()):
            break  # what is left belongs to other users
        else:
            signal.sigtimedwait({signal.SIGCHLD}, pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)
    return ended, memory


def _sum(job: JobSubmission, begun: float, supervisor: int) -> None:
    """Leave the checksums of its products beside them, as long as nobody waits for its end.

    :param begun: monotonic time.
    """
    until = time.monotonic() + _SUMMING
    if job.timeout is not None:
        until = min(until, begun + job.timeout - _MARGIN)

    def stop() -> bool:
        asked = signal.sigtimedwait({ASKED, signal.SIGTERM}, 0)
        return asked is not None or time.monotonic() > until or os.getppid() != supervisor

    # Whatever is odd about what it has left: how it ended is to be told.
    with contextlib.suppress(OSError, ValueError, MemoryError):
        write_sums(job.folder, job.products, stop)


def _become(job: JobSubmission, environment: Mapping[str, str], status: int) -> NoReturn:
    """The child: nothing may escape from here into the code of the parent."""
    stage, code = "setup", 125
    try:
        os.setsid()
        processes.die_with_parent(signal.SIGKILL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _redirect(job)
        processes.leave_mark(environment[processes.MARK])
        stage, code = "exec", 126
        _limit_memory(job.resources.memory)
        os.execvpe(job.command[0], job.command, dict(environment))  # noqa: S606 (there is no shell on purpose)
    except FileNotFoundError as error:
        code = 127 if stage == "exec" else code
        text = not_found(job.command[0]) if stage == "exec" else str(error)
        _say(status, f"{stage}:{text}")
    except OSError as error:
        text = f"{job.command[0]}: {error.strerror}" if stage == "exec" else str(error)
        _say(status, f"{stage}:{text}")
    except MemoryError:
        _say(status, f"{stage}:the memory limit of {job.resources.memory} bytes is too low to start")
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
