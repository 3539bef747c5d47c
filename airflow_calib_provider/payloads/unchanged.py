"""Content that the payload before a group has, too (rule 71): nothing is published, or that one is extended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, select

from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import IllegalTransition
from airflow_calib_provider.ledger import exclusions, publication_deadlines, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import group_by_id, set_task_states
from airflow_calib_provider.ledger.payload_states import CURRENT, PUBLISHED, PUBLISHING, UNCHANGED
from airflow_calib_provider.ledger.rows import Group, Payload, read_rows
from airflow_calib_provider.ledger.starting import require_open
from airflow_calib_provider.payloads import store
from airflow_calib_provider.payloads.store import Published

payload, group_task = tables.payload, tables.group_task


def before_group(connection: Connection, group: Group, tag: str) -> Payload | None:
    """The published payload of a tag that begins last before a group's first run, here or in the base campaign."""
    found = store.last_before(connection, group.campaign, tag, [group.span[0] - 1])
    return found[0] if found else None


def extended(connection: Connection, group: Group, tag: str, digest: str) -> dict[str, object] | None:
    """What a provenance says of the payload before a group that has this content.

    :returns: ``None``: it has other content, or there is none.
    """
    row = before_group(connection, group, tag)
    if row is None or row.content_hash != digest:
        return None
    runs = {"first_run": row.first_run, "last_run": row.last_run}
    return {"campaign": row.campaign, "group": row.group_name, "revision": row.revision, **runs}


def skip(
    ledger: Ledger,
    group_id: int,
    task: str,
    contents: Mapping[str, str],
    *,
    before: Sequence[str],
    now: datetime,
    edition: int,
    failed_runs: Mapping[int, Reason],
) -> Published | None:
    """End a task without a payload, if all of its content is that of the payloads before its group.

    A candidate of the group that is not published expires. What the group has published already, with other content,
    is not let stand: that needs a revision.

    :param contents: SHA-256 of each tag's file, in the order of the spec.
    :param before: the tasks of its own DAG that must be done.
    :returns: the payload before the group, as ``unchanged``; ``None``: there is something to publish.
    :raises IllegalTransition: the group has another edition by now, or other runs have failed.
    :raises NotOpen: as of a publication.
    """
    with ledger.write() as connection:
        require_open(connection, group_id, task, before, now)
        group = group_by_id(connection, group_id)
        if group.edition != edition:
            raise IllegalTransition("the group was amended while it was published", "its new edition follows")
        formers = {tag: before_group(connection, group, tag) for tag in contents}
        own = _own(connection, group_id, contents)
        if any(row.state in (PUBLISHED, PUBLISHING) for row in own):
            return None
        if any(former is None or former.content_hash != contents[tag] for tag, former in formers.items()):
            return None
        exclusions.record(connection, group, task, failed_runs, now)
        for row in own:
            store.end(connection, row, now, unchanged=True)
        first = next(former for former in formers.values() if former is not None)
        publication_deadlines.met(connection, group_id, task)
        _note(connection, group, task, first, list(contents), now)
    return _of(first)


def standing(connection: Connection, group: Group, task: str, tag: str) -> Published | None:
    """What a task is done with that had nothing to publish; ``None``: it is not done so."""
    here = (group_task.c.group_id == group.id, group_task.c.task == task, group_task.c.state == "done")
    reason = connection.execute(select(group_task.c.reason).where(*here)).scalar()
    former = before_group(connection, group, tag)
    return _of(former) if reason and reason["code"] == UNCHANGED and former is not None else None


def _own(connection: Connection, group_id: int, tags: Iterable[str]) -> list[Payload]:
    here = (payload.c.group_id == group_id, payload.c.tag.in_(sorted(tags)), payload.c.state.in_(CURRENT))
    return read_rows(connection, store.with_group().where(*here), Payload)


def _note(connection: Connection, group: Group, task: str, former: Payload, tags: Sequence[str], now: datetime) -> None:
    first, last = group.span
    of = {"group": former.group_name, "revision": former.revision}
    reason = {"code": UNCHANGED, "tags": list(tags), "first_run": first, "last_run": last, **of}
    here = (group_task.c.group_id == group.id, group_task.c.task == task)
    row = connection.execute(select(group_task.c.state, group_task.c.reason).where(*here)).one()
    if (row.state, row.reason) == ("done", reason):
        return
    if row.state == "done":
        set_task_states(connection, group.id, "processing", reason, now, task=task)
    set_task_states(connection, group.id, "done", reason, now, task=task)


def _of(former: Payload) -> Published:
    iov = Iov(former.first_run, former.last_run)
    return Published(former.tag, iov, former.revision, former.content_hash, new=False, state=UNCHANGED)
