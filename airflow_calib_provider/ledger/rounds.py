"""The rounds of a generation: each submits the jobs whose time has come, once (rules 13 and 15)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, and_, func, select

from airflow_calib_provider.domain.observation import AttemptState, FailureClass
from airflow_calib_provider.domain.reducer import JobState
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.rows import Generation, Round, RoundJob, read_rows, select_of
from airflow_calib_provider.ledger.transitions import Move, Subject, job_key, move

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
    due = connection.execute(
        select(job).where(
            job.c.generation_id == row.id,
            job.c.state == "waiting",
            (job.c.retry_at.is_(None)) | (job.c.retry_at <= now),
        )
    ).all()
    if not due:
        return None
    highest = connection.execute(select(func.max(round_.c.n)).where(round_.c.generation_id == row.id)).scalar()
    number = 0 if highest is None else int(highest) + 1
    key = RoundKey(row.campaign, row.workflow, row.task, row.group_name, row.n, 0, number)
    subject = Subject.of_generation(row)
    columns = {"key": key, "cursor": "", "planned_at": now, "submitted_at": None, "git_commit": row.git_commit}
    round_key = {"generation_id": row.id, "step": 0, "n": number}
    move(connection, round_, [Move(round_key, None, "planned", subject, columns, {"jobs": len(due), "key": str(key)})])
    cleared: dict[str, object] = dict.fromkeys(
        ("exit_code", "signal", "host", "start", "end", "reason", "retry_at", "failure", "hold_code")
    )
    cleared |= {"memory": None, "progress": None, "releases": 0}
    moves, attempts = [], []
    for item in due:
        of_job = Subject(**{**vars(subject), "job_index": item.job_index, "attempt": item.attempt + 1})
        asked = item.request_memory or item.definition.get("memory")
        columns, data = {**cleared, "attempt": item.attempt + 1}, {"request_memory": asked} if asked else {}
        moves.append(Move(job_key(item), "waiting", "submitted", of_job, columns, data))
        attempt_key = {**job_key(item), "n": item.attempt + 1}
        attempts.append(Move(attempt_key, None, "submitted", of_job, {"round": number, "request_memory": asked}))
    move(connection, job, moves)
    move(connection, attempt, attempts)
    return number


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


def finish_all(connection: Connection, row: Generation) -> None:
    """A round that is left over must not be submitted, or looked at, when the generation is continued one day."""
    subject = Subject.of_generation(row)
    moves = [
        Move({"generation_id": item.generation_id, "step": item.step, "n": item.n}, item.state, "finished", subject)
        for item in in_states(connection, [row.id], ["planned", "submitted"])
    ]
    move(connection, round_, moves)


def states_by_key(connection: Connection, keys: Sequence[RoundKey]) -> dict[RoundKey, str]:
    """Round key → state of its generation, or ``finished`` if only the round is, for the keys that the ledger knows."""
    columns = (round_.c.key, round_.c.state.label("own"), generation.c.state)
    query = select(*columns).join(generation, generation.c.id == round_.c.generation_id)
    found = connection.execute(query.where(round_.c.key.in_(list(keys)))).all()
    return {row.key: "finished" if row.state == "running" and row.own == "finished" else row.state for row in found}
