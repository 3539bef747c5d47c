"""Jobs, and what they wrote."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_calib_provider.api.reading import PROMPT, check_names
from airflow_calib_provider.errors import NotFound
from airflow_calib_provider.ledger import generations, queries, results, steps
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import find_group, group_by_id, task_of
from airflow_calib_provider.ledger.lines import JobLine

if TYPE_CHECKING:
    from airflow_calib_provider.ledger.rows import Generation, JobRecord

CHUNK = 1 << 20
"""Bytes that are read of a log at once."""


def jobs(
    ledger: Ledger,
    *,
    campaign: str = PROMPT,
    workflow: str | None = None,
    group: str | None = None,
    task: str | None = None,
    state: str | None = None,
    last: int = 100,
) -> list[JobLine]:
    """The jobs of the latest generation of each job set, with what is in the way of it.

    :param group: a group's name.
    :param state: waiting, submitted, running, held, succeeded, failed, left_out or removed.
    :param last: only so many, those with the newest data; 0: all.
    :raises NotFound: there is no such campaign, workflow, task or group.
    """
    with ledger.read() as connection:
        check_names(connection, campaign, workflow, task)
        if group is not None:
            find_group(connection, campaign, workflow, group)
        return queries.jobs_listed(
            connection, campaign, workflow=workflow, group_name=group, task=task, state=state, last=last
        )


@dataclass(frozen=True)
class AttemptLog:
    """What an attempt of a job wrote to its standard output or error.

    :ivar file: where it lies.
    """

    file: Path
    generation: int
    job: int
    attempt: int

    def chunks(self, tail: int = 0) -> Iterator[bytes]:
        """The content, in pieces that fit into memory.

        :param tail: only so many last lines; 0: all.
        """
        with self.file.open("rb") as stream:
            if tail:
                yield from deque(stream, maxlen=tail)
                return
            while chunk := stream.read(CHUNK):
                yield chunk

    def text(self, tail: int = 0) -> str:
        """The content; what is no UTF-8 is replaced."""
        return b"".join(self.chunks(tail)).decode(errors="replace")


def job_log(
    ledger: Ledger,
    of: int | str,
    task: str,
    job: int = 0,
    *,
    campaign: str = PROMPT,
    workflow: str | None = None,
    source: str | None = None,
    attempt: int | None = None,
    generation: int | None = None,
    step: int | None = None,
    stderr: bool = False,
) -> AttemptLog:
    """What a job wrote.

    :param of: a group's name, or a run of it.
    :param job: its index.
    :param source: of the run.
    :param attempt: this one; the accepted or else the last one if left out.
    :param generation: this one; the latest one if left out.
    :param step: of what iterates; the present or else the last one if left out.
    :param stderr: the standard error instead.
    :raises NotFound: there is no such campaign, workflow, group, run, task, job or attempt, or no file of it.
    """
    group = str(of)
    row, of_job = _find(ledger, campaign, workflow, source, of, task, job, generation, step)
    number = attempt or of_job.accepted_attempt or of_job.attempt
    if number > of_job.attempt or number == 0:
        made = f"its last attempt is {of_job.attempt}" if of_job.attempt else "it was not submitted yet"
        raise NotFound(f"job {job} of {task} of {group} has no attempt {number or ''}".rstrip(), made)
    said = of_job.reason if number == of_job.attempt else None
    return AttemptLog(_file(row.folder, job, number, of_job.accepted_attempt, stderr, said), row.n, job, number)


def _find(
    ledger: Ledger,
    campaign: str,
    workflow: str | None,
    source: str | None,
    of: int | str,
    task: str,
    job: int,
    n: int | None,
    step: int | None,
) -> tuple[Generation, JobRecord]:
    meant = str(of)
    with ledger.read() as connection:
        check_names(connection, campaign, workflow, source=source)
        run = of if isinstance(of, int) else None
        groups = results.meant(connection, campaign, workflow, meant, run, task, source)
        if len(groups) > 1:
            listed = ", ".join(f"{item.name} of {item.workflow}" for item in groups)
            raise NotFound(f"several groups with a task {task} are meant by {meant}: {listed}", "name a --workflow")
        held = group_by_id(connection, groups[0].id)
        group = str(held.name)
        if task_of(connection, held, task).kind == "publish":
            raise NotFound(
                f"the task {task} of {group} publishes: it has no jobs", f"`calib explain {group}` says more"
            )
        row = generations.latest(connection, held.id, task)
        if row is not None and n is not None and n != row.n:
            row = results.generation_numbered(connection, held.id, task, n, row.n)
        if row is None:
            raise NotFound(f"the task {task} of {group} has no jobs yet", f"`calib explain {group}` says why")
        row = steps.at(connection, row, step)
        found = {item.job_index: item for item in generations.jobs_of(connection, [row.id], step=row.step)}
    if job not in found:
        raise NotFound(f"{task} of {group} has no job {job}", f"it has {len(found)}, counted from 0")
    return row, found[job]


def _file(folder: str, job: int, attempt: int, accepted: int | None, stderr: bool, said: str | None) -> Path:
    from airflow_calib_provider.jobsets.folders import log_files

    file = log_files(folder, job, attempt, accepted)[stderr]
    if not file.is_file():
        hint = "the attempt has not begun, or its folder was removed"
        raise NotFound(f"there is no file {file}", f"{hint}; what is known of it: {said}" if said else hint)
    return file
