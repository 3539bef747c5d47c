"""Asking persons to approve a payload, and what their answer is worth (rule 66).

An answer counts only if it says so, a person gave it, this person may, and it is about the content that is to be
published now. Whatever else lets a task go on in Airflow, such as marking the question as success, publishes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.quantities import format_time
from airflow_calib_provider.errors import PayloadError
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import group_by_id
from airflow_calib_provider.ledger.payload_states import (
    APPROVED,
    CANDIDATE,
    EXPIRED,
    PUBLISHED,
    PUBLISHING,
    REJECTED,
    UNPUBLISHED,
)
from airflow_calib_provider.ledger.rows import Group, Payload, read_rows
from airflow_calib_provider.ledger.starting import require_open
from airflow_calib_provider.payloads import store
from airflow_calib_provider.payloads.life import (
    PayloadDecision,
    about,
    by_id,
    current,
    decide,
    go,
    not_published,
    note,
    waits_for,
)
from airflow_calib_provider.payloads.staleness import among
from airflow_calib_provider.payloads.store import Published
from airflow_calib_provider.payloads.unchanged import standing
from airflow_calib_provider.spec.models import Approval

APPROVE, REJECT = "Approve", "Reject"
"""What can be answered, in Airflow's words; a question has them with the content that it is about."""

payload = tables.payload


@dataclass(frozen=True)
class ApprovalRequest:
    """What was asked about."""

    payload_id: int
    content_hash: str


@dataclass(frozen=True)
class ApprovalAnswer:
    """What Airflow has of an answer.

    :ivar person: the user's id; ``None``: nobody answered, and the time is over.
    :ivar at: when; ``None``: unknown.
    """

    chosen: tuple[str, ...]
    person: str | None
    comment: str = ""
    at: datetime | None = None


@dataclass(frozen=True)
class Rules:
    """Who may approve.

    :ivar users: ids; none: whom Airflow lets.
    :ivar authors: of whom none counts where four eyes are asked for.
    """

    approval: Approval
    users: Sequence[str] = ()
    authors: Collection[str] = ()


def option(word: str, content_hash: str) -> str:
    """An answer, with the content that it is about: whoever looks at a question of before has another one."""
    return f"{word} {content_hash[:12]}"


def ask(
    ledger: Ledger, payload_id: int, rules: Rules, place: Mapping[str, str], now: datetime
) -> ApprovalRequest | None:
    """Note that persons are asked now, about the content as it is.

    :param place: of the question in Airflow: ``dag_id``, ``run_id`` and ``task_id``.
    :returns: ``None`` if it is published already.
    :raises NotPublished: it was rejected, or has expired, or something else has taken its place.
    """
    with ledger.write() as connection:
        row = by_id(connection, payload_id)
        if row.state in (PUBLISHED, PUBLISHING):
            return None
        newest = current(connection, row.group_id, row.tag)
        if newest is None or newest.id != row.id:
            how = f"it is {row.state} by now, and cannot be approved"
            raise not_published({"code": "not_approved", **about(row), "how": how})
        approval = rules.approval
        expires = now + approval.expires if approval.expires else None
        times = {
            "asked_at": now,
            "expires_at": expires,
            "remind_at": now + approval.remind if approval.remind else None,
        }
        reason = waits_for(row, rules.users, approval.listed, expires)
        seconds = approval.remind.total_seconds() if approval.remind else None
        details = {**place, "users": list(rules.users), "remind": seconds}
        decide(connection, row, PayloadDecision("request", "asked", details=details), now)
        row = go(connection, row, row.state, {**times, "reason": reason}, asked=dict(place), reason=reason)
        made = _published(row, new=False)
        note(connection, group_by_id(connection, row.group_id), row, made, now)
    return ApprovalRequest(row.id, row.content_hash)


def settle(
    ledger: Ledger,
    *,
    group_id: int,
    task: str,
    tag: str,
    request: ApprovalRequest | None,
    answer: ApprovalAnswer | None,
    rules: Rules,
    before: Sequence[str],
    now: datetime,
) -> Published:
    """Do what was answered: publish, or reject. Doing it again changes nothing.

    :param request: what was asked; ``None``: nothing, as far as Airflow knows.
    :param before: the tasks of its own DAG that must be done.
    :raises NotPublished: it was not approved.
    :raises NotOpen: as of a publication.
    :raises PayloadError: another group's payload holds for one of the runs.
    """
    crash_point("payload.before_store", task)
    changed = _changed(ledger, group_id, tag)
    with ledger.write() as connection:
        require_open(connection, group_id, task, before, now)
        group = group_by_id(connection, group_id)
        row = current(connection, group_id, tag)
        if row is None and request is not None:
            row = by_id(connection, request.payload_id)
        if row is None:
            if (nothing := standing(connection, group, task, tag)) is not None:
                return nothing
            again = f"`calib retry {group.name} --workflow {group.workflow}`"
            raise PayloadError(f"{group.name} has no candidate of {tag}", again)
        made = _settled(connection, group, row, request, answer, rules, now, changed)
    crash_point("payload.after_publish", task)
    if made.reason is not None:
        raise not_published(made.reason)
    return made


def _settled(
    connection: Connection,
    group: Group,
    row: Payload,
    request: ApprovalRequest | None,
    answer: ApprovalAnswer | None,
    rules: Rules,
    now: datetime,
    changed: str,
) -> Published:
    if row.state in (PUBLISHED, PUBLISHING):
        return replace(_published(row, new=False), reason=row.reason)
    if row.state not in UNPUBLISHED:
        how = f"it is {row.state} by now, and cannot be approved"
        return replace(
            _published(row, new=False), reason=row.reason or {"code": "not_approved", **about(row), "how": how}
        )
    outcome, how = _worth(row, request, answer, rules)
    if row.provenance.get("edition", 1) != group.edition:
        changed = f"{group.name} was amended: it has edition {group.edition} by now"
    if outcome == "approved" and changed:
        outcome, how = "void", f"what it was made from has changed: {changed}"
    comment = answer.comment if answer is not None else ""
    person = answer.person if answer is not None else None
    decide(connection, row, PayloadDecision("approval", outcome, person, comment, {"how": how}), now)
    if outcome == "approved":
        row = go(connection, row, APPROVED, by=person, comment=comment) if row.state != APPROVED else row
        row = store.make_valid(connection, group, row, now, by=person)
    else:
        reason = {"code": "not_approved", **about(row), "how": how}
        stays = CANDIDATE if changed else row.state
        target = {"rejected": REJECTED, "expired": EXPIRED}.get(outcome, stays)
        ended = {"superseded_at": now} if target in (REJECTED, EXPIRED) else {}
        row = go(connection, row, target, {"reason": reason, "remind_at": None, **ended}, by=person, reason=reason)
    made = _published(row, new=True)
    note(connection, group, row, made, now)
    return made


def _changed(ledger: Ledger, group_id: int, tag: str) -> str:
    """What a candidate was made from that is not any more what it was; empty: nothing."""
    with ledger.read() as connection:
        row = current(connection, group_id, tag)
        found = among(connection, [row]) if row is not None and row.state in UNPUBLISHED else []
    # What the source says of runs is no reason: the group keeps the metadata that it was made with.
    return "; ".join(one.why[0] for one in found if one.reruns)


def _worth(
    row: Payload, request: ApprovalRequest | None, answer: ApprovalAnswer | None, rules: Rules
) -> tuple[str, str]:
    """What comes of an answer: approved, rejected, expired or void, and how that is told."""
    if request is None or answer is None:
        return "void", "nobody has answered: marking the question as success approves nothing"
    if (request.payload_id, request.content_hash) != (row.id, row.content_hash):
        was, now = request.content_hash[:12], row.content_hash[:12]
        return "void", f"the answer is about the content {was}, and it is {now} now"
    approve, reject = option(APPROVE, row.content_hash), option(REJECT, row.content_hash)
    late = row.expires_at is not None and answer.at is not None and answer.at > row.expires_at
    if late or answer.person is None:
        until = f" until {format_time(row.expires_at)}" if row.expires_at else ""
        by_time = late or answer.chosen == (reject,)
        return ("expired" if by_time else "void"), f"nobody has answered{until}"
    said = f": {answer.comment}" if answer.comment else ""
    if rules.users and answer.person not in rules.users:
        return "void", f"{answer.person} is not one of those who may approve it ({', '.join(rules.users)})"
    if answer.chosen not in ((approve,), (reject,)):
        said = " and ".join(answer.chosen)
        return "void", f"{answer.person} has answered {said!r}, and the content is {row.content_hash[:12]}"
    if answer.chosen == (reject,):
        return "rejected", f"{answer.person} has rejected it{said}"
    if rules.approval.four_eyes and answer.person in rules.authors:
        return "void", f"{answer.person} is its author, and four eyes are asked for"
    return "approved", f"{answer.person} has approved it{said}"


def _published(row: Payload, *, new: bool) -> Published:
    iov = Iov(row.first_run, row.last_run)
    return Published(row.tag, iov, row.revision, row.content_hash, new, row.state, row.id, row.reason)


def authors_of(connection: Connection, group: Group, *more: str | None) -> set[str]:
    """The persons to whom a group's payload is due: who created its campaign, or amended it.

    :param more: further ones, such as who has triggered the DAG run.
    """
    campaign, edition = tables.campaign, tables.group_edition
    created = connection.execute(select(campaign.c.created_by).where(campaign.c.name == group.campaign)).scalar()
    amended = connection.execute(select(edition.c.person).where(edition.c.group_id == group.id)).scalars()
    return {one for one in (created, *amended, *more) if one}


def remind(ledger: Ledger, now: datetime) -> int:
    """Remind of what still waits for persons, by events, which messages are made of.

    :returns: of how many payloads.
    """
    here = (payload.c.state.in_(UNPUBLISHED), payload.c.remind_at <= now)
    with ledger.read() as connection:
        if connection.execute(select(payload.c.id).where(*here).limit(1)).first() is None:
            return 0
    with ledger.write() as connection:
        rows = read_rows(connection, store.with_group().where(*here).limit(1000), Payload)
        for row in rows:
            every = _every(connection, row)
            columns = {"remind_at": now + every if every else None, "reason": row.reason}
            go(connection, row, row.state, columns, reminded=True, reason=row.reason)
    return len(rows)


def _every(connection: Connection, row: Payload) -> timedelta | None:
    made = tables.payload_decision
    query = select(made.c.details).where(made.c.payload_id == row.id, made.c.kind == "request")
    details = connection.execute(query.order_by(made.c.n.desc()).limit(1)).scalar() or {}
    return timedelta(seconds=details["remind"]) if details.get("remind") else None
