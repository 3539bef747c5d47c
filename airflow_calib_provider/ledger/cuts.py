"""Groups that a grouping's policy of now would have parted: closed ones, which never change, are its mistake."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from airflow_calib_provider.domain.grouping import GroupDraft, Grouping
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.ledger import tables

group = tables.run_group


def closed_cut(connection: Connection, campaign: str, workflow: str, policy: Grouping) -> Reason | None:
    """The first closed group that the policy of now would cut, as a reason; ``None``: there is none.

    What a person has amended, and what the last runs of a campaign have joined, is as it is on purpose.
    """
    if not policy.rules.cuts:
        return None
    here = (group.c.campaign == campaign, group.c.workflow == workflow, group.c.grouping == policy.label)
    columns = (group.c.name, group.c.first_run, group.c.last_run, group.c.marks, group.c.close_reason)
    query = select(*columns).where(*here, group.c.state == "closed", group.c.edition == 1)
    for row in connection.execute(query.order_by(group.c.first_run)):
        draft = GroupDraft(policy, first_run=row.first_run, last_run=row.last_run, marks=dict(row.marks or {}))
        cut = None if _is_meant(row.close_reason) else policy.rules.cut(draft, policy)
        if cut is not None:
            said = {"first_run": row.first_run, "last_run": row.last_run}
            return {"code": "boundary_cuts", "boundary": cut, "group": row.name, "grouping": policy.label, **said}
    return None


def _is_meant(reason: object) -> bool:
    return isinstance(reason, dict) and reason.get("code") in ("tail", "by_hand")


def members_of(connection: Connection, group_id: int) -> Sequence[tuple[int, dict[str, object]]]:
    """The runs of a group with what was recorded of them, in order."""
    member = tables.membership
    query = select(member.c.run, member.c.record).where(member.c.group_id == group_id, member.c.state == "grouped")
    return [(row.run, row.record) for row in connection.execute(query.order_by(member.c.run))]
