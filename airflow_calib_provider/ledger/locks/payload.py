"""Locks on the payloads of a tag (rule 22)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, ScalarSelect, Select, or_, select

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.locks.base import NO_PAYLOAD, SATISFIED, LedgerLock, group, membership, parameter

payload, campaign = tables.payload, tables.campaign


class PayloadLock(LedgerLock):
    """Open when each run of the group lies in a published interval of the tag, here or in the base campaign."""

    kind = "payload"
    texts: ClassVar[Mapping[str, str]] = {"not_published": NO_PAYLOAD}

    def statement(self, group_ids: Sequence[int]) -> Select[Any]:
        """A run is satisfied where a published payload covers it, the campaign's own or its base campaign's."""
        tag = parameter("tag")
        covered = or_(
            *(_last_published(name, tag) >= membership.c.run for name in (group.c.campaign, campaign.c.base_campaign))
        )
        rows = self.per_run(group_ids, tag, (covered, SATISFIED), other="not_published")
        return rows.join(campaign, campaign.c.name == group.c.campaign)

    def reason(self, what: str, standing: Mapping[str, object]) -> Reason:
        """With the tag."""
        return {"code": "payload", "tag": what, **standing}


def _last_published(of_campaign: ColumnElement[str], tag: ColumnElement[str]) -> ScalarSelect[int]:
    """Where the published interval ends that begins last at or before a run.

    No two overlap, so that no other one can hold the run, and one step in the index finds it among however many there
    are.
    """
    here = (payload.c.campaign == of_campaign, payload.c.tag == tag, payload.c.state == "published")
    begun = select(payload.c.last_run).where(*here, payload.c.first_run <= membership.c.run)
    return begun.order_by(payload.c.first_run.desc()).limit(1).scalar_subquery()


LOCK = PayloadLock()
