"""Assigning the runs of a source to the groups of one campaign and workflow: decided at once, written in pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, exc, func, insert, select, update

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.grouping import GroupDraft, Grouping, RunFacts, horizon
from airflow_calib_provider.errors import IllegalTransition
from airflow_calib_provider.injection.ended import drop_in_parts, end_groups
from airflow_calib_provider.injection.parts import Parts, decided
from airflow_calib_provider.injection.selection import ADMITTED, Admission, Admissions, Selector, outcome
from airflow_calib_provider.ledger import campaigns, edited_specs, groups, runs, skips, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Campaign, KnownGrouping, Run, first_row, read_rows, select_of
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.spec.models import Workflow

membership, run = tables.membership, tables.run

AT_ONCE = 1_000
"""Runs of a grouping that are written in one transaction: a fraction of a second, whatever there is to be assigned."""

TRIES = 5
"""How often a grouping is decided anew because another injection was faster."""


@dataclass
class InjectionReport:
    """What an injection did.

    :ivar source_changes: what the sources say otherwise of runs that are in groups already.
    :ivar errors: sources and workflows that could not be treated; the others were.
    """

    new_runs: int = 0
    changed_runs: int = 0
    assigned: int = 0
    late: int = 0
    not_selected: int = 0
    refused: int = 0
    groups_opened: int = 0
    groups_closed: int = 0
    requested: int = 0
    source_changes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, other: InjectionReport) -> None:
        """Count what was done besides."""
        for name in ("assigned", "late", "not_selected", "refused", "groups_opened", "groups_closed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True)
class Pass:
    """One workflow in one campaign, now.

    :ivar members: a finite campaign's runs; ``None`` in a streamed one.
    :ivar skipped: runs that a person skipped here, with what was said.
    :ivar bound: runs below are assigned.
    :ivar begun: the workflow was injected into this campaign before.
    :ivar serial: grows with what the source tells.
    :ivar runs: those that were read already, for whatever campaign, workflow or grouping: each is read once.
    """

    campaign: str
    workflow: Workflow
    first_seen: datetime
    members: frozenset[int] | None
    skipped: Mapping[int, Mapping[str, object]]
    bound: int
    begun: bool
    serial: int
    now: datetime
    runs: dict[int, Run]

    @property
    def finite(self) -> bool:
        """Whether the campaign has a list of runs, and so an end."""
        return self.members is not None

    @property
    def waits(self) -> bool:
        """A finite campaign takes all of its runs, or waits: it is grouped completely before anything opens."""
        return self.members is not None and any(run >= self.bound for run in self.members)


@dataclass(frozen=True)
class _Work:
    """What is to be assigned in a grouping, as the ledger was when it was read.

    :ivar known: the row that says how far the runs are assigned, as far as there is one.
    :ivar forming: the group that takes runs, before any of these.
    :ivar history: what it was made from, where that is to be decided once more.
    """

    grouping: str
    policy: Grouping
    known: KnownGrouping | None
    rows: Sequence[Run]
    forming: GroupDraft | None
    history: Sequence[RunFacts] = ()

    @property
    def assigned_below(self) -> int:
        return int(self.known.assigned_below) if self.known is not None else 0


def assign_workflow(
    ledger: Ledger,
    campaign: Campaign,
    workflow: Workflow,
    admissions: Admissions,
    rows: dict[int, Run],
    now: datetime,
    report: InjectionReport,
) -> bool:
    """Assign what is new below the horizon, for every grouping of a workflow, and follow an edit of its spec.

    What is read and decided keeps nobody from writing; what was decided is written in pieces. A piece that cannot be
    written any more, as another injection was faster, is decided anew.

    :param campaign: the campaign's row.
    :param workflow: the ledger knows all that its source lists.
    :param rows: the runs of the source that this injection has read, by number; what is read is added.
    :returns: whether all of a finite campaign's runs are assigned.
    :raises IllegalTransition: another injection was faster again and again.
    """
    with ledger.read() as connection:
        here = _begin(connection, campaign, workflow, rows, now)
    if not _follow_spec(ledger, here):
        return False
    complete = all(
        _assigned(ledger, here, grouping, policy, admissions, report)
        for grouping, policy in workflow.groupings().items()
    )
    if here.finite and complete:
        _advance(ledger, here, list(workflow.groupings()))
    return complete and not here.waits


def _assigned(
    ledger: Ledger, here: Pass, grouping: str, policy: Grouping, admissions: Admissions, report: InjectionReport
) -> bool:
    for _ in range(TRIES):
        try:
            return _assign_grouping(ledger, here, grouping, policy, admissions, report)
        except (exc.IntegrityError, IllegalTransition) as error:
            said = error
    raise IllegalTransition(f"the grouping {grouping} was changed by another injection") from said


def _is_open(connection: Connection, here: Pass) -> bool:
    return campaigns.takes_runs(campaigns.get(connection, here.campaign))


def _follow_spec(ledger: Ledger, here: Pass) -> bool:
    """Let what has not begun follow an edit of the spec, some groups at a time.

    :returns: whether the campaign takes runs.
    """
    table, text = tables.grouping, here.workflow.hash
    key = (table.c.campaign == here.campaign, table.c.workflow == here.workflow.name)
    with ledger.read() as connection:
        known = connection.execute(select(table.c.spec_hash).where(*key)).scalars().all()
        if not _is_open(connection, here):
            return False
    if all(one == text for one in known):
        return True
    after: int | None = 0
    left = False
    while after is not None:
        with ledger.write() as connection:
            if not _is_open(connection, here):
                return False
            followed = edited_specs.sync_tasks(connection, here.campaign, here.workflow, here.now, after)
            after, left = followed.last, left or followed.left
            if after is None and not left:
                connection.execute(update(table).where(*key).values(spec_hash=text))
    return True


def _begin(connection: Connection, campaign: Campaign, workflow: Workflow, rows: dict[int, Run], now: datetime) -> Pass:
    selection = workflow.runs
    skipped = skips.skipped_in(connection, campaign.name, workflow.name)
    members = _members(connection, campaign, workflow)
    settled_before = None if selection.settle is None else now - selection.settle
    deciding = runs.at_the_horizon(
        connection, selection.source, settled_before, None if members is None else campaign.name
    )
    bound = horizon(
        deciding,
        now,
        settle=selection.settle,
        incomplete_after=selection.incomplete_after,
        passed=frozenset(skipped),
    )
    first_seen, begun = _first_seen(connection, workflow), _has_begun(connection, campaign.name, workflow.name)
    serial = runs.serial_of(connection, selection.source)
    return Pass(campaign.name, workflow, first_seen, members, skipped, bound, begun, serial, now, rows)


def _members(connection: Connection, campaign: Campaign, workflow: Workflow) -> frozenset[int] | None:
    if campaign.kind != "finite":
        return None
    listed = tables.campaign_run
    query = select(listed.c.run).where(listed.c.campaign == campaign.name, listed.c.source == workflow.runs.source)
    return frozenset(connection.execute(query).scalars())


def _first_seen(connection: Connection, workflow: Workflow) -> datetime:
    seen = tables.workflow_seen
    query = select(seen.c.first_seen_at).where(seen.c.workflow == workflow.name)
    return connection.execute(query).scalar_one()  # type: ignore[no-any-return]


def _has_begun(connection: Connection, campaign: str, workflow: str) -> bool:
    table = tables.grouping
    query = select(table.c.label).where(table.c.campaign == campaign, table.c.workflow == workflow)
    return connection.execute(query.limit(1)).first() is not None


def _assign_grouping(
    ledger: Ledger, here: Pass, grouping: str, policy: Grouping, admissions: Admissions, report: InjectionReport
) -> bool:
    """:returns: whether all is assigned."""
    with ledger.read() as connection:
        known = _known(connection, here, grouping)
        if here.waits and not (known and known.assigned_below):
            return False
        below = known.assigned_below if known else 0
        rows = [] if _is_as_before(known, here) else _unassigned(connection, here, grouping, below)
        forming = groups.forming_group(connection, here.campaign, here.workflow.name, grouping)
        history = _history(connection, here, grouping, forming)
    work = _Work(grouping, policy, known, rows, deepcopy(forming), history)
    first_seen = known.first_seen_at if known is not None else _seen(here)
    selector = Selector(here.workflow.runs, admissions, max(here.first_seen, first_seen), here.members)
    of_run = {row.number: selector.decide(row, here.skipped, here.now) for row in rows}
    facts = {
        row.number: RunFacts(row.number, row.start, row.end, row.fields, of_run[row.number] is ADMITTED) for row in rows
    }
    new = [facts[row.number] for row in rows if row.number >= work.assigned_below]
    assignment = decided(policy, forming, work.history, new, here.now, finite=here.finite)
    parts = Parts(assignment, work.forming, facts)
    if not rows and parts.changes_nothing and known is not None and here.bound <= known.assigned_below:
        if not here.finite:
            _advance(ledger, here, [grouping])
        return True
    for begin in range(0, max(1, len(rows)), AT_ONCE):
        some, last = rows[begin : begin + AT_ONCE], begin + AT_ONCE >= len(rows)
        counted = InjectionReport()
        drop_in_parts(ledger, here.campaign, here.workflow.name, parts.dropping([row.number for row in some]))
        with ledger.write() as connection:
            if not _is_open(connection, here):
                return False
            _grouping(connection, here, grouping)
            parts.check(groups.forming_group(connection, here.campaign, here.workflow.name, grouping))
            drafts, complete = parts.of([row.number for row in some])
            groups.store(connection, here.campaign, here.workflow, drafts, here.now)
            parts.stored(drafts)
            _store_members(connection, here, work, some, of_run, parts, counted)
            end_groups(connection, here.campaign, here.workflow.name, complete, here.now)
            if not here.finite:
                _advance_bound(connection, here, grouping, here.bound if last else some[-1].number + 1, all_of_it=last)
            crash_point("inject.before_commit", here.workflow.name)
        counted.groups_opened = sum(1 for draft in drafts if parts.is_new(draft))
        counted.groups_closed = sum(1 for draft in complete if draft.state == "closed")
        report.add(counted)
        crash_point("inject.after_commit", here.workflow.name)
    return True


def _history(connection: Connection, here: Pass, grouping: str, forming: GroupDraft | None) -> list[RunFacts]:
    """The runs from the first one of a group that an injection left half written, where a tail may have joined it.

    Which of its runs are the tail cannot be seen in the group any more.
    """
    if not here.finite or forming is None or forming.policy.tail != "previous":
        return []
    return [
        RunFacts(row.run, _time(row.record["start"]), _time(row.record["end"]), row.record, row.state == "grouped")
        for row in groups.members_since(connection, here.campaign, here.workflow.name, grouping, forming.first_run)
    ]


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _known(connection: Connection, here: Pass, grouping: str) -> KnownGrouping | None:
    table = tables.grouping
    key = (table.c.campaign == here.campaign, table.c.workflow == here.workflow.name, table.c.label == grouping)
    return first_row(connection, select_of(KnownGrouping, table).where(*key), KnownGrouping)


def _seen(here: Pass) -> datetime:
    """When a grouping counts as seen that is seen now.

    Those of the first injection are as old as the workflow; one that an edit adds takes no history (rule 10).
    """
    return here.now if here.begun else here.first_seen


def _grouping(connection: Connection, here: Pass, grouping: str) -> None:
    """Make the row that says how far the runs are assigned, when the grouping is seen for the first time."""
    if _known(connection, here, grouping) is None:
        key = {"campaign": here.campaign, "workflow": here.workflow.name, "label": grouping}
        row = {**key, "assigned_below": 0, "first_seen_at": _seen(here), "spec_hash": here.workflow.hash}
        connection.execute(insert(tables.grouping).values(**row))


def _is_as_before(known: KnownGrouping | None, here: Pass) -> bool:
    """Whether all was assigned that the source lists below the bound, so that nothing need be looked for."""
    return known is not None and known.source_serial == here.serial and here.bound <= known.assigned_below


def _advance(ledger: Ledger, here: Pass, groupings: Sequence[str]) -> None:
    """All that the source had told is assigned, in these groupings."""
    with ledger.read() as connection:
        behind = [grouping for grouping in groupings if not _is_as_before(_known(connection, here, grouping), here)]
    if behind:
        with ledger.write() as connection:
            for grouping in behind:
                _advance_bound(connection, here, grouping, here.bound, all_of_it=True)


def _advance_bound(connection: Connection, here: Pass, grouping: str, bound: int, *, all_of_it: bool) -> None:
    """:param all_of_it: and nothing that the source had told is left."""
    table = tables.grouping
    key = (table.c.campaign == here.campaign, table.c.workflow == here.workflow.name, table.c.label == grouping)
    connection.execute(update(table).where(*key, table.c.assigned_below < bound).values(assigned_below=bound))
    if all_of_it:
        connection.execute(update(table).where(*key).values(source_serial=here.serial))


def _unassigned(connection: Connection, here: Pass, grouping: str, assigned_below: int) -> list[Run]:
    """Runs below the bound of which nothing is recorded yet.

    Of a finite campaign only those between its runs are told that they are none of them: it does not concern itself
    with years before.
    """
    held = (
        membership.c.campaign == here.campaign,
        membership.c.workflow == here.workflow.name,
        membership.c.grouping == grouping,
    )
    listed: tuple[ColumnElement[bool], ...] = (run.c.source == here.workflow.runs.source, run.c.number < here.bound)
    if here.members:
        listed = (*listed, run.c.number >= min(here.members))
    elif assigned_below:
        # Everything below is recorded but for runs that arrived late, if there are any: counting is quick.
        below = (listed[0], run.c.number < assigned_below)
        n_listed = connection.execute(select(func.count()).select_from(run).where(*below)).scalar_one()
        told = select(func.count()).select_from(membership).where(*held, membership.c.run < assigned_below)
        if n_listed == connection.execute(told).scalar_one():
            listed = (*listed, run.c.number >= assigned_below)
    query = select(run.c.number).outerjoin(membership, and_(*held, membership.c.run == run.c.number))
    query = query.where(*listed, membership.c.run.is_(None))
    numbers = list(connection.execute(query.order_by(run.c.number)).scalars())
    unread = [number for number in numbers if number not in here.runs]
    for begin in range(0, len(unread), AT_ONCE):
        some = tables.one_of(run.c.number, unread[begin : begin + AT_ONCE])
        found = read_rows(connection, select_of(Run, run).where(listed[0], some), Run)
        here.runs.update((row.number, row) for row in found)
    return [here.runs[number] for number in numbers]


def _store_members(
    connection: Connection,
    here: Pass,
    work: _Work,
    rows: Sequence[Run],
    admissions: Mapping[int, Admission],
    parts: Parts,
    report: InjectionReport,
) -> None:
    moves = []
    for row in rows:
        draft = parts.group_of(row.number)
        state, reason = outcome(row.number, admissions[row.number], parts.refused, work.assigned_below)
        subject = Subject(
            campaign=here.campaign,
            workflow=here.workflow.name,
            run=row.number,
            group_name=groups.group_name(work.grouping, draft.first_run) if draft else None,
        )
        columns = {
            "source": row.source,
            "group_id": draft.id if draft else None,
            "reason": reason,
            "record": frozen(row),
            "assigned_at": here.now,
        }
        key = {"campaign": here.campaign, "workflow": here.workflow.name, "grouping": work.grouping, "run": row.number}
        moves.append(Move(key, None, state, subject, columns, {"reason": reason} if reason else {}))
        report.assigned += state == "grouped"
        report.late += state == "late"
        report.not_selected += state == "not_selected"
        report.refused += state == "refused"
    move(connection, membership, moves)


def frozen(row: Run) -> dict[str, object]:
    """What a run's membership keeps of it: a source that changes its mind changes no group (rule 2)."""
    return {
        **row.fields,
        "number": row.number,
        "start": row.start.isoformat() if row.start else None,
        "end": row.end.isoformat() if row.end else None,
        "files": list(row.files),
    }
