"""What backends told of jobs, and what was decided about held ones, written to the ledger (rules 15, 37, 38)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, insert, select, update

from airflow_calib_provider.domain.observation import AttemptState, FailureClass, Observation
from airflow_calib_provider.domain.reducer import Job, JobState
from airflow_calib_provider.errors import IllegalTransition
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.products import Kept, new_rows
from airflow_calib_provider.ledger.rows import Generation, Round
from airflow_calib_provider.ledger.transitions import Move, Subject, append_events, move

generation, round_, job, attempt = tables.generation, tables.round_, tables.job, tables.attempt

_SEEN = ("exit_code", "signal", "host", "start", "end", "reason", "hold_code", "memory")


@dataclass(frozen=True)
class JobChange:
    """What an observation makes of a job, with what its attempt reported if it was accepted.

    :ivar retry_at: of a waiting job the time of its next attempt, of a held one that of its release or removal.
    :ivar request_memory: bytes that its next attempt asks for, if that is to change.
    :ivar kept: file → what is known of it, of its products.
    """

    before: Job
    after: Job
    observation: Observation
    retry_at: datetime | None = None
    request_memory: int | None = None
    values: Sequence[tuple[str, float, float | None]] = ()
    products: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, Kept] = field(default_factory=dict)


def apply(connection: Connection, row: Generation, item: Round, changes: Sequence[JobChange], cursor: str) -> bool:
    """Store the news of a round together with the cursor up to which they were read.

    :param row: the generation.
    :param item: the round, as it was when it was polled.
    :returns: False if another process stored news of this round meanwhile; nothing is written then.
    """
    where = (round_.c.generation_id == item.generation_id, round_.c.step == item.step, round_.c.n == item.n)
    taken = connection.execute(update(round_).where(*where, round_.c.cursor == item.cursor).values(cursor=cursor))
    if taken.rowcount != 1:
        return False
    store(connection, row, item.step, changes)
    return True


def store(connection: Connection, row: Generation, step: int, changes: Sequence[JobChange]) -> None:
    """Write changes of jobs and of their attempts.

    :raises IllegalTransition: a job is not in the state any more that the change was made from.
    """
    _move(connection, row, step, [change for change in changes if change.before.state != change.after.state])
    _update(connection, row, step, [change for change in changes if change.before.state == change.after.state])
    raised = [(change.after.index, change.request_memory) for change in changes if change.request_memory is not None]
    if raised:
        statement = update(job).where(*_key_is(row, step)).values(request_memory=bindparam("asked"))
        connection.execute(statement, [{"index": index, "asked": asked} for index, asked in raised])


def _move(connection: Connection, row: Generation, step: int, changes: Sequence[JobChange]) -> None:
    subject = Subject.of_generation(row)
    job_moves, attempt_moves, values, products = [], [], [], []
    for change in changes:
        after = change.after
        of_job = Subject(**{**vars(subject), "job_index": after.index, "attempt": change.observation.attempt})
        seen = _seen(after)
        key = {"generation_id": row.id, "step": step, "job_index": after.index}
        columns = {
            **seen,
            "failures": after.failures,
            "losses": after.losses,
            "accepted_attempt": after.accepted_attempt,
            "progress": after.progress,
            "retry_at": change.retry_at if after.state in (JobState.WAITING, JobState.HELD) else None,
        }
        data: dict[str, object] = {name: value for name, value in seen.items() if isinstance(value, int | str)}
        if change.request_memory is not None:
            data["request_memory"] = change.request_memory
        if after.start is not None and after.end is not None:
            data["wall"] = round((after.end - after.start).total_seconds(), 3)
        # Of what iterates only the result has products, and values that others see.
        told = {**data, "values": as_told(change.values)} if change.values and not step else data
        job_moves.append(Move(key, change.before.state, after.state, of_job, columns, told))
        attempt_key = {**key, "n": change.observation.attempt}
        # An attempt that lives is in the state of the same name as its job's.
        source, target = str(change.before.state), _attempt_state(change)
        attempt_moves.append(Move(attempt_key, source, target, of_job, seen, data))
        values += [{**key, "name": name, "value": number, "error": error} for name, number, error in change.values]
        if not step:
            products += new_rows(key, change.products, change.kept, row.drops, change.observation.at)
    move(connection, job, job_moves)
    move(connection, attempt, attempt_moves)
    if values:
        connection.execute(insert(tables.value), values)
    if products:
        connection.execute(insert(tables.product), products)


def _update(connection: Connection, row: Generation, step: int, changes: Sequence[JobChange]) -> None:
    """What is new of jobs whose state is not: no event, since nothing was decided."""
    if not changes:
        return
    _check_unmoved(connection, row, step, changes)
    seen = [{"index": change.after.index, **_named(_seen(change.after))} for change in changes]
    columns: dict[str, object] = {name: bindparam(f"new_{name}") for name in (*_SEEN, "failure")}
    counted: dict[str, object] = {"losses": bindparam("new_losses"), "progress": bindparam("new_progress")}
    statement = update(job).where(*_key_is(row, step)).values({**columns, **counted})
    connection.execute(
        statement,
        [
            {**one, "new_losses": change.after.losses, "new_progress": change.after.progress}
            for one, change in zip(seen, changes, strict=True)
        ],
    )
    numbered = [{**one, "number": change.observation.attempt} for one, change in zip(seen, changes, strict=True)]
    of_attempt = (
        attempt.c.generation_id == row.id,
        attempt.c.step == step,
        attempt.c.job_index == bindparam("index"),
        attempt.c.n == bindparam("number"),
    )
    connection.execute(update(attempt).where(*of_attempt).values(columns), numbered)
    due = [{"index": change.after.index, "due": change.retry_at} for change in changes if change.retry_at is not None]
    if due:
        connection.execute(update(job).where(*_key_is(row, step)).values(retry_at=bindparam("due")), due)


def _check_unmoved(connection: Connection, row: Generation, step: int, changes: Sequence[JobChange]) -> None:
    """News that move no cursor may be older than what another process stored meanwhile."""
    expected = {change.before.index: (str(change.before.state), change.before.attempt) for change in changes}
    here = (job.c.generation_id == row.id, job.c.step == step, tables.one_of(job.c.job_index, expected))
    query = select(job.c.job_index, job.c.state, job.c.attempt).where(*here)
    found = {item.job_index: (item.state, item.attempt) for item in connection.execute(query).all()}
    if found != expected:
        raise IllegalTransition("jobs are no longer in the state they were read in", "another process was faster")


def _key_is(row: Generation, step: int) -> tuple[ColumnElement[bool], ...]:
    return job.c.generation_id == row.id, job.c.step == step, job.c.job_index == bindparam("index")


def _seen(after: Job) -> dict[str, object]:
    seen: dict[str, object] = {name: getattr(after, name) for name in _SEEN}
    return {**seen, "failure": after.failure.value if after.failure else None}


def _named(seen: Mapping[str, object]) -> dict[str, object]:
    return {f"new_{name}": value for name, value in seen.items()}


def _attempt_state(change: JobChange) -> str:
    state = change.observation.state
    if state is not AttemptState.EVICTED:
        return state.value
    return AttemptState.LOST.value if change.after.state is JobState.FAILED else AttemptState.SUBMITTED.value


# held jobs


@dataclass(frozen=True)
class Held:
    """A held job, and what a decision about it needs.

    :ivar round: the number of the round that its attempt belongs to.
    """

    job: Job
    round: int


def rounds_of_attempts(connection: Connection, generation_id: int, step: int, jobs: Iterable[Job]) -> list[Held]:
    """Each of these jobs with the round of its present attempt."""
    by_index = {one.index: one for one in jobs}
    query = select(attempt.c.job_index, attempt.c.n, attempt.c.round).where(
        attempt.c.generation_id == generation_id,
        attempt.c.step == step,
        tables.one_of(attempt.c.job_index, by_index),
    )
    rows = connection.execute(query.order_by(attempt.c.job_index)).all()
    return [Held(by_index[row.job_index], row.round) for row in rows if row.n == by_index[row.job_index].attempt]


def released(
    connection: Connection, row: Generation, step: int, due: Mapping[int, datetime], jobs: Iterable[Job]
) -> None:
    """The backend was asked to let these held jobs try again; they stay held until it reports otherwise.

    :param due: job → when to decide again if it is held still.
    :raises IllegalTransition: one is not held any more.
    """
    subject = Subject.of_generation(row)
    moves = [
        Move(
            {"generation_id": row.id, "step": step, "job_index": one.index},
            "held",
            "held",
            Subject(**{**vars(subject), "job_index": one.index, "attempt": one.attempt}),
            {"releases": one.releases + 1, "retry_at": due[one.index]},
            {"released": one.releases + 1},
        )
        for one in jobs
    ]
    move(connection, job, moves)


def left_to_a_person(connection: Connection, row: Generation, step: int, indices: Iterable[int]) -> None:
    """These held jobs are not looked at again until the backend reports something else."""
    where = (job.c.generation_id == row.id, job.c.step == step, job.c.state == "held")
    connection.execute(update(job).where(*where, tables.one_of(job.c.job_index, indices)).values(retry_at=None))


@dataclass(frozen=True)
class MemoryHistory:
    """What a job asked for and used.

    :ivar first: bytes that it asked for at first; where it asked for none, the peak of its first attempt that had too
        little.
    :ivar present: bytes that its present attempt asks for.
    """

    first: int | None
    present: int | None


def memory_of(
    connection: Connection, generation_id: int, step: int, indices: Iterable[int]
) -> dict[int, MemoryHistory]:
    """The history of the memory of some jobs."""
    indices = list(indices)
    here = (job.c.generation_id == generation_id, job.c.step == step, tables.one_of(job.c.job_index, indices))
    jobs = connection.execute(select(job.c.job_index, job.c.definition, job.c.request_memory).where(*here)).all()
    lacking = (
        attempt.c.generation_id == generation_id,
        attempt.c.step == step,
        tables.one_of(attempt.c.job_index, indices),
        attempt.c.failure == FailureClass.MEMORY.value,
    )
    first = select(attempt.c.job_index, func.min(attempt.c.n).label("n")).where(*lacking).group_by(attempt.c.job_index)
    found = first.subquery()
    peaks = connection.execute(
        select(attempt.c.job_index, attempt.c.memory)
        .join(found, and_(found.c.job_index == attempt.c.job_index, found.c.n == attempt.c.n))
        .where(attempt.c.generation_id == generation_id, attempt.c.step == step)
    ).all()
    first_peaks = {row.job_index: row.memory for row in peaks}
    result = {}
    for row in jobs:
        asked = row.definition.get("memory")
        result[row.job_index] = MemoryHistory(asked or first_peaks.get(row.job_index), row.request_memory or asked)
    return result


# the generation


def note_trouble(connection: Connection, troubles: Mapping[int, str], now: datetime) -> None:
    """Record why running generations cannot be taken further now; an empty text: they can.

    Since when stays the time at which the trouble began, whatever its text.
    """
    for number, text in troubles.items():
        here = (generation.c.id == number, generation.c.state == "running")
        since = func.coalesce(
            generation.c.trouble_since, bindparam("since", now, type_=generation.c.trouble_since.type)
        )
        values: dict[str, object] = {"trouble": None, "trouble_since": None}
        if text:
            values = {"trouble": text[:2000], "trouble_since": since}
        connection.execute(update(generation).where(*here).values(values))


Values = Sequence[tuple[str, float, float | None]]
"""Name, value and error of numbers that a job reports."""


@dataclass(frozen=True)
class InFlight:
    """What is new in the report of a job that still runs.

    :ivar attempt: which wrote it.
    :ivar progress: from 0 to 1, if that is new.
    :ivar values: those that are new.
    """

    attempt: int
    progress: float | None = None
    values: Values = ()


def as_told(values: Values) -> dict[str, list[float | None]]:
    """Values as an event tells them: name → value and error."""
    return {name: [number, error] for name, number, error in values}


def note_in_flight(connection: Connection, row: Generation, step: int, news: Mapping[int, InFlight]) -> None:
    """Store what running jobs report, by job, with an event each; that of jobs which have ended meanwhile is ignored.

    The values themselves are stored when the attempt is accepted.
    """
    here = (job.c.generation_id == row.id, job.c.step == step, job.c.state == "running")
    query = select(job.c.job_index, job.c.attempt).where(*here, tables.one_of(job.c.job_index, news)).with_for_update()
    alive = {item.job_index: item.attempt for item in connection.execute(query).all()}
    told = {index: item for index, item in sorted(news.items()) if alive.get(index) == item.attempt}
    done = [{"index": index, "done": item.progress} for index, item in told.items() if item.progress is not None]
    if done:
        statement = update(job).where(*_key_is(row, step), job.c.state == "running").values(progress=bindparam("done"))
        connection.execute(statement, done)
    subject = Subject.of_generation(row)
    append_events(
        connection,
        (
            {
                "entity": "value",
                "subject": Subject(**{**vars(subject), "job_index": index, "attempt": item.attempt}),
                "data": {
                    **({"progress": item.progress} if item.progress is not None else {}),
                    **({"values": as_told(item.values)} if item.values else {}),
                },
            }
            for index, item in told.items()
        ),
    )
