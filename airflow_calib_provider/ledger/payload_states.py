"""The states of payloads, in words that statements share. Their moves stand in :data:`.transitions.GRAPHS`."""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists, or_

from airflow_calib_provider.ledger import tables

payload = tables.payload

CANDIDATE, VALIDATED, APPROVED, PUBLISHING = "candidate", "validated", "approved", "publishing"
PUBLISHED, SUPERSEDED, WITHDRAWN = "published", "superseded", "withdrawn"
REJECTED, EXPIRED = "rejected", "expired"

UNPUBLISHED = (CANDIDATE, VALIDATED, APPROVED, PUBLISHING)
"""On the way to a publication: it holds for no run, and a lock on the tag stays shut."""

ONLY_A_CANDIDATE = f"only a {CANDIDATE}, not published"
"""What is said of a task that has published nothing else."""

CURRENT = (*UNPUBLISHED, PUBLISHED)
"""The newest of their groups: some may become valid, a published one is."""

FALLBACK = "fallback"
"""The kind of the decision that the payload before a group holds for it, as its own was not published in time."""

FALLBACK_OF = "fallback_of"
"""In the provenance of such a payload: which one it is."""

UNCHANGED = "unchanged"
"""The code of the reason of a task that is done without a payload: the content is that of the one before its group."""

WAS_PUBLISHED = (PUBLISHED, SUPERSEDED)
"""States of what is valid, or was: a need of the task that made it is satisfied."""


def has_published(group_id: ColumnElement[int], task: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a task of a group has published, or had nothing new to publish; a candidate does not count (rule 50)."""
    of = tables.group_task.alias("unchanged")
    here = (of.c.group_id == group_id, of.c.task == task, of.c.state == "done")
    unchanged = exists().where(*here, of.c.reason["code"].as_string() == UNCHANGED)
    # Until its own is published the payload before the group may hold: that is not what was asked of the task.
    own = exists().where(
        payload.c.group_id == group_id,
        payload.c.task == task,
        payload.c.state.in_(WAS_PUBLISHED),
        ~fell_back(payload.c.id),
    )
    return or_(own, unchanged)


def fell_back(payload_id: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether a payload is the one before its group, published as its own was not in time."""
    decision = tables.payload_decision
    return exists().where(decision.c.payload_id == payload_id, decision.c.kind == FALLBACK)


def has_candidate(group_id: ColumnElement[int], task: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a task of a group has a candidate, or what is further on its way, but not published."""
    return _exists(group_id, task, UNPUBLISHED)


def _exists(group_id: ColumnElement[int], task: ColumnElement[str], states: tuple[str, ...]) -> ColumnElement[bool]:
    return exists().where(payload.c.group_id == group_id, payload.c.task == task, payload.c.state.in_(states))
