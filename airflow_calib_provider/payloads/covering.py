"""Which payloads hold for runs, or are their group's: parts of statements, and what is made of their rows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, and_, func, select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.payload_states import FALLBACK_OF, PUBLISHED
from airflow_calib_provider.ledger.rows import Payload

payload = tables.payload


def spanning(of_campaign: ColumnElement[str], tag: str, first: int, last: int) -> ColumnElement[bool]:
    """The published payloads that begin between two runs, and the last one that begins before them."""
    other = payload.alias()
    begins = select(func.max(other.c.first_run)).where(
        other.c.campaign == of_campaign, other.c.tag == tag, other.c.state == PUBLISHED, other.c.first_run <= first
    )
    return and_(
        payload.c.campaign == of_campaign,
        payload.c.tag == tag,
        payload.c.state == PUBLISHED,
        payload.c.first_run.between(func.coalesce(begins.scalar_subquery(), first), last),
    )


def chosen(runs: Iterable[int], *preferred: Sequence[Payload]) -> list[Payload]:
    """Those that hold for the runs, of the first that has one; no two of one campaign overlap."""
    begins = [[row.first_run for row in rows] for rows in preferred]
    found: dict[int, Payload] = {}
    for run in runs:
        for rows, firsts in zip(preferred, begins, strict=True):
            last = bisect_right(firsts, run) - 1
            if last >= 0 and rows[last].last_run >= run:
                found[rows[last].id] = rows[last]
                break
    return sorted(found.values(), key=lambda row: row.first_run)


def own_of(rows: Sequence[Payload]) -> Payload | None:
    """The newest that a group has of a tag.

    :param rows: its current ones, the newest first: one that holds only until the group's own is published does not
        stand before that.
    """
    return next((row for row in rows if FALLBACK_OF not in row.provenance), rows[0] if rows else None)
