"""The rounds of a generation: each submits the jobs whose time has come, once (rules 13 and 15)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, String, and_, case, cast, func, literal, select

from airflow_calib_provider.domain.observation import AttemptState, FailureClass
from airflow_calib_provider.domain.reducer import JobState
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.errors import IllegalTransition
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.rows import Generation, Round, RoundJob, read_rows, select_of
from airflow_calib_provider.ledger.transitions import (
    ManyRows,
    Move,
    Subject,
    create_from,
    move,
    move_all,
    tell_all,
)

generation, round_, job, attempt = tables.generation, tables.round_, tables.job, tables.attempt


def in_states(connection: Connection, generation_ids: Iterable[int], states: Sequence[str]) -> list[Round]:
    """The rounds of these generations in these states."""
    query = select_of(Round, round_).where(round_.c.generation_id.in_(list(generation_ids)), round_.c.state.in_(states))
    return read_rows(connection, query.order_by(round_.c.generation_id, round_.c.n), Round)


def plan(connection: Connection, row: Generation, now: datetime) -> int | None:
    """Put every waiting job whose delay is over into a new round, as its next attempt.

    :param row: the generation, as :func:`.generations.by_id` gives it.
    :returns: the round's number, ``None`` if no job is to be submitted.
    """
    due = (job.c.generation_id == row.id, job.c.step == row.step, job.c.retry_at.is_(None) | (job.c.retry_at <= now))
    counted = select(func.count()).select_from(job).where(*due, job.c.state == JobState.WAITING)
    count = int(connection.execute(counted).scalar_one())
    if not count:
        return None
    highest = connection.execute(select(func.max(round_.c.n)).where(round_.c.generation_id == row.id)).scalar()
    number = 0 if highest is None else int(highest) + 1
    key = RoundKey(row.campaign, row.workflow, row.task, row.group_name, row.n, row.step, number)
    subject = Subject.of_generation(row)
    columns = {"key": key, "cursor": "", "planned_at": now, "submitted_at": None, "git_commit": row.git_commit}
    round_key = {"generation_id": row.id, "step": row.step, "n": number}
    move(connection, round_, [Move(round_key, None, "planned", subject, columns, {"jobs": count, "key": str(key)})])
    _submit(connection, row, number, due, count)
    return number


_CLEARED = ("exit_code", "signal", "host", "start", "end", "reason", "retry_at", "failure", "hold_code")
"""What a job knows of its last attempt."""


def _submit(
    connection: Connection, row: Generation, number: int, due: Sequence[ColumnElement[bool]], count: int
) -> None:
    """Put all jobs that are due into a round, by a few statements, since there may be very many.

    :raises IllegalTransition: there are not as many as were counted.
    """
    waiting, submitted = JobState.WAITING.value, JobState.SUBMITTED.value
    stated = cast(job.c.definition["memory"].as_string(), attempt.c.request_memory.type)
    columns = {
        "generation_id": job.c.generation_id,
        "step": job.c.step,
        "job_index": job.c.job_index,
        "n": job.c.attempt + 1,
        "round": literal(number),
        "request_memory": func.coalesce(job.c.request_memory, stated),
    }
    query = select(*(column.label(name) for name, column in columns.items())).where(*due, job.c.state == waiting)
    create_from(connection, attempt, AttemptState.SUBMITTED.value, list(columns), query)
    cleared: dict[str, object] = dict.fromkeys(_CLEARED)
    cleared |= {"memory": None, "progress": None, "releases": 0, "attempt": job.c.attempt + 1}
    moved = move_all(connection, job, waiting, submitted, due, cleared)
    if moved != count:
        raise IllegalTransition(f"{moved} jobs of {row.group_name} are due, and not {count}", "look again")
    asked = literal('{"request_memory": ') + cast(attempt.c.request_memory, String) + literal("}")
    data = case((attempt.c.request_memory.is_(None), "{}"), else_=asked)
    for entity, source, text in ((job, waiting, data), (attempt, None, literal("{}"))):
        rows = select(attempt.c.job_index, attempt.c.n.label("attempt"), text.label("data")).where(
            attempt.c.generation_id == row.id, attempt.c.step == row.step, attempt.c.round == number
        )
        tell_all(connection, entity.name, source, submitted, ManyRows(Subject.of_generation(row), rows), count)


def jobs_of(connection: Connection, generation_id: int, step: int, number: int) -> list[RoundJob]:
    """The jobs of a round with the attempt that it makes."""
    return read_rows(
        connection,
        select(job.c.job_index, job.c.definition, attempt.c.n.label("attempt_n"), attempt.c.request_memory)
        .join(
            attempt,
            and_(
                attempt.c.generation_id == job.c.generation_id,
                attempt.c.step == job.c.step,
                attempt.c.job_index == job.c.job_index,
            ),
        )
        .where(attempt.c.generation_id == generation_id, attempt.c.step == step, attempt.c.round == number)
        .order_by(job.c.job_index),
        RoundJob,
    )


def attempts_of(connection: Connection, item: Round) -> list[tuple[int, int]]:
    """Job index and attempt of each job of a round."""
    here = (attempt.c.generation_id == item.generation_id, attempt.c.step == item.step, attempt.c.round == item.n)
    query = select(attempt.c.job_index, attempt.c.n).where(*here).order_by(attempt.c.job_index)
    return [(row.job_index, row.n) for row in connection.execute(query)]


def note_submitted(connection: Connection, row: Generation, item: Round, now: datetime) -> bool:
    """The backend has the round. Recording it again changes nothing.

    :returns: whether this call recorded it.
    """
    key = {"generation_id": item.generation_id, "step": item.step, "n": item.n}
    if state_of(connection, item) != "planned":
        return False
    move(
        connection,
        round_,
        [Move(key, "planned", "submitted", Subject.of_generation(row), {"submitted_at": now}, {"key": str(item.key)})],
    )
    return True


def state_of(connection: Connection, item: Round) -> str | None:
    """The state that a round has now."""
    here = (round_.c.generation_id == item.generation_id, round_.c.step == item.step, round_.c.n == item.n)
    return connection.execute(select(round_.c.state).where(*here)).scalar()


def refuse(connection: Connection, row: Generation, item: Round, reason: str, now: datetime) -> None:
    """A planned round will never be submitted: its jobs have failed.

    :raises IllegalTransition: another process submitted it, or ended the generation.
    """
    subject = Subject.of_generation(row)
    key = {"generation_id": item.generation_id, "step": item.step, "n": item.n}
    move(connection, round_, [Move(key, "planned", "finished", subject)])
    seen = {"reason": reason, "failure": FailureClass.START.value, "end": now}
    jobs, attempts = [], []
    for index, number in attempts_of(connection, item):
        key = {"generation_id": item.generation_id, "step": item.step, "job_index": index}
        of_job = replace(subject, job_index=index, attempt=number)
        jobs.append(Move(key, "submitted", JobState.FAILED, of_job, seen))
        attempts.append(Move({**key, "n": number}, "submitted", AttemptState.FAILED, of_job, seen))
    move(connection, job, jobs)
    move(connection, attempt, attempts)


def finish(connection: Connection, row: Generation, item: Round) -> None:
    """No news of this round will come any more."""
    key = {"generation_id": item.generation_id, "step": item.step, "n": item.n}
    move(connection, round_, [Move(key, "submitted", "finished", Subject.of_generation(row), {})])


def finish_all(connection: Connection, row: Generation, step: int | None = None) -> None:
    """A round that is left over must not be submitted, or looked at, when the generation is continued one day.

    :param step: only those of this one.
    """
    subject = Subject.of_generation(row)
    moves = [
        Move({"generation_id": item.generation_id, "step": item.step, "n": item.n}, item.state, "finished", subject)
        for item in in_states(connection, [row.id], ["planned", "submitted"])
        if step is None or item.step == step
    ]
    move(connection, round_, moves)


def states_by_key(connection: Connection, keys: Sequence[RoundKey]) -> dict[RoundKey, str]:
    """Round key → state of its generation, or ``finished`` if only the round is, for the keys that the ledger knows."""
    columns = (round_.c.key, round_.c.state.label("own"), generation.c.state)
    query = select(*columns).join(generation, generation.c.id == round_.c.generation_id)
    found = connection.execute(query.where(round_.c.key.in_(list(keys)))).all()
    return {row.key: "finished" if row.state == "running" and row.own == "finished" else row.state for row in found}
