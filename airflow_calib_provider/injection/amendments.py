"""What an amendment of a group would change, and why it cannot: read and decided, nothing is written (rule 51)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select

from airflow_calib_provider.domain.grouping import Grouping, RunFacts, missing_field
from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.reasons import listed, render
from airflow_calib_provider.errors import CalibError, Mistakes, NotFound
from airflow_calib_provider.kinds import LOCKS
from airflow_calib_provider.ledger import campaigns, exclusions, openings, tables
from airflow_calib_provider.ledger.groups import group_by_id
from airflow_calib_provider.ledger.locks.base import ledger_lock, parameter
from airflow_calib_provider.ledger.payload_states import PUBLISHED
from airflow_calib_provider.ledger.rows import Group
from airflow_calib_provider.payloads import store

member, group, group_task, payload = tables.membership, tables.run_group, tables.group_task, tables.payload

MOST = 2_000
"""Runs that one amendment adds and removes: they are written in one transaction."""

MOST_GROUPS = 200
"""Groups of late runs that one amendment takes runs from: nobody else writes for a second or so."""


@dataclass(frozen=True)
class Amendment:
    """What a person wants of a closed group.

    :ivar add: late runs, and such as the group went on without; :ivar remove: runs of the group.
    """

    add: Sequence[int]
    remove: Sequence[int]
    reason: str
    person: str


@dataclass(frozen=True)
class Change:
    """What a group gets and loses.

    :ivar runs: what it has then, with what was recorded of each; nothing: it is dropped.
    """

    group: Group
    runs: Mapping[int, Mapping[str, Any]]
    added: Sequence[int] = ()
    removed: Sequence[int] = ()


@dataclass
class AmendmentPlan:
    """All that is to be written.

    :ivar states: run → its state now, of those that are added.
    """

    target: Change
    others: list[Change] = field(default_factory=list)
    states: dict[int, str] = field(default_factory=dict)

    @property
    def changes(self) -> list[Change]:
        """Of all groups."""
        return [self.target, *self.others]


def check_request(wanted: Amendment) -> None:
    """:raises CalibError: it asks for nothing, or for what nobody can mean."""
    if not wanted.reason.strip():
        raise CalibError("an amendment needs a reason", "it stands in the provenance of what is made of the edition")
    if "\0" in wanted.reason + wanted.person:
        raise CalibError("the reason, or the person, holds a character that no database keeps", "write plain text")
    if not wanted.add and not wanted.remove:
        raise CalibError(
            "no run is to be added, and none removed: nothing was done", "name some with --add or --remove"
        )
    if both := sorted(set(wanted.add) & set(wanted.remove)):
        raise CalibError(f"to be added and removed at once: {listed(both)}", "name each run once")
    if len(wanted.add) + len(wanted.remove) > MOST:
        raise CalibError(f"an amendment of more than {MOST:,} runs", "a campaign of its own is for more")


def planned(connection: Connection, group_id: int, wanted: Amendment) -> AmendmentPlan:
    """What is to be written.

    :raises CalibError: the group cannot be amended so, or not now; with all mistakes about runs.
    """
    row = group_by_id(connection, group_id)
    _check_group(connection, row)
    has = _members(connection, [row.id])[row.id]
    there = _elsewhere(connection, row, wanted.add)
    readmitted = {one.run for one in exclusions.recorded_in(connection, row.id) if one.run in has}
    mistakes = [
        *_mistakes_of_added(row, has.keys() - readmitted, there, wanted.add),
        *_still_failed(connection, row, readmitted & set(wanted.add)),
        *_mistakes_of_removed(connection, row, has, wanted),
    ]
    taken = {there[run].group_id for run in wanted.add if run in there and there[run].state == "grouped"} - {row.id}
    if len(taken) > MOST_GROUPS:
        said = f"the runs to be added are in {len(taken):,} groups, and an amendment takes them from {MOST_GROUPS}"
        mistakes.append(CalibError(said, "add them in parts"))
    if mistakes:
        raise mistakes[0] if len(mistakes) == 1 else Mistakes("the amendment", mistakes)
    left = {run: record for run, record in has.items() if run not in wanted.remove}
    runs = {**left, **{run: there[run].record for run in wanted.add}}
    if not runs:
        raise CalibError(
            f"that leaves no run in {row.name}", f"`calib skip {row.name}` takes all of them out of what is waited for"
        )
    target = Change(row, runs, sorted(wanted.add), sorted(wanted.remove))
    plan = AmendmentPlan(
        target, _late_groups(connection, row, there, wanted.add), {run: there[run].state for run in wanted.add}
    )
    for change in plan.changes:
        check_idle(connection, change.group)
    check_overlap(connection, plan)
    return plan


def _check_group(connection: Connection, row: Group) -> None:
    campaign = campaigns.get(connection, row.campaign)
    if campaign.kind == campaigns.DAGS:
        raise CalibError(f"{row.name} is of a hand-written DAG, and has no runs", "clear its DAG run in Airflow")
    if campaign.state == "cancelled":
        raise CalibError(f"the campaign {row.campaign} is cancelled: nothing of it is processed any more", "")
    if row.state == "forming":
        raise CalibError(f"{row.name} still takes runs", "amend it when it is closed")
    if row.state == "dropped":
        said = (row.close_reason or {}).get("code")
        into = (row.close_reason or {}).get("into")
        was = f"its runs are in {into}" if said == "absorbed" else "it was dropped, and has no runs"
        raise CalibError(f"{row.name} cannot be amended: {was}", f"amend {into}" if said == "absorbed" else "")
    if Grouping.of_json(row.policy).is_single:
        raise CalibError(
            f"{row.name} is of single runs: it can neither get one nor lose its own",
            "`calib skip` takes its run out; late runs become groups with `late_runs: new_group`",
        )
    if openings.half_grouped(connection, row):
        raise CalibError(f"the campaign {row.campaign} is not grouped completely yet", "calib_inject goes on with it")


def _members(connection: Connection, group_ids: Collection[int]) -> dict[int, dict[int, Mapping[str, Any]]]:
    """Group → run → what was recorded of it when it was assigned."""
    found: dict[int, dict[int, Mapping[str, Any]]] = {group_id: {} for group_id in group_ids}
    query = select(member.c.group_id, member.c.run, member.c.record).where(
        tables.one_of(member.c.group_id, group_ids), member.c.state == "grouped"
    )
    for row in connection.execute(query.order_by(member.c.run)):
        found[row.group_id][row.run] = row.record
    return found


def _elsewhere(connection: Connection, row: Group, runs: Iterable[int]) -> dict[int, Any]:
    """What is decided about runs in the grouping: state, reason, record, and the group that has them.

    :raises NotFound: the ledger has no such run.
    """
    wanted = list(runs)
    here = (member.c.campaign == row.campaign, member.c.workflow == row.workflow, member.c.grouping == row.grouping)
    query = (
        select(member.c.run, member.c.state, member.c.reason, member.c.record, member.c.group_id, group.c.name)
        .add_columns(group.c.late, group.c.state.label("group_state"))
        .outerjoin(group, group.c.id == member.c.group_id)
        .where(*here, tables.one_of(member.c.run, wanted))
    )
    found = {one.run: one for one in connection.execute(query)}
    lacking = [run for run in wanted if run not in found]
    known = set(
        connection.execute(select(tables.run.c.number).where(tables.one_of(tables.run.c.number, lacking))).scalars()
    )
    if unknown := [run for run in lacking if run not in known]:
        raise NotFound(f"the ledger has no run {listed(unknown)}", "`calib runs list` shows those it has")
    return found


def _still_failed(connection: Connection, row: Group, runs: Collection[int]) -> list[CalibError]:
    """Runs that the group went on without, and would again."""
    found = exclusions.failures_in(connection, [row.id]).values() if runs else ()
    return [
        CalibError(
            f"run {run} is not done yet: {failure.failed} has failed for it, and {row.name} went on without it",
            "when it is done there, amend the group",
        )
        for failures in found
        for run, failure in sorted(failures.items())
        if run in runs
    ]


def _mistakes_of_added(
    row: Group, has: Collection[int], there: Mapping[int, Any], add: Iterable[int]
) -> list[CalibError]:
    policy = Grouping.of_json(row.policy)
    found: list[CalibError] = []
    for run in add:
        known = there.get(run)
        if run in has:
            found.append(CalibError(f"run {run} is in {row.name} already", "leave it out"))
        elif known is None:
            said = f"nothing is decided about run {run} in {row.workflow} yet: it is not late"
            found.append(CalibError(said, "the next calib_inject decides"))
        elif known.state == "grouped" and known.group_id == row.id:
            continue  # the group went on without it
        elif known.state == "grouped" and not (known.late and known.group_state == "closed"):
            hint = f"remove it there first: `calib group amend {known.name} --remove {run} --reason ...`"
            found.append(CalibError(f"run {run} is not late: it is in {known.name}", hint))
        elif known.state not in ("late", "removed", "grouped") and not (known.state == "dropped" and known.late):
            found.append(
                CalibError(f"run {run} is not late, but {known.state}: {render(known.reason)}", "leave it out")
            )
        elif (missing := missing_field(policy, RunFacts.frozen(run, known.record))) is not None:
            found.append(CalibError(f"run {run} cannot be in {row.name}: {render(missing)}", "leave it out"))
    return found


def _mistakes_of_removed(
    connection: Connection, row: Group, has: Mapping[int, object], wanted: Amendment
) -> list[CalibError]:
    there = _elsewhere(connection, row, [run for run in wanted.remove if run not in has])
    return [
        CalibError(
            f"run {run} is not in {row.name}"
            + (f", but in {there[run].name}" if run in there and there[run].state == "grouped" else ""),
            "`calib runs list` shows which group has which run",
        )
        for run in wanted.remove
        if run not in has
    ]


def _late_groups(connection: Connection, row: Group, there: Mapping[int, Any], add: Iterable[int]) -> list[Change]:
    """The groups of late runs that lose runs to another one."""
    taken: dict[int, list[int]] = {}
    for run in add:
        if there[run].state == "grouped" and there[run].group_id != row.id:
            taken.setdefault(there[run].group_id, []).append(run)
    has = _members(connection, taken)
    return [
        Change(
            group_by_id(connection, group_id),
            {run: record for run, record in has[group_id].items() if run not in runs},
            removed=sorted(runs),
        )
        for group_id, runs in sorted(taken.items())
    ]


def check_idle(connection: Connection, row: Group) -> None:
    """:raises CalibError: a task of the group runs: its jobs would be of another edition than what follows them."""
    here = (group_task.c.group_id == row.id, group_task.c.state == "processing")
    if tasks := list(connection.execute(select(group_task.c.task).where(*here)).scalars()):
        what = f"{listed(sorted(tasks))} of {row.name} runs"
        raise CalibError(
            f"{what}: nothing was changed", "wait for its end, or mark it as failed in Airflow; then amend"
        )


def check_overlap(connection: Connection, plan: AmendmentPlan) -> None:
    """:raises PayloadError: what the group has published would hold for runs for which another payload holds."""
    row, gone = plan.target.group, {one.group.id for one in plan.others if not one.runs}
    if row.late:
        return
    tags = select(payload.c.tag).where(payload.c.group_id == row.id, payload.c.state == PUBLISHED).distinct()
    for tag in connection.execute(tags).scalars().all():
        store.refuse_overlap(connection, row, tag, Iov(min(plan.target.runs), max(plan.target.runs)), but_for=gone)


def others_made_before(connection: Connection, plan: AmendmentPlan) -> list[str]:
    """Done tasks of other groups that need a task, or a product, of these for a run that they had.

    In this campaign, or in another one that takes it from here.
    """
    row, lock, other = plan.target.group, tables.lock, tables.membership.alias("other")
    had = {run for change in plan.changes for run in (*change.runs, *change.removed)}
    late = {run for change in plan.others for run in change.removed}
    runs = had - (set(plan.target.added) - late)
    campaign = func.coalesce(parameter("campaign"), group.c.campaign)  # what comes from a base campaign names it
    here = group_task.alias("here")
    own = select(here.c.task).where(here.c.group_id == row.id)
    of_it = or_(
        parameter("grouping") == row.grouping,
        # A product is waited for in whatever grouping it is made.
        and_(lock.c.kind == "product", parameter("task").in_(own)),
    )
    query = (
        select(group.c.campaign, group.c.name, group.c.workflow, lock.c.task)
        .distinct()
        .join(lock, lock.c.group_id == group.c.id)
        .join(group_task, (group_task.c.group_id == group.c.id) & (group_task.c.task == lock.c.task))
        .join(other, other.c.group_id == group.c.id)
        .where(
            campaign == row.campaign,
            parameter("workflow") == row.workflow,
            of_it,
            group_task.c.state == "done",
            other.c.state == "grouped",
            tables.one_of(other.c.run, runs),
        )
        .order_by(group.c.campaign, group.c.workflow, group.c.name, lock.c.task)
    )
    return [
        f"{one.name} of {one.workflow}{'' if one.campaign == row.campaign else f' in {one.campaign}'}: {one.task}"
        for one in connection.execute(query)
    ]


def in_vain(connection: Connection, plan: AmendmentPlan) -> dict[str, list[int]]:
    """What the group waits for until a person does more: the needs of added runs that are in no group there.

    :returns: ``task: workflow.task`` that it needs → runs.
    """
    added, found = set(plan.target.added), dict[str, list[int]]()
    statements = [ledger_lock(name).statement([plan.target.group.id]) for name in LOCKS.own]
    for row in (row for one in statements if one is not None for row in connection.execute(one)):
        if row.run in added and row.status in ("late", "removed"):
            found.setdefault(f"{row.task}: {row.what}", []).append(row.run)
    return {need: sorted(runs) for need, runs in sorted(found.items())}
