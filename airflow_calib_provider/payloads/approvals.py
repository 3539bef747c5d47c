"""Asking persons to approve a payload, or a set as one, and what their answer is worth (rule 66).

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
from airflow_calib_provider.domain.reasons import Reason
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
    why_held,
)
from airflow_calib_provider.payloads.questions import APPROVE, REJECT, hash_of, option
from airflow_calib_provider.payloads.staleness import among
from airflow_calib_provider.payloads.store import Published
from airflow_calib_provider.payloads.unchanged import standing
from airflow_calib_provider.spec.models import Approval

payload = tables.payload


@dataclass(frozen=True)
class ApprovalRequest:
    """What was asked about.

    :ivar payload_id: of a set that of its first.
    :ivar content_hash: as :func:`.questions.hash_of` says it.
    :ivar rest: the ids of the others of a set.
    """

    payload_id: int
    content_hash: str
    rest: tuple[int, ...] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        """Of all."""
        return (self.payload_id, *self.rest)


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


def ask(
    ledger: Ledger,
    payload_id: int,
    rules: Rules,
    place: Mapping[str, str],
    now: datetime,
    rest: Sequence[int] = (),
) -> ApprovalRequest | None:
    """Note that persons are asked now, about the content as it is.

    :param place: of the question in Airflow: ``dag_id``, ``run_id`` and ``task_id``.
    :param rest: the others of its set, some of which may be published as they are.
    :returns: ``None`` if all is published already, or on its way.
    :raises NotPublished: it was rejected, or has expired, or something else has taken its place.
    """
    with ledger.write() as connection:
        rows = [by_id(connection, number) for number in (payload_id, *rest)]
        due = [row for row in rows if row.state not in (PUBLISHED, PUBLISHING)]
        if not due or any(row.state == PUBLISHING for row in rows):
            return None
        for row in rows:
            newest = current(connection, row.group_id, row.tag)
            if newest is None or newest.id != row.id:
                how = f"it is {row.state} by now, and cannot be approved"
                raise not_published({"code": "not_approved", **about(row), "how": how})
        _note_asked(connection, rows, due, rules, place, now)
    return ApprovalRequest(payload_id, hash_of(rows), tuple(rest))


def _note_asked(
    connection: Connection,
    rows: Sequence[Payload],
    due: Sequence[Payload],
    rules: Rules,
    place: Mapping[str, str],
    now: datetime,
) -> None:
    """On all that are to be approved; of a set persons are told, and reminded, once."""
    approval, digest = rules.approval, hash_of(rows)
    expires = now + approval.expires if approval.expires else None
    remind_at = now + approval.remind if approval.remind else None
    seconds = approval.remind.total_seconds() if approval.remind else None
    details: dict[str, object] = {**place, "users": list(rules.users), "remind": seconds}
    if len(rows) > 1:
        details |= {"hash": digest, "set": [[row.id, row.tag, row.revision, row.content_hash] for row in rows]}
    for row in due:
        others = [other.tag for other in rows if other.id != row.id]
        reason = waits_for(row, rules.users, approval.listed, expires, others, digest)
        decide(connection, row, PayloadDecision("request", "asked", details=details), now)
        first = row is due[0]
        times = {"asked_at": now, "expires_at": expires, "remind_at": remind_at if first else None}
        asked = {"asked": dict(place)} if first else {}
        asked_now = go(connection, row, row.state, {**times, "reason": reason}, **asked, reason=reason)
        if first:
            group = group_by_id(connection, row.group_id)
            note(connection, group, asked_now, _published(asked_now, new=False), now)


def settle(
    ledger: Ledger,
    *,
    group_id: int,
    task: str,
    tags: Sequence[str],
    request: ApprovalRequest | None,
    answer: ApprovalAnswer | None,
    rules: Rules,
    before: Sequence[str],
    now: datetime,
) -> Published:
    """Do what was answered: publish, or reject, all at once. Doing it again changes nothing.

    :param tags: all of the set, in the order of the spec.
    :param request: what was asked; ``None``: nothing, as far as Airflow knows.
    :param before: the tasks of its own DAG that must be done.
    :returns: the first of the set, with the others in ``rest``.
    :raises NotPublished: it was not approved.
    :raises NotOpen: as of a publication.
    :raises PayloadError: another group's payload holds for one of the runs.
    """
    crash_point("payload.before_store", task)
    changed = _changed(ledger, group_id, tags)
    with ledger.write() as connection:
        require_open(connection, group_id, task, before, now)
        group = group_by_id(connection, group_id)
        rows, missing = _members(connection, group, tags, request)
        if missing:
            if (nothing := standing(connection, group, task, tags[0])) is not None:
                return nothing
            again = f"`calib retry {group.name} --workflow {group.workflow}`"
            raise PayloadError(f"{group.name} has no candidate of {' or '.join(missing)}", again)
        made = _settled(connection, group, rows, request, answer, rules, now, changed)
    crash_point("payload.after_publish", task)
    if made.reason is not None:
        raise not_published(made.reason)
    return made


def _members(
    connection: Connection, group: Group, tags: Sequence[str], request: ApprovalRequest | None
) -> tuple[list[Payload], list[str]]:
    """What there is of each tag now, or, where that has ended, what was asked about; and the tags that have nothing."""
    here = tables.one_of(payload.c.id, request.ids if request is not None else ())
    asked = {row.tag: row for row in read_rows(connection, store.with_group().where(here), Payload)}
    found = {tag: current(connection, group.id, tag) or asked.get(tag) for tag in tags}
    return [row for row in found.values() if row is not None], [tag for tag, row in found.items() if row is None]


def _settled(
    connection: Connection,
    group: Group,
    rows: Sequence[Payload],
    request: ApprovalRequest | None,
    answer: ApprovalAnswer | None,
    rules: Rules,
    now: datetime,
    changed: str,
) -> Published:
    if any(row.state == PUBLISHING for row in rows) or all(row.state == PUBLISHED for row in rows):
        return _together(rows, why_held(rows[0]), new=False)
    ended = next((row for row in rows if row.state not in (*UNPUBLISHED, PUBLISHED)), None)
    if ended is not None:
        how = f"it is {ended.state} by now, and cannot be approved"
        return _together(rows, ended.reason or {"code": "not_approved", **about(ended), "how": how}, new=False)
    outcome, how = _worth(rows, request, answer, rules)
    due = [row for row in rows if row.state != PUBLISHED]
    if any(row.provenance.get("edition", 1) != group.edition for row in due):
        changed = f"{group.name} was amended: it has edition {group.edition} by now"
    if outcome == "approved" and changed:
        outcome, how = "void", f"what it was made from has changed: {changed}"
    comment = answer.comment if answer is not None else ""
    person = answer.person if answer is not None else None
    for row in due:
        decide(connection, row, PayloadDecision("approval", outcome, person, comment, {"how": how}), now)
    if outcome == "approved":
        approved = [
            go(connection, row, APPROVED, by=person, comment=comment) if row.state != APPROVED else row for row in due
        ]
        moved = store.make_all_valid(connection, group, approved, now, by=person)
    else:
        moved = [_held_back(connection, row, outcome, how, person, now, changed=bool(changed)) for row in due]
    note(connection, group, moved[0], _published(moved[0], new=True), now)
    by_tag = {row.tag: row for row in moved}
    return _together([by_tag.get(row.tag, row) for row in rows], moved[0].reason, new=True)


def _held_back(
    connection: Connection, row: Payload, outcome: str, how: str, person: str | None, now: datetime, *, changed: bool
) -> Payload:
    """What was not approved: rejected or expired, or it stays as it is."""
    reason = {"code": "not_approved", **about(row), "how": how}
    stays = CANDIDATE if changed else row.state
    target = {"rejected": REJECTED, "expired": EXPIRED}.get(outcome, stays)
    ended = {"superseded_at": now} if target in (REJECTED, EXPIRED) else {}
    return go(connection, row, target, {"reason": reason, "remind_at": None, **ended}, by=person, reason=reason)


def _changed(ledger: Ledger, group_id: int, tags: Sequence[str]) -> str:
    """What a candidate was made from that is not any more what it was; empty: nothing."""
    with ledger.read() as connection:
        rows = [row for tag in tags if (row := current(connection, group_id, tag)) is not None]
        found = among(connection, [row for row in rows if row.state in UNPUBLISHED])
    # What the source says of runs is no reason: the group keeps the metadata that it was made with.
    return "; ".join(dict.fromkeys(one.why[0] for one in found if one.reruns))


def _worth(
    rows: Sequence[Payload], request: ApprovalRequest | None, answer: ApprovalAnswer | None, rules: Rules
) -> tuple[str, str]:
    """What comes of an answer: approved, rejected, expired or void, and how that is told."""
    if request is None or answer is None:
        return "void", "nobody has answered: marking the question as success approves nothing"
    digest = hash_of(rows)
    if (sorted(request.ids), request.content_hash) != (sorted(row.id for row in rows), digest):
        return "void", f"the answer is about the content {request.content_hash[:12]}, and it is {digest[:12]} now"
    approve, reject = option(APPROVE, digest), option(REJECT, digest)
    expires = min((row.expires_at for row in rows if row.expires_at and row.state != PUBLISHED), default=None)
    late = expires is not None and answer.at is not None and answer.at > expires
    if late or answer.person is None:
        until = f" until {format_time(expires)}" if expires else ""
        by_time = late or answer.chosen == (reject,)
        return ("expired" if by_time else "void"), f"nobody has answered{until}"
    said = f": {answer.comment}" if answer.comment else ""
    if rules.users and answer.person not in rules.users:
        return "void", f"{answer.person} is not one of those who may approve it ({', '.join(rules.users)})"
    if answer.chosen not in ((approve,), (reject,)):
        said = " and ".join(answer.chosen)
        return "void", f"{answer.person} has answered {said!r}, and the content is {digest[:12]}"
    if answer.chosen == (reject,):
        return "rejected", f"{answer.person} has rejected it{said}"
    if rules.approval.four_eyes and answer.person in rules.authors:
        return "void", f"{answer.person} is its author, and four eyes are asked for"
    return "approved", f"{answer.person} has approved it{said}"


def _together(rows: Sequence[Payload], reason: Reason | None, *, new: bool) -> Published:
    """The first of a set, with the others."""
    first, *rest = (_published(row, new=new) for row in rows)
    return replace(first, reason=reason, rest=tuple(rest))


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
