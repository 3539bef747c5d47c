"""The payloads that a task waits for, for its templates (rules 22, 61)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.locks.deadlines import LAST_GOOD
from airflow_calib_provider.errors import NotOpen
from airflow_calib_provider.ledger.locks.base import NO_PAYLOAD, ledger_lock
from airflow_calib_provider.ledger.rows import Used, UsedPayload
from airflow_calib_provider.ledger.starting import not_open
from airflow_calib_provider.payloads import store
from airflow_calib_provider.spec.models import Lock, Task, locks_of_tags


def locked_payloads(
    connection: Connection, task: Task, campaign: str, runs: Sequence[int], gone_on: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, list[str]], Used]:
    """Tag → the files of the payloads that cover these runs, in the order of their intervals; and what they are.

    Of a lock that the task goes on without, and of one of which another was enough, there may be fewer, or none; or
    the newest ones before the runs that have none.

    :raises NotOpen: one is missing, since the spec that runs is another than the one that the locks were made from.
    """
    files: dict[str, list[str]] = {}
    used: Used = {"payloads": []}
    of_tags = locks_of_tags(task.locks)
    enough = {tag for lock in task.locks if lock.alternatives for tag in locks_of_tags([lock])}
    then = {str(one["tag"]): one["then"] for one in gone_on if "tag" in one}
    found = store.covering_each(connection, campaign, list(of_tags), runs)
    for tag, lock in of_tags.items():
        good = then.get(tag) == LAST_GOOD
        outside = ledger_lock(lock.kind).outside_payloads(connection, lock.parameters, runs, last_good=good)
        if outside is not None:
            placed, missing = outside
            if missing and tag not in enough and tag not in then:
                raise _not_there(lock, tag, runs, missing)
            files[tag] = [one.file for one in placed]
            used.setdefault("outside", []).extend(
                {"tag": tag, "store": lock.parameters["store"], **vars(one)} for one in placed
            )
            continue
        rows = list(found.get(tag, []))
        missing = [run for run in runs if not any(run in Iov(row.first_run, row.last_run) for row in rows)]
        if missing and then.get(tag) == LAST_GOOD:
            older = store.last_before(connection, campaign, tag, missing)
            rows = sorted({row.id: row for row in [*rows, *older]}.values(), key=lambda row: row.first_run)
        elif missing and tag not in enough and tag not in then:
            raise _not_there(lock, tag, runs, missing)
        files[tag] = [str(store.content_path(row)) for row in rows]
        used["payloads"] += [
            {"id": row.id, "tag": row.tag, "revision": row.revision, "hash": row.content_hash} for row in rows
        ]
    return files, used


def former_payloads(
    connection: Connection, campaign: str, tags: Sequence[str], run: int
) -> tuple[dict[str, list[str]], list[UsedPayload]]:
    """Tag → the file that held for a run until now, else for runs before it; and what these are.

    :param run: the first of a group.
    """
    files: dict[str, list[str]] = {}
    used: list[UsedPayload] = []
    for tag in tags:
        rows = store.last_before(connection, campaign, tag, [run])[-1:]
        files[tag] = [str(store.content_path(row)) for row in rows]
        used += [{"id": row.id, "tag": tag, "revision": row.revision, "hash": row.content_hash} for row in rows]
    return files, used


def _not_there(lock: Lock, tag: str, runs: Sequence[int], missing: Sequence[int]) -> NotOpen:
    texts = [[run, NO_PAYLOAD] for run in missing]
    said = {"done": len(runs) - len(missing), "total": len(runs), "missing": texts}
    return not_open([ledger_lock(lock.kind).reason(tag, said)])
