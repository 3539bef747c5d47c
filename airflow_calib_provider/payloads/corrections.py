"""Taking back what was published: the former content again, or nothing (rule 69). Nothing is ever deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.errors import NotFound, PayloadError
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import group_by_id
from airflow_calib_provider.ledger.payload_states import (
    CANDIDATE,
    FALLBACK_OF,
    PUBLISHED,
    SUPERSEDED,
    UNPUBLISHED,
    WITHDRAWN,
)
from airflow_calib_provider.ledger.rows import Payload, read_rows
from airflow_calib_provider.ledger.transitions import Move, Subject, insert_one
from airflow_calib_provider.payloads import intents, life, store
from airflow_calib_provider.payloads.store import Published

payload = tables.payload


@dataclass(frozen=True)
class Consumer:
    """A generation that has read a payload."""

    campaign: str
    workflow: str
    task: str
    group: str
    generation: int


def consumers(connection: Connection, row: Payload) -> list[Consumer]:
    """The latest done generations that have read a payload, by a lock on its tag."""
    lock, group, generation = tables.lock, tables.run_group, tables.generation
    query = (
        select(group.c.campaign, group.c.workflow, group.c.name, generation.c.task, generation.c.n, generation.c.used)
        .join(generation, generation.c.group_id == group.c.id)
        .join(lock, (lock.c.group_id == group.c.id) & (lock.c.task == generation.c.task))
        .where(
            lock.c.kind == "payload",
            lock.c.parameters["tag"].as_string() == row.tag,
            group.c.last_run >= row.first_run,
            generation.c.state == "done",
        )
        .order_by(group.c.campaign, group.c.workflow, group.c.first_run, generation.c.task, generation.c.n)
    )
    found: dict[tuple[str, str, str, str], Consumer] = {}
    for one in connection.execute(query):
        key = (one.campaign, one.workflow, one.name, one.task)
        found.pop(key, None)
        if any(used["id"] == row.id for used in one.used.get("payloads", [])):
            found[key] = Consumer(one.campaign, one.workflow, one.task, one.name, one.n)
    return list(found.values())


def withdraw(ledger: Ledger, payload_id: int, *, person: str, reason: str, now: datetime) -> Payload:
    """Take a payload back: it holds for no run any more.

    :raises NotFound: there is none.
    :raises PayloadError: it is not published, no reason is given, or outside stores have it, too.
    """
    reason = _reason(reason)
    with ledger.write() as connection:
        row = life.by_id(connection, payload_id)
        if row.state == WITHDRAWN:
            return row
        if row.state != PUBLISHED:
            said = f"revision {row.revision} of {row.tag} is {row.state}: there is nothing to be taken back"
            raise PayloadError(said, "`calib payload list --history` shows all revisions")
        if stores := [target.store for target in intents.targets_of(row)]:
            said = f"{row.tag} is in {' and '.join(stores)}, too, where something must hold in its place"
            raise PayloadError(said, "`calib payload rollback` puts the content before there, too")
        life.decide(connection, row, life.PayloadDecision("withdrawal", "done", person, reason), now)
        return life.go(connection, row, WITHDRAWN, {"superseded_at": now}, by=person, comment=reason)


def rollback(
    ledger: Ledger, payload_id: int, *, person: str, reason: str, now: datetime, revision: int | None = None
) -> Published:
    """Publish a former content of a payload's group again, as a new revision.

    :param payload_id: of what is published, or was withdrawn.
    :param revision: of which, also one that was withdrawn; the newest before it with other content.
    :raises NotFound: there is no such revision that was published.
    :raises PayloadError: no reason is given, or another group's payload holds for one of its runs.
    :raises PayloadStoreDown: another revision is on its way to outside stores.
    """
    reason = _reason(reason)
    with ledger.write() as connection:
        row = life.by_id(connection, payload_id)
        group = group_by_id(connection, row.group_id)
        here = store.with_group().where(payload.c.group_id == row.group_id, payload.c.tag == row.tag)
        all_of = read_rows(connection, here.order_by(payload.c.revision.desc()), Payload)
        intents.refuse_on_its_way(*all_of)
        chosen = next(_former(all_of, row, revision), None)
        if chosen is None:
            which = f"revision {revision}" if revision is not None else "a revision before it with other content"
            said = f"{row.tag} has not {which} that was published for {row.group_name}"
            hint = (
                "`calib payload list --history` shows all revisions, `--to` names one; if none is good: other constants"
            )
            raise NotFound(said, hint)
        iov = Iov(chosen.first_run, chosen.last_run)
        store.refuse_overlap(connection, group, row.tag, iov)
        goes_out = bool(intents.targets_of(chosen))
        for old in all_of:
            # A candidate of before is not the newest any more: nobody could approve it, and none is to be reminded.
            if (old.state == PUBLISHED and not goes_out) or old.state in UNPUBLISHED:
                store.end(connection, old, now, by=person)
        said_of = {"of": chosen.revision, "instead_of": row.revision, "person": person, "reason": reason}
        key = {"campaign": row.campaign, "tag": row.tag, "group_id": row.group_id, "task": row.task}
        columns = {
            **{"first_run": iov.first, "last_run": iov.last, "content_hash": chosen.content_hash, "size": chosen.size},
            **{"file_name": chosen.file_name, "workflow": row.workflow, "published_at": now, "superseded_at": None},
            "provenance": {**_of_content(chosen), "rollback": {**said_of, "at": now.isoformat()}},
        }
        number = all_of[0].revision + 1
        data = store.said(row.tag, iov, number, chosen.content_hash, chosen.size)
        subject = Subject(row.campaign, row.workflow, row.task, row.group_name)
        event = {**data, "by": person, "comment": reason, "rollback": chosen.revision}
        move = Move({**key, "revision": number}, None, CANDIDATE if goes_out else PUBLISHED, subject, columns, event)
        made = life.by_id(connection, insert_one(connection, payload, move))
        life.decide(connection, made, life.PayloadDecision("rollback", "done", person, reason, said_of), now)
        if goes_out:
            made = store.make_valid(connection, group, made, now, by=person, comment=reason)
    return Published(made.tag, iov, number, made.content_hash, new=True, state=made.state, payload_id=made.id)


def _of_content(row: Payload) -> dict[str, object]:
    """A provenance, as that of what was put there on purpose."""
    return {name: value for name, value in row.provenance.items() if name != FALLBACK_OF}


def _former(rows: list[Payload], now: Payload, revision: int | None) -> Iterator[Payload]:
    """Those that may be published again, the newest first: one that was withdrawn only if it is named.

    After a rollback those before the revision whose content it has put back: the next one goes further back.
    """
    back = now.provenance.get("rollback")
    before = int(back["of"]) if isinstance(back, dict) else now.revision
    for row in rows:
        named = revision == row.revision
        if row.state not in ((SUPERSEDED, WITHDRAWN) if named else (SUPERSEDED,)):
            continue
        if row.content_hash == now.content_hash and not (named and now.state == WITHDRAWN):
            continue
        if named or (revision is None and row.revision < before):
            yield row


def _reason(given: str) -> str:
    """:raises PayloadError: it says nothing."""
    if not given.strip():
        raise PayloadError("a reason is needed", 'say why: --reason "..."')
    return given.strip()
