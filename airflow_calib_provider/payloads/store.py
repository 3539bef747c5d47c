"""Published payloads: rows in the ledger, files in a store, named by their content (rule 25).

The file is in its store before the row that names it is committed. A crash in between leaves a file that nothing names,
never a row without its file; publishing again finds it and goes on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Select, func, literal, or_, select

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import CalibError, IllegalTransition, NotFound, PayloadError, PayloadStoreDown
from airflow_calib_provider.kinds import DEFAULT_STORE
from airflow_calib_provider.ledger import exclusions, publication_deadlines, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import group_by_id, set_task_states
from airflow_calib_provider.ledger.payload_states import (
    CANDIDATE,
    CURRENT,
    EXPIRED,
    FALLBACK_OF,
    PUBLISHED,
    PUBLISHING,
    SUPERSEDED,
    UNPUBLISHED,
)
from airflow_calib_provider.ledger.rows import Group, Payload, read_rows, select_of
from airflow_calib_provider.ledger.starting import require_open
from airflow_calib_provider.ledger.transitions import Move, Subject, insert_one, move
from airflow_calib_provider.payloads import intents
from airflow_calib_provider.payloads.base import payload_store
from airflow_calib_provider.payloads.covering import chosen, own_of, spanning
from airflow_calib_provider.payloads.lineage import note_lineage
from airflow_calib_provider.payloads.withdrawn import refuse_withdrawn

payload = tables.payload

STORE = "store"
"""In the provenance: the payload store, if it is another one than the default."""

EXTENDS = "extends"
"""In the provenance: the payload before the group, which has the same content."""


@dataclass(frozen=True)
class Published:
    """What a publication came to.

    :ivar new: False if the same content was published by the same task and group already.
    :ivar state: ``published``, or how far it is on its way there.
    :ivar reason: why it goes no further, but for that its runs came late.
    :ivar task: that has made it; empty: whoever asks knows. :ivar rest: the others of its set.
    """

    tag: str
    iov: Iov
    revision: int
    content_hash: str
    new: bool
    state: str = PUBLISHED
    payload_id: int = 0
    reason: Reason | None = None
    task: str = ""
    rest: tuple[Published, ...] = ()


Then = Callable[[Connection, Group, Published], Published]
"""What becomes of a candidate, in the transaction in which it is made, or is found to be there."""


def publish(
    ledger: Ledger,
    *,
    tag: str,
    file: Path,
    group_id: int,
    task: str,
    iov: Iov,
    provenance: Mapping[str, object],
    now: datetime,
    before: Sequence[str] = (),
    store: str = DEFAULT_STORE,
    edition: int | None = None,
    failed_runs: Mapping[int, Reason] = MappingProxyType({}),
    then: Then | None = None,
) -> Published:
    """Publish a file under a tag for the runs of a group.

    The same content again is a no-op; other content is a new revision, which supersedes the old one. That of a group of
    late runs is a candidate, and so is what must be validated or approved first.

    :param before: the tasks of its own DAG that must be done.
    :param store: the payload store that keeps the file; another one than the default is named in the provenance.
    :param edition: of the group, by which the file was made.
    :param failed_runs: what it was made without, since these had failed in what the task needs, each with why.
    :param then: what becomes of it, which is a candidate at first; otherwise it is published at once.
    :raises KindError: there is no such store here.
    :raises IllegalTransition: the group has another edition by now, or other runs have failed.
    :raises NotOpen: the group is not closed, a lock of the task is not open, or one of ``before`` is not done.
    :raises PayloadError: the file is missing or empty, the interval overlaps that of another group's payload, or the
        tag belongs to another workflow or task.
    """
    crash_point("payload.before_store", task)
    digest, size = _kept(store, file)
    if store != DEFAULT_STORE:
        provenance = {**provenance, STORE: store}
    crash_point("payload.after_store", task)
    with ledger.write() as connection:
        require_open(connection, group_id, task, before, now)
        group = group_by_id(connection, group_id)
        if edition is not None and group.edition != edition:
            raise IllegalTransition(f"the group was amended while {tag} was published", "its new edition follows")
        exclusions.record(connection, group, task, failed_runs, now)
        about = (tag, file.name, digest, size, group_id, task, iov, provenance, now)
        result = _publish_row(connection, *about, hold=then is not None)
        if then is None or result.state == PUBLISHED:
            note_task(connection, group_id, task, result, now)
        else:
            result = then(connection, group, result)
    crash_point("payload.after_publish", task)
    return result


def _kept(store: str, file: Path) -> tuple[str, int]:
    keeper = payload_store(store)
    try:
        return keeper.keep(file)
    except CalibError:
        raise
    except Exception as error:  # whatever a store of another package raises
        said = f"the payload store {store!r} could not keep {file}: {type(error).__name__}: {error}"
        raise PayloadStoreDown(said, "nothing was published") from error


def _publish_row(
    connection: Connection,
    tag: str,
    file_name: str,
    digest: str,
    size: int,
    group_id: int,
    task: str,
    iov: Iov,
    provenance: Mapping[str, object],
    now: datetime,
    *,
    hold: bool,
) -> Published:
    group = group_by_id(connection, group_id)
    here = _current(group.campaign, tag)
    # All of a tag have one publisher, so that any of them tells who it is.
    _refuse_foreign(read_rows(connection, here.limit(1), Payload), tag, group.workflow, task)
    newest = here.where(payload.c.group_id == group_id).order_by(payload.c.revision.desc())
    rows = read_rows(connection, newest, Payload)
    intents.refuse_on_its_way(*rows)
    own = own_of(rows)
    same_as = own is not None and FALLBACK_OF not in own.provenance and intents.goes_there(own, provenance)
    if own is not None and same_as and own.content_hash == digest and Iov(own.first_run, own.last_run) == iov:
        note_lineage(connection, own, provenance)
        result = Published(tag, iov, own.revision, digest, new=False, state=own.state, payload_id=own.id)
    else:
        state = CANDIDATE if group.late or hold else PUBLISHED
        if state == PUBLISHED:
            refuse_overlap(connection, group, tag, iov)
        refuse_withdrawn(connection, group, tag, digest, iov.first)
        for old in rows:
            if (old is own or FALLBACK_OF in old.provenance) and (state == PUBLISHED or old.state in UNPUBLISHED):
                end(connection, old, now)
        result = Published(tag, iov, _next_revision(connection, group, tag, group_id), digest, new=True, state=state)
        key = {"campaign": group.campaign, "tag": tag, "group_id": group_id, "task": task, "revision": result.revision}
        columns = {
            "first_run": iov.first,
            "last_run": iov.last,
            "content_hash": digest,
            "file_name": file_name,
            "size": size,
            "workflow": group.workflow,
            "provenance": dict(provenance),
            "published_at": now,
            "superseded_at": None,
        }
        subject = Subject(group.campaign, group.workflow, task, group.name)
        data = said(tag, iov, result.revision, digest, size)
        made = insert_one(connection, payload, Move(key, None, state, subject, columns, data))
        result = replace(result, payload_id=made)
    return result


def note_task(connection: Connection, group_id: int, task: str, made: Published, now: datetime) -> None:
    """What a publishing task has come to; of what is on its way to stores that was said already."""
    if made.state == PUBLISHING:
        return
    iov = {"first_run": made.iov.first, "last_run": made.iov.last}
    if made.state == PUBLISHED:
        publication_deadlines.met(connection, group_id, task)
    code = made.state if made.state == PUBLISHED else CANDIDATE
    told = select(payload.c.provenance[(EXTENDS, "group")].as_string()).where(payload.c.id == made.payload_id)
    more = {EXTENDS: extends} if (extends := connection.execute(told).scalar()) else {}
    reason = {"code": code, "tag": made.tag, "revision": made.revision, **iov, **more}
    of_task = tables.group_task
    here = (of_task.c.group_id == group_id, of_task.c.task == task)
    state = connection.execute(select(of_task.c.state).where(*here)).scalar()
    if state == "done" and made.new:
        set_task_states(connection, group_id, "processing", reason, now, task=task)
    if state != "done" or made.new:
        set_task_states(connection, group_id, "done", reason, now, task=task)


def end(connection: Connection, row: Payload, now: datetime, **data: object) -> None:
    """What is published is superseded; a candidate has expired.

    :param data: what the event says besides.
    """
    target = SUPERSEDED if row.state == PUBLISHED else EXPIRED
    subject = Subject(row.campaign, row.workflow, row.task, row.group_name)
    told = {**said(row.tag, Iov(row.first_run, row.last_run), row.revision, row.content_hash, row.size), **data}
    columns = {"superseded_at": now, "remind_at": None}
    move(connection, payload, [Move({"id": row.id}, row.state, target, subject, columns, told)])


def publish_candidates(
    ledger: Ledger, group_id: int, *, person: str, now: datetime, tag: str | None = None
) -> list[Published]:
    """Publish what a group of late runs has made, as a person wants it (rule 50).

    :param tag: only that of this tag.
    :raises NotFound: the group has no candidate.
    :raises PayloadError: its interval overlaps that of another group's payload, or it is of an earlier edition.
    :raises PayloadStoreDown: it is on its way to outside stores already.
    """
    with ledger.write() as connection:
        group = group_by_id(connection, group_id)
        query = with_group().where(payload.c.group_id == group_id).order_by(payload.c.tag)
        rows = [row for row in read_rows(connection, query, Payload) if tag in (None, row.tag)]
        found = [row for row in rows if row.state in UNPUBLISHED and row.state != PUBLISHING]
        if not found:
            intents.refuse_on_its_way(*rows)
            of = f" of {tag}" if tag is not None else ""
            raise NotFound(
                f"{group.name} has no candidate{of}", "`calib payload list --history` shows what it has made"
            )
        done = []
        for row in found:
            _refuse_outdated(group, row)
            intents.refuse_held(row)
        for task in dict.fromkeys(row.task for row in found):
            of_task = [row for row in found if row.task == task]
            for row in make_all_valid(connection, group, of_task, now, by=person):
                iov = Iov(row.first_run, row.last_run)
                made = Published(row.tag, iov, row.revision, row.content_hash, True, row.state, row.id, None, task)
                done.append(made)
                note_task(connection, group_id, task, made, now)
    return done


def make_valid(connection: Connection, group: Group, row: Payload, now: datetime, **said_too: object) -> Payload:
    """Publish what is on its way, and end what its group has published under the tag before.

    One that outside stores get, too, is on its way to them then, and is taken further by :mod:`.publication`.

    :param said_too: what the event says besides.
    :returns: the row as it is then.
    :raises PayloadError: its interval overlaps that of another group's payload.
    """
    return make_all_valid(connection, group, [row], now, **said_too)[0]


def make_all_valid(
    connection: Connection, group: Group, rows: Sequence[Payload], now: datetime, **said_too: object
) -> list[Payload]:
    """As :func:`make_valid`, of a set."""
    for row in rows:
        refuse_overlap(connection, group, row.tag, Iov(row.first_run, row.last_run))
    going = [row for row in rows if row.state != PUBLISHING and intents.targets_of(row)]
    if not going:
        return [_made_valid(connection, row, now, said_too) for row in rows]
    # All of the set, also what goes to no store: it is published with the rest, or not at all.
    told = [(row, {**_about(row), **said_too}) for row in rows if row.state != PUBLISHING]
    intents.intend(connection, group, told, now)
    return [replace(row, state=PUBLISHING, reason=None) for row in rows]


def _about(row: Payload) -> dict[str, object]:
    return said(row.tag, Iov(row.first_run, row.last_run), row.revision, row.content_hash, row.size)


def _made_valid(connection: Connection, row: Payload, now: datetime, said_too: Mapping[str, object]) -> Payload:
    here = _published(row.campaign, row.tag).where(payload.c.group_id == row.group_id)
    for old in read_rows(connection, here, Payload):
        intents.refuse_on_its_way(old)
        end(connection, old, now)
    subject = Subject(row.campaign, row.workflow, row.task, row.group_name)
    data = {**_about(row), **said_too}
    columns = {"published_at": now, "reason": None, "remind_at": None}
    move(connection, payload, [Move({"id": row.id}, row.state, PUBLISHED, subject, columns, data)])
    return replace(row, state=PUBLISHED, published_at=now, reason=None)


def _refuse_outdated(group: Group, row: Payload) -> None:
    """:raises PayloadError: the candidate was made of an edition with other runs."""
    edition = row.provenance.get("edition", 1)
    if edition != group.edition:
        raise PayloadError(
            f"the candidate of {row.tag} is of edition {edition} of {group.name}, which has edition {group.edition}",
            "what is made of that takes its place: `calib explain` says how far it is",
        )


def said(tag: str, iov: Iov, revision: int, digest: str, size: int) -> dict[str, object]:
    """What an event says of a payload."""
    runs = {"first_run": iov.first, "last_run": iov.last}
    return {"tag": tag, **runs, "revision": revision, "hash": digest, "size": size}


def _next_revision(connection: Connection, group: Group, tag: str, group_id: int) -> int:
    here = (payload.c.campaign == group.campaign, payload.c.tag == tag, payload.c.group_id == group_id)
    highest = connection.execute(select(func.max(payload.c.revision)).where(*here)).scalar()
    return int(highest or 0) + 1


def _refuse_foreign(rows: Iterable[Payload], tag: str, workflow: str, task: str) -> None:
    for row in rows:
        if (row.workflow, row.task) != (workflow, task):
            raise PayloadError(
                f"the tag {tag} belongs to the task {row.workflow}.{row.task}, not to {workflow}.{task}",
                "a tag has one publisher: choose another tag",
            )


def refuse_overlap(connection: Connection, group: Group, tag: str, iov: Iov, *, but_for: Collection[int] = ()) -> None:
    """Of a run only one payload of a tag may hold.

    :param but_for: groups whose payloads end with what is to come.
    :raises PayloadError: the interval overlaps one that is published for another group.
    """
    for row in _between(connection, _published(group.campaign, tag), iov):
        other = Iov(row.first_run, row.last_run)
        if row.group_id not in (group.id, *but_for) and other.overlaps(iov):
            hint = f"`calib group amend {row.group_name} --add ...` makes one of both" if group.late else ""
            raise PayloadError(
                f"the interval of validity {iov} of {tag} overlaps {other}, published for {row.group_name}",
                hint or "see `calib payload list`",
            )


def content_path(row: Payload) -> Path:
    """Where the content of a payload is.

    :raises KindError: its store is not installed here.
    :raises PayloadStoreDown: the store does not answer now.
    """
    return payload_store(str(row.provenance.get(STORE, DEFAULT_STORE))).path(row.content_hash)


def listed(connection: Connection, campaign: str, tag: str | None = None, *, history: bool = False) -> list[Payload]:
    """Payload rows by tag and first run, candidates among them; what is over only with ``history``."""
    query = with_group().where(payload.c.campaign == campaign)
    if tag is not None:
        query = query.where(payload.c.tag == tag)
    if not history:
        query = query.where(payload.c.state.in_(CURRENT))
    return read_rows(connection, query.order_by(payload.c.tag, payload.c.first_run, payload.c.revision), Payload)


def with_group() -> Select[Any]:
    """Payloads, for :class:`~airflow_calib_provider.ledger.rows.Payload`."""
    group = tables.run_group
    query = select_of(Payload, payload).add_columns(group.c.name.label("group_name"))
    return query.join(group, group.c.id == payload.c.group_id)


def _published(campaign: str, tag: str) -> Select[Any]:
    return with_group().where(payload.c.campaign == campaign, payload.c.tag == tag, payload.c.state == PUBLISHED)


def _current(campaign: str, tag: str) -> Select[Any]:
    return with_group().where(payload.c.campaign == campaign, payload.c.tag == tag, payload.c.state.in_(CURRENT))


def _between(connection: Connection, published: Select[Any], iov: Iov) -> list[Payload]:
    """Those of these payloads that hold for any run of an interval.

    No two overlap: of those that begin before it only the last one can reach into it.
    """
    before = published.where(payload.c.first_run < iov.first).order_by(payload.c.first_run.desc()).limit(1)
    inside = published.where(payload.c.first_run.between(iov.first, iov.last)).order_by(payload.c.first_run)
    rows = [*read_rows(connection, before, Payload), *read_rows(connection, inside, Payload)]
    return [row for row in rows if row.last_run >= iov.first]


def find(connection: Connection, campaign: str, tag: str, run: int) -> Payload:
    """The payload that holds for a run: the campaign's own, else its base campaign's (rule 22).

    :raises NotFound: no published interval of the tag contains the run.
    """
    rows = covering(connection, campaign, tag, [run])
    if not rows:
        raise NotFound(
            f"no payload of {tag} holds for run {run} in the campaign {campaign}", "see `calib payload list`"
        )
    return rows[0]


def covering(connection: Connection, campaign: str, tag: str, runs: Iterable[int]) -> list[Payload]:
    """The payloads of a tag that cover any of these runs: as :func:`covering_each`."""
    return covering_each(connection, campaign, [tag], runs).get(tag, [])


def covering_each(
    connection: Connection, campaign: str, tags: Collection[str], runs: Iterable[int]
) -> dict[str, list[Payload]]:
    """Tag → the payloads that cover any of these runs, each once, by first run: one statement for all tags.

    A base campaign's only where the campaign itself has none.
    """
    wanted = sorted(set(runs))
    if not wanted or not tags:
        return {}
    about = tables.campaign
    base = select(about.c.base_campaign).where(about.c.name == campaign).scalar_subquery()
    places = [spanning(of, tag, wanted[0], wanted[-1]) for tag in sorted(set(tags)) for of in (literal(campaign), base)]
    rows = read_rows(connection, with_group().where(or_(*places)).order_by(payload.c.first_run), Payload)
    found: dict[str, list[Payload]] = {}
    for tag in tags:
        here = [row for row in rows if row.tag == tag]
        own = [row for row in here if row.campaign == campaign]
        found[tag] = chosen(wanted, own, [row for row in here if row.campaign != campaign])
    return found


def last_before(connection: Connection, campaign: str, tag: str, runs: Iterable[int]) -> list[Payload]:
    """The newest published payloads that begin before runs which none covers: here or in the base campaign."""
    wanted = sorted(set(runs))
    base = select(tables.campaign.c.base_campaign).where(tables.campaign.c.name == campaign).scalar_subquery()
    places = [spanning(of, tag, wanted[0], wanted[-1]) for of in (literal(campaign), base)]
    query = with_group().where(or_(*places)).order_by(payload.c.first_run, payload.c.campaign == campaign)
    rows = read_rows(connection, query, Payload)
    begins = [row.first_run for row in rows]
    found = {rows[place - 1].id: rows[place - 1] for run in wanted if (place := bisect_right(begins, run))}
    return list(found.values())
