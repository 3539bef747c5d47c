"""One grouping over runs with a simulated clock: the decisions are injection's own, the ledger is not written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush

from airflow_calib_provider.domain.grouping import (
    Assignment,
    GroupDraft,
    Grouping,
    RunFacts,
    after_group,
    assign_late,
)
from airflow_calib_provider.domain.horizon import horizon
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.injection.parts import decided
from airflow_calib_provider.injection.selection import ADMITTED, Admission, Selector, outcome
from airflow_calib_provider.ledger.groups import group_name
from airflow_calib_provider.ledger.reported import KNOWN, LEFT_OUT, ValueStanding
from airflow_calib_provider.ledger.rows import Run
from airflow_calib_provider.planning.history import KnownRun
from airflow_calib_provider.planning.records import PlannedGroup, RunDecision

_JUST_AFTER = timedelta(microseconds=1)
"""A run is passed when it is incomplete for longer than it may be, not as long."""


@dataclass(frozen=True)
class SkippedRun:
    """A run that a person skipped for a whole workflow, and when."""

    at: datetime
    person: str
    reason: str


@dataclass(frozen=True)
class Course:
    """Under which conditions runs come into a grouping.

    :ivar begins: before that nothing was injected into it.
    :ivar until: where the clock ends.
    :ivar values: how runs stand with the values for which the grouping waits; ``None``: it waits for none.
    """

    workflow: str
    grouping: str
    policy: Grouping
    selector: Selector
    begins: datetime
    until: datetime
    skipped: Mapping[int, SkippedRun] = field(default_factory=dict)
    values: Mapping[int, ValueStanding] | None = None


@dataclass
class Replayed:
    """What became of the runs.

    :ivar waits_for: of a finite campaign: runs for which it is not grouped yet.
    :ivar unknown: the first run whose values are not known; what becomes of those behind it nobody knows.
    """

    groups: list[PlannedGroup] = field(default_factory=list)
    decisions: dict[int, RunDecision] = field(default_factory=dict)
    waits_for: list[int] = field(default_factory=list)
    unknown: int | None = None


def replay(runs: Sequence[KnownRun], course: Course) -> Replayed:
    """Inject whenever something can change: a run is listed or completed, settles, is passed, or a group is due.

    :raises KindError: a grouping of another package has failed.
    """
    clock = _Clock(runs, course)
    for now in clock.steps():
        clock.inject(now)
    return clock.result()


class _Clock:
    """The state of a grouping as time goes on."""

    def __init__(self, runs: Sequence[KnownRun], course: Course) -> None:
        self._course = course
        self._selection = course.selector.selection
        self._members = course.selector.members
        events = [(self._from(one.listed_at), one.row.number, one.incomplete()) for one in runs]
        events += [
            (self._from(one.completed_at), one.row.number, one.row) for one in runs if one.completed_at is not None
        ]
        # Of two at one time the completion is the later one.
        self._news = sorted(events, key=lambda event: (event[0], event[1], event[2].completed), reverse=True)
        self._times = [event[0] for event in events] + [self._from(one.at) for one in course.skipped.values()]
        known = (one.at for one in (course.values or {}).values() if one.is_settled and one.at is not None)
        self._times += [self._from(at) for at in known]
        heapify(self._times)
        self._known: dict[int, Run] = {}
        self._undecided: list[int] = []
        self._unsettled: list[int] = []
        self._highest: int | None = None
        self._assigned_below = 0
        self._forming: GroupDraft | None = None
        self._ended: Reason | None = None
        self._drafts: list[tuple[GroupDraft, datetime]] = []
        self._runs_of: dict[int, list[int]] = {}
        self._closed_at: dict[int, datetime] = {}
        self._result = Replayed()

    def _from(self, time: datetime) -> datetime:
        return max(time, self._course.begins)

    def steps(self) -> Iterator[datetime]:
        """The times at which something can change; each makes later ones."""
        last: datetime | None = None
        while self._times and (now := heappop(self._times)) <= self._course.until:
            if now != last:
                last = now
                yield now

    def inject(self, now: datetime) -> None:
        """What an injection at this time does."""
        self._learn(now)
        bound = self._bound(now)
        if self._members is not None:
            left = sorted(number for number in self._members if number >= bound)
            self._result.waits_for = [number for number in left if self._holds(number, bound)] or left
            if left:
                return
        rows, bound = self._decidable(now, bound)
        if self._members is not None and self._result.unknown is not None:
            for row in rows:
                heappush(self._undecided, row.number)
            return
        if rows or self._forming is not None:
            self._assign(rows, now, bound)
        self._assigned_below = max(self._assigned_below, bound)

    def _decidable(self, now: datetime, bound: int) -> tuple[list[Run], int]:
        """The runs about which something is decided now, and below which all is then (rule 47)."""
        rows, back = list[Run](), list[int]()
        self._result.unknown = None
        while self._undecided and self._undecided[0] < bound:
            number = heappop(self._undecided)
            is_late = number < self._assigned_below
            if is_late and back:
                back.append(number)
            elif not self._waits(number, now, is_late=is_late):
                rows.append(self._known[number])
            else:
                back.append(number)
                if not is_late:
                    self._result.unknown = bound = number
        for number in back:
            heappush(self._undecided, number)
        return rows, bound

    def _waits(self, number: int, now: datetime, *, is_late: bool) -> bool:
        """Whether a run that enters the workflow has values that are not known yet."""
        values = self._course.values
        if values is None or (is_late and self._course.policy.late_runs == "ignore"):
            return False
        standing = values.get(number)
        if standing is not None and standing.is_settled and (standing.at is None or self._from(standing.at) <= now):
            return False
        return self._admission(self._known[number], now) is ADMITTED

    def _admission(self, row: Run, now: datetime) -> Admission:
        course = self._course
        said = course.skipped.get(row.number) if self._is_skipped(row.number, now) else None
        skipped: Mapping[int, Mapping[str, object]] = (
            {row.number: {"person": said.person, "reason": said.reason}} if said is not None else {}
        )
        return course.selector.decide(row, skipped, now)

    def _holds(self, number: int, bound: int) -> bool:
        row = self._known.get(number)
        return row is None or not row.completed or number == bound

    def _learn(self, now: datetime) -> None:
        while self._news and self._news[-1][0] <= now:
            _, number, row = self._news.pop()
            if number not in self._known:
                heappush(self._undecided, number)
            self._known[number] = row
            if not row.listed:
                continue  # a run that was added by hand, or is listed no more, says nothing of the others
            if self._members is None or number in self._members:
                heappush(self._unsettled, number)
                self._expect(row)

    def _expect(self, row: Run) -> None:
        """When this run may be passed, if nothing comes before."""
        if row.completed and row.end is not None and self._selection.settle is not None:
            self._later(row.end + self._selection.settle)
        if not row.completed and row.start is not None and self._selection.incomplete_after is not None:
            self._later(row.start + self._selection.incomplete_after + _JUST_AFTER)

    def _later(self, time: datetime) -> None:
        heappush(self._times, self._from(time))

    def _bound(self, now: datetime) -> int:
        """The horizon. Runs that it has passed are not asked again, unless there is news of them."""
        deciding = []
        while self._unsettled:
            number = self._unsettled[0]
            row = self._known[number]
            one = (number, row.completed, row.start, row.end)
            if self._horizon([one], now) == number:
                deciding.append(one)
                break
            heappop(self._unsettled)
            self._highest = number if self._highest is None else max(self._highest, number)
        if self._highest is not None:
            deciding.append((self._highest, True, None, None))
        return self._horizon(deciding, now)

    def _horizon(self, runs: Sequence[tuple[int, bool, datetime | None, datetime | None]], now: datetime) -> int:
        return horizon(
            runs,
            now,
            settle=self._selection.settle,
            incomplete_after=self._selection.incomplete_after,
            passed=frozenset(number for number, *_ in runs if self._is_skipped(number, now)),
        )

    def _is_skipped(self, number: int, now: datetime) -> bool:
        skipped = self._course.skipped.get(number)
        return skipped is not None and skipped.at <= now

    def _assign(self, rows: Sequence[Run], now: datetime, bound: int) -> None:
        course = self._course
        admissions = {row.number: self._admission(row, now) for row in rows}
        facts = {}
        for row in rows:
            standing = (course.values or {}).get(row.number)
            if standing is not None and standing.state == LEFT_OUT and admissions[row.number] is ADMITTED:
                admissions[row.number] = Admission(standing.decided, standing.reason)
            values = {course.policy.awaits: standing.values} if standing and standing.state == KNOWN else {}
            selected = admissions[row.number] is ADMITTED
            facts[row.number] = RunFacts(row.number, row.start, row.end, row.fields, selected, values)
        new = [facts[row.number] for row in rows if row.number >= self._assigned_below]
        if self._forming is not None:
            self._forming.added = []
        apart = self._assign_late([facts[row.number] for row in rows if row.number < self._assigned_below], now)
        finite = self._members is not None
        found = decided(course.policy, self._forming, [], new, now, finite=finite, before=self._ended, bound=bound)
        refused = {**found.refused, **apart.refused}
        grouped_late = {number for draft in apart.groups for number in draft.added}
        for row in rows:
            admission = admissions[row.number]
            state, reason = outcome(row.number, admission, refused, self._assigned_below, grouped_late)
            self._result.decisions[row.number] = RunDecision(state, reason)
        for draft in (*apart.groups, *found.groups):
            self._note(draft, now)
        last = found.groups[-1] if found.groups else None
        self._forming = last if last is not None and last.state == "forming" else None
        if (done := next((draft for draft in reversed(found.groups) if draft.state != "forming"), None)) is not None:
            self._ended = after_group(done.first_run, done.close_reason)
        if self._forming is not None:
            due = self._forming.policy.rules.due(self._forming)
            if due is not None and due > now:
                self._later(due)

    def _assign_late(self, runs: Sequence[RunFacts], now: datetime) -> Assignment:
        """What becomes of runs that arrived late (rule 50)."""
        policy = self._course.policy
        return assign_late(policy, None, runs, now) if policy.late_runs == "new_group" and runs else Assignment()

    def _note(self, draft: GroupDraft, now: datetime) -> None:
        if draft is not self._forming:
            self._drafts.append((draft, now))
        self._runs_of.setdefault(id(draft), []).extend(draft.added)
        if draft.state != "forming":
            self._closed_at[id(draft)] = now

    def result(self) -> Replayed:
        """All of it, at the end of the clock."""
        course, decisions = self._course, self._result.decisions
        for draft, opened_at in sorted(self._drafts, key=lambda item: item[0].first_run):
            name, runs = group_name(course.grouping, draft.first_run), self._runs_of[id(draft)]
            self._result.groups.append(
                PlannedGroup(
                    workflow=course.workflow,
                    grouping=course.grouping,
                    name=name,
                    state=draft.state,
                    runs=tuple(runs),
                    opened_at=opened_at,
                    closed_at=self._closed_at.get(id(draft)),
                    reason=draft.close_reason,
                    amounts=dict(draft.amounts),
                    fills=tuple(draft.fills),
                    late=draft.late,
                    opened=draft.open_reason,
                    end=draft.end,
                )
            )
            for number in runs:
                dropped = draft.state == "dropped"
                decisions[number] = (
                    RunDecision("dropped", {"code": "dropped"}, name)
                    if dropped
                    else replace(decisions[number], group=name)
                )
        return self._result
