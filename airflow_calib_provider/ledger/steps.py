"""The steps of a generation that iterates (rule 64).

While it iterates, a generation's row describes the job set of its present step: the folder, the inputs, the products,
what is retried, how many are enough. So what looks after job sets looks after steps. Step 0 is the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, NotRequired, TypedDict

from sqlalchemy import ColumnElement, Connection, and_, false, func, insert, or_, select, update

from airflow_calib_provider.domain.reducer import JobState
from airflow_calib_provider.errors import IllegalTransition, NotFound
from airflow_calib_provider.ledger import tables, workers
from airflow_calib_provider.ledger.live_jobs import end_live
from airflow_calib_provider.ledger.products import Kept, new_rows
from airflow_calib_provider.ledger.rows import Definition, Generation, read_rows, select_of
from airflow_calib_provider.ledger.transitions import Move, Subject, move

generation, job, attempt, step, value = (
    tables.generation,
    tables.job,
    tables.attempt,
    tables.step,
    tables.value,
)

EVENTS = "events"
"""The value by which a job says on how many events its result rests."""

_MOST_EVENTS = 10**18
"""What is above it is as good as that: jobs report any number, and a ledger cannot keep each."""


class PhasePart(TypedDict):
    """The job set that measures, or the update: what a generation's row has of it, and its jobs."""

    definitions: list[Definition]
    inputs: list[str]
    products: dict[str, str]
    quorum: float
    retries: int
    failures: list[dict[str, Any]]
    options: dict[str, Any]


class PhasePlan(TypedDict):
    """A phase with its limits, as :mod:`~airflow_calib_provider.jobsets.iteration` writes them."""

    limits: dict[str, Any]
    measure: PhasePart
    update: PhasePart


class StoredPlan(TypedDict):
    """How a generation iterates.

    ``folder`` and ``products`` are those of its result; ``file`` is what an update calls the constants.
    """

    folder: str
    products: dict[str, str]
    file: str
    start: str
    start_hash: str
    origin: dict[str, Any]
    legs: list[list[Any]]
    phases: dict[str, PhasePlan]
    workers: NotRequired[workers.StoredWorkers]


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step: jobs that measure with the same constants, and the update that makes new ones of their results.

    :ivar state: ``planned``, ``measuring``, ``frozen``, ``updating``, ``judged``, ``discarded``.
    :ivar constants: the file, relative to the products folder; :ivar updated: of those that the update made.
    :ivar kept: metrics whose part of the constants is not to change.
    :ivar n_jobs: that measure; the update is the job behind them.
    :ivar accepted: jobs whose results are used, each with its attempt; :ivar left_out: those not used, each with why.
    :ivar events: that the accepted jobs counted; ``None``: none of them did.
    """

    generation_id: int
    n: int
    state: str
    stage: int
    phase: str
    visit: int
    constants: str
    constants_hash: str
    kept: Sequence[str]
    n_jobs: int
    accepted: Sequence[tuple[int, int]] | None
    left_out: Mapping[str, str] | None
    updated: str | None
    updated_hash: str | None
    events: int | None
    report: Mapping[str, Any] | None
    judged: Mapping[str, Any] | None
    spec_hash: str
    planned_at: datetime
    frozen_at: datetime | None
    judged_at: datetime | None


class Planned(NamedTuple):
    """A step that is to be made.

    :ivar definitions: of the jobs that measure.
    """

    n: int
    stage: int
    phase: str
    visit: int
    constants: str
    constants_hash: str
    kept: Sequence[str]
    definitions: Sequence[Definition]


def folder_of(base: str, n: int) -> str:
    """Where the files of a step lie.

    :param base: the folder of the generation's result.
    """
    return f"{base}/step-{n:03d}"


def plan_of(connection: Connection, generation_id: int) -> StoredPlan:
    """How a generation iterates.

    :raises NotFound: it does not.
    """
    table = tables.iteration
    found = connection.execute(select(table.c.plan).where(table.c.generation_id == generation_id)).scalar()
    if found is None:
        raise NotFound(f"the generation with the id {generation_id} does not iterate")
    plan: StoredPlan = found
    return plan


def keep_plan(connection: Connection, generation_id: int, plan: StoredPlan) -> None:
    """Record how a generation iterates: once, or what holds from its next step on."""
    table = tables.iteration
    reserved = plan.get("workers")
    values: dict[str, object] = {"plan": plan, "workers": reserved and reserved["settings"]}
    changed = update(table).where(table.c.generation_id == generation_id).values(values)
    if not connection.execute(changed).rowcount:
        connection.execute(insert(table).values(generation_id=generation_id, **values))


def steps_of(connection: Connection, generation_id: int) -> list[StepRow]:
    """The steps of a generation, discarded ones too, in the order in which they were made."""
    query = select_of(StepRow, step).where(step.c.generation_id == generation_id)
    return read_rows(connection, query.order_by(step.c.n), StepRow)


def places(connection: Connection, generation_ids: Sequence[int]) -> dict[int, dict[str, object]]:
    """Where generations that iterate are: stage, phase and number of the step, and what is done with it."""
    if not generation_ids:
        return {}
    query = select(step.c.generation_id, step.c.n, step.c.stage, step.c.phase, step.c.state)
    query = query.join(generation, and_(generation.c.id == step.c.generation_id, generation.c.step == step.c.n))
    found = connection.execute(query.where(tables.one_of(generation.c.id, generation_ids))).all()
    return {
        row.generation_id: {"step": row.n, "stage": row.stage, "phase": row.phase, "doing": row.state} for row in found
    }


def at(connection: Connection, row: Generation, n: int | None) -> Generation:
    """A generation as its row is at a step.

    :param n: by default where it is now; of one that has its result, its last step.
    :raises NotFound: it does not iterate, or has no such step.
    """
    made = steps_of(connection, row.id)
    if not made and n is None:
        return row
    wanted = n if n is not None else row.step or made[-1].n
    if not any(one.n == wanted for one in made):
        known = f"it has steps {made[0].n} to {made[-1].n}" if made else "it does not iterate"
        raise NotFound(f"{row.task} of {row.group_name} has no step {wanted}", known)
    return replace(row, step=wanted, folder=folder_of(plan_of(connection, row.id)["folder"], wanted))


def iterating(connection: Connection, group_ids: Sequence[int], task: str | None) -> list[int]:
    """The latest generations that iterate, of these groups' tasks."""
    query = select(func.max(generation.c.id)).join(
        tables.iteration, tables.iteration.c.generation_id == generation.c.id
    )
    query = query.where(tables.one_of(generation.c.group_id, group_ids))
    if task is not None:
        query = query.where(generation.c.task == task)
    query = query.group_by(generation.c.group_id, generation.c.task)
    return sorted(int(found) for found in connection.execute(query).scalars())


def succeeded(connection: Connection, generation_id: int) -> dict[int, int]:
    """Step → how many of its jobs that measure have succeeded, used or not."""
    here = (job.c.generation_id == step.c.generation_id, job.c.step == step.c.n, job.c.job_index < step.c.n_jobs)
    query = select(step.c.n, func.count()).join(job, and_(*here)).where(step.c.generation_id == generation_id)
    found = connection.execute(query.where(job.c.state == JobState.SUCCEEDED).group_by(step.c.n)).all()
    return {row[0]: row[1] for row in found}


def open_step(connection: Connection, row: Generation, plan: StoredPlan, new: Planned, now: datetime) -> None:
    """Begin a step: its jobs wait, and the generation's row is that of its job set."""
    key = {"generation_id": row.id, "n": new.n}
    about = {"stage": new.stage, "phase": new.phase, "visit": new.visit}
    columns = {
        **about,
        "constants": new.constants,
        "constants_hash": new.constants_hash,
        "kept": list(new.kept),
        "n_jobs": len(new.definitions),
        "spec_hash": row.spec_hash,
        "planned_at": now,
    }
    told = {"step": new.n, **about}
    subject = Subject.of_generation(row)
    move(connection, step, [Move(key, None, "planned", subject, columns, told)])
    move(connection, step, [Move(key, "planned", "measuring", subject, {}, told)])
    _create_jobs(connection, row, new.n, new.definitions, 0)
    of_part = _columns(plan["phases"][new.phase]["measure"])
    _describe(connection, row, {"step": new.n, "folder": folder_of(plan["folder"], new.n), **of_part})


def freeze(
    connection: Connection,
    row: Generation,
    item: StepRow,
    accepted: Sequence[tuple[int, int]],
    left_out: Mapping[int, str],
    now: datetime,
) -> None:
    """What is accepted now is what this step is: whatever else comes is not used.

    :param accepted: jobs and their attempts.
    :param left_out: the others, each with why.
    :raises IllegalTransition: another process was faster.
    """
    subject = Subject.of_generation(row)
    events = _events(connection, item, [index for index, _ in accepted])
    columns = {
        "accepted": [list(one) for one in accepted],
        "left_out": {str(index): why for index, why in left_out.items()},
        "events": events,
        "frozen_at": now,
    }
    told = {"step": item.n, "phase": item.phase, "stage": item.stage, "accepted": len(accepted), "jobs": item.n_jobs}
    key = {"generation_id": item.generation_id, "n": item.n}
    move(connection, step, [Move(key, "measuring", "frozen", subject, columns, told)])
    end_live(connection, row, JobState.LEFT_OUT, item.n)


def _events(connection: Connection, item: StepRow, indices: Sequence[int]) -> int | None:
    here = (value.c.generation_id == item.generation_id, value.c.step == item.n, value.c.name == EVENTS)
    query = select(func.sum(value.c.value)).where(*here, tables.one_of(value.c.job_index, indices))
    found = connection.execute(query).scalar()
    return None if found is None else int(max(-_MOST_EVENTS, min(found, _MOST_EVENTS)))


def start_update(
    connection: Connection, row: Generation, item: StepRow, plan: StoredPlan, definitions: Sequence[Definition]
) -> None:
    """Make new constants of what was frozen: one more job of the step.

    :raises IllegalTransition: another process was faster.
    """
    key = {"generation_id": item.generation_id, "n": item.n}
    told = {"step": item.n, "phase": item.phase, "stage": item.stage}
    move(connection, step, [Move(key, "frozen", "updating", Subject.of_generation(row), {}, told)])
    _create_jobs(connection, row, item.n, definitions, item.n_jobs)
    of_part = _columns(plan["phases"][item.phase]["update"])
    _describe(connection, row, of_part)


def note_judged(
    connection: Connection,
    row: Generation,
    item: StepRow,
    updated: str | None,
    updated_hash: str | None,
    report: Mapping[str, Any],
    judged: Mapping[str, Any],
    now: datetime,
) -> None:
    """Record what was found of a step, and what its update made.

    :raises IllegalTransition: another process was faster.
    """
    key = {"generation_id": item.generation_id, "n": item.n}
    columns = {"updated": updated, "updated_hash": updated_hash, "report": report, "judged": judged, "judged_at": now}
    told = {"step": item.n, "phase": item.phase, "stage": item.stage, "report": report, "judged": judged}
    move(connection, step, [Move(key, "updating", "judged", Subject.of_generation(row), columns, told)])


FROM_STEP = "from_step:"
"""How a person wants the next clear: from this step on."""


class Continued(NamedTuple):
    """How a generation goes on.

    :ivar columns: what its row has of its job set.
    :ivar again: the condition of the jobs that run again if they have failed, workers among them.
    """

    columns: dict[str, Any]
    again: ColumnElement[bool]


def continued(connection: Connection, row: Generation, now: StoredPlan | None) -> Continued:
    """A person cleared what failed: it goes on after its last judged step, by the limits of now.

    :param now: how it would iterate if it were begun now; the jobs are the same.
    """
    plan = plan_of(connection, row.id)
    if now is not None:
        own = {name: plan[name] for name in ("folder", "start", "start_hash", "origin")}
        plan = {**now, **own}  # type: ignore[typeddict-item]
        keep_plan(connection, row.id, plan)
        if "workers" in plan:
            workers.create_missing(connection, row, plan["workers"])
    made = steps_of(connection, row.id)
    if (row.rerun or "").startswith(FROM_STEP):
        first = int((row.rerun or "").removeprefix(FROM_STEP))
        discard(connection, row, [one for one in made if one.n >= first])
        made = steps_of(connection, row.id)
    item = next(one for one in made if one.n == row.step)
    if item.state == "judged" and (item.judged or {}).get("ended") is not None:
        note_resumed(connection, item)
    is_update = job.c.job_index >= item.n_jobs
    of_part = {"measuring": ~is_update, "updating": is_update}.get(item.state, false())
    reserved = plan.get("workers")
    n_workers = reserved["settings"]["count"] if reserved is not None else 0
    of_workers = and_(job.c.step == workers.WORKERS, job.c.job_index < n_workers)
    return Continued(_columns(part_now(plan, item)), or_(of_workers, and_(job.c.step == item.n, of_part)))


def note_resumed(connection: Connection, item: StepRow) -> None:
    """A person goes on after a step with which its phase had ended, by none to go on from."""
    here = (step.c.generation_id == item.generation_id, step.c.n == item.n)
    connection.execute(update(step).where(*here).values(judged={**(item.judged or {}), "resumed": True}))


def discard(connection: Connection, row: Generation, items: Sequence[StepRow]) -> None:
    """A person goes back to before these steps: they count for nothing any more."""
    subject = Subject.of_generation(row)
    moves = [
        Move({"generation_id": one.generation_id, "n": one.n}, one.state, "discarded", subject, {}, {"step": one.n})
        for one in items
        if one.state != "discarded"
    ]
    move(connection, step, moves)


def keep_result(
    connection: Connection,
    row: Generation,
    plan: StoredPlan,
    definition: Definition,
    kept: Mapping[str, Kept],
    values: Sequence[tuple[str, float, float | None]],
    now: datetime,
) -> None:
    """What the iteration came to, as the products and values of the one job of step 0.

    :param kept: file → what is known of it, of the declared products.
    :param values: name, value, error.
    """
    _create_jobs(connection, row, 0, [definition], 0)
    key = {"generation_id": row.id, "step": 0, "job_index": 0}
    subject = Subject(**{**vars(Subject.of_generation(row)), "job_index": 0})
    told: dict[str, Any] = {"values": [[name, number, error] for name, number, error in values]} if values else {}
    columns = {"accepted_attempt": 1, "attempt": 1, "end": now}
    move(connection, job, [Move(key, JobState.WAITING, JobState.SUCCEEDED, subject, columns, told)])
    if values:
        connection.execute(
            insert(tables.value),
            [{**key, "name": name, "value": number, "error": error} for name, number, error in values],
        )
    connection.execute(insert(tables.product), new_rows(key, plan["products"], kept, row.drops, now))
    result = {"step": 0, "folder": plan["folder"], "products": plan["products"]}
    _describe(connection, row, result)


def _describe(connection: Connection, row: Generation, columns: Mapping[str, Any]) -> None:
    """Let a generation's row be that of another job set.

    :raises IllegalTransition: it does not run any more, or another process has taken it to another step.
    """
    here = (generation.c.id == row.id, generation.c.state == "running", generation.c.step == row.step)
    if connection.execute(update(generation).where(*here).values(**columns)).rowcount != 1:
        raise IllegalTransition(f"{row.task} of {row.group_name} was changed by another process meanwhile")


def part_now(plan: StoredPlan, item: StepRow) -> PhasePart:
    """The job set of which the generation's row is, at this step."""
    phase = plan["phases"][item.phase]
    return phase["measure"] if item.state in ("planned", "measuring") else phase["update"]


def _columns(part: PhasePart) -> dict[str, Any]:
    names = ("inputs", "products", "quorum", "retries", "failures", "options")
    return {name: part[name] for name in names}  # type: ignore[literal-required]


def _create_jobs(
    connection: Connection, row: Generation, n: int, definitions: Sequence[Definition], first: int
) -> None:
    from airflow_calib_provider.ledger.generations import create_jobs

    create_jobs(connection, row.id, n, Subject.of_generation(row), definitions, first)
