"""From a candidate to a publication: what must hold before, and what was decided (rules 66, 69).

Each function writes within the transaction that it is given. A decision is a row with the hash of the content that it
is about, and nothing that is decided about other content counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select

from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.reasons import RELEASES, Reason, render
from airflow_calib_provider.domain.verdicts import Finding
from airflow_calib_provider.errors import NotFound, NotPublished
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.groups import set_task_states
from airflow_calib_provider.ledger.payload_states import APPROVED, CANDIDATE, CURRENT, PUBLISHED, VALIDATED
from airflow_calib_provider.ledger.rows import Group, Payload, first_row, read_rows
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.payloads import store
from airflow_calib_provider.payloads.covering import own_of
from airflow_calib_provider.payloads.store import Published
from airflow_calib_provider.spec.models import Approval

payload, decision = tables.payload, tables.payload_decision

AWAITS = "awaits_approval"
"""The code of the reason of what persons are to approve."""


@dataclass(frozen=True)
class Validation:
    """What a validation came to.

    :ivar task: whose verdict it is.
    :ivar fault: why it says nothing about the file that is published; empty: it is about that one.
    :ivar generations: numbers of those of the task.
    :ivar hashes: of the files that it is about, as they were looked at; none: they are not compared.
    """

    task: str
    findings: tuple[Finding, ...]
    fault: str = ""
    generations: tuple[int, ...] = ()
    hashes: frozenset[str] = frozenset()

    @property
    def passed(self) -> bool:
        """Whether it is about this file, and all of it is as asked."""
        return not self.fault and all(one.passed for one in self.findings)

    def details(self) -> dict[str, object]:
        """As the ledger keeps it."""
        findings = [one.as_dict() for one in self.findings]
        fault = {"fault": self.fault} if self.fault else {}
        return {"task": self.task, "generations": list(self.generations), "findings": findings, **fault}

    def reason(self, row: Payload) -> Reason:
        """Why it stays a candidate."""
        wrong = [self.fault] if self.fault else [one.said() for one in self.findings if not one.passed]
        return {"code": "not_validated", **about(row), "by": self.task, "wrong": wrong}


@dataclass(frozen=True)
class Conditions:
    """What must hold before a candidate is published.

    :ivar validation: ``None``: nothing is validated.
    :ivar approval: ``None``: nobody must approve.
    :ivar together: it is published with others of its set, by whoever brings these forward.
    """

    validation: Validation | None = None
    approval: Approval | None = None
    together: bool = False


@dataclass(frozen=True)
class PayloadDecision:
    """A row of what was decided.

    :ivar kind: validation, request, approval, withdrawal, rollback or fallback.
    :ivar person: ``None``: a rule, or nobody.
    """

    kind: str
    outcome: str
    person: str | None = None
    comment: str = ""
    details: Mapping[str, object] = field(default_factory=dict)


def about(row: Payload) -> dict[str, object]:
    """A payload in a reason."""
    return {"tag": row.tag, "revision": row.revision, "first_run": row.first_run, "last_run": row.last_run}


def why_held(row: Payload) -> Reason | None:
    """Why a payload goes no further towards its publication; that of one which is published is of a withdrawal."""
    return row.reason if row.state != PUBLISHED else None


def not_published(reason: Reason) -> NotPublished:
    """The error of a candidate that goes no further."""
    return NotPublished(render(reason), RELEASES[str(reason["code"])], reason)


def by_id(connection: Connection, payload_id: int) -> Payload:
    """:raises NotFound: there is none."""
    row = first_row(connection, store.with_group().where(payload.c.id == payload_id), Payload)
    if row is None:
        raise NotFound(f"there is no payload with the id {payload_id}", "see `calib payload list --history`")
    return row


def decide(connection: Connection, row: Payload, made: PayloadDecision, now: datetime) -> None:
    """Write down what was decided; the same again is not written twice."""
    of_row = decision.c.payload_id == row.id
    last = connection.execute(
        select(decision).where(of_row, decision.c.kind == made.kind).order_by(decision.c.n.desc()).limit(1)
    ).first()
    same = (made.outcome, row.content_hash, made.person, made.comment, dict(made.details))
    if last is not None and (last.outcome, last.content_hash, last.person, last.comment, last.details) == same:
        return
    n = connection.execute(select(func.coalesce(func.max(decision.c.n), 0)).where(of_row)).scalar_one() + 1
    values = {"kind": made.kind, "outcome": made.outcome, "person": made.person, "comment": made.comment}
    at = {"content_hash": row.content_hash, "at": now, "details": dict(made.details)}
    connection.execute(insert(decision).values(payload_id=row.id, n=n, **values, **at))


def go(
    connection: Connection,
    row: Payload,
    target: str,
    columns: Mapping[str, object] | None = None,
    **said: object,
) -> Payload:
    """Move a payload, with an event that says its hash and what else is told.

    :returns: it, as it is then.
    """
    written = {"reason": None, **(columns or {})}
    data = {**store.said(row.tag, Iov(row.first_run, row.last_run), row.revision, row.content_hash, row.size), **said}
    subject = Subject(row.campaign, row.workflow, row.task, row.group_name)
    move(connection, payload, [Move({"id": row.id}, row.state, target, subject, written, data)])
    known = {name: value for name, value in written.items() if name in Payload.__dataclass_fields__}
    return replace(row, state=target, **known)  # type: ignore[arg-type]


def advance(connection: Connection, group: Group, made: Published, conditions: Conditions, now: datetime) -> Published:
    """Bring a candidate as far as it goes without a person.

    That of a group of late runs is not published by a rule (rule 50).

    :returns: what it came to, with the reason if it goes no further.
    """
    row = by_id(connection, made.payload_id)
    row = _validated(connection, row, conditions.validation, now)
    if row.reason is None and conditions.approval is not None:
        row = _approved(connection, row, conditions.approval, now)
    if row.reason is None and not group.late:
        if conditions.together:
            return replace(made, state=row.state)
        row = store.make_valid(connection, group, row, now)
    made = replace(made, state=row.state, reason=row.reason)
    note(connection, group, row, made, now)
    return made


def _validated(connection: Connection, row: Payload, validation: Validation | None, now: datetime) -> Payload:
    if validation is None:
        return row if row.reason is None else go(connection, row, row.state)
    if validation.hashes and row.content_hash not in validation.hashes:
        fault = f"{row.file_name} was changed while it was published, after {validation.task} was looked at"
        validation = replace(validation, fault=validation.fault or fault)
    outcome = "passed" if validation.passed else "failed"
    decide(connection, row, PayloadDecision("validation", outcome, details=validation.details()), now)
    if validation.passed:
        if row.state != CANDIDATE and row.reason is None:
            return row
        return go(connection, row, VALIDATED if row.state == CANDIDATE else row.state, by=validation.task)
    reason = validation.reason(row)
    if row.state == CANDIDATE and row.reason == reason:
        return row
    # What was validated, or approved, before: that was of other limits, or of what was validated since.
    return go(connection, row, CANDIDATE, {"reason": reason}, reason=reason)


def _approved(connection: Connection, row: Payload, approval: Approval, now: datetime) -> Payload:
    if not approval.is_automatic:
        return replace(row, reason=waits_for(row, approval.users, approval.listed, row.expires_at))
    if row.state != APPROVED:
        decide(connection, row, PayloadDecision("approval", "approved", comment="automatic, as the spec says"), now)
        row = go(connection, row, APPROVED, by="automatic")
    return row


def waits_for(
    row: Payload,
    users: Sequence[str],
    listed: str,
    expires: datetime | None,
    others: Sequence[str] = (),
    digest: str = "",
) -> Reason:
    """That persons must approve it.

    :param others: the other tags of its set, about which the same answer is.
    :param digest: what the answer is about, if not its own content alone.
    """
    until = expires.isoformat(timespec="minutes") if expires else None
    named = {"listed": listed} if listed else {}
    return {
        "code": AWAITS,
        **about(row),
        "hash": digest or row.content_hash,
        **({"with": list(others)} if others else {}),
        "users": list(users),
        **named,
        "until": until,
    }


def note(connection: Connection, group: Group, row: Payload, made: Published, now: datetime) -> None:
    """What the publishing task has come to: done, waiting for a person, or failed."""
    if made.reason is None:
        store.note_task(connection, group.id, row.task, made, now)
        return
    target = "waiting" if made.reason["code"] == AWAITS else "failed"
    of_task = tables.group_task
    here = (of_task.c.group_id == group.id, of_task.c.task == row.task)
    before = connection.execute(select(of_task.c.state, of_task.c.reason).where(*here)).first()
    if before is not None and (before.state, before.reason) == (target, made.reason):
        return
    set_task_states(connection, group.id, target, made.reason, now, task=row.task)


def current(connection: Connection, group_id: int, tag: str) -> Payload | None:
    """The newest of a tag that a group has, which is published or on its way."""
    query = store.with_group().where(payload.c.group_id == group_id, payload.c.tag == tag)
    query = query.where(payload.c.state.in_(CURRENT)).order_by(payload.c.revision.desc())
    return own_of(read_rows(connection, query, Payload))


def of_group(connection: Connection, group_id: int) -> list[Payload]:
    """All that a group has made, by tag."""
    return read_rows(
        connection, store.with_group().where(payload.c.group_id == group_id).order_by(payload.c.tag), Payload
    )


def end_others(connection: Connection, group_id: int, task: str, tags: Sequence[str], now: datetime) -> None:
    """What a task has proposed under tags that it does not publish any more has expired: nobody can approve it."""
    here = (payload.c.group_id == group_id, payload.c.task == task, payload.c.tag.not_in(tags))
    proposed = payload.c.state.in_((CANDIDATE, VALIDATED, APPROVED))
    for row in read_rows(connection, store.with_group().where(*here, proposed), Payload):
        store.end(connection, row, now)


def decisions(connection: Connection, payload_ids: Sequence[int]) -> list[Any]:
    """What was decided about payloads, in the order of time."""
    query = select(decision).where(tables.one_of(decision.c.payload_id, payload_ids))
    return list(connection.execute(query.order_by(decision.c.payload_id, decision.c.n)))
