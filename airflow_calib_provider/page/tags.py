"""A tag: for which runs which payloads hold, where there is none, what was and what may become valid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, func, or_, select

from airflow_calib_provider.errors import NotFound
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.payload_states import PUBLISHED
from airflow_calib_provider.page.decisions import decisions
from airflow_calib_provider.page.rights import Rights

payload, group, membership = tables.payload, tables.run_group, tables.membership

SIZE = 200
"""Payloads on a page, the newest runs first."""

MOST_GAPS = 100


class TagLine(NamedTuple):
    """A tag of a campaign.

    :ivar states: state → how many payloads.
    """

    tag: str
    states: dict[str, int]
    first_run: int
    last_run: int


class Gap(NamedTuple):
    """Runs between two published payloads.

    :ivar n_runs: those of them that the ledger has in a group of the tag's workflow.
    """

    first_run: int
    last_run: int
    n_runs: int


@dataclass(frozen=True)
class TagView:
    """A part of a tag.

    :ivar payloads: the newest runs first, :ivar decisions: and what was decided about them.
    :ivar following: the first run of the last one; ``None``: there are no older ones.
    """

    tag: str
    payloads: Sequence[Any]
    decisions: Sequence[Any]
    gaps: Sequence[Gap]
    following: int | None


def _seen(rights: Rights, campaign: str, *columns: Any) -> Select[Any]:
    query = select(*columns).join(group, group.c.id == payload.c.group_id)
    return query.where(payload.c.campaign == campaign, rights.of_group())


def tags_of(connection: Connection, rights: Rights, campaign: str) -> list[TagLine]:
    """All tags of a campaign, by name.

    :raises NotFound: there is no such campaign, or nothing in it that the person may read.
    """
    rights.in_campaign(campaign)
    ends = (func.min(payload.c.first_run), func.max(payload.c.last_run))
    query = _seen(rights, campaign, payload.c.tag, payload.c.state, func.count(), *ends)
    found: dict[str, TagLine] = {}
    for tag, state, n, first, last in connection.execute(
        query.group_by(payload.c.tag, payload.c.state).order_by(payload.c.tag, payload.c.state)
    ).all():
        before = found.get(tag) or TagLine(tag, {}, first, last)
        ends_of = min(first, before.first_run), max(last, before.last_run)
        found[tag] = TagLine(tag, {**before.states, state: n}, *ends_of)
    return list(found.values())


def tag_view(connection: Connection, rights: Rights, campaign: str, tag: str, before: int | None) -> TagView:
    """The payloads of a tag, and the gaps between those that are published.

    :param before: only those of older runs than this.
    :raises NotFound: there is no such tag, or no payload of it that the person may read.
    """
    query = _seen(rights, campaign, payload, group.c.name.label("group_name"), group.c.grouping)
    query = query.where(payload.c.tag == tag)
    if before is not None:
        query = query.where(payload.c.first_run < before)
    query = query.order_by(payload.c.first_run.desc(), payload.c.id.desc()).limit(SIZE)
    rows = connection.execute(query).all()
    if not rows and before is None:
        raise NotFound(f"there is no tag {tag} in {campaign}, or none that you may read")
    gaps = _gaps(connection, campaign, rows)
    return TagView(
        tag,
        rows,
        decisions(connection, [row.id for row in rows]),
        gaps,
        rows[-1].first_run if len(rows) == SIZE else None,
    )


def _gaps(connection: Connection, campaign: str, rows: Sequence[Any]) -> list[Gap]:
    """Where runs are between two published payloads for which none holds, with how many the ledger knows."""
    holes = list(_holes(sorted((row.first_run, row.last_run) for row in rows if row.state == PUBLISHED)))
    holes = holes[-MOST_GAPS:]
    if not holes:
        return []
    pairs = {(row.workflow, row.grouping) for row in rows}
    inside = or_(*(membership.c.run.between(first, last) for first, last in holes))
    of_tag = or_(*((membership.c.workflow == flow) & (membership.c.grouping == label) for flow, label in pairs))
    query = select(membership.c.run, func.count()).where(membership.c.campaign == campaign, of_tag, inside)
    query = query.where(membership.c.state == "grouped").group_by(membership.c.run).limit(10_000)
    runs = [run for run, _ in connection.execute(query).all()]
    return [Gap(first, last, sum(first <= run <= last for run in runs)) for first, last in holes]


def _holes(intervals: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    end = None
    for first, last in intervals:
        if end is not None and first > end + 1:
            yield end + 1, first - 1
        end = last if end is None else max(end, last)
