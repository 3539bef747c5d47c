"""What ``calib retry`` clears: whatever keeps the tasks of a group from running, sensors and earlier tasks included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from airflow_calib_provider.spec.language import APPROVE_SUFFIX, CANDIDATE_SUFFIX, GROUP_SENSOR

ENDED = ("success", "failed", "upstream_failed", "skipped", "removed")
"""States of Airflow's tasks that do not change any more by themselves."""

LOCKS = ".locks"
ASKING = (CANDIDATE_SUFFIX, APPROVE_SUFFIX)


@dataclass(frozen=True)
class GroupStanding:
    """How a group stands in the ledger and in Airflow.

    :ivar states: task id in Airflow → its state in the ledger, in the order of the workflow.
    :ivar closed: whether the group is closed.
    :ivar shut: task ids of which a lock is not open.
    :ivar there: task id → Airflow's task instance.
    :ivar after: task id → the ids of those that come right after it in the DAG.
    """

    states: Mapping[str, str]
    closed: bool
    shut: frozenset[str]
    there: Mapping[str, Mapping[str, object]]
    after: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def ended(self, task_id: str) -> bool:
        """Whether Airflow will do nothing more for a task."""
        return task_id in self.there and self.there[task_id].get("state") in ENDED


@dataclass(frozen=True)
class Clearing:
    """What is to be cleared.

    :ivar before: what has to run first, without anything that comes after it.
    :ivar tasks: the tasks themselves, each after Airflow's own tasks of it, such as the sensor of its locks.
    """

    before: Sequence[str]
    tasks: Sequence[str]


def to_clear(standing: GroupStanding, named: Sequence[str]) -> Clearing:
    """The tasks that are named, or else those that have failed or that Airflow has given up, and what they need.

    :param named: task ids.
    """
    chosen = list(named) or [task for task, state in standing.states.items() if _stuck(standing, task, state)]
    tasks = [part for task in chosen for part in (*_before(standing, task), task)]
    needed = _ancestors(standing, tasks) - set(tasks)
    order = [GROUP_SENSOR, *(part for task in standing.states for part in (*_before(standing, task), task))]
    return Clearing([item for item in order if item in needed and _in_the_way(standing, item)], tasks)


def _before(standing: GroupStanding, task: str) -> list[str]:
    """Airflow's own tasks of a task: the sensor of its locks, its candidate, and the question about that."""
    return [f"{task}{part}" for part in (LOCKS, *ASKING) if f"{task}{part}" in standing.there]


def following(standing: GroupStanding, tasks: Sequence[str]) -> set[str]:
    """These tasks, and all that come after them in the DAG."""
    found: set[str] = set()
    left = list(tasks)
    while left:
        if (name := left.pop()) not in found:
            found.add(name)
            left += standing.after.get(name, ())
    return found


def _stuck(standing: GroupStanding, task: str, state: str) -> bool:
    if state in ("done", "skipped"):
        return False
    return state == "failed" or standing.ended(task)


def _ancestors(standing: GroupStanding, tasks: Sequence[str]) -> set[str]:
    before: dict[str, set[str]] = {}
    for name, following in standing.after.items():
        for other in following:
            before.setdefault(other, set()).add(name)
    found: set[str] = {GROUP_SENSOR}
    left = list(tasks)
    while left:
        new = before.get(left.pop(), set()) - found
        found |= new
        left += new
    return found


def _in_the_way(standing: GroupStanding, task_id: str) -> bool:
    """Whether a task before another keeps it from running, or was let pass by a person's mark success."""
    if not standing.ended(task_id):
        return False
    if standing.there[task_id]["state"] != "success":
        return True
    if task_id == GROUP_SENSOR:
        return not standing.closed
    if task_id.endswith(LOCKS):
        return task_id.removesuffix(LOCKS) in standing.shut
    for part in ASKING:
        task_id = task_id.removesuffix(part)
    return standing.states.get(task_id, "done") not in ("done", "skipped")
