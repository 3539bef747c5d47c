"""Locks on the payloads of a tag (rule 22)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sqlalchemy import Select, exists, or_

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.locks.base import NO_PAYLOAD, SATISFIED, LedgerLock, group, membership, parameter

payload, campaign = tables.payload, tables.campaign


class PayloadLock(LedgerLock):
    """Open when each run of the group lies in a published interval of the tag, here or in the base campaign."""

    kind = "payload"
    texts: ClassVar[Mapping[str, str]] = {"not_published": NO_PAYLOAD}

    def statement(self, group_ids: Sequence[int]) -> Select[Any]:
        tag = parameter("tag")
        covered = exists().where(
            payload.c.tag == tag,
            payload.c.state == "published",
            or_(payload.c.campaign == group.c.campaign, payload.c.campaign == campaign.c.base_campaign),
            payload.c.first_run <= membership.c.run,
            payload.c.last_run >= membership.c.run,
        )
        rows = self.per_run(group_ids, tag, (covered, SATISFIED), other="not_published")
        return rows.join(campaign, campaign.c.name == group.c.campaign)

    def reason(self, what: str, standing: Mapping[str, Any]) -> Reason:
        return {"code": "payload", "tag": what, **standing}


LOCK = PayloadLock()
