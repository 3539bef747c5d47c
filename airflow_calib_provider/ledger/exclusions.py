"""Runs that have failed in what a group needs, and without which it goes on (rule 49).

A task that begins, or publishes, without them says so in a row for each. From then on they stay out of that task,
whatever becomes of them, until a person amends the group.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, delete, func, select

from airflow_calib_provider.domain.failed_runs import FailedRuns, Failure, decided
from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.domain.reasons import Reason, render
from airflow_calib_provider.errors import IllegalTransition
from airflow_calib_provider.kinds import NEEDS
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.locks.base import EXCLUDED as EXCLUDED
from airflow_calib_provider.ledger.locks.base import QUIET, Standing, ledger_lock
from airflow_calib_provider.ledger.rows import Group
from airflow_calib_provider.ledger.transitions import Move, Subject, append_events, move

Key = tuple[int, str]
"""A group's id, and a task of it."""

OfState = tuple[str, str, str, str]
"""Workflow, grouping, task, and a state of it."""

excluded_run, membership, skip = tables.excluded_run, tables.membership, tables.skip
run_group, group_task = tables.run_group, tables.group_task


@dataclass(frozen=True)
class Excluding:
    """A closed group that may go on without failed runs."""

    policy: FailedRuns
    n_runs: int


@dataclass(frozen=True)
class Without:
    """What a task of a group goes on without.

    :ivar recorded: runs that it began without before, each with why.
    :ivar new: runs that it would begin without now.
    :ivar waits: what is said of runs that hold it: by what the lock is on, and run.
    """

    recorded: Mapping[int, Reason]
    new: Mapping[int, Reason]
    waits: Mapping[tuple[str, int], str]

    @property
    def excluded(self) -> dict[int, Reason]:
        """All of them."""
        return {**self.recorded, **self.new}


NOTHING = Without({}, {}, {})


def policy_of(stored: Mapping[str, object]) -> FailedRuns | None:
    """What a group's policy says of failed runs."""
    return Grouping.of_json(stored).failed_runs if stored.get("failed_runs") else None


def decisions(connection: Connection, groups: Mapping[int, Excluding], now: datetime) -> dict[Key, Without]:
    """Decide about all tasks of these groups, by two statements; tasks about which there is nothing are left out."""
    if not groups:
        return {}
    failures = failures_in(connection, groups)
    recorded = _recorded(connection, groups)
    of_group: dict[int, set[int]] = defaultdict(set)
    for (group_id, _), runs in recorded.items():
        of_group[group_id].update(runs)
    found = {}
    for key in {*failures, *recorded}:
        before = recorded.get(key, {})
        failed = {run: failure for run, failure in failures.get(key, {}).items() if run not in before}
        group = groups[key[0]]
        verdict = decided(group.policy, group.n_runs, failed, of_group[key[0]], now)
        new = {run: failure.reason() for run, failure in verdict.excluded.items()}
        waits = {(failed[run].lock, run): said for run, said in verdict.waits.items()}
        found[key] = Without(before, new, waits)
    return found


def of_task(connection: Connection, group: Group, task: str, n_runs: int, now: datetime) -> Without:
    """Decide about a task of a closed group; of one that never goes on without failed runs nothing is asked.

    :param n_runs: all that the group has.
    """
    policy = policy_of(group.policy)
    if policy is None or group.state != "closed":
        return NOTHING
    return decisions(connection, {group.id: Excluding(policy, n_runs)}, now).get((group.id, task), NOTHING)


def failures_in(connection: Connection, group_ids: Iterable[int]) -> dict[Key, dict[int, Failure]]:
    """The runs that have failed for good in what tasks of these groups need, each with its first failure.

    A task has failed for a run, too, if one before it in the same group has: Airflow does not start it.
    """
    tasks: dict[tuple[Key, int, str, str], dict[str, Any]] = defaultdict(dict)
    for row in connection.execute(ledger_lock(NEEDS).failures(list(group_ids))):
        tasks[(row.group_id, row.needing), row.run, row.workflow, row.needs][row.task] = row
    found: dict[Key, dict[int, Failure]] = defaultdict(dict)
    for (key, run, workflow, needed), rows in tasks.items():
        failed = [rows[name] for name in up_to(needed, rows) if rows[name].state == "failed"]
        if not failed or rows[needed].state not in ("failed", "new", "waiting"):
            continue
        first = min(failed, key=lambda row: (row.since, row.task))
        named = (f"{workflow}.{needed}", f"{workflow}.{first.task}")
        failure = Failure(*named, first.since, render(first.reason), first.what)
        before = found[key].get(run)
        found[key][run] = failure if before is None or failure.at < before.at else before
    return found


def up_to(task: str, rows: Mapping[str, Any]) -> list[str]:
    """A task of a group, and all that come before it."""
    found: dict[str, None] = {}
    left = [task]
    while left:
        name = left.pop()
        if name in rows and name not in found:
            found[name] = None
            left += rows[name].after or ()
    return list(found)


def _recorded(connection: Connection, group_ids: Collection[int]) -> dict[Key, dict[int, Reason]]:
    """Group and task → run → why it was left out."""
    query = select(excluded_run).where(tables.one_of(excluded_run.c.group_id, group_ids))
    found: dict[Key, dict[int, Reason]] = defaultdict(dict)
    for row in connection.execute(query.order_by(excluded_run.c.run)):
        found[row.group_id, row.task][row.run] = row.reason
    return found


def recorded_in(connection: Connection, group_id: int) -> list[Any]:
    """What tasks of a group went on without: task, run, reason, and when."""
    query = select(excluded_run).where(excluded_run.c.group_id == group_id)
    return list(connection.execute(query.order_by(excluded_run.c.task, excluded_run.c.run)))


def left_out(connection: Connection, campaign: str) -> set[tuple[int, str, int]]:
    """What groups of a campaign went on without: group, task and run.

    What comes after a task that was made without a run is without it, too. Failed runs are few: they are read, and not
    joined to all that there is.
    """
    of_campaign = (run_group.c.id == excluded_run.c.group_id, run_group.c.campaign == campaign)
    query = select(excluded_run.c.group_id, excluded_run.c.task, excluded_run.c.run).join(run_group, and_(*of_campaign))
    runs: dict[Key, set[int]] = defaultdict(set)
    for group_id, task, run in connection.execute(query):
        runs[group_id, task].add(run)
    columns = (group_task.c.group_id, group_task.c.task, group_task.c.after)
    here = tables.one_of(group_task.c.group_id, {group_id for group_id, _ in runs})
    rows: dict[int, dict[str, Any]] = defaultdict(dict)
    for row in connection.execute(select(*columns).where(here)) if runs else ():
        rows[row.group_id][row.task] = row
    return {
        (group_id, task, run)
        for group_id, of_group in rows.items()
        for task in of_group
        for before in up_to(task, of_group)
        for run in runs.get((group_id, before), ())
    }


def counted_by_task(connection: Connection, campaign: str, left: Collection[tuple[int, str, int]]) -> Counter[OfState]:
    """How many of the runs that were left out a task in a state has; those that a person skipped count as skipped.

    :param left: as :func:`left_out` gives them.
    """
    if not left:
        return Counter()
    what = (group_task.c.group_id, group_task.c.task, group_task.c.state, group_task.c.since)
    query = select(*what, run_group.c.workflow, run_group.c.grouping).join(run_group)
    here = tables.one_of(group_task.c.group_id, {group_id for group_id, _, _ in left})
    tasks = {(row.group_id, row.task): row for row in connection.execute(query.where(here))}
    of_runs = (skip.c.campaign == campaign, tables.one_of(skip.c.run, {run for _, _, run in left}))
    skips = {(row.workflow, row.task, row.run): row.at for row in connection.execute(select(skip).where(*of_runs))}
    counts: Counter[OfState] = Counter()
    for group_id, name, run in left:
        task = tasks[group_id, name]
        at = skips.get((task.workflow, "", run)) or skips.get((task.workflow, name, run))
        if not at or (task.state == "done" and at > task.since):
            counts[task.workflow, task.grouping, name, task.state] += 1
    return counts


def standing_without(
    rows: Mapping[int, Sequence[Any]], excluded: Collection[int], waits: Mapping[tuple[str, int], str]
) -> dict[int, list[Any]]:
    """How the locks of a task stand if it goes on without some runs.

    :param rows: position of the lock → how it stands for each run that holds it, and for how many others.
    :param waits: what is said of runs that have failed and hold it.
    """
    found: dict[int, list[Any]] = {}
    for position, standing in rows.items():
        left, n = [], 0
        for row in standing:
            if row.run is not None and row.run in excluded:
                n += 1
            elif row.status not in QUIET and (said := waits.get((row.what, row.run))) is not None:
                left.append(Standing(row.group_id, row.task, position, row.kind, row.what, said, row.run))
            else:
                left.append(row)
        if n:
            one = standing[0]
            left.append(Standing(one.group_id, one.task, position, one.kind, one.what, EXCLUDED, None, n))
        found[position] = left
    return found


def record(connection: Connection, group: Group, task: str, expected: Mapping[int, Reason], now: datetime) -> None:
    """Write what a task begins, or publishes, without, in the transaction in which it does.

    :param expected: all that it was made without.
    :raises IllegalTransition: by now it would be made without others.
    """
    if policy_of(group.policy) is None:
        return
    here = (membership.c.group_id == group.id, membership.c.state == "grouped")
    n_runs = connection.execute(select(func.count()).where(*here)).scalar_one()
    decision = of_task(connection, group, task, n_runs, now)
    if decision.excluded.keys() != expected.keys():
        raise IllegalTransition(f"the failed runs of {group.name} are others by now", "it is looked at again")
    moves = [
        Move(
            {"group_id": group.id, "task": task, "run": run},
            None,
            "excluded",
            Subject(group.campaign, group.workflow, task, group.name, run),
            {"reason": dict(reason), "at": now},
            {"reason": dict(reason)},
        )
        for run, reason in sorted(decision.new.items())
    ]
    move(connection, excluded_run, moves)


def readmit(connection: Connection, group: Group, runs: Collection[int], edition: int) -> None:
    """Forget that a group went on without these runs: a person has amended it."""
    here = (excluded_run.c.group_id == group.id, tables.one_of(excluded_run.c.run, runs))
    rows = connection.execute(select(excluded_run.c.task, excluded_run.c.run).where(*here)).all()
    if not rows:
        return
    connection.execute(delete(excluded_run).where(*here))
    events = [
        {
            "entity": excluded_run.name,
            "subject": Subject(group.campaign, group.workflow, row.task, group.name, row.run),
            "from_state": "excluded",
            "to_state": None,
            "data": {"edition": edition},
        }
        for row in rows
    ]
    append_events(connection, events)
