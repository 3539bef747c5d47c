"""What the ledger's tables hold, as records: a row leaves the ledger as one of these.

Fields are named after the columns, and stand in the order in which they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, NotRequired, TypedDict, TypeVar

from sqlalchemy import Connection, Select, Table, select
from sqlalchemy.sql import Executable

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.ledger.campaign_rows import Campaign as Campaign
from airflow_calib_provider.ledger.campaign_rows import FirstTasks as FirstTasks
from airflow_calib_provider.ledger.used import Used as Used
from airflow_calib_provider.ledger.used import UsedPayload as UsedPayload

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    """A run, as its source tells it.

    :ivar completed_at: when it was first read as completed.
    :ivar listed: whether its source lists it; ``None``: added by hand, or not read since.
    """

    source: str
    number: int
    start: datetime | None
    end: datetime | None
    completed: bool
    fields: Mapping[str, object]
    files: Sequence[str]
    recorded_at: datetime
    completed_at: datetime | None
    content_hash: str
    listed: bool | None


@dataclass(frozen=True, slots=True)
class KnownGrouping:
    """How far a grouping of a workflow is assigned.

    :ivar assigned_below: runs below are assigned.
    :ivar first_seen_at: a grouping that is added later takes no history.
    :ivar spec_hash: all that has not begun follows it.
    :ivar source_serial: what its source had told when all of that was assigned.
    """

    campaign: str
    workflow: str
    label: str
    assigned_below: int
    first_seen_at: datetime
    spec_hash: str | None
    source_serial: int | None
    spec_changed: Reason | None


@dataclass(frozen=True, slots=True)
class Group:
    """A group of runs of a workflow.

    :ivar first_run: the run that it is named by.
    :ivar late: its runs arrived late, among themselves.
    :ivar edition: grows when it is amended.
    :ivar lowest_run: of its edition, where that is not the first run.
    """

    id: int
    campaign: str
    workflow: str
    grouping: str
    name: str
    first_run: int
    last_run: int
    state: str
    policy: Mapping[str, object]
    amounts: Mapping[str, float]
    fills: Sequence[int]
    start: datetime | None
    end: datetime | None
    opened_at: datetime
    closed_at: datetime | None
    close_reason: Reason | None
    opening: str | None
    late: bool
    edition: int
    lowest_run: int | None
    open_reason: Reason | None

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last of its runs: it keeps the name of a run that has left it."""
        return self.first_run if self.lowest_run is None else self.lowest_run, self.last_run


@dataclass(frozen=True, slots=True)
class GroupTask:
    """A task of a group."""

    group_id: int
    task: str
    position: int
    kind: str
    is_root: bool
    spec_hash: str
    state: str
    reason: Reason | None
    since: datetime
    looked_at: datetime | None
    after: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class GenerationBasis:
    """What a generation has from its creation on; the columns of the table of the same names."""

    group_id: int
    task: str
    max_tries: int
    backend: str
    spec_hash: str
    git_commit: str | None
    definitions_hash: str
    inputs: Sequence[str]
    runs: Sequence[int]
    excluded_runs: Sequence[int]
    used: Used
    retries: int
    quorum: float
    products: Mapping[str, str]
    folder: str
    dag_run_id: str


@dataclass(frozen=True, slots=True)
class Generation(GenerationBasis):
    """One job set of a task of a group, with the names of its group."""

    id: int
    n: int
    state: str
    started_at: datetime
    ended_at: datetime | None
    reason: Reason | None
    ended_by: str | None
    failures: Sequence[Mapping[str, object]]
    options: Mapping[str, object]
    keep: int | None
    trouble: str | None
    trouble_since: datetime | None
    cleaned_at: datetime | None
    spec_folder: str | None
    rerun: str | None
    drops: Mapping[str, float]
    step: int
    campaign: str
    workflow: str
    group_name: str


@dataclass(frozen=True, slots=True)
class Round:
    """Jobs of a generation that are submitted together."""

    generation_id: int
    step: int
    n: int
    key: RoundKey
    state: str
    cursor: str
    planned_at: datetime
    submitted_at: datetime | None
    git_commit: str | None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job without its definition, which is most of its bytes and does not change."""

    generation_id: int
    step: int
    job_index: int
    state: str
    attempt: int
    failures: int
    losses: int
    accepted_attempt: int | None
    exit_code: int | None
    signal: int | None
    host: str | None
    start: datetime | None
    end: datetime | None
    reason: str | None
    retry_at: datetime | None
    failure: str | None
    hold_code: int | None
    memory: int | None
    request_memory: int | None
    releases: int
    progress: float | None


class Made(NamedTuple):
    """A done generation whose products are used."""

    id: int
    group_id: int
    folder: str
    runs: Sequence[int]
    excluded_runs: Sequence[int]
    used: Used


class EditedTask(NamedTuple):
    """A task of a group that an older text of the spec wrote.

    :ivar begun: whether it was started already.
    """

    group_id: int
    task: str
    state: str
    spec_hash: str
    name: str
    grouping: str
    begun: bool


class Queued(NamedTuple):
    """A group without a DAG run.

    :ivar left: whether anything is to be done in it.
    """

    id: int
    campaign: str
    workflow: str
    grouping: str
    name: str
    first_run: int
    state: str
    start: datetime | None
    opened_at: datetime
    left: bool
    n_runs: int


class Definition(TypedDict):
    """What a job is, for all of its attempts.

    :ivar inputs: ``None``: those that all jobs share.
    :ivar mailbox: a folder that it reads and writes while it runs.
    """

    command: list[str]
    environment: dict[str, str]
    inputs: list[str] | None
    cpus: int
    memory: int | None
    disk: int | None
    timeout: float | None
    gpus: NotRequired[int]
    files: NotRequired[list[str]]
    credentials: NotRequired[dict[str, str]]
    mailbox: NotRequired[str]


class RoundJob(NamedTuple):
    """A job of a round, and the attempt that it makes."""

    job_index: int
    definition: Definition
    attempt_n: int
    request_memory: int | None


class ReportingJob(NamedTuple):
    """A job that runs, with the progress that it told."""

    generation_id: int
    job_index: int
    attempt: int
    progress: float | None


class Product(NamedTuple):
    """An accepted product of a job."""

    job_index: int
    name: str
    file: str


class JobCount(NamedTuple):
    """Jobs of a generation in a state: how many, and of how many the time has come."""

    generation_id: int
    state: str
    n: int
    n_due: int


class Unsettled(NamedTuple):
    """A generation that an end may concern which a person gave its task in Airflow."""

    id: int
    task: str
    state: str
    backend: str
    campaign: str
    workflow: str
    group_name: str
    dag_id: str
    run_id: str
    max_tries: int


@dataclass(frozen=True, slots=True)
class Payload:
    """A file that was published for an interval of runs."""

    id: int
    campaign: str
    tag: str
    first_run: int
    last_run: int
    revision: int
    state: str
    content_hash: str
    file_name: str
    size: int
    workflow: str
    task: str
    group_id: int
    provenance: Mapping[str, object]
    published_at: datetime
    superseded_at: datetime | None
    reason: Reason | None
    asked_at: datetime | None
    remind_at: datetime | None
    expires_at: datetime | None
    group_name: str


class Event(NamedTuple):
    """A change of state, or what was told meanwhile; of no other record so many are read.

    :ivar at: nanoseconds since 1970.
    :ivar data: what it says beyond the states; which keys there are depends on ``entity``.
    """

    id: int
    at: int
    entity: str
    campaign: str | None
    workflow: str | None
    task: str | None
    group_name: str | None
    run: int | None
    generation: int | None
    job_index: int | None
    attempt: int | None
    from_state: str | None
    to_state: str | None
    data: Mapping[str, object]


class Sample(TypedDict, total=False):
    """Figures of the system that were looked at.

    :ivar counts: campaign and workflow → counts.
    :ivar campaigns: campaign → what is compared of it.
    :ivar appended_at: when figures were appended as events for the last time.
    """

    counts: dict[str, dict[str, float]]
    campaigns: dict[str, dict[str, object]]
    appended_at: str


@dataclass(frozen=True, slots=True)
class MirrorTarget:
    """How far a target of the mirror is.

    :ivar holes: first id, last id, since when.
    """

    name: str
    place: str
    cursor: int
    holes: list[list[float]]
    holder: str | None
    held_until: datetime | None
    last_success_at: datetime | None
    last_error: str | None
    last_error_at: datetime | None
    skipped_by_retention: int
    note: str | None
    note_at: datetime | None
    sample: Sample | None
    sampled_at: datetime | None


def select_of(kind: type, table: Table) -> Select[Any]:
    """A query for the columns of a table that a record has, in the order of its fields."""
    return select(*(table.c[name] for name in _names(kind) if name in table.c))


def read_rows(connection: Connection, query: Executable, kind: Callable[..., T]) -> list[T]:
    """What a query finds, as records.

    :param query: its columns are the fields of ``kind``, in their order.
    """
    found = connection.execute(query)
    assert tuple(found.keys()) == _names(kind), f"{kind} is made of other columns than {tuple(found.keys())}"
    return [kind(*row) for row in found.all()]


def first_row(connection: Connection, query: Executable, kind: Callable[..., T]) -> T | None:
    """As :func:`read_rows`, the first one; ``None``: there is none."""
    return next(iter(read_rows(connection, query, kind)), None)


@cache
def _names(kind: Callable[..., object]) -> tuple[str, ...]:
    named = getattr(kind, "_fields", None) or (item.name for item in fields(kind))  # type: ignore[arg-type]
    return tuple(named)
