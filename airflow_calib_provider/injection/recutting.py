"""Policies that follow data, which may part the group that is forming (rule 47)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update

from airflow_calib_provider.domain.grouping import GroupDraft, Grouping, RunFacts
from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.ledger import cuts, groups, open_groups, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.spec.policy_data import as_read

if TYPE_CHECKING:
    from airflow_calib_provider.injection.assigning import Pass

member = tables.membership


def as_now(ledger: Ledger, here: Pass, policy: Grouping) -> Grouping:
    """A policy with the data that it follows as they are now; runs behind a new boundary leave the group that forms.

    :raises CalibError: they cannot be read, or would cut a closed group, which is named.
    """
    if here.finite and policy.rules.cuts and _is_made(ledger, here, policy):
        return policy  # all of its runs are in groups: what comes later is for others
    policy = as_read(policy, Path(here.workflow.file).parent)
    if not policy.rules.cuts:
        return policy
    with ledger.read() as connection:
        wrong = cuts.closed_cut(connection, here.campaign, here.workflow.name, policy)
        forming = open_groups.forming_group(connection, here.campaign, here.workflow.name, policy.label)
    if wrong is not None:
        raise CalibError(render(wrong), "take it back, or give one beside the group")
    if forming is not None and (cut := policy.rules.cut(forming, policy)) is not None:
        _give_back(ledger, here, policy, cut)
    return policy


def _is_made(ledger: Ledger, here: Pass, policy: Grouping) -> bool:
    """Whether all runs of a finite campaign are assigned."""
    table = tables.grouping
    of_it = (table.c.campaign == here.campaign, table.c.workflow == here.workflow.name, table.c.label == policy.label)
    with ledger.read() as connection:
        return connection.execute(select(table.c.source_serial).where(*of_it)).scalar() is not None


def _give_back(ledger: Ledger, here: Pass, policy: Grouping, cut: int) -> None:
    """Let nothing be decided about runs from one on: as if they had not been assigned yet, to be assigned anew.

    One transaction: after a death the next injection assigns them.
    """
    with ledger.write() as connection:
        forming = open_groups.forming_group(connection, here.campaign, here.workflow.name, policy.label)
        if forming is None or forming.id is None or policy.rules.cut(forming, policy) != cut:
            return
        members = cuts.members_of(connection, forming.id)
        # With the boundaries of now: those beyond which it has gone on before do not cut it later.
        own = policy.rules.live(forming.policy, policy) if forming.policy.kind == policy.kind else forming.policy
        kept = GroupDraft(own, id=forming.id, open_reason=forming.open_reason)
        for run, record in members:
            if run < cut:
                kept.add(RunFacts.frozen(run, record))
        gone = [run for run, _ in members if run >= cut]
        kept.added = []
        groups.store_less(connection, here.campaign, here.workflow.name, kept, gone, {"code": "cut", "boundary": cut})
        of_it = (
            member.c.campaign == here.campaign,
            member.c.workflow == here.workflow.name,
            member.c.grouping == policy.label,
            member.c.run >= cut,
        )
        open_still = member.c.state.in_(["not_selected", "refused"]) | (member.c.group_id == forming.id)
        connection.execute(delete(member).where(*of_it, open_still))
        table = tables.grouping
        of_grouping = (table.c.campaign == here.campaign, table.c.workflow == here.workflow.name)
        behind = (*of_grouping, table.c.label == policy.label, table.c.assigned_below > cut)
        connection.execute(update(table).where(*behind).values(assigned_below=cut, source_serial=None))
