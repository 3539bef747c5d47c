"""What one task says of one run: a cell of runs × tasks (rule 1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from airflow_calib_provider.ledger.exclusions import EXCLUDED


@dataclass(frozen=True, order=True)
class Column:
    """One task, as a column of the overview."""

    workflow: str
    position: int
    grouping: str
    task: str

    @property
    def name(self) -> str:
        """As people write it."""
        return f"{self.workflow}.{self.task}"


class Cell(NamedTuple):
    """A run in a task.

    :ivar state: empty where the task does not concern the run.
    :ivar late: it is of a group of late runs.
    :ivar member: the row of ``membership``, :ivar task: and that of ``group_task``, if there is one.
    """

    state: str
    late: bool
    member: Any
    task: Any


@dataclass(frozen=True)
class Rows:
    """What cells are made of.

    :ivar members: (workflow, grouping, source, run) → row of ``membership``.
    :ivar tasks: (group, task) → row of ``group_task``, with ``late`` of its group.
    :ivar skips: (workflow, task or nothing, run) → when it was skipped.
    :ivar left: group, task and run of what groups went on without.
    """

    members: Mapping[tuple[str, str, str, int], Any]
    tasks: Mapping[tuple[int, str], Any]
    skips: Mapping[tuple[str, str, int], datetime]
    left: Collection[tuple[int, str, int]]

    def cell(self, column: Column, source: str, number: int) -> Cell:
        """What a task says of a run of a source of its workflow."""
        member = self.members.get((column.workflow, column.grouping, source, number))
        at = self.skips.get((column.workflow, "", number)) or self.skips.get((column.workflow, column.task, number))
        if member is None:
            return Cell("skipped" if at else "new", False, None, None)
        if member.state != "grouped":
            return Cell("skipped" if member.state == "dropped" else str(member.state), False, member, None)
        task = self.tasks.get((member.group_id, column.task))
        if task is None:
            return Cell("", False, member, None)
        # What was done before somebody skipped the run was done with it.
        shown = "skipped" if at and (task.state != "done" or at <= task.since) else str(task.state)
        if shown != "skipped" and (member.group_id, column.task, number) in self.left:
            shown = EXCLUDED
        return Cell(shown, bool(task.late), member, task)
