"""Locks on the payloads of a tag (rule 22)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, ScalarSelect, Select, exists, func, or_, select

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.ids import Ids
from airflow_calib_provider.ledger.locks.base import (
    NO_PAYLOAD,
    SATISFIED,
    LedgerLock,
    LockRow,
    group,
    lock,
    membership,
    parameter,
)
from airflow_calib_provider.ledger.payload_states import CANDIDATE, ONLY_A_CANDIDATE, PUBLISHED, UNPUBLISHED

payload, campaign = tables.payload, tables.campaign


class PayloadLock(LedgerLock):
    """Open when each run of the group lies in a published interval of the tag, here or in the base campaign."""

    kind = "payload"
    texts: ClassVar[Mapping[str, str]] = {"not_published": NO_PAYLOAD, CANDIDATE: ONLY_A_CANDIDATE}

    def statement(self, group_ids: Ids) -> Select[Any]:
        """A run is satisfied where a published payload covers it, the campaign's own or its base campaign's."""
        tag = parameter("tag")
        covered = or_(
            *(_last_published(name, tag) >= membership.c.run for name in (group.c.campaign, campaign.c.base_campaign))
        )
        proposed = exists().where(
            payload.c.campaign == group.c.campaign,
            payload.c.tag == tag,
            payload.c.state.in_(UNPUBLISHED),
            payload.c.first_run <= membership.c.run,
            payload.c.last_run >= membership.c.run,
        )
        rows = self.per_run(group_ids, tag, (covered, SATISFIED), (proposed, CANDIDATE), other="not_published")
        return rows.join(campaign, campaign.c.name == group.c.campaign)

    def lacks_last_good(self, connection: Connection, locks: Sequence[LockRow]) -> set[tuple[int, str, int]]:
        """Where no published payload begins at or before the group's first run.

        One that does covers that run, or ends before it; what is missing comes after it then, in either case.
        """
        first = func.coalesce(group.c.lowest_run, group.c.first_run)
        here = or_(payload.c.campaign == group.c.campaign, payload.c.campaign == campaign.c.base_campaign)
        tag = parameter("tag")
        older = exists().where(here, payload.c.tag == tag, payload.c.state == PUBLISHED, payload.c.first_run <= first)
        query = (
            select(lock.c.group_id, lock.c.task, lock.c.position)
            .join(group, group.c.id == lock.c.group_id)
            .join(campaign, campaign.c.name == group.c.campaign)
            .where(lock.c.kind == self.kind, tables.one_of(group.c.id, {row.group_id for row in locks}), ~older)
        )
        return {(row[0], row[1], row[2]) for row in connection.execute(query)}

    def reason(self, what: str, standing: Mapping[str, object]) -> Reason:
        """With the tag."""
        return {"code": "payload", "tag": what, **standing}


def _last_published(of_campaign: ColumnElement[str], tag: ColumnElement[str]) -> ScalarSelect[int]:
    """Where the published interval ends that begins last at or before a run.

    No two overlap, so that no other one can hold the run, and one step in the index finds it among however many there
    are.
    """
    here = (payload.c.campaign == of_campaign, payload.c.tag == tag, payload.c.state == PUBLISHED)
    begun = select(payload.c.last_run).where(*here, payload.c.first_run <= membership.c.run)
    return begun.order_by(payload.c.first_run.desc()).limit(1).scalar_subquery()


LOCK = PayloadLock()
