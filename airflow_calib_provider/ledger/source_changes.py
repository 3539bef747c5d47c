"""Runs of which the source says something else than when they were assigned (rule 2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, and_, select

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.domain.source_changes import Changes, source_changes
from airflow_calib_provider.ledger import tables

run, membership = tables.run, tables.membership

COLUMNS = (run.c.start, run.c.end, run.c.completed, run.c.fields, run.c.files, run.c.listed)
"""What is compared, beside ``record`` and ``reason`` of the membership."""

SHOWN = 5
"""Runs of a group whose changes are told."""

AT_ONCE = 50
"""Runs that one injection tells of."""

_NOT_TAKEN = ("not_in_campaign", "before_since", "before_first_seen")


def changes_of(row: Any, member: Any = None) -> Changes:
    """What has changed since the run was assigned.

    :param row: with :data:`COLUMNS`, and with ``record`` and ``reason`` where no ``member`` is given.
    :param member: the row of the membership.
    """
    member = row if member is None else member
    if member.record is None or (member.reason or {}).get("code") in _NOT_TAKEN:
        return {}
    return source_changes(
        member.record,
        row.fields,
        start=row.start,
        end=row.end,
        files=row.files,
        completed=row.completed,
        listed=row.listed,
        reason=member.reason,
    )


def of_runs(source: str, changes: Sequence[tuple[int, Changes]], n_runs: int | None = None) -> Reason:
    """The structured reason, of so many runs of which the first are told."""
    return {
        "code": "source_changed",
        "source": source,
        "runs": [[number, found] for number, found in changes[:SHOWN]],
        "n_runs": len(changes) if n_runs is None else n_runs,
    }


def of_assigned(connection: Connection, source: str, numbers: Sequence[int]) -> list[tuple[int, Reason]]:
    """Those of these runs that are in groups, with what has changed of them since; only the first ones."""
    query = (
        select(membership.c.run, membership.c.record, membership.c.reason, *COLUMNS)
        .join(run, and_(run.c.source == membership.c.source, run.c.number == membership.c.run))
        .where(
            run.c.source == source,
            tables.one_of(run.c.number, numbers[:AT_ONCE]),
            # Each campaign's, since the quick way to what was decided about a run begins with the campaign.
            membership.c.campaign.in_(select(tables.campaign.c.name)),
            membership.c.source == source,
            membership.c.state == "grouped",
        )
        .order_by(membership.c.run)
    )
    found = {row.run: changes for row in connection.execute(query) if (changes := changes_of(row))}
    return [(number, of_runs(source, [(number, changes)])) for number, changes in found.items()][:AT_ONCE]


def of_group(connection: Connection, group_id: int) -> Reason | None:
    """What has changed of the runs of a group since they were put into it; one statement, whatever their number."""
    query = (
        select(membership.c.run, membership.c.source, membership.c.record, membership.c.reason, *COLUMNS)
        .join(run, and_(run.c.source == membership.c.source, run.c.number == membership.c.run))
        .where(membership.c.group_id == group_id, membership.c.state == "grouped")
        .order_by(membership.c.run)
    )
    rows = connection.execute(query).all()
    found = [(row.run, changes) for row in rows if (changes := changes_of(row))]
    return of_runs(rows[0].source, found) if found else None


def changed_groups(connection: Connection, group_ids: Iterable[int]) -> set[int]:
    """Those of these groups of whose runs the source says something else by now; one statement."""
    query = (
        select(membership.c.group_id, membership.c.record, membership.c.reason, *COLUMNS)
        .join(run, and_(run.c.source == membership.c.source, run.c.number == membership.c.run))
        .where(tables.one_of(membership.c.group_id, group_ids), membership.c.state == "grouped")
    )
    return {row.group_id for row in connection.execute(query) if changes_of(row)}
