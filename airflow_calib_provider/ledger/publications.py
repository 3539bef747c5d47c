"""Publications to outside stores, as rows: what is intended, planned, done, and what each tag has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import PayloadError, StoreBusy
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.rows import Group, read_rows, select_of
from airflow_calib_provider.ledger.transitions import Move, Subject, insert_one, move
from airflow_calib_provider.outside.placing import Placement, Ref, StorePlan, TagPlan

publication, conditions_tag, placement = tables.publication, tables.conditions_tag, tables.placement

INTENDED, PLANNED, APPLIED = "intended", "planned", "applied"
RETURNING, REFUSED = "returning", "refused"
ON_ITS_WAY = (INTENDED, PLANNED, APPLIED, RETURNING)
"""Neither whole nor refused: it is taken further until it is."""

HELD = timedelta(minutes=10)
"""For how long a process has a tag for itself, since it last said that it is there."""


@dataclass(frozen=True)
class Publication:
    """A set on its way to a store.

    :ivar n: of its task and group: all stores of a set have the same.
    :ivar wanted: what is to hold there, as :mod:`airflow_calib_provider.payloads.publication` writes it.
    """

    id: int
    group_id: int
    task: str
    n: int
    position: int
    key: str
    store: str
    state: str
    wanted: Mapping[str, Any]
    plan: Mapping[str, Any] | None
    receipt: Mapping[str, Any] | None
    reason: Reason | None


def subject_of(group: Group, task: str) -> Subject:
    """What events of a publication are about."""
    return Subject(group.campaign, group.workflow, task, group.name)


def intend(
    connection: Connection, group: Group, task: str, stores: Sequence[tuple[str, Mapping[str, Any]]], now: datetime
) -> str:
    """Write down what is to be published where, before any store is asked.

    :param stores: each as ``kind:place``, and what is wanted there.
    :returns: the key of the set.
    """
    here = (publication.c.group_id == group.id, publication.c.task == task)
    n = 1 + int(connection.execute(select(func.coalesce(func.max(publication.c.n), 0)).where(*here)).scalar_one())
    key = f"{group.campaign}/{group.workflow}/{task}/{group.name}/{n}"
    for position, (store, wanted) in enumerate(stores):
        columns = {
            **{"group_id": group.id, "task": task, "n": n, "position": position, "key": key, "store": store},
            **{"wanted": dict(wanted), "created_at": now, "changed_at": now},
        }
        data = {"store": store, "key": key}
        insert_one(connection, publication, Move({}, None, INTENDED, subject_of(group, task), columns, data))
    return key


def of_set(connection: Connection, key: str) -> list[Publication]:
    """All stores of a set, in their order."""
    query = select_of(Publication, publication).where(publication.c.key == key).order_by(publication.c.position)
    return read_rows(connection, query, Publication)


def on_their_way(connection: Connection, group_id: int | None = None, task: str | None = None) -> list[str]:
    """The keys of sets that are neither whole nor refused, the oldest first."""
    query = select(publication.c.key, func.min(publication.c.id)).where(publication.c.state.in_(ON_ITS_WAY))
    if group_id is not None:
        query = query.where(publication.c.group_id == group_id)
    if task is not None:
        query = query.where(publication.c.task == task)
    return [
        row[0] for row in connection.execute(query.group_by(publication.c.key).order_by(func.min(publication.c.id)))
    ]


def go(connection: Connection, group: Group, row: Publication, target: str, now: datetime, **columns: object) -> None:
    """Move one."""
    said = {"store": row.store, "key": row.key, **({"reason": columns["reason"]} if "reason" in columns else {})}
    written = {**columns, "changed_at": now}
    subject = subject_of(group, row.task)
    move(connection, publication, [Move({"id": row.id}, row.state, target, subject, written, said)])


def hold(
    connection: Connection, group: Group, rows: Iterable[Publication], holder: str, now: datetime, alive: Any
) -> None:
    """Have the tags of a set for oneself.

    :param alive: whether the process of another holder still is.
    :raises PayloadError: another task publishes under one of them, there.
    :raises StoreBusy: another set is on its way there, or another process brings this one.
    """
    for row in rows:
        for tag in tags_of(row):
            here = (conditions_tag.c.store == row.store, conditions_tag.c.tag == tag)
            found = connection.execute(select(conditions_tag).where(*here)).first()
            owner = {"campaign": group.campaign, "workflow": group.workflow, "task": row.task}
            mine = {"publication": row.key, "holder": holder, "held_until": now + HELD}
            if found is None:
                connection.execute(insert(conditions_tag).values(store=row.store, tag=tag, **owner, **mine))
                continue
            if (found.campaign, found.workflow, found.task) != tuple(owner.values()):
                said = f"{found.workflow}.{found.task} in the campaign {found.campaign} writes {tag} in {row.store}"
                raise PayloadError(said, "a tag of a store has one writer: choose another tag")
            if found.publication not in (None, row.key):
                raise StoreBusy(f"{found.publication} is on its way to {tag} in {row.store}", "it comes first")
            if found.holder not in (None, holder) and found.held_until > now and alive(found.holder):
                raise StoreBusy(f"another process publishes {tag} in {row.store}", "it may be done already")
            connection.execute(update(conditions_tag).where(*here).values(**mine))


def leave(connection: Connection, key: str, holder: str) -> None:
    """Let another process have the tags of a set, which stay this set's; what another holds by now stays so."""
    here = (conditions_tag.c.publication == key, conditions_tag.c.holder == holder)
    connection.execute(update(conditions_tag).where(*here).values(holder=None, held_until=None))


def let_go(connection: Connection, key: str) -> None:
    """Leave the tags of a set that is whole, or refused, to other sets."""
    free = {"holder": None, "held_until": None, "publication": None}
    connection.execute(update(conditions_tag).where(conditions_tag.c.publication == key).values(**free))


def tags_of(row: Publication) -> list[str]:
    """The tags, as they are called in the store."""
    return [one["tag"] for one in row.wanted["items"]]


def first_items(connection: Connection) -> dict[str, int]:
    """Each tag that was ever to be written, as its store calls it, with one of the payloads that it was for."""
    found: dict[str, int] = {}
    for (wanted,) in connection.execute(select(publication.c.wanted).order_by(publication.c.id)):
        for one in wanted["items"]:
            found.setdefault(str(one["tag"]), int(one["payload"]))
    return found


def expected(connection: Connection, store: str, tag: str) -> list[Placement] | None:
    """What the ledger says that a tag has; ``None``: nobody has looked yet."""
    here = (conditions_tag.c.store == store, conditions_tag.c.tag == tag)
    if connection.execute(select(conditions_tag.c.listed_at).where(*here)).scalar() is None:
        return None
    rows = connection.execute(
        select(placement).where(placement.c.store == store, placement.c.tag == tag).order_by(placement.c.first_run)
    )
    return [
        Placement(row.first_run, row.last_run, Ref(row.file, row.hash), row.firm_last, row.group_id) for row in rows
    ]


def note_found(connection: Connection, store: str, tag: str, found: Sequence[Placement], now: datetime) -> None:
    """Write down what a tag had before we wrote it."""
    connection.execute(delete(placement).where(placement.c.store == store, placement.c.tag == tag))
    _insert(connection, store, tag, found)
    here = (conditions_tag.c.store == store, conditions_tag.c.tag == tag)
    connection.execute(update(conditions_tag).where(*here).values(listed_at=now))


def note_placed(connection: Connection, store: str, change: TagPlan) -> None:
    """Write down what was changed."""
    here = (placement.c.store == store, placement.c.tag == change.tag)
    for one in change.remove:
        connection.execute(delete(placement).where(*here, placement.c.first_run == one.first_run))
    _insert(connection, store, change.tag, change.insert)


def hand_over(connection: Connection, group_id: int, to: int) -> None:
    """Let what stores have of a group be another one's, whose next publication takes its place there."""
    connection.execute(update(placement).where(placement.c.group_id == group_id).values(group_id=to))


def _insert(connection: Connection, store: str, tag: str, placed: Sequence[Placement]) -> None:
    rows = [
        {
            **{"store": store, "tag": tag, "first_run": one.first_run, "last_run": one.last_run},
            **{"file": one.ref.file, "hash": one.ref.hash, "firm_last": one.firm_last, "group_id": one.group_id},
        }
        for one in placed
    ]
    if rows:
        connection.execute(insert(placement), rows)


def plan_as_json(plan: StorePlan) -> dict[str, Any]:
    """As the ledger keeps it."""
    return asdict(plan)


def plan_of(row: Publication) -> StorePlan:
    """What was planned."""
    assert row.plan is not None
    tags = tuple(TagPlan(one["tag"], _placed(one["remove"]), _placed(one["insert"])) for one in row.plan["tags"])
    return StorePlan(tags, (), tuple(row.plan["cuts"]), tuple(row.plan["gaps"]), row.plan["moved"])


def _placed(listed: Sequence[Mapping[str, Any]]) -> tuple[Placement, ...]:
    return tuple(Placement(**{**one, "ref": Ref(**one["ref"])}) for one in listed)


def tags_written(connection: Connection, store: str | None = None) -> list[Any]:
    """All tags that are written, with who does it."""
    query = select(conditions_tag).where(conditions_tag.c.listed_at.is_not(None))
    if store is not None:
        query = query.where(conditions_tag.c.store == store)
    return list(connection.execute(query.order_by(conditions_tag.c.store, conditions_tag.c.tag)))
