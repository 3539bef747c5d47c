"""Who has used what was published, and the former content again (rule 70). Nothing is ever deleted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.errors import NotFound
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
from airflow_calib_provider.ledger.rows import Group, Payload, read_rows
from airflow_calib_provider.ledger.transitions import Move, Subject, insert_one
from airflow_calib_provider.payloads import intents, life, store
from airflow_calib_provider.payloads.store import Published
from airflow_calib_provider.payloads.withdrawing import stated

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


def rollback(
    ledger: Ledger, payload_id: int, *, person: str, reason: str, now: datetime, revision: int | None = None
) -> list[Published]:
    """Publish a former content of a payload's group again, as a new revision; of a set, all that held with it.

    :param payload_id: of what is published, or was withdrawn.
    :param revision: of which, also one that was withdrawn; the newest before it with other content.
    :returns: the new revision, and those of the other tags of its set that had other content then.
    :raises NotFound: there is no such revision that was published.
    :raises PayloadError: no reason is given, or another group's payload holds for one of its runs.
    :raises PayloadStoreDown: another revision is on its way to outside stores.
    """
    reason = stated(reason)
    with ledger.write() as connection:
        row = life.by_id(connection, payload_id)
        group = group_by_id(connection, row.group_id)
        of_tags = _revisions(connection, row)
        intents.refuse_on_its_way(*(one for rows in of_tags.values() for one in rows))
        chosen = next(_former(of_tags[row.tag], row, revision), None)
        if chosen is None:
            which = f"revision {revision}" if revision is not None else "a revision before it with other content"
            said = f"{row.tag} has not {which} that was published for {row.group_name}"
            raise NotFound(said, _no_former(row, of_tags))
        made = [
            _again(connection, group, old, former, of_tags[old.tag], person=person, reason=reason, now=now)
            for old, former in [(row, chosen), *_held_with(chosen, row, of_tags)]
        ]
        _send_out(connection, group, made, now, person=person, reason=reason)
        made = [life.by_id(connection, one.id) for one in made]
    return [
        Published(one.tag, Iov(one.first_run, one.last_run), one.revision, one.content_hash, True, one.state, one.id)
        for one in made
    ]


def _revisions(connection: Connection, row: Payload) -> dict[str, list[Payload]]:
    """Tag → all that its task has made of it for its group, the newest first: one payload, or a set."""
    here = store.with_group().where(payload.c.group_id == row.group_id, payload.c.task == row.task)
    of_tags: dict[str, list[Payload]] = {}
    for one in read_rows(connection, here.order_by(payload.c.revision.desc()), Payload):
        of_tags.setdefault(one.tag, []).append(one)
    return of_tags


def _no_former(row: Payload, of_tags: Mapping[str, list[Payload]]) -> str:
    """What is left where there is nothing to go back to."""
    for tag, rows in of_tags.items():
        now = next((one for one in rows if one.state == PUBLISHED), None)
        if tag != row.tag and now is not None and next(_former(rows, now, None), None) is not None:
            return f"of its set {tag} was changed: `calib payload rollback {tag} {now.first_run}` takes all back"
    return f"`calib payload list --history` shows all revisions, `--to` names one; if none is good, {_way_out(row)}"


def _way_out(row: Payload) -> str:
    again = f"mend what it is made from, and `calib retry {row.group_name} --task {row.task}`: that takes its place"
    return f"`calib payload withdraw` leaves nothing in its place; or {again}"


def _held_with(
    chosen: Payload, row: Payload, of_tags: Mapping[str, list[Payload]]
) -> Iterator[tuple[Payload, Payload]]:
    """Of the other tags of a set: what is there now, and what held with the chosen one, where that is another."""
    for tag, rows in of_tags.items():
        now = next((one for one in rows if one.state in (PUBLISHED, WITHDRAWN)), None)
        if tag == row.tag or now is None or now.state != row.state:
            continue
        former = next((one for one in rows if _held_together(one, chosen)), None)
        if former is not None and (now.state == WITHDRAWN or former.content_hash != now.content_hash):
            yield now, former


def _held_together(one: Payload, chosen: Payload) -> bool:
    """Whether one held just before another one was followed, or taken back; a set comes and goes at one moment."""
    until = chosen.superseded_at
    if until is None or one.state not in (PUBLISHED, SUPERSEDED, WITHDRAWN) or one.published_at >= until:
        return False
    return one.superseded_at is None or one.superseded_at >= until


def _again(
    connection: Connection, group: Group, row: Payload, chosen: Payload, all_of: Sequence[Payload], *,
    person: str, reason: str, now: datetime,
) -> Payload:  # fmt: skip
    """A new revision with a former content: published, or a candidate where outside stores have what it replaces.

    :param all_of: the revisions of the tag and the group, the newest first.
    """
    iov = Iov(chosen.first_run, chosen.last_run)
    store.refuse_overlap(connection, group, row.tag, iov)
    goes_out = bool(intents.targets_of(row))
    for old in all_of:
        # A candidate of before is not the newest any more: nobody could approve it, and none is to be reminded.
        if (old.state == PUBLISHED and not goes_out) or old.state in UNPUBLISHED:
            store.end(connection, old, now, by=person)
    said_of = {"of": chosen.revision, "instead_of": row.revision, "person": person, "reason": reason}
    key = {"campaign": row.campaign, "tag": row.tag, "group_id": row.group_id, "task": row.task}
    columns = {
        **{"first_run": iov.first, "last_run": iov.last, "content_hash": chosen.content_hash, "size": chosen.size},
        **{"file_name": chosen.file_name, "workflow": row.workflow, "published_at": now, "superseded_at": None},
        "provenance": {**_of_content(chosen, row), "rollback": {**said_of, "at": now.isoformat()}},
    }
    number = all_of[0].revision + 1
    data = store.said(row.tag, iov, number, chosen.content_hash, chosen.size)
    subject = Subject(row.campaign, row.workflow, row.task, row.group_name)
    event = {**data, "by": person, "comment": reason, "rollback": chosen.revision}
    move = Move({**key, "revision": number}, None, CANDIDATE if goes_out else PUBLISHED, subject, columns, event)
    made = life.by_id(connection, insert_one(connection, payload, move))
    life.decide(connection, made, life.PayloadDecision("rollback", "done", person, reason, said_of), now)
    return made


def _send_out(
    connection: Connection, group: Group, made: Sequence[Payload], now: datetime, *, person: str, reason: str
) -> None:
    """Let what goes to outside stores be on its way: as one set where these are the same."""
    by_stores: dict[tuple[str, ...], list[Payload]] = {}
    for one in made:
        by_stores.setdefault(tuple(target.store for target in intents.targets_of(one)), []).append(one)
    for stores, together in by_stores.items():
        if stores:
            store.make_all_valid(connection, group, together, now, by=person, comment=reason)


def _of_content(chosen: Payload, row: Payload) -> dict[str, object]:
    """A provenance, as that of what was put there on purpose; it goes where what it replaces is."""
    kept = {name: value for name, value in chosen.provenance.items() if name not in (FALLBACK_OF, intents.STORES)}
    there = {name: value for name, value in row.provenance.items() if name == intents.STORES}
    return {**kept, **there}


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
