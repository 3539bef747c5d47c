"""Looking after rounds that have no living supervisor: starting one, or recording what was lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime

from airflow_calib_provider.backends import environment, log
from airflow_calib_provider.backends.local import processes
from airflow_calib_provider.backends.local.folder import RoundFolder, Submission
from airflow_calib_provider.domain.observation import AttemptState, FailureClass
from airflow_calib_provider.errors import BackendError

_MODULE = "airflow_calib_provider.backends.local.supervisor"
_STARTS = 3
_START_PATIENCE = 5.0


def tend(folder: RoundFolder, host: processes.Host) -> bool:
    """Make sure that somebody is in charge of a round's unfinished jobs.

    Nothing is done while a supervisor lives, when all jobs have ended, or on another host than that of the submission.
    Any number of processes may call this at once.

    :param folder: the round.
    :param host: this machine.
    :returns: whether the lock was free; if so, the log may have grown.
    :raises BackendError: the folder is damaged.
    :raises OSError: it cannot be read or written, or no process can be started.
    """
    with folder.lock() as free:
        if not free:
            return False
        here = folder.host()
        if not here.is_same_machine(host):
            return True
        record = log.Record.of(folder.events)
        submission = folder.submission()
        if len(record.ended) == len(submission.jobs):
            return True
        rebooted = here.boot != host.boot
        if rebooted or record.supervised:
            marks = {submission.mark(index, folder.path) for index in record.running}
            # A process id of an earlier boot says nothing, the mark always does.
            leaders = {} if rebooted else dict(record.running.values())
            # What cannot be killed (yet) is not lost (yet): the next look tries again.
            if processes.kill_leftovers(leaders, marks):
                reason = "the host was rebooted" if rebooted else "the supervisor died"
                _settle(folder, submission, record, host, reason)
        else:
            _remove_requested(folder, submission, record, host)
            if len(record.ended) < len(submission.jobs):
                _start_supervisor(folder, submission, record, host)
        return True


def _settle(folder: RoundFolder, submission: Submission, record: log.Record, host: processes.Host, reason: str) -> None:
    """Record that all unfinished jobs are lost, or removed if that was requested."""
    _remove_requested(folder, submission, record, host)
    indices = {job.index for job in submission.jobs}
    _end(folder, submission, record, host, indices, AttemptState.LOST, reason)


def _remove_requested(folder: RoundFolder, submission: Submission, record: log.Record, host: processes.Host) -> None:
    _end(folder, submission, record, host, folder.requested(), AttemptState.REMOVED, "removed")


def _end(
    folder: RoundFolder,
    submission: Submission,
    record: log.Record,
    host: processes.Host,
    indices: set[int],
    state: AttemptState,
    reason: str,
) -> None:
    jobs = [job for job in submission.jobs if job.index in indices and job.index not in record.ended]
    if not jobs:
        return
    writer = log.Writer(folder.events)
    try:
        for job in jobs:
            start = record.starts.get(job.index)
            line = log.event(
                state.value,
                index=job.index,
                attempt=job.attempt,
                host=host.name,
                start=start,
                end=datetime.now(UTC),
                reason=reason,
                failure=FailureClass.LOST.value if state is AttemptState.LOST else None,
            )
            writer.write(line)
            record.ended.add(job.index)
        writer.sync()
    finally:
        writer.close()


def _start_supervisor(folder: RoundFolder, submission: Submission, record: log.Record, host: processes.Host) -> None:
    """Start a supervisor, unless one may be on its way, or several have died before they could say a word."""
    status = folder.starts.stat()
    if status.st_size and abs(time.time() - status.st_mtime) < _START_PATIENCE:
        return
    if status.st_size >= _STARTS:
        words = folder.output.read_text(errors="replace").strip().splitlines()[-1:]
        _settle(folder, submission, record, host, f"no supervisor starts, see {folder.output}: {' '.join(words)}")
        return
    with folder.starts.open("ab") as starts:
        starts.write(b"x")
    with folder.output.open("ab") as output:
        try:
            # The shell ends at once: the supervisor is nobody's child, and nobody has to wait for it.
            subprocess.run(
                ["/bin/sh", "-c", '"$@" &', "sh", sys.executable, "-m", _MODULE, str(folder.path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder.path,
                env=environment.for_supervisor(os.environ),
                start_new_session=True,
                check=True,
            )
        except subprocess.SubprocessError as error:
            raise BackendError(f"{folder.path}: no supervisor can be started: {error}") from error
