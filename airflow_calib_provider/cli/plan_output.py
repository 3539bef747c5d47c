"""Plans as tables and as JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING

from airflow_calib_provider.cli.output import emit_json, table
from airflow_calib_provider.cli.root import mistake
from airflow_calib_provider.domain.group_words import why_closed
from airflow_calib_provider.domain.quantities import format_duration
from airflow_calib_provider.domain.reasons import render

if TYPE_CHECKING:
    from airflow_calib_provider.planning.records import (
        PlanDifference,
        PlannedGroup,
        PlannedGrouping,
        PlannedLock,
        PlannedRuns,
        SpecPlan,
    )

BASES = {
    "ledger": "as the ledger learnt of them",
    "source": "as their source lists them: from their start on, completed from their end on",
    "campaign": "as a campaign to be: all known at once",
}

LOCKS_SAY = (
    "recorded: what is waited for was done then, as the ledger has it; planned: it counts as done when it could begin, "
    "how long it runs comes on top; mixed: some runs of either"
)


def show_plan(plan: SpecPlan, lines: int, as_json: bool) -> None:
    """A plan: groupings, groups, locks.

    :param lines: of groups, the newest; 0: all.
    """
    if as_json:
        emit_json(_plan(plan))
        return
    _show_runs(plan.runs, plan)
    _show_groupings(plan.groupings)
    groups = plan.groups
    shown = sorted(groups, key=lambda one: one.opened_at)[-lines:] if lines else groups
    heads = ["workflow", "group", "runs", "state", "opened", "closed", "open for", "why", "longest lock"]
    table(heads, [_line(group) for group in shown], empty="no groups")
    if len(shown) < len(groups):
        print(f"the newest {len(shown)} of {len(groups)} groups: --groups 0 shows all")
    _show_locks(groups)


def _show_runs(runs: Mapping[str, PlannedRuns], plan: SpecPlan) -> None:
    for one in runs.values():
        which = f"{one.first}–{one.last}" if one.n > 1 else str(one.first)
        print(f"{one.n} runs of {one.source} ({which}), {BASES[one.basis]}; until {plan.until:%Y-%m-%d %H:%M} UTC")
    for grouping in plan.groupings:
        if grouping.waits_for:
            some = ", ".join(map(str, grouping.waits_for[:5]))
            more = f" and {len(grouping.waits_for) - 5} more" if len(grouping.waits_for) > 5 else ""
            print(f"{grouping.dag_id}: nothing is grouped before these are completed or skipped: {some}{more}")
        if grouping.unknown is not None:
            print(f"{grouping.dag_id}: unknown from run {grouping.unknown} on, whose values nobody has reported yet")


def _show_groupings(groupings: Sequence[PlannedGrouping]) -> None:
    rows = []
    for one in groupings:
        counts = one.counts()
        states = [sum(group.state == state for group in one.groups) for state in ("closed", "forming", "dropped")]
        sizes = [len(group.runs) for group in one.groups]
        lives = [life for group in one.groups if (life := _life(group)) is not None]
        rows.append(
            [
                one.dag_id,
                ", ".join(one.tasks),
                *(counts.get(state, 0) for state in ("grouped", "not_selected", "refused", "late", "dropped")),
                *states,
                f"{median(sizes):g}" if sizes else "",
                _median(lives),
            ]
        )
    heads = ["DAG", "tasks", "runs: grouped", "not selected", "refused", "late", "dropped", "groups: closed", "forming"]
    table([*heads, "dropped", "median runs", "median open for"], rows, empty="no workflows that could be planned")


def _line(group: PlannedGroup) -> list[object]:
    longest = max(group.locks, key=_shut, default=None) if group.state == "closed" else None
    return [
        group.workflow,
        group.name,
        _runs(group.runs),
        f"{group.state}, late" if group.late else group.state,
        group.opened_at,
        group.closed_at,
        _duration(_life(group)),
        why_closed(group.reason),
        _lock(longest) if longest is not None else "",
    ]


def _shut(lock: PlannedLock) -> tuple[bool, timedelta]:
    return lock.state not in ("opens", "overdue"), lock.shut_for or timedelta()


THEN = {"fail": "fails", "go_on": "goes on", "last_good": "takes the last good"}
"""What a task does when a deadline passes."""


def _lock(lock: PlannedLock) -> str:
    said = f"{_duration(lock.shut_for)}, {lock.basis}" if lock.state == "opens" else lock.state
    if lock.deadline is not None and lock.deadline.passed:
        said = f"{_duration(lock.shut_for)}, then {THEN[lock.deadline.then]}"
    elif lock.deadline is not None and lock.deadline.passed is None:
        said = f"{lock.state}, until {lock.deadline.at:%Y-%m-%d %H:%M}, then {THEN[lock.deadline.then]}"
    return f"{lock.task} on {lock.what}: {said}"


def _show_locks(groups: Sequence[PlannedGroup]) -> None:
    of_lock: dict[tuple[str, str], list[tuple[PlannedGroup, PlannedLock]]] = defaultdict(list)
    for group in groups:
        for lock in group.locks:
            of_lock[f"{group.workflow}.{lock.task}", lock.what].append((group, lock))
    if not of_lock:
        return
    with_deadlines = any(lock.deadline is not None for pairs in of_lock.values() for _, lock in pairs)
    rows = []
    for (task, what), pairs in of_lock.items():
        known = [(shut, group.name) for group, lock in pairs if (shut := lock.shut_for) is not None]
        longest = max(known, default=None)
        bases = sorted({lock.basis for _, lock in pairs if lock.state == "opens"})
        counts = [sum(lock.state == state for _, lock in pairs) for state in ("shut", "never", "unknown")]
        passed = [_passed([lock for _, lock in pairs])] if with_deadlines else []
        rows.append(
            [
                task,
                what,
                len(pairs),
                _median([shut for shut, _ in known]),
                f"{_duration(longest[0])} ({longest[1]})" if longest else "",
                *passed,
                *counts,
                _missing([lock for _, lock in pairs]),
                ", ".join(bases),
            ]
        )
    heads = ["task", "waits for", "groups", "median shut", "longest shut"]
    more = ["still shut", "never opens", "unknown", "first missing", "known from"]
    table([*heads, *(["deadline passes"] if with_deadlines else []), *more], rows)
    print(f"known from: {LOCKS_SAY}")


def _passed(locks: Sequence[PlannedLock]) -> str:
    """How often which end of the wait."""
    ends = Counter(lock.deadline.then for lock in locks if lock.deadline is not None and lock.deadline.passed)
    return ", ".join(f"{ends[then]} × {does}" for then, does in THEN.items() if ends[then])


def _missing(locks: Sequence[PlannedLock]) -> str:
    for lock in locks:
        if lock.missing:
            run, why = lock.missing[0]
            return f"{run} ({why})"
    return next((lock.why for lock in locks if lock.why), "")


def _life(group: PlannedGroup) -> timedelta | None:
    return group.closed_at - group.opened_at if group.closed_at is not None else None


def _duration(value: timedelta | None) -> str:
    return "" if value is None else format_duration(value)


def _median(values: Sequence[timedelta]) -> str:
    return _duration(timedelta(seconds=median(one.total_seconds() for one in values))) if values else ""


def _runs(runs: Sequence[int]) -> str:
    from airflow_calib_provider.planning.comparing import of_runs

    return of_runs(runs)


def show_difference(found: PlanDifference, commit: str, lines: int, as_json: bool) -> None:
    """What an edit changes.

    :param commit: as the person named it.
    :param lines: of groups; 0: all.
    """
    if as_json:
        emit_json(_difference(found, commit))
        return
    _show_runs(found.after.runs, found.after)
    print(f"from {commit} ({found.commit[:12]}) to the files as they are now")
    if found.is_none:
        print("the plan is the same: no group, run or lock changes")
        return
    rows = [[one.workflow, one.state, "; ".join(one.changes)] for one in found.workflows if one.state != "same"]
    table(["workflow", "is there", "what the edit changes"], rows, empty="no workflow changes")
    compared = {one.workflow for one in found.workflows if one.is_compared}
    dag_ids = [one.dag_id for plan in (found.before, found.after) for one in plan.groupings if one.workflow in compared]
    counted = [[name, *(_count(plan, name) for plan in (found.before, found.after))] for name in dict.fromkeys(dag_ids)]
    table(["DAG", "before", "now"], counted, empty="nothing is planned on either side")
    decided = [
        [f"{one.workflow}__{one.grouping}", one.before or "undecided", one.after or "undecided", _runs(one.runs)]
        for one in found.runs
    ]
    if decided:
        table(["DAG", "before", "now", "runs"], decided)
    shown = found.groups[-lines:] if lines else found.groups
    changed = [
        [one.workflow, one.group, one.state, _side(one.before), _side(one.after), "; ".join(one.changes)]
        for one in shown
    ]
    table(["workflow", "group", "is there", "before", "now", "what changes"], changed, empty="no group changes")
    if len(shown) < len(found.groups):
        print(f"the newest {len(shown)} of {len(found.groups)} groups that change: --groups 0 shows all")


def _count(plan: SpecPlan, dag_id: str) -> str:
    of_it = [group for one in plan.groupings if one.dag_id == dag_id for group in one.groups]
    if not any(one.dag_id == dag_id for one in plan.groupings):
        return "is not there"
    return f"{len(of_it)} groups of {sum(len(group.runs) for group in of_it)} runs"


def _side(group: PlannedGroup | None) -> str:
    return "" if group is None else f"{_runs(group.runs)} runs, {group.state}"


def _plan(plan: SpecPlan) -> dict[str, object]:
    return {
        "runs": [vars(one) for one in plan.runs.values()],
        "until": plan.until,
        "groupings": [
            {
                "dag_id": one.dag_id,
                "workflow": one.workflow,
                "grouping": one.grouping,
                "kind": one.kind,
                "source": one.source,
                "tasks": one.tasks,
                "runs": one.counts(),
                "waits_for": one.waits_for,
                "left_out": [
                    {"run": run, "state": decision.state, "why": render(decision.reason) if decision.reason else ""}
                    for run, decision in one.decisions.items()
                    if decision.state != "grouped"
                ],
            }
            for one in plan.groupings
        ],
        "groups": [_group(group) for group in plan.groups],
        "troubles": plan.troubles,
        "errors": [mistake(error) for error in plan.mistakes],
    }


def _group(group: PlannedGroup | None) -> dict[str, object] | None:
    if group is None:
        return None
    life = _life(group)
    return {
        "workflow": group.workflow,
        "grouping": group.grouping,
        "group": group.name,
        "state": group.state,
        "late": group.late,
        "runs": group.runs,
        "opened_at": group.opened_at,
        "closed_at": group.closed_at,
        "open_seconds": life.total_seconds() if life is not None else None,
        "why": why_closed(group.reason),
        "reason": group.reason,
        "amounts": group.amounts,
        "fills": group.fills,
        "locks": [_lock_of(lock) for lock in group.locks],
    }


def _lock_of(lock: PlannedLock) -> dict[str, object]:
    return {
        "task": lock.task,
        "kind": lock.kind,
        "waits_for": lock.what,
        "state": lock.state,
        "known_from": lock.basis,
        "shut_from": lock.shut_from,
        "opens_at": lock.opens_at,
        "shut_seconds": lock.shut_for.total_seconds() if lock.shut_for is not None else None,
        "missing": [{"run": run, "why": why} for run, why in lock.missing],
        "why": lock.why or None,
        "deadline": None if lock.deadline is None else vars(lock.deadline),
    }


def _difference(found: PlanDifference, commit: str) -> dict[str, object]:
    return {
        "against": {"name": commit, "commit": found.commit},
        "runs": [vars(one) for one in found.after.runs.values()],
        "until": found.after.until,
        "same": found.is_none,
        "workflows": [vars(one) for one in found.workflows],
        "decisions": [vars(one) for one in found.runs],
        "groups": [
            {
                "workflow": one.workflow,
                "grouping": one.grouping,
                "group": one.group,
                "state": one.state,
                "changes": one.changes,
                "before": _group(one.before),
                "after": _group(one.after),
            }
            for one in found.groups
        ],
        "troubles": found.after.troubles,
        "troubles_before": found.troubles_before,
        "errors": [mistake(error) for error in found.after.mistakes],
        "errors_before": [mistake(error) for error in found.mistakes_before],
    }
