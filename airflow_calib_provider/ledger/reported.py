"""The values that a task has reported for runs, for groupings that wait for them (rule 47): a few statements for all.

In words: :mod:`~airflow_calib_provider.domain.group_words`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, exists, func, select

from airflow_calib_provider.domain.failed_runs import FailedRuns
from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.domain.reasons import Reason, render
from airflow_calib_provider.domain.run_facts import ReportedValue
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.exclusions import up_to
from airflow_calib_provider.spec.models import Workflow

membership, skip, value = tables.membership, tables.skip, tables.value
group, group_task, generation = tables.run_group, tables.group_task, tables.generation

AT_ONCE = 1_000
"""Runs that are looked at by one statement."""

SHOWN = 10
"""Values that a task reports, of which is told where another one is missed."""

KNOWN, WITHOUT, UNKNOWN, LEFT_OUT = "known", "without", "unknown", "left_out"


@dataclass(frozen=True)
class Sought:
    """Which values are sought.

    :ivar base: the campaign that has the task, if it is not run here (rule 55).
    :ivar grouping: for which they are sought, and :ivar of_task: that of the task.
    :ivar failed: what the grouping says of runs for which the task has failed.
    """

    campaign: str
    base: str | None
    workflow: str
    grouping: str
    task: str
    of_task: str
    names: tuple[str, ...]
    failed: FailedRuns | None

    @classmethod
    def of(cls, campaign: str, workflow: Workflow, policy: Grouping) -> Sought | None:
        """Those of a policy; ``None``: it waits for none, or nobody reports them any more.

        :param workflow: as the campaign runs it.
        """
        need = workflow.awaited_of(policy)
        if need is None or need.grouping is None:
            return None
        names = tuple(policy.rules.values(policy))
        base = workflow.base_of(need)
        return cls(campaign, base, workflow.name, policy.label, need.task, need.grouping, names, policy.failed_runs)


@dataclass(frozen=True)
class ValueStanding:
    """How a run stands.

    :ivar state: its values are known; it is assigned without; they are not known; or it is in no group there, and so in
        none here.
    :ivar at: since when that is so, as far as somebody has noted it.
    :ivar reason: why they are not known, or why it is in no group, :ivar decided: with its state then.
    """

    state: str
    at: datetime | None = None
    values: Mapping[str, ReportedValue] = field(default_factory=dict)
    reason: Reason | None = None
    decided: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether something can be decided about the run."""
        return self.state != UNKNOWN


def look(connection: Connection, sought: Sought, runs: Sequence[int], now: datetime) -> dict[int, ValueStanding]:
    """How runs stand, each of them."""
    skipped = _skipped(connection, sought)
    found: dict[int, ValueStanding] = {}
    for begin in range(0, len(runs), AT_ONCE):
        found.update(_look(connection, sought, runs[begin : begin + AT_ONCE], skipped, now))
    return found


def held(connection: Connection, sought: Sought, source: str, *, finite: bool, now: datetime) -> ValueStanding | None:
    """How the first run stands whose values are not known, and which holds all that is not assigned; ``None``: none.

    :param source: of the runs.
    :param finite: the campaign lists its runs, and its grouping is made when the values of all are known.
    """
    skipped = _skipped(connection, sought)
    runs = _undecided(connection, sought, source, finite=finite)
    for begin in range(0, len(runs), AT_ONCE):
        some = runs[begin : begin + AT_ONCE]
        found = _look(connection, sought, some, skipped, now)
        if (first := next((run for run in some if not found[run].is_settled), None)) is not None:
            return found[first]
    return None


def _undecided(connection: Connection, sought: Sought, source: str, *, finite: bool) -> list[int]:
    """Runs of which nothing is decided, in order: of a campaign without an end those that the task's grouping has."""
    table, run, listed = tables.grouping, tables.run, tables.campaign_run
    here = and_(
        membership.c.campaign == sought.campaign,
        membership.c.workflow == sought.workflow,
        membership.c.grouping == sought.grouping,
        membership.c.run == run.c.number,
    )
    query = select(run.c.number).outerjoin(membership, here).where(run.c.source == source, membership.c.run.is_(None))
    if finite:
        of_it = (listed.c.campaign == sought.campaign, listed.c.source == source, listed.c.run == run.c.number)
        return list(connection.execute(query.where(exists().where(*of_it)).order_by(run.c.number)).scalars())
    below = select(table.c.label, table.c.assigned_below).where(
        table.c.campaign == sought.campaign, table.c.workflow == sought.workflow
    )
    bounds = {row.label: int(row.assigned_below) for row in connection.execute(below)}
    first, last = bounds.get(sought.grouping, 0), bounds.get(sought.of_task, 0)
    query = query.where(run.c.number >= first, run.c.number < last)
    return list(connection.execute(query.order_by(run.c.number).limit(AT_ONCE)).scalars())


def _look(
    connection: Connection, sought: Sought, runs: Sequence[int], skipped: Mapping[int, datetime], now: datetime
) -> dict[int, ValueStanding]:
    rows = {row.run: row for row in _rows(connection, sought, runs)}
    values = _values(connection, sought, [row.generation for row in rows.values() if row.generation is not None])
    open_still = [row.group_id for row in rows.values() if row.task_state in ("failed", "new", "waiting")]
    failures = _failures(connection, sought, open_still)
    found = {}
    for run in runs:
        row = rows.get(run)
        if run in skipped:
            found[run] = ValueStanding(WITHOUT, skipped[run])
        elif row is None:
            found[run] = _unknown(sought, run, "value_awaited", state="not_assigned")
        elif row.state != "grouped":
            found[run] = _in_no_group(sought, row)
        elif row.generation is not None:
            found[run] = _reported(connection, sought, row, values.get(row.generation, {}))
        elif row.task_state == "skipped":
            found[run] = ValueStanding(WITHOUT, row.since)
        elif row.group_id in failures:
            found[run] = _failed(sought, row, failures[row.group_id], now)
        else:
            found[run] = _unknown(sought, run, "value_awaited", row, state=row.task_state or "new")
    return found


def _skipped(connection: Connection, sought: Sought) -> dict[int, datetime]:
    """The runs that a person took out of what needs the task, here or where it is run."""
    here = (skip.c.workflow == sought.workflow, skip.c.task.in_(["", sought.task]))
    query = select(skip.c.run, func.min(skip.c.at).label("at")).where(*here)
    query = query.where(skip.c.campaign.in_({sought.campaign, sought.base or sought.campaign}))
    return {row.run: row.at for row in connection.execute(query.group_by(skip.c.run))}


def _rows(connection: Connection, sought: Sought, runs: Sequence[int]) -> Iterator[Any]:
    """What is decided about runs where the task is, its state, and its latest done generation."""
    of_task = and_(group_task.c.group_id == membership.c.group_id, group_task.c.task == sought.task)
    other = generation.alias("other")
    latest = (
        select(func.max(other.c.n))
        .where(other.c.group_id == membership.c.group_id, other.c.task == sought.task, other.c.state == "done")
        .scalar_subquery()
    )
    made = and_(
        generation.c.group_id == membership.c.group_id,
        generation.c.task == sought.task,
        generation.c.n == latest,
    )
    query = (
        select(membership.c.run, membership.c.state, membership.c.reason, membership.c.assigned_at)
        .add_columns(membership.c.group_id, group.c.name.label("group"))
        .add_columns(group_task.c.state.label("task_state"), group_task.c.since)
        .add_columns(generation.c.id.label("generation"), generation.c.ended_at)
        .outerjoin(group, group.c.id == membership.c.group_id)
        .outerjoin(group_task, of_task)
        .outerjoin(generation, made)
        .where(
            membership.c.campaign == (sought.base or sought.campaign),
            membership.c.workflow == sought.workflow,
            membership.c.grouping == sought.of_task,
            tables.one_of(membership.c.run, runs),
        )
    )
    yield from connection.execute(query)


def _values(
    connection: Connection, sought: Sought, generations: Collection[int]
) -> dict[int, dict[str, ReportedValue]]:
    """Generation → name → what is made of what its jobs reported."""
    found: dict[int, dict[str, ReportedValue]] = defaultdict(dict)
    if sought.names and generations:
        made = (func.sum(value.c.value), func.min(value.c.value), func.max(value.c.value))
        query = select(value.c.generation_id, value.c.name, *made).where(
            tables.one_of(value.c.generation_id, generations), value.c.name.in_(sought.names), value.c.step == 0
        )
        for number, name, *numbers in connection.execute(query.group_by(value.c.generation_id, value.c.name)):
            found[number][name] = ReportedValue(*map(float, numbers))
    return found


def _failures(connection: Connection, sought: Sought, groups: Collection[int]) -> dict[int, Any]:
    """Group → the row of the task that has failed there for good: the one that is sought, or one before it."""
    if not groups:
        return {}
    failed = group_task.alias("failed")
    query = select(group_task).where(
        tables.one_of(group_task.c.group_id, groups),
        exists().where(failed.c.group_id == group_task.c.group_id, failed.c.state == "failed"),
    )
    of_group: dict[int, dict[str, Any]] = defaultdict(dict)
    for row in connection.execute(query):
        of_group[row.group_id][row.task] = row
    found = {}
    for number, rows in of_group.items():
        before = [rows[name] for name in up_to(sought.task, rows) if rows[name].state == "failed"]
        if before:
            found[number] = min(before, key=lambda row: (row.since, row.task))
    return found


def _reported(connection: Connection, sought: Sought, row: Any, values: Mapping[str, ReportedValue]) -> ValueStanding:
    missing = [name for name in sought.names if name not in values]
    if not missing:
        return ValueStanding(KNOWN, row.ended_at, values)
    query = select(value.c.name).where(value.c.generation_id == row.generation, value.c.step == 0).distinct()
    reported = list(connection.execute(query.order_by(value.c.name).limit(SHOWN)).scalars())
    return _unknown(sought, row.run, "value_not_reported", row, missing=missing, reported=reported)


def _failed(sought: Sought, row: Any, failed: Any, now: datetime) -> ValueStanding:
    due = None if sought.failed is None else failed.since + (sought.failed.after or timedelta())
    if due is not None and now >= due:
        return ValueStanding(WITHOUT, due)
    until = {} if due is None else {"until": due.isoformat(timespec="seconds")}
    said = {"failed": failed.task, "said": render(failed.reason)}
    return _unknown(sought, row.run, "value_failed", row, **said, **until)


def _in_no_group(sought: Sought, row: Any) -> ValueStanding:
    """What is in no group there is in none here; of a base campaign, which has decided for itself, that is a wait."""
    if sought.base is None:
        return ValueStanding(LEFT_OUT, row.assigned_at, reason=row.reason, decided=row.state)
    if row.state in ("not_selected", "dropped"):
        return ValueStanding(WITHOUT, row.assigned_at)
    return _unknown(sought, row.run, "value_awaited", row, state=row.state)


def _unknown(sought: Sought, run: int, code: str, row: Any = None, **more: object) -> ValueStanding:
    about: dict[str, object] = {"run": run, "grouping": sought.grouping, "workflow": sought.workflow}
    about |= {"task": sought.task} | ({"base": sought.base} if sought.base is not None else {})
    about |= {"group": row.group} if row is not None and row.group is not None else {}
    since = None if row is None else row.since or row.assigned_at
    return ValueStanding(UNKNOWN, since, reason={"code": code, **about, **more})
