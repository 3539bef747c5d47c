"""Groupings that wait for values which a task reports of each run (rule 47): which runs they can decide about now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from airflow_calib_provider.domain.grouping import GroupDraft, Grouping
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.domain.run_facts import ReportedValue
from airflow_calib_provider.injection.selection import ADMITTED, Admission
from airflow_calib_provider.ledger import reported
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.reported import AT_ONCE, LEFT_OUT, Sought, ValueStanding
from airflow_calib_provider.ledger.rows import Run

if TYPE_CHECKING:
    from airflow_calib_provider.injection.assigning import Pass

Values = Mapping[str, Mapping[str, ReportedValue]]
"""Task → its values of a run by name."""


@dataclass(frozen=True)
class Decidable:
    """About which runs something can be decided.

    :ivar rows: these, in order.
    :ivar admissions: of them; what is in no group where the values are is in none here.
    :ivar values: run → its values.
    :ivar held: why the first of the others, in run order, is none of them; ``None``: there are no others.
    :ivar bound: below this run all is decided then.
    """

    rows: Sequence[Run]
    admissions: Mapping[int, Admission]
    values: Mapping[int, Values]
    held: Reason | None
    bound: int


def decidable(
    ledger: Ledger,
    here: Pass,
    policy: Grouping,
    forming: GroupDraft | None,
    rows: Sequence[Run],
    admissions: Mapping[int, Admission],
    below: int,
) -> Decidable:
    """In run order, up to the first one that enters the workflow and whose values are not known.

    Late ones, below what is assigned, hold only each other; those that are put into no group wait for nothing.

    :param below: runs below were assigned before.
    """
    sought = _sought(here, policy, forming)
    if sought is None:
        return Decidable(rows, admissions, {}, None, here.bound)
    late = [row for row in rows if row.number < below]
    new = rows[len(late) :]
    grouped = policy.late_runs == "new_group"
    with ledger.read() as connection:
        early = _part(connection, sought, late, admissions, here.now) if grouped else _Part(late, {}, None)
        then = _part(connection, sought, new, admissions, here.now)
    standings = {**early.standings, **then.standings}
    left_out = {run: Admission(one.decided, one.reason) for run, one in standings.items() if one.state == LEFT_OUT}
    bound = here.bound if then.held is None else new[len(then.rows)].number
    return Decidable(
        rows=[*early.rows, *then.rows],
        admissions={**admissions, **left_out},
        values={run: {sought.task: one.values} for run, one in standings.items() if one.state == reported.KNOWN},
        held=then.held or early.held,
        bound=bound,
    )


def gone_for(here: Pass, policy: Grouping, forming: GroupDraft | None) -> str:
    """The task whose values the forming group had, if nobody reports them any more; empty: there is none such.

    Without them it would take runs for ever. Where the policy of now waits for values, too, it does so for these.
    """
    if forming is None or not forming.policy.awaits or forming.policy.kind == policy.kind:
        return ""
    return "" if here.workflow.awaited_of(forming.policy) is not None else forming.policy.awaits


def _sought(here: Pass, policy: Grouping, forming: GroupDraft | None) -> Sought | None:
    """What new groups wait for; if nothing, what the one that forms does."""
    for one in (policy, forming.policy if forming is not None else policy):
        if (found := Sought.of(here.campaign, here.workflow, one)) is not None:
            return found
    return None


@dataclass(frozen=True)
class _Part:
    rows: Sequence[Run]
    standings: Mapping[int, ValueStanding]
    held: Reason | None


def _part(
    connection: Connection, sought: Sought, rows: Sequence[Run], admissions: Mapping[int, Admission], now: datetime
) -> _Part:
    """The rows before the first one that holds; what is behind it is not looked at."""
    standings: dict[int, ValueStanding] = {}
    for begin in range(0, len(rows), AT_ONCE):
        some = rows[begin : begin + AT_ONCE]
        wanted = [row.number for row in some if admissions[row.number] is ADMITTED]
        found = reported.look(connection, sought, wanted, now)
        for place, row in enumerate(some, begin):
            standing = found.get(row.number)
            if standing is not None and not standing.is_settled:
                return _Part(rows[:place], standings, standing.reason)
            if standing is not None:
                standings[row.number] = standing
    return _Part(rows, standings, None)


def as_frozen(values: Values | None) -> dict[str, object]:
    """What a run's membership keeps of its values."""
    return {task: {name: list(one) for name, one in of_it.items()} for task, of_it in (values or {}).items()}
