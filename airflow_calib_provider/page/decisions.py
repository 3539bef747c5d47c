"""What was decided about payloads: validations, requests, approvals, withdrawals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from airflow_calib_provider.ledger import tables

payload, decision = tables.payload, tables.payload_decision

MOST = 500
"""Decisions that are listed, the newest ones."""


def decisions(connection: Connection, payload_ids: Sequence[int]) -> Sequence[Any]:
    """The decisions about these payloads, the newest first, with their tag and revision."""
    if not payload_ids:
        return []
    named = (payload.c.tag, payload.c.revision, payload.c.first_run, payload.c.last_run)
    about = (decision.c.kind, decision.c.outcome, decision.c.person, decision.c.comment, decision.c.at)
    query = select(*named, *about, decision.c.content_hash).join(payload, payload.c.id == decision.c.payload_id)
    query = query.where(tables.one_of(decision.c.payload_id, payload_ids))
    return connection.execute(query.order_by(decision.c.at.desc(), decision.c.n.desc()).limit(MOST)).all()
