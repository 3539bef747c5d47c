"""The difference that an edit of specs makes: two plans over the same runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import starmap

from airflow_calib_provider.domain.group_words import why_closed
from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.domain.quantities import format_duration
from airflow_calib_provider.ledger import campaign_view
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.planning.commits import specs_at
from airflow_calib_provider.planning.plans import PlanSpecs, basis_of, chosen_of, plan_on, specs_of
from airflow_calib_provider.planning.records import (
    CHANGED,
    MISTAKES_AFTER,
    MISTAKES_BEFORE,
    ONLY_AFTER,
    ONLY_BEFORE,
    SAME,
    GroupChange,
    PlanDifference,
    PlannedGroup,
    PlannedLock,
    PlanRequest,
    RunDecision,
    RunsChange,
    SpecPlan,
    WorkflowChange,
)
from airflow_calib_provider.spec.models import Workflow

_FEW = 10
"""Of a longer list, such as boundaries, so many are shown."""


def plan_edit(ledger: Ledger | None, wanted: PlanRequest, commit: str, now: datetime) -> PlanDifference:
    """Plan with the specs of a commit and with those of now, over the same runs.

    :param ledger: as for :func:`~airflow_calib_provider.planning.plans.plan_specs`.
    :raises CalibError: there is no such commit, the folder is in no git checkout, or as for a plan.
    """
    old = specs_at(wanted.folder, commit)
    before = PlanSpecs.of(old.check, old.mistakes)
    after = specs_of(wanted.folder)
    chosen = chosen_of(after, wanted, {*before.workflows, *(after.broken if before.workflows else ())})
    chosen_before = [name for name in before.workflows if not wanted.workflows or name in wanted.workflows]
    # The sources as they are read now; of one that the edit removed, as it was.
    sources = PlanSpecs({}, {**before.sources, **after.sources})
    basis = basis_of(ledger, sources, [before, after], wanted, now)
    plans = (plan_on(before, chosen_before, basis, now), plan_on(after, chosen, basis, now))
    failed = (before.broken | plans[0].failed, after.broken | plans[1].failed)
    workflows = list(_workflows(before, after, {*chosen_before, *chosen}, failed))
    compared = {one.workflow for one in workflows if one.is_compared}
    return PlanDifference(
        commit=old.commit,
        before=plans[0],
        after=plans[1],
        workflows=workflows,
        groups=[one for one in _groups(*plans) if one.workflow in compared],
        runs=[one for one in _runs(*plans) if one.workflow in compared],
        mistakes_before=old.mistakes,
        troubles_before=plans[0].troubles,
    )


def _workflows(
    before: PlanSpecs, after: PlanSpecs, names: set[str], failed: tuple[frozenset[str], frozenset[str]]
) -> Iterator[WorkflowChange]:
    """:param failed: the workflows that could not be planned, before and after."""
    for name in sorted(names):
        old, new = before.workflows.get(name), after.workflows.get(name)
        if name in failed[1]:
            yield WorkflowChange(name, MISTAKES_AFTER)
        elif name in failed[0]:
            yield WorkflowChange(name, MISTAKES_BEFORE)
        elif old is None or new is None:
            yield WorkflowChange(name, ONLY_AFTER if old is None else ONLY_BEFORE)
        else:
            changes = _changes_of(old, new)
            yield WorkflowChange(name, CHANGED if changes else SAME, changes)


def _changes_of(old: Workflow, new: Workflow) -> list[str]:
    """What an edit changes for groups: the DAGs, the conditions, when groups close, and what tasks wait for."""
    found = campaign_view.differences(old, new)
    for name, value in old.runs.model_dump().items():
        if (now := getattr(new.runs, name)) != value:
            found.append(f"runs.{name}: {_from_to(value, now)}")
    groupings = new.groupings()
    for label, policy in old.groupings().items():
        if label in groupings and groupings[label] != policy:
            found.append(f"the grouping {label} closes otherwise: {_policy(policy, groupings[label])}")
    for name, task in old.tasks.items():
        if name in new.tasks and task.locks != new.tasks[name].locks:
            found.append(f"{name} has other locks than before")
    return found


def _policy(old: Grouping, new: Grouping) -> str:
    after = new.model_dump()
    pairs = ((name, value, after[name]) for name, value in old.model_dump().items() if after[name] != value)
    return ", ".join(f"{name}: {_from_to(value, now)}" for name, value, now in pairs)


def _from_to(old: object, new: object) -> str:
    """What is another one; of a mapping only the keys that are."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        old, new = ({name: side[name] for name in changed if name in side} for side in (old, new))
    return f"{_said(old)} → {_said(new)}"


def _said(value: object) -> str:
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Mapping):
        return " and ".join(starmap(_item, value.items())) or "nothing"
    if isinstance(value, list | tuple) and len(value) > _FEW:
        return f"[{', '.join(map(str, value[:_FEW]))}, … {len(value) - _FEW} more]"
    return "none" if value is None else str(value)


def _item(name: str, value: object) -> str:
    is_amount = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g} {name}" if is_amount else f"{name} {_said(value)}"


def _groups(before: SpecPlan, after: SpecPlan) -> Iterator[GroupChange]:
    old, new = ({group.key: group for group in plan.groups} for plan in (before, after))
    for key in sorted(old.keys() | new.keys(), key=lambda one: (one[0], one[1], (old.get(one) or new[one]).runs[0])):
        was, now = old.get(key), new.get(key)
        if was is None or now is None:
            yield GroupChange(*key, ONLY_AFTER if was is None else ONLY_BEFORE, was, now, ())
        elif changes := list(_group_changes(was, now)):
            yield GroupChange(*key, CHANGED, was, now, changes)


def _group_changes(was: PlannedGroup, now: PlannedGroup) -> Iterator[str]:
    if was.runs != now.runs:
        yield f"runs {of_runs(was.runs)} → {of_runs(now.runs)}"
    if was.state != now.state:
        yield f"{was.state} → {now.state}"
    if was.opened_at != now.opened_at:
        yield f"opens {_later(was.opened_at, now.opened_at)}"
    if was.closed_at and now.closed_at and was.closed_at != now.closed_at:
        yield f"closes {_later(was.closed_at, now.closed_at)}"
    why = [why_closed(one.reason) for one in (was, now)]
    if was.state == now.state and was.runs == now.runs and why[0] != why[1]:
        yield f"{why[0]} → {why[1]}"
    yield from _lock_changes(was.locks, now.locks)


def _lock_changes(was: Sequence[PlannedLock], now: Sequence[PlannedLock]) -> Iterator[str]:
    old, new = ({(one.task, one.kind, one.what): one for one in locks} for locks in (was, now))
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        named = f"{key[0]} waits for {key[2]}"
        if before is None or after is None:
            yield f"{named}{' no more' if after is None else f', {_lock(after)}'}"
        elif (before.state, before.shut_for, _then(before)) != (after.state, after.shut_for, _then(after)):
            yield f"{named}: {_lock(before)} → {_lock(after)}"


def _then(lock: PlannedLock) -> str:
    """What the task does as the deadline passes while the lock is shut."""
    return lock.deadline.then if lock.deadline is not None and lock.deadline.passed else ""


def _lock(lock: PlannedLock) -> str:
    if lock.shut_for is None:
        return lock.state
    then = f", then {_then(lock)}" if _then(lock) else ""
    return f"shut for {format_duration(lock.shut_for)}{then}"


def _later(was: datetime, now: datetime) -> str:
    return f"{format_duration(abs(now - was))} {'later' if now > was else 'earlier'}"


def of_runs(runs: Sequence[int]) -> str:
    """``"5 (100–107)"``: how many, and between which."""
    return f"{len(runs)} ({min(runs)}–{max(runs)})" if len(runs) > 1 else f"1 ({runs[0]})" if runs else "none"


def _runs(before: SpecPlan, after: SpecPlan) -> Iterator[RunsChange]:
    old, new = ({one.key: one.decisions for one in plan.groupings} for plan in (before, after))
    for key in sorted(old.keys() & new.keys()):
        changed: dict[tuple[str | None, str | None], list[int]] = defaultdict(list)
        for run in sorted(old[key].keys() | new[key].keys()):
            states = _state(old[key].get(run)), _state(new[key].get(run))
            if states[0] != states[1]:
                changed[states].append(run)
        for (was, now), runs in changed.items():
            yield RunsChange(*key, was, now, runs)


def _state(decision: RunDecision | None) -> str | None:
    return None if decision is None else decision.state
