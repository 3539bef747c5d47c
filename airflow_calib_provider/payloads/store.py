"""Published payloads: rows in the ledger, files in a store, named by their content (rule 25).

The file is in its store before the row that names it is committed. A crash in between leaves a file that nothing names,
never a row without its file; publishing again finds it and goes on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, literal, or_, select

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.errors import CalibError, NotFound, PayloadError, PayloadStoreDown
from airflow_calib_provider.kinds import DEFAULT_STORE
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import group_by_id, set_task_states
from airflow_calib_provider.ledger.rows import Group, Payload, first_row, read_rows, select_of
from airflow_calib_provider.ledger.starting import require_open
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.payloads.base import payload_store

payload = tables.payload

STORE = "store"
"""In the provenance: the payload store, if it is another one than the default."""


@dataclass(frozen=True)
class Published:
    """What a publication came to.

    :ivar new: False if the same content was published by the same task and group already.
    """

    tag: str
    iov: Iov
    revision: int
    content_hash: str
    new: bool


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
) -> Published:
    """Publish a file under a tag for the runs of a group.

    The same content again is a no-op; other content is a new revision, which supersedes the old one.

    :param before: the tasks of its own DAG that must be done.
    :param store: the payload store that keeps the file; another one than the default is named in the provenance.
    :raises KindError: there is no such store here.
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
        require_open(connection, group_id, task, before)
        result = _publish_row(connection, tag, file.name, digest, size, group_id, task, iov, provenance, now)
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
) -> Published:
    group = group_by_id(connection, group_id)
    here = _published(group.campaign, tag)
    # All of a tag have one publisher, so that any of them tells who it is.
    _refuse_foreign(read_rows(connection, here.limit(1), Payload), tag, group.workflow, task)
    own = first_row(connection, here.where(payload.c.group_id == group_id), Payload)
    if own is not None and own.content_hash == digest and Iov(own.first_run, own.last_run) == iov:
        result = Published(tag, iov, own.revision, digest, new=False)
    else:
        _refuse_overlap(_between(connection, here, iov), tag, group_id, iov)
        result = Published(tag, iov, _next_revision(connection, group, tag, group_id), digest, new=True)
        subject = Subject(group.campaign, group.workflow, task, group.name)
        if own is not None:
            said = _said(tag, Iov(own.first_run, own.last_run), own.revision, own.content_hash, own.size)
            ended = Move({"id": own.id}, "published", "superseded", subject, {"superseded_at": now}, said)
            move(connection, payload, [ended])
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
        data = _said(tag, iov, result.revision, digest, size)
        move(connection, payload, [Move(key, None, "published", subject, columns, data)])
    reason = {
        "code": "published",
        "tag": tag,
        "revision": result.revision,
        "first_run": iov.first,
        "last_run": iov.last,
    }
    state = connection.execute(
        select(tables.group_task.c.state).where(
            tables.group_task.c.group_id == group_id, tables.group_task.c.task == task
        )
    ).scalar()
    if state == "done" and result.new:
        set_task_states(connection, group_id, "processing", reason, now, task=task)
    if state != "done" or result.new:
        set_task_states(connection, group_id, "done", reason, now, task=task)
    return result


def _said(tag: str, iov: Iov, revision: int, digest: str, size: int) -> dict[str, object]:
    """What an event says of a payload."""
    runs = {"first_run": iov.first, "last_run": iov.last}
    return {"tag": tag, **runs, "revision": revision, "hash": digest, "size": size}


def _next_revision(connection: Connection, group: Group, tag: str, group_id: int) -> int:
    highest = connection.execute(
        select(func.max(payload.c.revision)).where(
            payload.c.campaign == group.campaign, payload.c.tag == tag, payload.c.group_id == group_id
        )
    ).scalar()
    return int(highest or 0) + 1


def _refuse_foreign(rows: Iterable[Payload], tag: str, workflow: str, task: str) -> None:
    for row in rows:
        if (row.workflow, row.task) != (workflow, task):
            raise PayloadError(
                f"the tag {tag} belongs to the task {row.workflow}.{row.task}, not to {workflow}.{task}",
                "a tag has one publisher: choose another tag",
            )


def _refuse_overlap(rows: Iterable[Payload], tag: str, group_id: int, iov: Iov) -> None:
    for row in rows:
        other = Iov(row.first_run, row.last_run)
        if row.group_id != group_id and other.overlaps(iov):
            raise PayloadError(
                f"the interval of validity {iov} of {tag} overlaps {other}, published for another group",
                "a late group is published only by superseding; see `calib payload list`",
            )


def content_path(row: Payload) -> Path:
    """Where the content of a payload is.

    :raises KindError: its store is not installed here.
    :raises PayloadStoreDown: the store does not answer now.
    """
    return payload_store(str(row.provenance.get(STORE, DEFAULT_STORE))).path(row.content_hash)


def listed(connection: Connection, campaign: str, tag: str | None = None, *, history: bool = False) -> list[Payload]:
    """Payload rows by tag and first run; superseded ones only with ``history``."""
    query = _with_group().where(payload.c.campaign == campaign)
    if tag is not None:
        query = query.where(payload.c.tag == tag)
    if not history:
        query = query.where(payload.c.state == "published")
    return read_rows(connection, query.order_by(payload.c.tag, payload.c.first_run, payload.c.revision), Payload)


def _with_group() -> Select[Any]:
    group = tables.run_group
    query = select_of(Payload, payload).add_columns(group.c.name.label("group_name"))
    return query.join(group, group.c.id == payload.c.group_id)


def _published(campaign: str, tag: str) -> Select[Any]:
    return _with_group().where(payload.c.campaign == campaign, payload.c.tag == tag, payload.c.state == "published")


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
    places = [
        _spanning(of, tag, wanted[0], wanted[-1]) for tag in sorted(set(tags)) for of in (literal(campaign), base)
    ]
    rows = read_rows(connection, _with_group().where(or_(*places)).order_by(payload.c.first_run), Payload)
    found: dict[str, list[Payload]] = {}
    for tag in tags:
        here = [row for row in rows if row.tag == tag]
        own = [row for row in here if row.campaign == campaign]
        found[tag] = _chosen(wanted, own, [row for row in here if row.campaign != campaign])
    return found


def _spanning(of_campaign: ColumnElement[str], tag: str, first: int, last: int) -> ColumnElement[bool]:
    """The published payloads that begin between two runs, and the last one that begins before them."""
    other = payload.alias()
    begins = select(func.max(other.c.first_run)).where(
        other.c.campaign == of_campaign, other.c.tag == tag, other.c.state == "published", other.c.first_run <= first
    )
    return and_(
        payload.c.campaign == of_campaign,
        payload.c.tag == tag,
        payload.c.state == "published",
        payload.c.first_run.between(func.coalesce(begins.scalar_subquery(), first), last),
    )


def _chosen(runs: Iterable[int], *preferred: Sequence[Payload]) -> list[Payload]:
    """Those that hold for the runs, of the first that has one; no two of one campaign overlap."""
    begins = [[row.first_run for row in rows] for rows in preferred]
    chosen: dict[int, Payload] = {}
    for run in runs:
        for rows, firsts in zip(preferred, begins, strict=True):
            last = bisect_right(firsts, run) - 1
            if last >= 0 and rows[last].last_run >= run:
                chosen[rows[last].id] = rows[last]
                break
    return sorted(chosen.values(), key=lambda row: row.first_run)
