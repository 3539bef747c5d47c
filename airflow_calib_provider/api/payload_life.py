"""Payloads one by one: what is known of one, and what persons decide about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_calib_provider.api.reading import PROMPT, check_names
from airflow_calib_provider.errors import CalibError, NotFound
from airflow_calib_provider.ledger import names, publications
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import find_group
from airflow_calib_provider.ledger.payload_states import CURRENT, UNPUBLISHED

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from airflow_calib_provider.ledger.rows import Payload
    from airflow_calib_provider.payloads.checking import CheckedPayload
    from airflow_calib_provider.payloads.comparison import OldAndNew
    from airflow_calib_provider.payloads.corrections import Consumer
    from airflow_calib_provider.payloads.drifting import StoreDrift
    from airflow_calib_provider.payloads.store import Published


@dataclass(frozen=True)
class DecisionRecord:
    """What was decided about a payload.

    :ivar kind: ``validation``, ``request``, ``approval``, ``withdrawal`` or ``rollback``.
    :ivar person: ``None``: a rule, or nobody.
    :ivar content_hash: what it was decided about.
    :ivar details: such as the values with what was asked of them.
    """

    kind: str
    outcome: str
    person: str | None
    comment: str
    at: datetime
    content_hash: str
    details: Mapping[str, object]


@dataclass(frozen=True)
class PayloadRecord:
    """All that is known of a payload.

    :ivar former: what holds, or held, for its runs without it; ``None``: nothing.
    :ivar values: those that were reported in making either.
    :ivar pictures: task, generation, job and file of the plots among the products it was made with.
    """

    payload: Payload
    decisions: Sequence[DecisionRecord]
    former: Payload | None
    values: Sequence[OldAndNew]
    pictures: Sequence[tuple[str, int, int, str]]


@dataclass(frozen=True)
class AnsweredPayload:
    """A question that was answered.

    :ivar option: ``Approve`` or ``Reject``.
    :ivar person: whom Airflow has taken the answer from; empty: it does not say, or nothing was answered.
    :ivar content_hash: what the answer is about: the content, or that of all of a set.
    :ivar members: tag, revision and hash of all that it is about.
    """

    payload: Payload
    option: str
    person: str
    content_hash: str = ""
    members: Sequence[tuple[str, int, str]] = ()


def payload_record(
    ledger: Ledger,
    tag: str,
    *,
    run: int | None = None,
    group: str | None = None,
    revision: int | None = None,
    campaign: str = PROMPT,
    workflow: str | None = None,
) -> PayloadRecord:
    """What is known of a payload: the newest revision, for a run or of a group.

    :param run: one of its interval; else the newest of all.
    :param revision: this one instead of the newest.
    :raises NotFound: there is none.
    """
    from airflow_calib_provider.payloads import comparison, life

    with ledger.read() as connection:
        row = _chosen(connection, tag, run, group, revision, campaign, workflow)
        decided = [
            DecisionRecord(one.kind, one.outcome, one.person, one.comment, one.at, one.content_hash, one.details)
            for one in life.decisions(connection, [row.id])
        ]
        old = comparison.former(connection, row)
        compared = comparison.values(connection, row, old)
        return PayloadRecord(row, decided, old, compared, comparison.pictures(connection, row))


def approve_payload(
    ledger: Ledger,
    tag: str,
    group: str,
    *,
    comment: str = "",
    campaign: str = PROMPT,
    workflow: str | None = None,
    dry_run: bool = False,
) -> AnsweredPayload:
    """Approve what a group has made: answers the question that Airflow has asked, with the token of this person.

    Of a set it is one question, whichever tag is named. What comes of it is decided by the publishing task.

    :param dry_run: only say what it would be about; Airflow is not asked.

    :raises NotFound: there is no such payload, or nobody is asked about it.
    :raises CalibError: somebody has answered already, or this person may not.
    :raises AirflowUnreachable: Airflow does not answer, or refuses the token.
    """
    from airflow_calib_provider.payloads.questions import APPROVE

    row, asked = _asked(ledger, tag, group, campaign, workflow)
    return _answered(row, asked, APPROVE, comment, dry_run=dry_run)


def reject_payload(
    ledger: Ledger,
    tag: str,
    group: str,
    *,
    comment: str = "",
    campaign: str = PROMPT,
    workflow: str | None = None,
    dry_run: bool = False,
) -> AnsweredPayload:
    """As :func:`approve_payload`, for what shall not be published."""
    from airflow_calib_provider.payloads.questions import REJECT

    row, asked = _asked(ledger, tag, group, campaign, workflow)
    return _answered(row, asked, REJECT, comment, dry_run=dry_run)


def _asked(
    ledger: Ledger, tag: str, group: str, campaign: str, workflow: str | None
) -> tuple[Payload, Mapping[str, Any]]:
    """A payload, and the question that persons are asked about it, or about its set.

    :raises NotFound: there is none.
    :raises CalibError: it is about another content.
    """
    from airflow_calib_provider.payloads import life
    from airflow_calib_provider.payloads.withdrawing import of_task

    with ledger.read() as connection:
        row = _chosen(connection, tag, None, group, None, campaign, workflow)
        here = [one for one in of_task(connection, row) if one.state in UNPUBLISHED]
        waits = [one for one in here if (one.reason or {}).get("code") == life.AWAITS]
        rows = [one for one in waits if one.id == row.id] or waits
        asked = [one for one in life.decisions(connection, [one.id for one in rows[:1]]) if one.kind == "request"]
    details: dict[str, Any] = dict(asked[-1].details) if asked else {}
    members = details.get("set", [[rows[0].id, tag, row.revision, row.content_hash]] if rows else [])
    if not asked or row.id not in [one[0] for one in members]:
        raise NotFound(
            f"nobody is asked about revision {row.revision} of {tag} of {group}, which is {row.state}",
            f"`calib payload show {tag} --group {group}`",
        )
    if asked[-1].content_hash != rows[0].content_hash:
        raise CalibError(f"the question is about another content of {tag}", "wait until it is asked about this one")
    return row, {**details, "hash": details.get("hash", row.content_hash), "set": members}


def _answered(row: Payload, asked: Mapping[str, Any], word: str, comment: str, *, dry_run: bool) -> AnsweredPayload:
    from airflow_calib_provider.payloads.questions import option
    from airflow_calib_provider.rest.asking import AskedQuestion, answer
    from airflow_calib_provider.rest.client import Airflow

    digest = str(asked["hash"])
    members = [(str(tag), int(revision), str(content)) for _, tag, revision, content in asked["set"]]
    person = ""
    if not dry_run:
        where = f"{row.group_name} --workflow {row.workflow} --task {row.task}"
        users = tuple(asked.get("users") or ())
        question = AskedQuestion(asked["dag_id"], asked["run_id"], asked["task_id"], digest, where, users)
        with Airflow() as airflow:
            person = answer(airflow, question, option(word, digest), comment)
    return AnsweredPayload(row, word, person, digest, members)


def payload_consumers(ledger: Ledger, payload: Payload) -> list[Consumer]:
    """Who has read a payload by a lock on its tag: the latest done generation of each task."""
    from airflow_calib_provider.payloads.corrections import consumers

    with ledger.read() as connection:
        return consumers(connection, payload)


def withdraw_payload(ledger: Ledger, payload: Payload, *, reason: str, person: str) -> Payload:
    """Take a payload back with its set, here and in outside stores, so that it holds for no run.

    :returns: it, as it is then.
    :raises PayloadError: it is not published, or no reason is given.
    :raises NotWithdrawn: an outside store has refused it: nothing was changed.
    :raises OutsideError: the connection of a store cannot be seen from here: nothing was changed.
    :raises PayloadStoreDown: one does not answer: it is on its way, and taken further by housekeeping.
    """
    from airflow_calib_provider.payloads.life import by_id
    from airflow_calib_provider.payloads.outgoing import require_connections
    from airflow_calib_provider.payloads.publication import carry_out
    from airflow_calib_provider.payloads.withdrawing import withdraw

    require_connections([payload])
    key = withdraw(ledger, payload.id, person=person, reason=reason, now=datetime.now(UTC))
    if key is not None:
        carry_out(ledger, key, lambda: datetime.now(UTC))
    with ledger.read() as connection:
        return by_id(connection, payload.id)


def payload_set(ledger: Ledger, payload: Payload) -> list[Payload]:
    """A payload, first, and the others of its set that are published with it: they are taken back as one."""
    from airflow_calib_provider.payloads.withdrawing import set_of

    with ledger.read() as connection:
        return set_of(connection, payload)


def rollback_payload(
    ledger: Ledger, payload: Payload, *, reason: str, person: str, revision: int | None = None
) -> Published:
    """Publish the content of a former revision again, as a new one; of a set, what held with that, too.

    :param revision: which; the newest before with other content.
    :returns: the new revision; ``rest`` are those of the other tags of its set.
    :raises NotFound: there is no such revision that was published.
    :raises PayloadError: no reason is given, or another group's payload holds for one of the runs.
    :raises NotPublished: an outside store has refused it: nothing was changed.
    :raises OutsideError: the connection of a store cannot be seen from here: nothing was changed.
    :raises PayloadStoreDown: one does not answer: it is on its way, and taken further by housekeeping.
    """
    from airflow_calib_provider.jobsets.publish import as_it_is, finish
    from airflow_calib_provider.payloads.corrections import rollback
    from airflow_calib_provider.payloads.outgoing import require_connections

    require_connections([payload])
    now = datetime.now(UTC)
    made = rollback(ledger, payload.id, person=person, reason=reason, now=now, revision=revision)
    return as_it_is(ledger, made, finish(ledger, payload.group_id, payload.task))


def check_payloads(ledger: Ledger, tag: str | None = None, *, campaign: str | None = None) -> Iterator[CheckedPayload]:
    """Compare the files of payloads with what the ledger says, one after the other.

    :param tag: only this one, as it is called here; or as outside stores call that of a campaign.
    :param campaign: ``None``: of all; then, without a tag, files that nothing names are found, too.
    :raises NotFound: there is no such campaign or tag.
    """
    from airflow_calib_provider.payloads.checking import check
    from airflow_calib_provider.payloads.drifting import names_there

    with ledger.read() as connection:
        if campaign is not None:
            check_names(connection, campaign)
        there = {} if tag is None else names_there(connection)
        if tag in there and there[tag] != tag:
            own = {row.campaign for row in publications.tags_written(connection) if row.tag == tag}
            tag, campaign = there[tag], campaign or (own.pop() if len(own) == 1 else None)
        names.check_tag(connection, tag)
    yield from check(ledger, campaign, tag)


def check_stores(ledger: Ledger, tag: str | None = None, *, campaign: str | None = None) -> Iterator[StoreDrift]:
    """Compare what outside stores have with what the ledger says that was published there.

    What cannot be compared is told, too, as ``unchecked``.

    :param tag: only this one, as it is called here or there.
    :param campaign: only what this one writes.
    """
    from airflow_calib_provider.payloads import drifting

    return drifting.check_stores(ledger, tag, campaign)


def _chosen(
    connection: Connection,
    tag: str,
    run: int | None,
    group: str | None,
    revision: int | None,
    campaign: str,
    workflow: str | None,
) -> Payload:
    """The newest payload that is meant; one that is, or may become, valid before one that has ended."""
    from airflow_calib_provider.payloads import store

    check_names(connection, campaign, workflow)
    names.check_tag(connection, tag)
    if group is not None and workflow is None:  # a tag has one workflow
        known = {row.workflow for row in store.listed(connection, campaign, tag, history=True)}
        workflow = known.pop() if len(known) == 1 else None
    of_group = find_group(connection, campaign, workflow, group).id if group is not None else None
    rows = [
        row
        for row in store.listed(connection, campaign, tag, history=True)
        if of_group in (None, row.group_id)
        and (run is None or row.first_run <= run <= row.last_run)
        and revision in (None, row.revision)
    ]
    if not rows:
        named = {"revision": revision, "run": run, "group": group}
        of = " and ".join(f"{word} {value}" for word, value in named.items() if value is not None)
        hint = "`calib payload list --history` shows all"
        raise NotFound(f"{campaign} has no payload of {tag}{f' for {of}' if of else ''}", hint)
    return max(rows, key=lambda row: (row.state in CURRENT, row.first_run, row.revision))
