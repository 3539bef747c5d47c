"""The states of payloads, in words that statements share. Their moves stand in :data:`.transitions.GRAPHS`."""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists

from airflow_calib_provider.ledger import tables

payload = tables.payload

CANDIDATE, PUBLISHED, SUPERSEDED, EXPIRED = "candidate", "published", "superseded", "expired"

ONLY_A_CANDIDATE = f"only a {CANDIDATE}, not published"
"""What is said of a task that has published nothing else."""

CURRENT = (CANDIDATE, PUBLISHED)
"""The newest of their groups: a candidate may become valid, a published one is."""

WAS_PUBLISHED = (PUBLISHED, SUPERSEDED)
"""States of what is valid, or was: a need of the task that made it is satisfied."""


def has_published(group_id: ColumnElement[int], task: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a task of a group has published; a candidate does not count (rule 50)."""
    return _exists(group_id, task, WAS_PUBLISHED)


def has_candidate(group_id: ColumnElement[int], task: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a task of a group has a candidate."""
    return _exists(group_id, task, (CANDIDATE,))


def _exists(group_id: ColumnElement[int], task: ColumnElement[str], states: tuple[str, ...]) -> ColumnElement[bool]:
    return exists().where(payload.c.group_id == group_id, payload.c.task == task, payload.c.state.in_(states))
