"""Why a run or a group does not move: every cause, since when, what would release it, who looked last (rule 23).

Nothing is written here. Causes on Airflow's side stand in :mod:`.explain_airflow`, because they need facts that the
ledger does not have.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select

from airflow_calib_provider.domain.group_words import life
from airflow_calib_provider.domain.quantities import format_duration
from airflow_calib_provider.domain.reasons import Cause, Reason
from airflow_calib_provider.ledger import (
    campaigns,
    explain_groups,
    openings,
    source_changes,
    source_reads,
    sources,
    spec_files,
    tables,
)
from airflow_calib_provider.ledger.campaign_view import in_campaign
from airflow_calib_provider.ledger.explain_campaigns import no_dag_run, not_run, of_campaign, throttled
from airflow_calib_provider.ledger.explain_late import in_grouping, left_out_failed
from airflow_calib_provider.ledger.explain_tasks import task_causes
from airflow_calib_provider.ledger.groups import find_group, group_by_id
from airflow_calib_provider.ledger.rows import Campaign, Group, GroupTask, Run, first_row, read_rows, select_of
from airflow_calib_provider.ledger.waiting import FORMING, look
from airflow_calib_provider.spec.models import Workflow

run, membership, group, group_task = tables.run, tables.membership, tables.run_group, tables.group_task
request, skip = tables.dag_run_request, tables.skip

SHOWN_RUNS = 20
"""How many runs behind a held one are listed."""


@dataclass(frozen=True)
class DagRun:
    """A DAG run that has to do with the question.

    :ivar state: as in ``dag_run_request``: ``wanted``, ``claimed`` or ``opened``.
    :ivar tasks: tasks that have not ended → their states in the ledger.
    """

    workflow: str
    group: str
    dag_id: str
    run_id: str
    state: str
    tasks: Mapping[str, str]
    forming: bool


@dataclass
class Explanation:
    """All causes, and the DAG runs about which Airflow can be asked.

    :ivar life: of a group that was asked for: why it opened, and why it closed, in words.
    """

    causes: list[Cause] = field(default_factory=list)
    dag_runs: list[DagRun] = field(default_factory=list)
    life: str = ""


@dataclass(frozen=True)
class Scope:
    """What an explanation may look at besides the ledger.

    :ivar workflow: only this one.
    :ivar task: only this one.
    :ivar specs: the workflows as their YAML files say now; without them ``settle`` and the order of tasks are unknown.
    :ivar troubles: what is wrong with these files now; ``None``: as it was at the last injection.
    :ivar source: of the run that is asked for; ``None``: every one that has it.
    :ivar several: several sources have it.
    """

    campaign: str
    now: datetime
    workflow: str | None = None
    task: str | None = None
    specs: Mapping[str, Workflow] = field(default_factory=dict)
    limits: openings.OpeningLimits = field(default_factory=openings.OpeningLimits.as_set)
    troubles: Mapping[str, spec_files.Trouble] | None = None
    source: str | None = None
    several: bool = False

    def of(self, run: Any) -> str:
        """What a run is called: with its source, where several have one of its number."""
        return f"run {run.number} of {run.source}" if self.several else f"run {run.number}"


def explain_group(connection: Connection, scope: Scope, name: str) -> Explanation:
    """Why a group does not move.

    :raises NotFound: there is no such campaign or group, or several workflows have one of this name.
    """
    found = campaigns.get(connection, scope.campaign)
    result = Explanation(of_campaign(found))
    held = find_group(connection, scope.campaign, scope.workflow, name)
    if changed := source_changes.of_group(connection, held.id):
        result.causes.append(explain_groups.of_group(held, changed, "changed", None))
    _add_group(connection, scope, held, result)
    result.life = life({"opened": held.open_reason, "closed": held.close_reason})
    result.causes += _files(connection, scope, {held.workflow})
    spec = scope.specs.get(held.workflow)
    if held.state == "forming" and spec is not None:
        result.causes += _unreadable(connection, {spec.runs.source})
    return result


def explain_run(connection: Connection, scope: Scope, number: int) -> Explanation:
    """Why a run does not move, in every workflow and grouping that it concerns.

    :raises NotFound: there is no such campaign.
    """
    campaign = campaigns.get(connection, scope.campaign)
    rows = read_rows(connection, select_of(Run, run).where(run.c.number == number).order_by(run.c.source), Run)
    scope = replace(scope, several=len(rows) > 1, specs=in_campaign(campaign, scope.specs))
    rows = [row for row in rows if scope.source in (None, row.source)]
    result = Explanation(of_campaign(campaign))
    if not rows:
        highest = connection.execute(select(func.max(run.c.number))).scalar()
        result.causes.append(Cause(f"run {number}", {"code": "run_unknown", "run": number, "highest": highest}))
    members = connection.execute(
        select(membership).where(membership.c.campaign == scope.campaign, membership.c.run == number)
    ).all()
    result.causes += _skips(connection, scope, number, rows)
    concerned: set[str] = set()
    for row in rows:
        targets = _targets(connection, scope, row, members)
        _explain_in_groupings(connection, scope, campaign, row, members, targets, result)
        concerned |= {name for name, _ in targets}
    result.causes += _files(connection, scope, concerned, of_run=True)
    if not rows:
        result.causes += _unreadable(connection, None if scope.source is None else {scope.source})
    else:
        result.causes += _unreadable(connection, {row.source for row in rows if not row.completed or not members})
    return result


def _unreadable(connection: Connection, names: Collection[str] | None) -> list[Cause]:
    """The run sources, of these or of all, of which nothing new is learned."""
    return [
        Cause(
            f"run source {item.source}",
            {"code": "source_unreadable", "source": item.source, "said": item.said},
            since=item.since,
        )
        for item in source_reads.unreadable(connection, names)
    ]


def _files(connection: Connection, scope: Scope, workflows: Collection[str], *, of_run: bool = False) -> list[Cause]:
    """What is wrong with the YAML files of these workflows and of the run sources: why an edit does nothing."""
    found = spec_files.troubles(connection) if scope.troubles is None else scope.troubles
    sources_files = spec_files.sources_rows(connection, workflows)
    return [
        Cause(
            f"workflow {name}" if name in workflows else name.partition("@")[0],
            dict(trouble.reason),
            since=trouble.since,
            workflow=name,
        )
        for name, trouble in sorted(found.items())
        if name in workflows
        or name in sources_files
        # What it would have taken, nobody can read: it may be any run.
        or (of_run and trouble.reason["code"] == "spec_refused" and scope.workflow in (None, name))
    ]


def _skips(connection: Connection, scope: Scope, number: int, runs: Sequence[Run]) -> list[Cause]:
    query = select(skip).where(skip.c.campaign == scope.campaign, skip.c.run == number)
    skips = connection.execute(query).all()
    having = {item.source: scope.of(item) for item in runs}
    taken = sources.of_workflows(connection, {row.workflow for row in skips}) if scope.several else {}
    of = {
        row.workflow: next((having[name] for name in taken.get(row.workflow, having) if name in having), None)
        for row in skips
    }
    return [
        Cause(
            f"{of[row.workflow]} in {row.workflow}{'.' + row.task if row.task else ''}",
            {"code": "run_skipped", "person": row.person, "reason": row.reason},
            state="skipped",
            since=row.at,
            workflow=row.workflow,
            task=row.task or None,
        )
        for row in skips
        if of[row.workflow] is not None
        and scope.workflow in (None, row.workflow)
        and scope.task in (None, "", row.task or scope.task)
    ]


def _explain_in_groupings(
    connection: Connection,
    scope: Scope,
    campaign: Campaign,
    row: Run,
    members: Sequence[Any],
    targets: Sequence[tuple[str, str]],
    result: Explanation,
) -> None:
    if not targets:
        reason = not_run(campaign, row, scope.workflow, scope.task)
        result.causes.append(Cause(scope.of(row), reason, since=row.recorded_at))
    of_grouping = {(member.workflow, member.grouping): member for member in members if member.source == row.source}
    result.causes += _changed(scope.of(row), row, [of_grouping[target] for target in targets if target in of_grouping])
    for workflow, grouping in targets:
        member = of_grouping.get((workflow, grouping))
        if member is None:
            result.causes += _unassigned(connection, scope, campaign, row, workflow, grouping)
        elif member.state != "grouped":
            result.causes += _left_out(connection, scope, member, scope.of(row))
        else:
            _add_group(connection, scope, group_by_id(connection, member.group_id), result, row.number)


def _changed(name: str, row: Run, members: Sequence[Any]) -> list[Cause]:
    """What the source says otherwise since the run was assigned; once for each workflow, as a rule."""
    causes: list[Cause] = []
    for member in members:
        if changes := source_changes.changes_of(row, member):
            about = f"{name} in {member.workflow}"
            reason = source_changes.of_runs(row.source, [(row.number, changes)])
            cause = Cause(about, reason, "changed", workflow=member.workflow)
            causes += [] if cause in causes else [cause]
    return causes


def _targets(connection: Connection, scope: Scope, row: Run, members: Sequence[Any]) -> list[tuple[str, str]]:
    """Workflow and grouping of everything that takes runs of this run's source."""
    found = {(item.workflow, item.grouping) for item in members if item.source == row.source}
    taken = exists().where(
        membership.c.campaign == tables.grouping.c.campaign,
        membership.c.workflow == tables.grouping.c.workflow,
        membership.c.source != row.source,
    )
    # To ask it of a workflow that has taken this very run would be to look at all of its runs.
    takes = tables.grouping.c.workflow.in_({name for name, _ in found})
    query = select(tables.grouping.c.workflow, tables.grouping.c.label).where(
        tables.grouping.c.campaign == scope.campaign, or_(takes, ~taken)
    )
    others = connection.execute(query).all()
    known = sources.of_workflows(connection, {name for name, _ in others if name not in scope.specs})
    known |= {name: {workflow.runs.source} for name, workflow in scope.specs.items()}
    found |= {(name, grouping) for name, grouping in others if row.source in known.get(name, {row.source})}
    for name, workflow in scope.specs.items():
        if workflow.runs.source == row.source:
            found |= {(name, grouping) for grouping in workflow.groupings()}
    wanted = [(name, grouping) for name, grouping in sorted(found) if scope.workflow in (None, name)]
    return [one for one in wanted if scope.task is None or _has_task(connection, scope, *one)]


def _has_task(connection: Connection, scope: Scope, workflow: str, grouping: str) -> bool:
    if workflow in scope.specs:
        return any(task.name == scope.task for task in scope.specs[workflow].tasks_of(grouping))
    query = select(group_task.c.task).join(group, group.c.id == group_task.c.group_id)
    query = query.where(group.c.workflow == workflow, group.c.grouping == grouping, group_task.c.task == scope.task)
    return connection.execute(query.limit(1)).first() is not None


def _left_out(connection: Connection, scope: Scope, member: Any, name: str) -> list[Cause]:
    """A run in no group: late, not selected, refused, or dropped with its group."""
    reason = in_grouping(member.reason or {}, scope.specs, member.workflow, member.grouping)
    if reason.get("code") == "run_skipped":
        return []  # who skipped it, and why, was said already
    if member.state == "dropped":
        dropped = connection.execute(select(group.c.close_reason).where(group.c.id == member.group_id)).scalar()
        reason = {**reason, **(dropped or {})}
    about = f"{name} in {member.workflow} ({member.grouping})"
    reason = {"run": member.run, "source": member.source, **reason, **spec_files.edited_since(connection, member)}
    return [Cause(about, reason, state=member.state, since=member.assigned_at, workflow=member.workflow)]


def _unassigned(
    connection: Connection, scope: Scope, campaign: Campaign, row: Run, workflow: str, grouping: str
) -> list[Cause]:
    """A run that the horizon has not passed (rule 2)."""
    about = f"{scope.of(row)} in {workflow} ({grouping})"
    if campaign.kind == "finite" and not _is_listed(connection, campaign, row):
        return [Cause(about, {"code": "not_in_campaign"}, "not_selected", campaign.created_at, workflow=workflow)]
    table, spec = tables.grouping, scope.specs.get(workflow)
    below = connection.execute(
        select(table.c.assigned_below).where(
            table.c.campaign == scope.campaign, table.c.workflow == workflow, table.c.label == grouping
        )
    ).scalar()
    since = row.completed_at or row.recorded_at
    if below is not None and row.number < below:
        if waits := explain_groups.of_values(connection, campaign, spec, grouping, scope.now, row.number):
            return [waits]
        reason = {"code": "late", "assigned_below": below, "run": row.number, "source": row.source}
        reason = in_grouping(reason, scope.specs, workflow, grouping)
        return [Cause(about, reason, since=row.recorded_at, workflow=workflow)]
    causes = []
    holder = _holder(connection, scope, campaign, row, workflow)
    if not row.completed:
        if holder is not None and holder.number == row.number:
            behind = _behind(connection, row)
            reason = {"code": "holds_horizon", "run": row.number, "started": _iso(row.start), **behind}
            return [Cause(about, reason, since=row.recorded_at, workflow=workflow)]
        causes.append(Cause(about, {"code": "not_completed"}, since=row.recorded_at, workflow=workflow))
    if holder is not None:
        reason = {
            "code": "held_by_run",
            "run": holder.number,
            "started": _iso(holder.start),
            **_behind(connection, holder),
        }
        return [*causes, Cause(about, reason, since=since, workflow=workflow)]
    if not row.completed:
        return causes
    hold = _settling(connection, scope, row, workflow) or _finite_incomplete(connection, campaign, row, workflow)
    hold = hold or explain_groups.of_policy(connection, scope.campaign, spec, grouping)
    if hold is None and (waits := explain_groups.of_values(connection, campaign, spec, grouping, scope.now)):
        return [waits]
    return [Cause(about, hold or {"code": "next_inject"}, since=since, workflow=workflow)]


def _is_listed(connection: Connection, campaign: Campaign, row: Run) -> bool:
    query = select(run.c.number).where(
        run.c.source == row.source, run.c.number == row.number, _listed_in(campaign.name)
    )
    return connection.execute(query).first() is not None


def _listed_in(campaign: str) -> ColumnElement[bool]:
    """The run is one of a finite campaign's."""
    listed = tables.campaign_run
    return exists().where(listed.c.campaign == campaign, listed.c.source == run.c.source, listed.c.run == run.c.number)


def _holder(connection: Connection, scope: Scope, campaign: Campaign, row: Run, workflow: str) -> Run | None:
    """The lowest run that is not completed and that nothing passes, up to this one."""
    skipped = exists().where(
        skip.c.campaign == scope.campaign, skip.c.workflow == workflow, skip.c.task == "", skip.c.run == run.c.number
    )
    query = select_of(Run, run).where(
        run.c.source == row.source, run.c.number <= row.number, ~run.c.completed, ~skipped
    )
    if campaign.kind == "finite":
        query = query.where(_listed_in(campaign.name))
    spec = scope.specs.get(workflow)
    if spec is not None and spec.runs.incomplete_after is not None:
        query = query.where(or_(run.c.start.is_(None), run.c.start >= scope.now - spec.runs.incomplete_after))
    return first_row(connection, query.order_by(run.c.number).limit(1), Run)


def _behind(connection: Connection, holder: Run) -> Reason:
    here = and_(run.c.source == holder.source, run.c.number > holder.number, run.c.completed)
    total = connection.execute(select(func.count()).where(here)).scalar()
    query = select(run.c.number).where(here).order_by(run.c.number).limit(SHOWN_RUNS)
    return {"n_behind": total, "behind": list(connection.execute(query).scalars())}


def _settling(connection: Connection, scope: Scope, row: Run, workflow: str) -> Reason | None:
    spec = scope.specs.get(workflow)
    settle: timedelta | None = spec.runs.settle if spec is not None else None
    if settle is None:
        return None
    query = select(run.c.number, run.c.end).where(
        run.c.source == row.source, run.c.number <= row.number, run.c.completed, run.c.end > scope.now - settle
    )
    young = connection.execute(query.order_by(run.c.number).limit(1)).first()
    if young is None:
        return None
    return {"code": "settle", "run": young.number, "settle": format_duration(settle), "until": _iso(young.end + settle)}


def _finite_incomplete(connection: Connection, campaign: Campaign, row: Run, workflow: str) -> Reason | None:
    """A finite campaign waits until all of its runs are completed, or skipped: it is grouped in one go (rule 3)."""
    if campaign.kind != "finite":
        return None
    listed = tables.campaign_run
    here = and_(listed.c.campaign == campaign.name, listed.c.source == row.source)
    ready = exists().where(run.c.source == listed.c.source, run.c.number == listed.c.run, run.c.completed)
    passed = exists().where(
        skip.c.campaign == campaign.name,
        skip.c.workflow == workflow,
        skip.c.task == "",
        skip.c.run == listed.c.run,
    )
    query = select(listed.c.run).where(here, ~ready, ~passed).order_by(listed.c.run)
    missing = list(connection.execute(query).scalars())
    return {"code": "finite_incomplete", "missing": missing} if missing else None


def _add_group(connection: Connection, scope: Scope, row: Group, result: Explanation, run: int | None = None) -> None:
    """The causes of a group; of runs without which it went on those of one, or all."""
    asked = connection.execute(select(request).where(request.c.group_id == row.id)).first()
    listed = select_of(GroupTask, group_task).where(group_task.c.group_id == row.id).order_by(group_task.c.position)
    tasks = read_rows(connection, listed, GroupTask)
    chosen = [item for item in tasks if scope.task in (None, item.task)]
    if row.state == "dropped":
        reason = {"code": "dropped", **(row.close_reason or {})}
        result.causes.append(explain_groups.of_group(row, reason, "skipped", row.closed_at))
        return
    result.causes += left_out_failed(connection, row, scope.task, run)
    if row.edition > 1:
        amended = tables.group_edition
        last = connection.execute(select(amended).where(amended.c.group_id == row.id, amended.c.n == row.edition)).one()
        said = {"edition": last.n, "person": last.person, "said": last.reason}
        reason = {"code": "amended", **said, "added": last.added, "removed": last.removed}
        result.causes.append(explain_groups.of_group(row, reason, row.state, last.at))
    if row.late:
        result.causes.append(explain_groups.of_group(row, {"code": "late_group"}, "late", row.opened_at))
    if row.state == "forming":
        reason = dict(look(connection, [(row.id, FORMING)])[row.id, FORMING].reason or {})
        looked = max((item.looked_at for item in tasks if item.looked_at), default=None)
        result.causes.append(explain_groups.of_group(row, reason, "waiting", row.opened_at, looked))
        campaign = campaigns.get(connection, row.campaign)
        waits = explain_groups.of_values(connection, campaign, scope.specs.get(row.workflow), row.grouping, scope.now)
        result.causes += [waits] if waits is not None else []
    spec = scope.specs.get(row.workflow)
    found = task_causes(connection, row, tasks, [item.task for item in chosen], spec, scope.now)
    result.causes += found.causes
    result.causes += throttled(connection, row, chosen, scope.now)
    left = {item.task: item.state for item in chosen if item.state in ("new", "waiting", "processing")}
    if asked is None:
        if found.ready:
            why = no_dag_run(connection, scope.limits, row, scope.now)
            result.causes.append(explain_groups.of_group(row, why, "waiting", row.closed_at))
        return
    result.dag_runs.append(
        DagRun(row.workflow, row.name, asked.dag_id, asked.run_id, asked.state, left, row.state == "forming")
    )
    if found.ready:
        result.causes += explain_groups.of_request(row, asked, found.ready, scope.now)


def _iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None
