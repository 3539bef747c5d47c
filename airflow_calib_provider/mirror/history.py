"""What a group was when an event happened: the fold of the events about it that have lower ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from airflow_calib_provider.domain.reasons import Reason, lock_of, parts_of
from airflow_calib_provider.ledger.rows import Event


class Awaited(NamedTuple):
    """One of the locks that a task waits for.

    :ivar name: ``task laser.fit``, ``payload pedestals``, ``forming``.
    """

    name: str
    done: int | None = None
    total: int | None = None


def reason_of(event: Event) -> Reason | None:
    """The reason that an event of a group, or of a task of one, tells."""
    reason = event.data.get("reason")
    return reason if isinstance(reason, dict) else None


def _count(reason: Reason, name: str) -> int | None:
    number = reason.get(name)
    return number if isinstance(number, int) else None


def awaited_in(reason: Reason | None) -> list[Awaited]:
    """The locks that a reason names; those that never open are named alike."""
    if not reason:
        return []
    code = reason.get("code")
    if code in ("several", "any_of"):
        return [awaited for part in parts_of(reason) for awaited in awaited_in(part)]
    if code == "deadline_passed":
        return awaited_in(_inner(reason))
    if code in ("forming", "dropped"):
        return [Awaited("forming")]
    if code in NEVER:
        what = str(reason.get("needs"))
        return [Awaited(f"{'task' if '.' in what else 'payload'} {what}", 0, _count(reason, "total"))]
    if code in ("lock_unknown", "lock_trouble"):
        return [Awaited(str(reason.get("lock")))]
    lock = lock_of(reason)
    if lock is not None:
        return [Awaited(f"{lock.name} {lock.what(reason)}", _count(reason, "done"), _count(reason, "total"))]
    return []


@dataclass(frozen=True)
class DeadlineSeen:
    """Until when a lock is waited for.

    :ivar near: not much of the time is left.
    :ivar then: what happens when it is over.
    """

    ends: datetime
    near: bool
    then: str


def deadlines_in(reason: Reason | None) -> dict[str, DeadlineSeen]:
    """The locks that a reason names, and that are not waited for for ever; those of which one is enough have one."""
    if not reason:
        return {}
    found = {name: one for part in parts_of(reason) for name, one in deadlines_in(part).items()}
    said = reason.get("deadline")
    if isinstance(said, dict):
        one = DeadlineSeen(datetime.fromisoformat(said["at"]), bool(said["near"]), str(said["then"]))
        found |= {awaited.name: one for awaited in awaited_in(reason)}
    return found


def _inner(reason: Reason) -> Reason | None:
    found = reason.get("reason")
    return found if isinstance(found, dict) else None


NEVER = ("needs_selected_none", "all_skipped", "dropped")
"""Codes of reasons by which a lock can never open."""

SHUT = (*NEVER, "deadline_passed")
"""Codes of reasons with which the wait for a lock has ended although it is shut."""


@dataclass
class TaskHistory:
    """A task of a group.

    :ivar state: the latest.
    :ivar reason: why.
    :ivar generation: the latest that a reason named; 0: none.
    :ivar waits: the locks that it waits for now → since when, in nanoseconds.
    :ivar deadlines: of those that are not waited for for ever.
    """

    state: str
    reason: Reason | None = None
    generation: int = 0
    waits: dict[str, int] = field(default_factory=dict)
    deadlines: dict[str, DeadlineSeen] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """The code of its reason; empty without one."""
        return str((self.reason or {}).get("code") or "")


@dataclass
class LockChange:
    """A lock that began to be waited for, or that is no longer.

    :ivar state: ``waiting``, ``open`` or ``never``.
    :ivar waited: seconds.
    """

    awaited: Awaited
    state: str
    waited: float | None = None


@dataclass(frozen=True)
class DeadlineChange:
    """A deadline that began to count, is near or another one now, or is no longer waited for.

    :ivar lock: its name, as of :class:`Awaited`.
    :ivar state: ``waiting``; ``met``: it opened before; ``passed``; ``lifted``: there is none any more, as the file was
        edited, or the task is skipped.
    :ivar left: seconds, below 0 if it has passed.
    """

    lock: str
    state: str
    deadline: DeadlineSeen
    left: float


@dataclass
class GroupHistory:
    """A group.

    :ivar members: run → whether it was dropped.
    :ivar tasks: by name; those that the spec no longer has are not there.
    :ivar opened: when it opened, in nanoseconds.
    :ivar runs: how many it has got.
    :ivar start: of its data.
    :ivar says_start: whether the events tell it; those of earlier versions do not.
    :ivar late: its runs arrived late.
    :ivar edition: grows when it is amended.
    """

    members: dict[int, bool] = field(default_factory=dict)
    tasks: dict[str, TaskHistory] = field(default_factory=dict)
    opened: int | None = None
    runs: int = 0
    last_run: int | None = None
    start: datetime | None = None
    says_start: bool = False
    late: bool = False
    edition: int = 1

    def apply(self, event: Event) -> list[LockChange | DeadlineChange]:
        """Take an event into account.

        :returns: the locks whose waits began or ended by it, and what became of deadlines.
        """
        if event.entity == "membership":
            if event.run is not None and event.to_state in ("grouped", "dropped"):
                self.members[event.run] = event.to_state == "dropped"
            elif event.run is not None and event.to_state == "removed":
                self.members.pop(event.run, None)
        elif event.entity == "run_group":
            self._take_runs(event)
        elif event.entity == "group_task" and event.task is not None:
            return self._take_task(event, event.task)
        return []

    def _take_runs(self, event: Event) -> None:
        added, removed = _runs(event, "runs"), _runs(event, "removed")
        self.runs += len(added) - len(removed)
        for run in removed:
            self.members.pop(run, None)
        if removed:
            self.last_run = max([*added, *self.members], default=self.last_run)
        elif added:
            self.last_run = max([*added, *([self.last_run] if self.last_run is not None else [])])
        self.late = self.late or event.data.get("late") is True
        edition = event.data.get("edition")
        self.edition = edition if isinstance(edition, int) else self.edition
        if self.opened is None:
            self.opened = event.at
        if "start" in event.data:
            text = event.data["start"]
            self.start, self.says_start = datetime.fromisoformat(str(text)) if text else None, True

    def _take_task(self, event: Event, name: str) -> list[LockChange | DeadlineChange]:
        task = self.tasks.setdefault(name, TaskHistory("new"))
        edited = "reason" not in event.data and event.from_state == event.to_state
        if not edited:
            # An edit of the spec changes what is waited for; the next look tells it.
            task.reason = reason_of(event)
        generation = (task.reason or {}).get("generation")
        if isinstance(generation, int):
            task.generation = generation
        task.state = event.to_state or "removed"
        changes: list[LockChange | DeadlineChange] = []
        if not edited:
            changes += [*_deadlines(task, event.at), *_waits(task, event.at)]
        if event.to_state is None:
            del self.tasks[name]
        return changes


def _runs(event: Event, name: str) -> list[int]:
    listed = event.data.get(name)
    return [run for run in listed if isinstance(run, int)] if isinstance(listed, list) else []


def _waits(task: TaskHistory, at: int) -> list[LockChange]:
    """What changes of the locks that a task waits for, now that it has this state and reason."""
    named = {awaited.name: awaited for awaited in awaited_in(task.reason)}
    shut = any(code in SHUT for code in _codes(task.reason))
    wanted = named if task.state == "waiting" else {}
    changes = [LockChange(awaited, "waiting", 0.0) for name, awaited in wanted.items() if name not in task.waits]
    ended = "never" if shut or task.state in ("skipped", "removed") else "open"
    for name in [name for name in task.waits if name not in wanted]:
        waited = round((at - task.waits.pop(name)) / 1e9, 3)
        changes.append(LockChange(named.pop(name, Awaited(name)), ended, waited))
    if shut and task.state == "failed":
        changes += [LockChange(awaited, "never", 0.0) for name, awaited in named.items() if name != "forming"]
    task.waits.update({name: at for name in wanted if name not in task.waits})
    return changes


def _deadlines(task: TaskHistory, at: int) -> list[DeadlineChange]:
    """What changes of the deadlines of locks, now that the task has this state and reason."""
    wanted = deadlines_in(task.reason) if task.state == "waiting" else {}

    def change(name: str, state: str, one: DeadlineSeen) -> DeadlineChange:
        return DeadlineChange(name, state, one, round(one.ends.timestamp() - at / 1e9, 3))

    changes = [change(name, "waiting", one) for name, one in wanted.items() if task.deadlines.get(name) != one]
    awaited = {one.name for one in awaited_in(task.reason)} if task.state == "waiting" else set()
    for name in [name for name in task.deadlines if name not in wanted]:
        one = task.deadlines.pop(name)
        passed = one.ends.timestamp() <= at / 1e9
        lifted = name in awaited or task.state in ("skipped", "removed")
        changes.append(change(name, "lifted" if lifted else "passed" if passed else "met", one))
    task.deadlines.update(wanted)
    return changes


def _codes(reason: Reason | None) -> list[str]:
    if not reason:
        return []
    return [str(reason.get("code")), *(str(part.get("code")) for part in parts_of(reason))]
