"""What a person does with a campaign: add runs, start, pause, resume, cancel, change (rules 53, 56).

Each is one change of state with its event, and doing it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.errors import LedgerError
from airflow_calib_provider.ledger import campaigns, groups, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Campaign

AT_ONCE = 5_000
"""Runs that are added in one transaction."""

GROUPS_AT_ONCE = 500
"""Groups of a cancelled campaign that are ended in one transaction."""

MOST = 10_000_000
"""No throttle or priority is larger."""


@dataclass(frozen=True)
class Steered:
    """What became of a campaign.

    :ivar before: its state before.
    :ivar new: whether anything was changed.
    """

    campaign: str
    before: str
    state: str
    new: bool


@dataclass(frozen=True)
class Changes:
    """What is to be changed; ``None``: it stays. A throttle of 0 takes it away."""

    priority: int | None = None
    max_groups: int | None = None
    max_jobs: int | None = None

    def mistakes(self) -> list[str]:
        """What cannot be meant."""
        said = [
            f"{name} is {value}, and must be a number from 0 (no limit) to {MOST}"
            for name, value in (("max_groups", self.max_groups), ("max_jobs", self.max_jobs))
            if value is not None and not 0 <= value <= MOST
        ]
        if self.priority is not None and abs(self.priority) > MOST:
            said.append(f"priority is {self.priority}, and must lie between -{MOST} and {MOST}")
        return said

    def columns(self) -> dict[str, int | None]:
        """As the ledger has them."""
        found: dict[str, int | None] = {} if self.priority is None else {"priority": self.priority}
        for name, value in (("max_groups", self.max_groups), ("max_jobs", self.max_jobs)):
            if value is not None:
                found[name] = value or None
        return found


def add_runs(ledger: Ledger, name: str, runs: Mapping[str, Iterable[int]], now: datetime) -> int:
    """Add runs to a campaign that is collecting, in parts; those that it has already are no news.

    :param runs: source → run numbers.
    :returns: how many are new.
    :raises LedgerError: its runs are fixed.
    """
    wanted = [(source, number) for source, listed in runs.items() for number in sorted(set(listed))]
    added = 0
    for begin in range(0, len(wanted), AT_ONCE):
        with ledger.write() as connection:
            added += _add_some(connection, name, wanted[begin : begin + AT_ONCE], now)
    if not wanted:
        with ledger.read() as connection:
            _collecting(connection, name)
    return added


def _collecting(connection: Connection, name: str) -> Campaign:
    row = campaigns.get(connection, name)
    if row.state != "collecting":
        said = "it takes runs as they come" if row.kind == "streamed" else f"it is {row.state}"
        raise LedgerError(f"no runs can be added to the campaign {name}: {said}", "create another, with --collecting")
    return row


def _add_some(connection: Connection, name: str, wanted: Iterable[tuple[str, int]], now: datetime) -> int:
    row, table = _collecting(connection, name), tables.campaign_run
    by_source: dict[str, list[int]] = {}
    for source, number in wanted:
        by_source.setdefault(source, []).append(number)
    new = []
    for source, numbers in by_source.items():
        here = (table.c.campaign == name, table.c.source == source, tables.one_of(table.c.run, numbers))
        known = set(connection.execute(select(table.c.run).where(*here)).scalars())
        new += [{"campaign": name, "source": source, "run": number} for number in numbers if number not in known]
    if new:
        connection.execute(insert(table), new)
        campaigns.change(connection, row, "collecting", {"since": row.since or now}, {"runs": len(new)})
    return len(new)


def count_runs(connection: Connection, name: str) -> int:
    """How many runs a campaign lists."""
    table = tables.campaign_run
    query = select(func.count()).select_from(table).where(table.c.campaign == name)
    return int(connection.execute(query).scalar_one())


def start(ledger: Ledger, name: str, now: datetime) -> Steered:
    """A collecting campaign has all of its runs: the next injection groups it.

    :raises LedgerError: it has no runs, or is not one that collects.
    """
    with ledger.write() as connection:
        row = campaigns.get(connection, name)
        if row.kind == "finite" and row.state in ("grouping", "open"):
            return Steered(name, row.state, row.state, new=False)
        if row.state != "collecting":
            raise LedgerError(f"the campaign {name} cannot be started: it is {row.state}", _instead(row))
        n = count_runs(connection, name)
        if not n:
            raise LedgerError(f"the campaign {name} has no runs yet", "add some: `calib campaign add`")
        campaigns.change(connection, row, "grouping", {"since": now}, {"runs": n})
    return Steered(name, row.state, "grouping", new=True)


def pause(ledger: Ledger, name: str, now: datetime, *, person: str = "") -> Steered:
    """Open nothing new and submit no new round; what runs goes on, and runs are assigned.

    :raises LedgerError: it cannot be paused.
    """
    with ledger.write() as connection:
        row = _with_runs(connection, name, "pause")
        if row.state == "paused":
            return Steered(name, row.state, row.state, new=False)
        if row.state in ("collecting", "cancelled"):
            raise LedgerError(f"the campaign {name} cannot be paused: it is {row.state}", _instead(row))
        campaigns.change(connection, row, "paused", {"since": now}, {"by": person})
    return Steered(name, row.state, "paused", new=True)


def resume(ledger: Ledger, name: str, now: datetime, *, person: str = "") -> Steered:
    """Go on as before the pause.

    :raises LedgerError: it was cancelled, or was not started.
    """
    with ledger.write() as connection:
        row = _with_runs(connection, name, "resume")
        if row.state in ("collecting", "cancelled"):
            raise LedgerError(f"the campaign {name} cannot be resumed: it is {row.state}", _instead(row))
        if row.state != "paused":
            return Steered(name, row.state, row.state, new=False)
        grouped = row.kind != "finite" or row.grouped_at is not None
        target = "closed" if row.closed_at is not None else "open" if grouped else "grouping"
        campaigns.change(connection, row, target, {"since": now}, {"by": person})
    return Steered(name, row.state, target, new=True)


def cancel(ledger: Ledger, name: str, now: datetime, *, person: str = "", reason: str = "") -> Steered:
    """Open nothing any more, and let no job go on; what is published stays.

    Jobs are removed by their watchers within seconds, else by housekeeping, which also ends what a process that died
    here has left.

    :raises LedgerError: it takes all new data, or no runs at all.
    """
    with ledger.write() as connection:
        row = _with_runs(connection, name, "cancel")
        if name == campaigns.PROMPT:
            raise LedgerError(
                f"{name} takes all new data: it cannot be cancelled", f"pause it: `calib campaign pause {name}`"
            )
        new = row.state != "cancelled"
        if new:
            campaigns.change(connection, row, "cancelled", {"since": now}, {"by": person, "reason": reason})
    end_cancelled_groups(ledger, now)
    return Steered(name, row.state, "cancelled", new)


def end_cancelled_groups(ledger: Ledger, now: datetime, at_once: int = GROUPS_AT_ONCE) -> int:
    """End as skipped what has not begun in cancelled campaigns, some groups at a time; what runs has its watcher.

    :returns: in how many groups.
    """
    total, group, campaign = 0, tables.run_group, tables.campaign
    names = select(campaign.c.name).where(campaign.c.state == "cancelled")
    query = select(group.c.id, group.c.campaign).where(group.c.opening.is_not(None), group.c.campaign.in_(names))
    while True:
        with ledger.write() as connection:
            rows = connection.execute(query.limit(at_once)).all()
            if not rows:
                return total
            _end_groups(connection, {row.id: row.campaign for row in rows}, now)
        total += len(rows)
        crash_point("cancel.after_part")


def _end_groups(connection: Connection, campaign_of: Mapping[int, str], now: datetime) -> None:
    group, task = tables.run_group, tables.group_task
    left = select(task.c.group_id, task.c.task).where(
        tables.one_of(task.c.group_id, campaign_of), task.c.state.in_(groups.UNFINISHED)
    )
    groups.change_tasks(
        connection,
        [
            groups.TaskChange(row.group_id, row.task, "skipped", cancelled_reason(campaign_of[row.group_id]))
            for row in connection.execute(left)
        ],
        now,
    )
    connection.execute(update(group).where(tables.one_of(group.c.id, campaign_of)).values(opening=None))


def cancelled_reason(name: str) -> dict[str, object]:
    """Why something of a cancelled campaign has ended."""
    return {"code": "campaign_cancelled", "campaign": name}


def alter(ledger: Ledger, name: str, changes: Changes, *, person: str = "") -> Campaign:
    """Change the throttle or the priority of a campaign.

    :returns: the campaign as it is then.
    :raises LedgerError: the numbers cannot be meant, or nothing of it can be changed.
    """
    if mistakes := changes.mistakes():
        raise LedgerError("; ".join(mistakes), "nothing was changed")
    with ledger.write() as connection:
        row = _with_runs(connection, name, "set")
        if row.state == "cancelled":
            raise LedgerError(f"the campaign {name} is cancelled: nothing of it opens any more", _instead(row))
        columns = {key: value for key, value in changes.columns().items() if getattr(row, key) != value}
        if columns:
            campaigns.change(connection, row, row.state, columns, {**columns, "by": person})
        return campaigns.get(connection, name)


def _with_runs(connection: Connection, name: str, verb: str) -> Campaign:
    row = campaigns.get(connection, name)
    if row.kind == campaigns.DAGS:
        raise LedgerError(f"the campaign {name} takes no runs: there is nothing to {verb}", "Airflow pauses its DAGs")
    return row


def _instead(row: Campaign) -> str:
    if row.state == "cancelled":
        return "a cancelled campaign stays cancelled; create another"
    if row.state == "collecting":
        return f"it opens nothing before `calib campaign start {row.name}`"
    if row.state == "paused":
        return f"`calib campaign resume {row.name}`"
    return "`calib campaign list` shows the states"
