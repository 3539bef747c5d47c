"""What a plan says: groups with the times of their lives, what was decided about each run, and how long locks hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import SpecError

LAST = 1_000
"""Runs of each source that are planned where nothing else is asked for."""

PROMPT = "prompt"
"""The campaign that takes all new data."""

RECORDED, PLANNED, MIXED = "recorded", "planned", "mixed"
"""Where the opening of a lock is known from: the ledger's past, the plan alone, or some runs from either."""


OPENS, OVERDUE, SHUT, NEVER, UNKNOWN = "opens", "overdue", "shut", "never", "unknown"
"""How a lock ends, or does not."""

ONLY_BEFORE, ONLY_AFTER, CHANGED, SAME = "only before", "only after", "changed", "same"
MISTAKES_BEFORE, MISTAKES_AFTER = "mistakes before", "mistakes after"
"""What an edit may make of a workflow, and the first three of a group."""


@dataclass(frozen=True)
class PlanRequest:
    """What a plan is to be about.

    :ivar folder: of the YAML files.
    :ivar workflows: names; empty: all.
    :ivar runs: ranges and numbers; ``None``: the newest.
    :ivar last: so many of them, of each source; 0: all.
    :ivar campaign: whose past it is.
    :ivar finite: a campaign to be: all runs are known at once, and grouped completely.
    :ivar base: of a campaign to be: the campaign that has what it lacks itself.
    """

    folder: Path
    workflows: Sequence[str] = ()
    runs: str | None = None
    last: int = LAST
    campaign: str = PROMPT
    finite: bool = False
    base: str | None = None


@dataclass(frozen=True)
class PlannedDeadline:
    """Until when a lock is waited for; of locks of which one is enough, until when for any.

    :ivar at: when the time is over; not before the task begins to wait.
    :ivar then: what happens then: ``fail``, ``go_on`` or ``last_good``; ``fail`` also where ``last_good`` was wanted
        and nothing older would be there.
    :ivar passed: whether the lock is shut then; ``None``: it comes after the end of the plan, or nobody knows.
    """

    at: datetime
    then: str
    passed: bool | None


@dataclass(frozen=True)
class PlannedLock:
    """What a task of a group waits for beyond its own DAG.

    :ivar what: the task (``workflow.task``) or the tag.
    :ivar state: ``opens``; ``overdue``: not before its deadline; ``shut``: not before the end of the plan; ``never``:
        nothing will ever open it; ``unknown``: it is not one that a plan can foresee.
    :ivar basis: :data:`RECORDED`, :data:`PLANNED` or :data:`MIXED`; as planned, a task ends when it can begin.
    :ivar shut_from: when the group closed, and so the lock alone held the task.
    :ivar missing: runs for which it is shut, each with why.
    :ivar why: why nobody knows it, or why it never opens.
    :ivar deadline: ``None``: it is waited for for ever, or its time does not run.
    """

    task: str
    kind: str
    what: str
    state: str
    basis: str
    shut_from: datetime | None
    opens_at: datetime | None = None
    missing: Sequence[tuple[int, str]] = ()
    why: str = ""
    deadline: PlannedDeadline | None = None

    @property
    def held_until(self) -> datetime | None:
        """When it opens, or when its deadline passes before that; ``None``: it is not known."""
        if self.deadline is not None and self.deadline.passed:
            return self.deadline.at
        return self.opens_at

    @property
    def shut_for(self) -> timedelta | None:
        """For how long it held the task; ``None``: it is not known, or it has not ended."""
        if self.held_until is None or self.shut_from is None:
            return None
        return max(timedelta(), self.held_until - self.shut_from)


@dataclass(frozen=True)
class PlannedGroup:
    """A group as injection would make it.

    :ivar state: ``forming``, ``closed`` or ``dropped``, at the end of the plan.
    :ivar opened_at: when its first run was assigned.
    :ivar closed_at: when it closed or was dropped.
    :ivar reason: why it closed, or was dropped.
    :ivar late: its runs arrived late.
    :ivar opened: why it opened.
    :ivar end: of its last run; ``None``: nobody knows it.
    """

    workflow: str
    grouping: str
    name: str
    state: str
    runs: Sequence[int]
    opened_at: datetime
    closed_at: datetime | None
    reason: Reason | None
    amounts: Mapping[str, float]
    fills: Sequence[object]
    locks: Sequence[PlannedLock] = ()
    late: bool = False
    opened: Reason | None = None
    end: datetime | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """By which it is found in another plan: a name never depends on a group's end."""
        return self.workflow, self.grouping, self.name


@dataclass(frozen=True)
class RunDecision:
    """What became of a run in a grouping.

    :ivar state: ``grouped``, ``late``, ``not_selected``, ``refused`` or ``dropped``.
    :ivar group: its group's name.
    """

    state: str
    reason: Reason | None = None
    group: str | None = None


@dataclass(frozen=True)
class PlannedGrouping:
    """One grouping of a workflow over all runs.

    :ivar waits_for: of a campaign to be: runs that are not completed, before which nothing is grouped.
    :ivar unknown: the first run without the values for which the grouping waits: what becomes of it, and of those
        behind it, nobody knows; ``None``: there is none.
    """

    workflow: str
    grouping: str
    kind: str
    dag_id: str
    source: str
    tasks: Sequence[str]
    decisions: Mapping[int, RunDecision]
    groups: Sequence[PlannedGroup]
    waits_for: Sequence[int] = ()
    unknown: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Workflow and label."""
        return self.workflow, self.grouping

    def counts(self) -> dict[str, int]:
        """State → number of runs."""
        return dict(Counter(one.state for one in self.decisions.values()))


@dataclass(frozen=True)
class PlannedRuns:
    """The runs of a source that a plan goes over.

    :ivar basis: ``ledger``: each is known from when the ledger learnt of it; ``source``: from its start on, and as
        completed from its end on; ``campaign``: all of them at once.
    """

    source: str
    basis: str
    n: int
    first: int
    last: int


@dataclass(frozen=True)
class SpecPlan:
    """What specs make of runs.

    :ivar runs: by source.
    :ivar until: where its clock ends.
    :ivar troubles: workflows that could not be planned, each with why.
    :ivar mistakes: of files; what they declare is not in the plan.
    :ivar failed: the workflows of the troubles.
    """

    runs: Mapping[str, PlannedRuns]
    until: datetime
    groupings: Sequence[PlannedGrouping]
    troubles: Sequence[str] = ()
    mistakes: Sequence[SpecError] = ()
    failed: frozenset[str] = frozenset()

    @property
    def groups(self) -> list[PlannedGroup]:
        """All of them: by workflow and grouping, in the order of their first runs."""
        return [group for grouping in self.groupings for group in grouping.groups]


@dataclass(frozen=True)
class WorkflowChange:
    """What an edit did to a workflow.

    :ivar state: one of the words of this module.
    :ivar changes: of its tasks, in words.
    """

    workflow: str
    state: str
    changes: Sequence[str] = ()

    @property
    def is_compared(self) -> bool:
        """Whether it could be planned on both sides, or is on one side only."""
        return self.state not in (MISTAKES_BEFORE, MISTAKES_AFTER)


@dataclass(frozen=True)
class GroupChange:
    """A group that is another one after the edit, or is there on one side only.

    :ivar changes: in words.
    """

    workflow: str
    grouping: str
    group: str
    state: str
    before: PlannedGroup | None
    after: PlannedGroup | None
    changes: Sequence[str]


@dataclass(frozen=True)
class RunsChange:
    """Runs of which an edit decides otherwise, all in the same way.

    :ivar before: what was decided; ``None``: nothing, as ``after``.
    """

    workflow: str
    grouping: str
    before: str | None
    after: str | None
    runs: Sequence[int]


@dataclass(frozen=True)
class PlanDifference:
    """An edit: from the specs of a commit to the files as they are now.

    :ivar commit: its whole hash.
    :ivar mistakes_before: of the files in the commit.
    :ivar troubles_before: workflows that could not be planned as they were, each with why.
    """

    commit: str
    before: SpecPlan
    after: SpecPlan
    workflows: Sequence[WorkflowChange]
    groups: Sequence[GroupChange]
    runs: Sequence[RunsChange]
    mistakes_before: Sequence[SpecError]
    troubles_before: Sequence[str]

    @property
    def is_none(self) -> bool:
        """Whether the edit changes nothing in the plan."""
        return not self.groups and not self.runs and all(one.state == SAME for one in self.workflows)
