"""Assigning the runs of a source to the groups of one campaign and workflow: decided at once, written in pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection, exc, insert, select, update

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.grouping import GroupDraft, Grouping, RunFacts, assign_late
from airflow_calib_provider.domain.horizon import horizon
from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.domain.run_facts import REPORTED
from airflow_calib_provider.errors import CalibError, IllegalTransition, LedgerError
from airflow_calib_provider.injection import awaiting, recutting, undecided
from airflow_calib_provider.injection.ended import drop_in_parts, end_groups
from airflow_calib_provider.injection.parts import Parts, decided
from airflow_calib_provider.injection.report import InjectionReport as InjectionReport
from airflow_calib_provider.injection.selection import ADMITTED, Admission, Admissions, Selector, outcome
from airflow_calib_provider.ledger import campaigns, edited_specs, groups, open_groups, runs, skips, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Campaign, KnownGrouping, Run, first_row, select_of
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.spec.models import Workflow

membership, run = tables.membership, tables.run

AT_ONCE = 1_000
"""Runs of a grouping that are written in one transaction: a fraction of a second, whatever there is to be assigned."""

TRIES = 5
"""How often a grouping is decided anew because another injection was faster."""


@dataclass(frozen=True)
class Pass:
    """One workflow in one campaign, now.

    :ivar members: a finite campaign's runs; ``None`` in a streamed one.
    :ivar skipped: runs that a person skipped here, with what was said.
    :ivar bound: runs below are assigned.
    :ivar begun: the workflow was injected into this campaign before.
    :ivar serial: grows with what the source tells.
    :ivar runs: those that were read already, for whatever campaign, workflow or grouping: each is read once.
    :ivar held: more is below the horizon, of which nothing can be decided yet.
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
    held: bool = False

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
    """What is decided about the runs of a grouping.

    :ivar known: the row that says how far the runs are assigned, as far as there is one.
    :ivar values: those for which the grouping has waited.
    """

    grouping: str
    known: KnownGrouping | None
    admissions: Mapping[int, Admission]
    values: Mapping[int, awaiting.Values] = field(default_factory=dict)

    @property
    def assigned_below(self) -> int:
        return int(self.known.assigned_below) if self.known is not None else 0


@dataclass(frozen=True)
class _Stream:
    """Runs that are put into groups one after the other.

    :ivar late: into groups of late ones, beside those that new runs form.
    """

    rows: Sequence[Run]
    parts: Parts
    late: bool = False


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
    :raises CalibError: another injection was faster again and again, or what a grouping is to follow cannot be read, or
        contradicts closed groups. All other groupings are assigned then.
    """
    with ledger.read() as connection:
        here = _begin(connection, campaign, workflow, rows, now)
    if not _follow_spec(ledger, here):
        return False
    complete, failed, made = True, list[CalibError](), list[str]()
    # What waits for values of others comes after them.
    for grouping, policy in sorted(workflow.groupings().items(), key=lambda one: bool(one[1].awaits)):
        try:
            policy = recutting.as_now(ledger, here, policy)
            is_made = _assigned(ledger, here, grouping, policy, admissions, report)
            made += [grouping] * (is_made is True)
            complete &= is_made is not False
        except CalibError as error:
            if isinstance(error, LedgerError) and not isinstance(error, IllegalTransition):
                raise
            failed.append(error)  # the other groupings go on
    if failed:
        raise failed[0]
    if here.finite and complete:
        _advance(ledger, here, made)
    return complete and not here.waits


def _assigned(
    ledger: Ledger, here: Pass, grouping: str, policy: Grouping, admissions: Admissions, report: InjectionReport
) -> bool | None:
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
) -> bool | None:
    """:returns: whether all is assigned; ``None``: in a finite campaign it is made when the values of all are known."""
    with ledger.read() as connection:
        known = _known(connection, here, grouping)
        if here.waits and not (known and known.assigned_below):
            return False
        below = known.assigned_below if known else 0
        rows = [] if _is_as_before(known, here) else undecided.unassigned(connection, here, grouping, below)
        forming = open_groups.forming_group(connection, here.campaign, here.workflow.name, grouping)
        history = undecided.history(connection, here, grouping, forming)
        ended = open_groups.last_ended(connection, here.campaign, here.workflow.name, grouping) if rows else None
        late = [row for row in rows if row.number < below]
        half = _late_group(connection, here, grouping) if late else None
    about = _admitted(here, known, admissions, rows)
    found = awaiting.decidable(ledger, here, policy, forming, rows, about, below)
    if found.held is not None:
        report.waits.append(render(found.held))
        if here.finite:
            _note_waiting(ledger, here, grouping)
            return None
    here, rows = replace(here, bound=found.bound, held=found.held is not None), list(found.rows)
    late = [row for row in rows if row.number < below]
    work = _Work(grouping, known, found.admissions, found.values)
    facts = {row.number: _facts(row, work) for row in rows}
    if late and (half is not None or policy.late_runs == "new_group"):
        before, rows = deepcopy(half), rows[len(late) :]
        apart = assign_late(policy, half, [facts[row.number] for row in late], here.now)
        if not _write(ledger, here, work, _Stream(late, Parts(apart, before, facts), late=True), report):
            return False
    before = deepcopy(forming)
    new = [facts[row.number] for row in rows if row.number >= below]
    made = decided(
        policy,
        forming,
        history,
        new,
        here.now,
        finite=here.finite,
        before=ended,
        bound=here.bound,
        gone=awaiting.gone_for(here, policy, forming),
    )
    parts = Parts(made, before, facts)
    if not rows and parts.changes_nothing and known is not None and here.bound <= known.assigned_below:
        if not here.finite and not here.held:
            _advance(ledger, here, [grouping])
        return True
    return _write(ledger, here, work, _Stream(rows, parts), report)


def _facts(row: Run, work: _Work) -> RunFacts:
    values = work.values.get(row.number, {})
    return RunFacts(row.number, row.start, row.end, row.fields, work.admissions[row.number] is ADMITTED, values)


def _note_waiting(ledger: Ledger, here: Pass, grouping: str) -> None:
    """Let it be seen in the ledger that a grouping of a finite campaign is still to be made."""
    with ledger.read() as connection:
        known = _known(connection, here, grouping)
    if known is None:
        with ledger.write() as connection:
            if _is_open(connection, here):
                _grouping(connection, here, grouping)


def _admitted(
    here: Pass, known: KnownGrouping | None, admissions: Admissions, rows: Sequence[Run]
) -> dict[int, Admission]:
    first_seen = known.first_seen_at if known is not None else _seen(here)
    selector = Selector(here.workflow.runs, admissions, max(here.first_seen, first_seen), here.members)
    return {row.number: selector.decide(row, here.skipped, here.now) for row in rows}


def _late_group(connection: Connection, here: Pass, grouping: str) -> GroupDraft | None:
    return open_groups.forming_group(connection, here.campaign, here.workflow.name, grouping, late=True)


def _write(ledger: Ledger, here: Pass, work: _Work, stream: _Stream, report: InjectionReport) -> bool:
    """Write what was decided, in pieces.

    :returns: whether the campaign takes runs.
    """
    rows, parts, grouping = stream.rows, stream.parts, work.grouping
    for begin in range(0, max(1, len(rows)), AT_ONCE):
        some, last = rows[begin : begin + AT_ONCE], begin + AT_ONCE >= len(rows)
        counted = InjectionReport()
        drop_in_parts(ledger, here.campaign, here.workflow.name, parts.dropping([row.number for row in some]))
        with ledger.write() as connection:
            if not _is_open(connection, here):
                return False
            _grouping(connection, here, grouping)
            parts.check(
                open_groups.forming_group(connection, here.campaign, here.workflow.name, grouping, late=stream.late)
            )
            drafts, complete = parts.of([row.number for row in some])
            groups.store(connection, here.campaign, here.workflow, drafts, here.now)
            parts.stored(drafts)
            _store_members(connection, here, work, some, parts, counted)
            end_groups(connection, here.campaign, here.workflow.name, complete, here.now)
            if not here.finite and not stream.late:
                _advance_bound(connection, here, grouping, here.bound if last else some[-1].number + 1, all_of_it=last)
            crash_point("inject.before_commit", here.workflow.name)
        counted.groups_opened = sum(1 for draft in drafts if parts.is_new(draft))
        counted.groups_closed = sum(1 for draft in complete if draft.state == "closed")
        report.add(counted)
        crash_point("inject.after_commit", here.workflow.name)
    return True


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


def _is_held(known: KnownGrouping | None, here: Pass) -> bool:
    """Whether a late run holds the bound below what is assigned: it is looked for until it is passed."""
    return known is not None and here.bound < known.assigned_below


def _advance(ledger: Ledger, here: Pass, groupings: Sequence[str]) -> None:
    """All that the source had told is assigned, in these groupings."""
    with ledger.read() as connection:
        known = {grouping: _known(connection, here, grouping) for grouping in groupings}
        behind = [
            grouping for grouping, row in known.items() if not _is_as_before(row, here) and not _is_held(row, here)
        ]
    if behind:
        with ledger.write() as connection:
            for grouping in behind:
                _advance_bound(connection, here, grouping, here.bound, all_of_it=True)


def _advance_bound(connection: Connection, here: Pass, grouping: str, bound: int, *, all_of_it: bool) -> None:
    """:param all_of_it: and nothing that the source had told is left."""
    table = tables.grouping
    key = (table.c.campaign == here.campaign, table.c.workflow == here.workflow.name, table.c.label == grouping)
    connection.execute(update(table).where(*key, table.c.assigned_below < bound).values(assigned_below=bound))
    if all_of_it and not here.held:
        here_too = table.c.assigned_below <= bound
        connection.execute(update(table).where(*key, here_too).values(source_serial=here.serial))


def _store_members(
    connection: Connection,
    here: Pass,
    work: _Work,
    rows: Sequence[Run],
    parts: Parts,
    report: InjectionReport,
) -> None:
    moves = []
    for row in rows:
        draft = parts.group_of(row.number)
        said, below = work.admissions[row.number], work.assigned_below
        state, reason = outcome(row.number, said, parts.refused, below, () if draft is None else (row.number,))
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
            "record": frozen(row, work.values.get(row.number)),
            "assigned_at": here.now,
        }
        key = {"campaign": here.campaign, "workflow": here.workflow.name, "grouping": work.grouping, "run": row.number}
        moves.append(Move(key, None, state, subject, columns, {"reason": reason} if reason else {}))
        report.assigned += state == "grouped"
        report.late += reason is not None and reason["code"] == "late"
        report.not_selected += state == "not_selected"
        report.refused += state == "refused"
    move(connection, membership, moves)


def frozen(row: Run, values: awaiting.Values | None = None) -> dict[str, object]:
    """What a run's membership keeps of it: a source that changes its mind changes no group (rule 2).

    :param values: those for which the grouping has waited.
    """
    return {
        **row.fields,
        "number": row.number,
        "start": row.start.isoformat() if row.start else None,
        "end": row.end.isoformat() if row.end else None,
        "files": list(row.files),
        **({REPORTED: awaiting.as_frozen(values)} if values else {}),
    }
