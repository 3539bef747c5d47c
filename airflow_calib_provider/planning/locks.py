"""How long locks hold tasks: by what the ledger has recorded, else by when what they wait for could begin (rule 21)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import NamedTuple

from airflow_calib_provider.domain.locks.deadlines import FAIL, WAITING, Limits
from airflow_calib_provider.errors import KindError
from airflow_calib_provider.planning.circles import CircleAnswers
from airflow_calib_provider.planning.deadlines import FirstPlanned, FirstPublished, with_deadline
from airflow_calib_provider.planning.past import Past
from airflow_calib_provider.planning.records import (
    MIXED,
    NEVER,
    OPENS,
    PLANNED,
    RECORDED,
    SHUT,
    UNKNOWN,
    PlannedGroup,
    PlannedGrouping,
    PlannedLock,
)
from airflow_calib_provider.spec.kinds import lock_kind
from airflow_calib_provider.spec.models import Lock, Need, Task, Workflow

_Key = tuple[str, str, str, str]
"""Of a task of a group."""

QUIET = "quiet"
_QUIET_STATES = ("dropped", "not_selected")

TEXTS = {
    "late": "late there: in no group",
    "candidate": "only a candidate there, not published",
    "refused": "refused there",
    "not_assigned": "not yet assigned to a group there",
    "not_in_base": "not done in the base campaign",
    "not_planned": "what it waits for is not in the plan",
    "not_published": "no payload would be there yet",
    "not_begun": "what it waits for could not have begun",
    "elsewhere": "made in another campaign, or by a workflow or task that is not in this folder",
}


class _Answer(NamedTuple):
    """How a lock stands for one run: from when on it is open, or why it is shut.

    :ivar status: empty where it is open, :data:`QUIET` where the run holds nothing.
    """

    status: str = ""
    at: datetime | None = None
    basis: str = PLANNED


class LockTimes:
    """The locks of all groups of a plan.

    :param groupings: all that the locks are about, also of workflows that are not shown.
    :param past: what counts as done.
    :param base: what has been done in the base campaign of a campaign to be.
    :param until: where the clock of the plan ends.
    """

    def __init__(
        self,
        workflows: Mapping[str, Workflow],
        groupings: Sequence[PlannedGrouping],
        past: Past,
        base: Past,
        until: datetime,
    ) -> None:
        self._workflows = workflows
        self._past = past
        self._base = base
        self._until = until
        self._groupings = {one.key: one for one in groupings}
        self._group_of = {
            (*one.key, run): group
            for one in groupings
            for group in one.groups
            if group.state != "dropped"
            for run in group.runs
        }
        # What late ones publish holds for nobody.
        self._closed = {
            one.key: [group for group in one.groups if group.state == "closed" and not group.late] for one in groupings
        }
        self._closed_from = {key: [group.runs[0] for group in closed] for key, closed in self._closed.items()}
        self._publishers = _publishers(workflows)
        self._answers = CircleAnswers[_Key]()
        self._published: dict[str, dict[int, datetime]] = {}
        self._older: dict[str, tuple[FirstPublished, list[FirstPlanned]]] = {}

    def with_locks(self, grouping: PlannedGrouping) -> PlannedGrouping:
        """A grouping whose groups say what their tasks would have waited for."""
        workflow = self._workflows[grouping.workflow]
        tasks = workflow.tasks_of(grouping.grouping)
        groups = []
        for group in grouping.groups:
            if group.state == "dropped":
                groups.append(group)
                continue
            locks = [lock for task in tasks for lock in self._locks(workflow, task, group)]
            groups.append(replace(group, locks=tuple(locks)))
        return replace(grouping, groups=groups)

    def _locks(self, workflow: Workflow, task: Task, group: PlannedGroup) -> list[PlannedLock]:
        return self._answers.of_open(
            (*group.key, task.name),
            lambda: [*self._of_needs(workflow, task, group), *self._of_locks(task, group)],
        )

    def _of_needs(self, workflow: Workflow, task: Task, group: PlannedGroup) -> Iterable[PlannedLock]:
        return (self._of_need(workflow, task, need, group) for need in workflow.outside_needs(task))

    def _of_need(self, workflow: Workflow, task: Task, need: Need, group: PlannedGroup) -> PlannedLock:
        label = self._workflows[workflow.name].tasks[need.task].policy.label if need.workflow == workflow.name else None
        grouping = label or need.grouping or ""
        answers = {run: self._need_of(workflow, task, need, grouping, run) for run in group.runs}
        return _lock(task.name, "task", f"{need.workflow}.{need.task}", group, answers)

    def _need_of(self, workflow: Workflow, task: Task, need: Need, grouping: str, run: int) -> _Answer:
        wanted = (need.workflow, need.task)
        return self._done(workflow.name, task, wanted, grouping, run, of_base=workflow.base_of(need) is not None)

    def _done(
        self, workflow: str, task: Task, wanted: tuple[str, str], grouping: str, run: int, *, of_base: bool = False
    ) -> _Answer:
        """When another task would be done for a run.

        :param workflow: of the task that waits.
        :param wanted: workflow and name of the other one, :param grouping: and where it is done.
        """
        if self._skips(workflow, task.name, run) or self._skips(*wanted, run):
            return _Answer(QUIET)
        recorded = (self._base if of_base else self._past).done_at(wanted[0], grouping, wanted[1], run)
        if recorded is None and of_base:
            return _Answer("not_in_base")
        if recorded is not None:
            return _Answer(at=recorded, basis=RECORDED)
        planned = self._groupings.get((wanted[0], grouping))
        if planned is None:
            return _Answer("not_planned")
        decision = planned.decisions.get(run)
        if decision is None:
            return _Answer("not_assigned")
        if decision.state != "grouped":
            return _Answer(QUIET if decision.state in _QUIET_STATES else decision.state)
        there = self._group_of[wanted[0], grouping, run]
        if self._is_candidate(*wanted, there):
            return _Answer("candidate")
        begins = self._could_begin(*wanted, there)
        return _Answer("not_begun") if begins is None else _Answer(at=begins)

    def _is_candidate(self, workflow: str, task: str, group: PlannedGroup) -> bool:
        """Whether a task publishes what stays a candidate, as its group's runs are late (rule 50)."""
        known = self._workflows[workflow].tasks.get(task)
        return group.late and known is not None and known.publish is not None

    def _skips(self, workflow: str, task: str, run: int) -> bool:
        return self._past.is_skipped(workflow, task, run)

    def _of_locks(self, task: Task, group: PlannedGroup) -> Iterable[PlannedLock]:
        for lock in task.locks:
            leaves = [self._of_leaf(task, leaf, group) for leaf in lock.leaves()]
            due = self._due(task, Limits.of_json(lock.limits), group) if lock.limits else None
            if due is None or all(leaf.state == NEVER for leaf in leaves):
                yield from leaves
            else:
                yield from with_deadline(leaves, due, self._until, partial(self._outcome, lock, group, due))

    def _of_leaf(self, task: Task, lock: Lock, group: PlannedGroup) -> PlannedLock:
        if lock.kind == "payload":
            tag = str(lock.parameters["tag"])
            answers = {run: self._payload_of(group.workflow, task, tag, run) for run in group.runs}
            return _lock(task.name, lock.kind, tag, group, answers)
        if lock.kind == "product":
            answers = {run: self._product_of(group.workflow, task, lock, run) for run in group.runs}
            return _lock(task.name, lock.kind, _product(lock), group, answers)
        return self._recorded(task, lock, group) or _foreseen(task.name, lock, group)

    def _due(self, task: Task, limits: Limits, group: PlannedGroup) -> datetime | None:
        """When a deadline passes; ``None``: its time does not run. Nobody asks before the task begins to wait."""
        if group.state != "closed":
            return None
        waits_from = self._waits_from(self._workflows[group.workflow], task, group)
        if waits_from is None:
            return None
        due = limits.due(group.end, group.closed_at, waits_from + limits.at_most if limits.since == WAITING else None)
        return None if due is None else max(due, waits_from)

    def _outcome(self, lock: Lock, group: PlannedGroup, at: datetime) -> str:
        limits = Limits.of_json(lock.limits)
        return limits.outcome(older=lock.kind != "payload" or self._has_older(str(lock.parameters["tag"]), group, at))

    def _has_older(self, tag: str, group: PlannedGroup, at: datetime) -> bool:
        """Whether a payload would be there that begins with the group's first run, or before it."""
        if tag not in self._older:
            recorded = [(first, made) for first, _, made in self._past.payloads.get(tag, ())]
            recorded += [(0, made) for name, made in self._past.earlier.items() if name == tag]
            planned = [
                FirstPlanned(self._closed[key], partial(self._publication, workflow, task.name))
                for workflow, task in self._publishers.get(tag, ())
                if (key := (workflow.name, task.policy.label)) in self._closed
            ]
            self._older[tag] = FirstPublished(recorded), planned
        published, planned = self._older[tag]
        since = [published.since(group.runs[0]), *(one.since(group.runs[0]) for one in planned)]
        return any(one is not None and one <= at for one in since)

    def _publication(self, workflow: Workflow, task: str, group: PlannedGroup) -> tuple[datetime | None, bool]:
        return self._answers.aside(lambda: self._could_begin(workflow.name, task, group))

    def _recorded(self, task: Task, lock: Lock, group: PlannedGroup) -> PlannedLock | None:
        """What was asked outside, as the same lock of the same runs stood."""
        where = (group.workflow, group.grouping, task.name, group.runs)
        found = self._past.lock_of(*where, lock.kind, dict(lock.parameters))
        if found is None or group.state != "closed" or group.closed_at is None:
            return None
        what = lock_kind(lock.kind).words(lock.parameters)
        about = (task.name, lock.kind, what)
        if found.opened_at is None:
            return PlannedLock(*about, SHUT, RECORDED, group.closed_at, why=found.why)
        return PlannedLock(*about, OPENS, RECORDED, group.closed_at, max(found.opened_at, group.closed_at))

    def _product_of(self, workflow: str, task: Task, lock: Lock, run: int) -> _Answer:
        name, maker = str(lock.parameters["workflow"]), str(lock.parameters["task"])
        campaign = lock.parameters.get("campaign")
        known = self._workflows.get(name)
        if known is None or maker not in known.tasks or campaign not in (None, self._past.campaign):
            return _Answer("elsewhere")
        label = known.tasks[maker].policy.label
        return self._done(workflow, task, (name, maker), label, run)

    def _payload_of(self, workflow: str, task: Task, tag: str, run: int) -> _Answer:
        if self._skips(workflow, task.name, run):
            return _Answer(QUIET)
        recorded = self._published_at(tag).get(run)
        if recorded is not None:
            return _Answer(at=recorded, basis=RECORDED)
        begins = []
        for publisher, published in self._publishers.get(tag, ()):
            group = self._group_over(publisher, published, run)
            at = None if group is None else self._could_begin(publisher.name, published.name, group)
            if at is not None:
                begins.append(at)
        return _Answer(at=min(begins)) if begins else _Answer("not_published")

    def _group_over(self, workflow: Workflow, task: Task, run: int) -> PlannedGroup | None:
        """The group in whose interval a run lies, which need not hold it."""
        planned = self._groupings.get((workflow.name, task.policy.label))
        if planned is None:
            return None
        found = self._group_of.get((*planned.key, run))
        if found is not None and not found.late:
            return found
        place = bisect_right(self._closed_from[planned.key], run) - 1
        over = self._closed[planned.key][place] if place >= 0 else None
        return over if over is not None and run <= over.runs[-1] else None

    def _published_at(self, tag: str) -> Mapping[int, datetime]:
        """Run → when the first payload for it was published, as far as the plan has the run."""
        if tag not in self._published:
            known = sorted({run for one in self._groupings.values() for run in one.decisions})
            found: dict[int, datetime] = {}
            for first, last, at in self._past.payloads.get(tag, ()):
                for run in known[bisect_left(known, first) : bisect_right(known, last)]:
                    found[run] = min(at, found.get(run, at))
            self._published[tag] = found
        return self._published[tag]

    def _could_begin(self, workflow: str, task: str, group: PlannedGroup) -> datetime | None:
        """When a task of a group could have begun, were all before it done at once; ``None``: it could not."""
        key = (*group.key, task)
        return self._answers.of_begin(key, lambda: self._begin_of(self._workflows[workflow], task, group))

    def _begin_of(self, workflow: Workflow, name: str, group: PlannedGroup) -> datetime | None:
        task = workflow.tasks.get(name)
        if task is None or self._is_candidate(workflow.name, name, group):
            return None
        waits_from = self._waits_from(workflow, task, group)
        if waits_from is None:
            return None
        times = [waits_from, *self._opened_at(task, self._locks(workflow, task, group))]
        known = [time for time in times if time is not None]
        return max(known) if len(known) == len(times) else None

    def _waits_from(self, workflow: Workflow, task: Task, group: PlannedGroup) -> datetime | None:
        """When all before a task in its group would be done; ``None``: it would not."""
        if group.state != "closed":
            return None
        times = [group.closed_at, *(self._ended(workflow.name, one, group) for one in workflow.names_inside(task))]
        known = [time for time in times if time is not None]
        return max(known) if len(known) == len(times) else None

    def _opened_at(self, task: Task, locks: Sequence[PlannedLock]) -> list[datetime | None]:
        """When nothing is waited for any more, as far as a plan can foresee it; ``None``: it is for ever."""
        n_needs = len(locks) - sum(len(lock.leaves()) for lock in task.locks)
        times = [lock.opens_at for lock in locks[:n_needs]]
        of_locks = iter(locks[n_needs:])
        for lock in task.locks:
            leaves = [next(of_locks) for _ in lock.leaves()]
            known = [one.opens_at for one in leaves if one.state == OPENS and one.opens_at is not None]
            passed = next((one.deadline for one in leaves if one.deadline is not None and one.deadline.passed), None)
            if passed is not None:
                times.append(None if passed.then == FAIL else passed.at)
            elif known:
                times.append(min(known))
            elif all(one.state != UNKNOWN for one in leaves):
                times.append(None)
        return times

    def _ended(self, workflow: str, task: str, group: PlannedGroup) -> datetime | None:
        recorded = self._past.done_at(workflow, group.grouping, task, group.runs[0])
        return recorded if recorded is not None else self._could_begin(workflow, task, group)


def _product(lock: Lock) -> str:
    return ".".join(str(lock.parameters[name]) for name in ("workflow", "task", "product"))


def _foreseen(task: str, lock: Lock, group: PlannedGroup) -> PlannedLock:
    """When a lock on the clock opens; of another one, why nobody knows."""
    try:
        kind = lock_kind(lock.kind)
    except KindError as error:
        return PlannedLock(task, lock.kind, lock.kind, UNKNOWN, PLANNED, group.closed_at, why=error.message)
    what = kind.words(lock.parameters)
    if group.state != "closed" or group.closed_at is None:
        return PlannedLock(task, lock.kind, what, SHUT, PLANNED, None, why="the group is forming")
    state, opens_at, why = kind.foreseen(lock.parameters, group.closed_at, group.end)
    return PlannedLock(task, lock.kind, what, state, PLANNED, group.closed_at, opens_at, why=why)


def _publishers(workflows: Mapping[str, Workflow]) -> dict[str, list[tuple[Workflow, Task]]]:
    found: dict[str, list[tuple[Workflow, Task]]] = {}
    for workflow in workflows.values():
        for task in workflow.tasks.values():
            if task.publish is not None:
                for tag in task.publish.tags:
                    found.setdefault(tag, []).append((workflow, task))
    return found


def _lock(task: str, kind: str, what: str, group: PlannedGroup, answers: Mapping[int, _Answer]) -> PlannedLock:
    wanted = {run: one for run, one in answers.items() if one.status != QUIET}
    missing = [(run, TEXTS.get(one.status, one.status)) for run, one in wanted.items() if one.status]
    bases = {one.basis for one in wanted.values() if not one.status}
    basis = PLANNED if not bases else bases.pop() if len(bases) == 1 else MIXED
    if not wanted:
        return PlannedLock(task, kind, what, NEVER, basis, group.closed_at)
    if missing:
        return PlannedLock(task, kind, what, SHUT, basis, group.closed_at, missing=tuple(missing))
    opens = max(one.at for one in wanted.values() if one.at is not None)
    return PlannedLock(task, kind, what, OPENS, basis, group.closed_at, opens)
